"""Read, write and compare `provenance.json`, which describes what a run started from.

A resume compares it with the current state, and continues the same run or reports why it cannot. The file repeats the
configuration, so that a resume can name each key that was edited by hand in `config.yaml`.
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
"""Configuration keys that do not change what is computed. They are not compared."""
KEYS = {"dataset", "ensemble", "processes", "torch", "cpu", "config"}
"""Keys that `provenance.json` must have."""
MACHINE = ("torch", "cpu")
"""Keys whose change makes a resumed run differ only in rounding."""


def provenance_of(config: Config, dataset: OfflineDataset, processes: int, ensemble: str | None) -> dict[str, Any]:
    """Return the content of `provenance.json`, which a resume compares.

    Args:
        config: The resolved configuration.
        dataset: The log, whose hash is stored.
        processes: Number of processes of the run.
        ensemble: SHA-256 of the weights of `dynamics_from`; None without `dynamics_from`.

    """
    return {
        "dataset": dataset.hash,
        "ensemble": ensemble,
        "processes": processes,
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "config": OmegaConf.to_container(OmegaConf.structured(config)),
    }


def compare(folder: RunFolder, now: dict[str, Any]) -> None:
    """Compare the provenance `now` with the one stored when the run began.

    Differences that do not matter, or only change the rounding, are printed. Raises InputError for all other differences.
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
    """Return the dotted keys whose values differ between two configurations."""
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
    """Return old and new value of each dotted key that differs, formatted as on a command line. Keys missing in one are skipped."""
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
