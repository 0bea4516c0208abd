"""The command `python -m mopo_pl export`: write a run's policy as files that run without this project, and compare them on the log."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mopo_pl.assembly.log import open_log
from mopo_pl.config.compose import config_from_file
from mopo_pl.config.foreign import OF_THE_ENVIRONMENT, refuse_named_code
from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.signals import signals_of
from mopo_pl.errors import InputError
from mopo_pl.export.contract import check_licence
from mopo_pl.export.exporting import export_policy
from mopo_pl.export.forms import FORMS
from mopo_pl.policy.policy import Policy, refuse_another_shape
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.storage.atomic_write import refuse_unwritable


def export_run(
    run: Path,
    *,
    forms: Sequence[str] | None,
    out: Path | None,
    distribution: bool,
    licence: str,
    actor: Callable[..., TanhGaussianActor] | None,
    trust: bool = False,
) -> int:
    """Export the policy of a run, print how far the actions of each exported form differ from the policy's, and return 0.

    Args:
        run: Folder of the run, its `policy` folder, or a file in that folder.
        forms: Names of the forms to write; None: all that can be written.
        out: Folder to write to; None: `export` in the folder of the run.
        distribution: Whether means and log deviations are outputs too.
        licence: Licence of the weights.
        actor: Class of the policy network, if it is a user's class.
        trust: Whether the environment that `config.yaml` names may come from a Python module, or read files.

    Raises InputError as `export_policy` does, and if `config.yaml` names such an environment and `trust` is false.

    """
    check_licence(licence)
    run = run.expanduser()
    policy = Policy.load(run, actor=actor)
    folder = run.parent if run.name in ("policy.json", "policy.safetensors") else run
    folder = folder.parent if folder.name == "policy" else folder
    out = folder / "export" if out is None else out.expanduser()
    refuse_unwritable(out, "--out")
    opened = _log_of(folder, policy, trust=trust)
    logged: np.ndarray | None = None
    if opened is not None:
        dataset, config = opened
        refuse_another_shape(policy, dataset.obs_dim, dataset.action_dim, folder)
        logged = dataset.transitions.newest_observations.numpy()
        if "signals" not in policy.meta:
            policy = _with_signals(policy, dataset, config)
    report = export_policy(policy, out, forms=forms, logged=logged, distribution=distribution, licence=licence)
    rows = report["compared_on"]
    print(f"compared on {rows['logged']} states of the log and {rows['random']} random ones over twice its range")
    for name, told in report["forms"].items():
        files = ", ".join(FORMS[name][1])
        print(f"{name:<8} {files:<28} largest difference {told['largest_difference']:.1e} of half an action's range")
    for name, why in report["left_out"].items():
        print(f"{name:<8} left out: {why}")
    print(f"folder   {out}  (what each form reads and gives: export.json)")
    if "numpy" in report["forms"]:
        print(f"again    {shlex.join(['python', str(out / 'run_policy.py'), '--check'])}")
    return 0


def _log_of(run: Path, policy: Policy, *, trust: bool) -> tuple[OfflineDataset, Config] | None:
    """Return the log that the policy was trained on, and the configuration. If it is not available, print why and return None."""
    if not (run / "config.yaml").exists():
        print(f"{run} is no run folder: there is no log to compare on")
        return None
    try:
        config = config_from_file(run / "config.yaml")
    except InputError as error:
        print(f"the log cannot be opened ({error.problems[0]}): there is none to compare on")
        return None
    refuse_named_code(run / "config.yaml", config, trust=trust, within=OF_THE_ENVIRONMENT)
    try:
        dataset = open_log(config)
    except InputError as error:
        print(f"the log cannot be opened ({error.problems[0]}): there is none to compare on")
        return None
    trained_on = policy.meta.get("dataset", {}).get("hash", dataset.hash)
    if trained_on != dataset.hash:
        print(f"dataset={config.dataset} is not the log of the run any more: it is not compared on")
        return None
    return dataset, config


def _with_signals(policy: Policy, dataset: OfflineDataset, config: Config) -> Policy:
    """Return a policy of an earlier version, without a description of its columns, with the description from its log."""
    observations, actions = (signals.plain() for signals in signals_of(dataset, config.data.units))
    meta = {
        **policy.meta,
        "dataset": {"name": config.dataset_label, "hash": dataset.hash, "rows": len(dataset)},
        "signals": {"observations": observations, "actions": actions},
    }
    made = Policy(policy.actor, policy.action_low, policy.action_high, meta, history=policy.history)
    return made.eval().requires_grad_(False)
