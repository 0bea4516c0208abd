"""The command `python -m mopo_pl push`: write the card of a run's policy next to it, and upload both."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mopo_pl.assembly.log import examine_log
from mopo_pl.config.compose import config_from_file
from mopo_pl.config.foreign import OF_THE_ENVIRONMENT, refuse_named_code
from mopo_pl.config.schema import Config
from mopo_pl.data.findings import LEVELS
from mopo_pl.errors import InputError
from mopo_pl.export.card import as_markdown, not_for
from mopo_pl.export.contract import check_licence, contract_of
from mopo_pl.policy import Policy
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.storage.atomic_write import refuse_unwritable
from mopo_pl.storage.hub import repository_of, upload
from mopo_pl.storage.run_records import another_policy, is_of_this_policy, read_estimates, read_result

LICENCES = {"not stated": "other"}
"""Names of licences on the hub, where they differ from the names here."""
KEPT = (
    "final_return",
    "final_return_std",
    "final_episodes",
    "final_score",
    "updates",
    "seed",
    "git_commit",
    "versions",
)
"""Keys of `result.json` that the card repeats."""


def push_run(
    run: Path,
    *,
    to: str | None,
    public: bool,
    licence: str,
    actor: Callable[..., TanhGaussianActor] | None,
    trust: bool = False,
) -> int:
    """Write `policy/README.md` and `policy/card.json`, and upload the folder; return exit code 0, or 1 if the upload failed.

    Args:
        run: Folder of the run.
        to: Repository, `hub:OWNER/NAME`; None: the folder is prepared and not uploaded.
        public: Whether a new repository is public.
        licence: Licence of the weights.
        actor: Class of the policy network, if it is a user's class.
        trust: Whether the environment that `config.yaml` names may come from a Python module, or read files.

    Raises InputError if `config.yaml` names such an environment and `trust` is false, if the run is not finished, and if its estimates
    belong to another policy.

    """
    check_licence(licence)
    run = run.expanduser().resolve()
    if to is not None:
        repository_of(to)
    policy = Policy.load(run, actor=actor)
    folder = RunFolder(run)
    refuse_unwritable(folder.policy)
    card = card_of(folder, policy, address=to or "path/of/this/folder", licence=licence, trust=trust)
    folder.write(folder.policy / "card.json", json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    folder.write(folder.policy / "README.md", as_markdown(card))
    print(f"card     {folder.policy / 'README.md'}, card.json")
    for text in card["not_for"]:
        print(f"not for  {text}")
    if to is None:
        return 0
    reason = upload(folder.policy, to, public=public)
    if reason is None:
        print(f"pushed   {to}  (read it back: Policy.load({to!r}))")
        return 0
    again = shlex.join(["hf", "upload", to.partition(":")[2], str(folder.policy)])
    print(f"not uploaded ({reason}): the folder is ready, {again}", file=sys.stderr)
    return 1


def card_of(folder: RunFolder, policy: Policy, *, address: str, licence: str, trust: bool) -> dict[str, Any]:
    """Return the card as plain values. `address`: the argument with which `Policy.load` loads the policy."""
    config, result = config_from_file(folder.config), read_result(folder.path)
    refuse_named_code(folder.config, config, trust=trust, within=OF_THE_ENVIRONMENT)
    if result is None:
        raise InputError(f"{folder.path} has no result.json: finish the run first, {folder.resume_command(config)}")
    estimates = read_estimates(folder.path)
    if estimates is not None and not is_of_this_policy(folder.path, estimates):
        raise InputError(another_policy(folder.path))
    card: dict[str, Any] = {
        **contract_of(policy, distribution=False, licence=licence),
        "address": address,
        "run": folder.path.name,
        "licence_id": LICENCES.get(licence, licence.lower()),
        "log": _log(config, result),
        "training": {"algorithm": config.algorithm, "preset": config.preset},
        "result": {key: result.get(key) for key in KEPT},
        "health": result.get("health"),
        "estimates": (estimates or {}).get("verdict"),
    }
    return {**card, "not_for": not_for(card)}


def _log(config: Config, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the log and its current findings.

    If the log cannot be opened or has changed, only `result.json` is used, and a finding states that.
    """
    known = {
        "name": config.dataset_label,  # not the path: the card may be given to others
        "hash": result["dataset"]["hash"],
        "env_id": result["env_id"],
        "mean_return": result["behaviour_return"],
    }
    try:
        dataset, findings = examine_log(config)
    except InputError:
        dataset, findings = None, ()
        why = "it could not be opened"  # without the error, which contains paths of this machine
    else:
        why = "its arrays are not those that the run was trained on"
    if dataset is None or dataset.hash != known["hash"]:
        missing = {"level": "WARN", "name": "not-checked", "text": f"the log could not be checked for this card: {why}"}
        return {**known, "rows": "unknown", "episodes": "unknown", "findings": [missing]}
    told = sorted((found for found in findings if found.level != "OK"), key=lambda found: -LEVELS.index(found.level))
    findings_now = [{"level": found.level, "name": found.name, "text": found.text} for found in told]
    return {**known, "rows": len(dataset), "episodes": len(dataset.episode_lengths()), "findings": findings_now}
