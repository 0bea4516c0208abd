"""Export of a policy in several forms, each compared with the policy; `export.json` records the result."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mopo_pl.errors import InputError
from mopo_pl.export.comparison import KEPT, LOGGED, RANDOM, Vectors, largest_difference
from mopo_pl.export.contract import TOLERANCE, contract_of
from mopo_pl.export.forms import FORMS, OPSET
from mopo_pl.policy import Policy
from mopo_pl.storage.atomic_write import atomic_write, make_target, sha256_of


def export_policy(
    policy: Policy,
    folder: Path,
    *,
    forms: Sequence[str] | None,
    logged: np.ndarray | None,
    distribution: bool,
    licence: str,
) -> dict[str, Any]:
    """Write a policy in several forms into a folder, with test vectors and `export.json`; returns the contents of that file.

    Args:
        policy: Policy in any precision, on any device. It is exported in float32, without its guards.
        folder: Target folder, which is made if it is missing.
        forms: Keys of `FORMS`. None writes all forms that can be written here; the others are listed with the reason under `left_out`.
        logged: Observations of the log [N, D] for the comparison; None where the log cannot be read.
        distribution: Whether μ and log σ are outputs too.
        licence: Licence of the weights.

    Raises InputError where the folder cannot be made, where a requested form cannot be written, where a form differs from the policy by
    more than `TOLERANCE`, and where the distribution of a cloned policy is requested.

    """
    if distribution and policy.meta.get("cloned"):
        raise InputError(
            "--distribution: behaviour cloning trains the mean action alone, σ was not trained; leave it out"
        )
    make_target(folder, "--out")
    policy = copy.deepcopy(policy).to(device="cpu", dtype=torch.float32).guard()
    contract = contract_of(policy, distribution=distribution, licence=licence)
    tried, kept = (Vectors.of(policy, logged, each=each) for each in ((LOGGED, RANDOM), (KEPT, KEPT)))
    with atomic_write(folder / "vectors.npz") as aside, aside.open("wb") as file:
        np.savez(file, **kept.plain())  # type: ignore[arg-type]  # taken for allow_pickle
    written, left_out = {}, {}
    for name in FORMS if forms is None else forms:
        write, files = FORMS[name]
        try:
            form = write(policy, folder, contract, kept)
        except InputError as error:
            if forms is not None:
                raise
            left_out[name] = str(error)
            continue
        difference = largest_difference(form, tried, policy)
        if not difference <= TOLERANCE:
            raise InputError(
                f"{folder / files[-1]} differs from the policy by {difference:.2g} of half an action's range, more than "
                f"{TOLERANCE:.0e}: do not use it; please report this bug"
            )
        checksums = {file: sha256_of(folder / file) for file in files}
        written[name] = {"largest_difference": difference, "sha256": checksums}
    report = {
        "forms": written,
        "left_out": left_out,
        "compared_on": {"logged": tried.logged, "random": tried.rows - tried.logged},
        "opset": OPSET if "onnx" in written else None,
        **contract,
    }
    with atomic_write(folder / "export.json") as aside:
        aside.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report
