"""`provenance.json`: what a run started from, so that a resume continues the same run or says why it cannot.

It repeats the configuration: `config.yaml` may be edited by hand, and a resume names the key that was.
"""

from typing import Any, cast

import torch
from omegaconf import OmegaConf

from mopo_pl.config.compose import CHANGEABLE_ON_RESUME, CHANGES_ROUNDING, MOVED
from mopo_pl.config.keys import format_value, is_within
from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.distributed.console import print_once
from mopo_pl.errors import InputError
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.storage.stored_json import read_json

UNSTORED = ("resume", "run_dir", "preset")
"""Keys that do not change what is computed, and are not compared."""
KEYS = {"dataset", "ensemble", "processes", "torch", "cpu", "config"}
"""Keys that `provenance.json` must have."""
MACHINE = ("torch", "cpu")
"""Keys whose change makes a resumed run differ in rounding alone."""


def provenance_of(config: Config, dataset: OfflineDataset, processes: int, ensemble: str | None) -> dict[str, Any]:
    """What a resume compares. `ensemble`: SHA-256 of the weights of `dynamics_from`, or None."""
    return {
        "dataset": dataset.hash,
        "ensemble": ensemble,
        "processes": processes,
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "config": OmegaConf.to_container(OmegaConf.structured(config)),
    }


def compare(folder: RunFolder, now: dict[str, Any]) -> None:
    """Compare a run's provenance with that of its beginning.

    Prints differences that do not matter or cost exact equality; raises InputError for all others.
    """
    if (folder.path / "origin.json").exists():
        raise InputError(
            f"{folder.path} was begun by an earlier version of mopo_pl, whose checkpoints this one does not read: finish it with "
            "that version, or start a new run; its policy and its ensemble can be used as they are"
        )
    if not folder.provenance.exists():
        print_once(f"{folder.provenance} is missing: it cannot be checked whether this is the same run")
        folder.keep_provenance(now)
        return
    then = _read(folder)
    problems = []
    if then["dataset"] != now["dataset"]:
        problems.append(
            f"the log has changed: its hash is {now['dataset'][:12]}, and was {then['dataset'][:12]} when "
            f"{folder.path} began; restore the file, or start a new run"
        )
    if then["ensemble"] != now["ensemble"]:
        problems.append(f"the ensemble of dynamics_from={now['config']['dynamics_from']} has changed; start a new run")
    if then["processes"] != now["processes"]:
        problems.append(
            f"{folder.path} began on {then['processes']} processes, and this is {now['processes']}: resume it on as many"
        )
    for key, (old, new) in _differences(then["config"], now["config"]).items():
        if is_within(key, CHANGEABLE_ON_RESUME) or key == MOVED:
            print_once(f"changed since the run began: {key} is {new}, was {old}")
        elif is_within(key, CHANGES_ROUNDING):
            print_once(f"changed since the run began: {key} is {new}, was {old}; the run will not end in the same bits")
        else:
            problems.append(
                f"{key} is {new} in {folder.config}, and was {old} when the run began; restore it, or start a new run"
            )
    if problems:
        raise InputError(problems)
    for key in MACHINE:
        if then[key] != now[key]:
            print_once(f"{key} is {now[key]}, was {then[key]} when the run began; the run may not end in the same bits")


def settings_that_differ(then: Config, now: Config) -> list[str]:
    """Dotted keys whose values differ between two configurations."""
    old, new = (OmegaConf.to_container(OmegaConf.structured(config)) for config in (then, now))
    return list(_differences(cast(dict[str, Any], old), cast(dict[str, Any], new)))


def _read(folder: RunFolder) -> dict[str, Any]:
    try:
        then = read_json(folder.provenance)
        texts = isinstance(then.get("dataset"), str) and isinstance(then.get("ensemble"), str | None)
        if then.keys() >= KEYS and isinstance(then["config"], dict) and texts:
            return then
    except (OSError, ValueError):
        pass
    raise InputError(f"{folder.provenance} is damaged: remove it, and the run is resumed without this check")


def _differences(then: dict[str, Any], now: dict[str, Any], prefix: str = "") -> dict[str, tuple[str, str]]:
    """Old and new value of each dotted key that differs, as typed. Keys that are new in this version are not compared."""
    found = {}
    for key, old in then.items():
        name, new = f"{prefix}{key}", now.get(key)
        if name in UNSTORED or key not in now:
            continue
        if isinstance(old, dict) and isinstance(new, dict) and not prefix and name not in ("env_kwargs", "logger"):
            found |= _differences(old, new, f"{name}.")
        elif old != new:
            found[name] = (format_value(old), format_value(new))
    return found
