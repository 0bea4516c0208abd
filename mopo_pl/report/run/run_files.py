"""Files of a run folder, and the log that the run was trained on."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mopo_pl.assembly.log import examine_log
from mopo_pl.config.foreign import OF_THE_ENVIRONMENT, REPEAT, named_code, refuse_named_code
from mopo_pl.config.keys import format_value
from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Finding, of_level
from mopo_pl.errors import InputError
from mopo_pl.storage.run_records import read_rows

Curves = dict[str, list[tuple[int, float | None]]]
"""Pairs of updates of its stage and value for each metric, by name."""


@dataclass(frozen=True)
class Trust:
    """Python code named by a run's configuration that may be imported: a run folder may come from someone else."""

    names: frozenset[str] | None
    """Names of the code, and of the files and addresses that an environment may use; None allows all."""

    def allows(self, name: Any) -> bool:
        """Return whether a value names no code (`module:name`), or code that may be imported.

        >>> [Trust(frozenset({"mine:reward"})).allows(name) for name in ("never", "mine:reward", "theirs:reward")]
        [True, True, False]
        """
        return not isinstance(name, str) or ":" not in name or self.names is None or name in self.names


EVERYTHING = Trust(None)
"""Trust of the process that trained the run: its user named the code."""


def read_curves(path: Path) -> tuple[Curves, int]:
    """Read the metrics in `metrics.jsonl`, and the number of updates of the policy so far. Damaged lines are left out."""
    curves: Curves = {}
    updates = 0
    for row in _rows(path):
        if row["stage"] == "policy":
            updates = max(updates, row["update"])
        for name, value in row.items():
            if name not in ("stage", "update") and (value is None or isinstance(value, float | int)):
                # An integer in JSON may be larger than any float.
                finite = value if value is not None and abs(value) <= sys.float_info.max else None
                curves.setdefault(name, []).append((row["update"], finite))
    return curves, updates


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for row in read_rows(path):
        if isinstance(row.get("stage"), str) and isinstance(row.get("update"), int):
            yield row


def open_log_of(
    folder: Path, config: Config, trust: Trust, place: str | None
) -> tuple[OfflineDataset, tuple[Finding, ...]]:
    """Open the log of a run; returns it with the findings of its checks.

    Args:
        folder: Folder of the run.
        config: Configuration of the run.
        trust: Whether an environment that is Python code may be imported, and which files and addresses it may be given.
        place: Path of the log, if it was moved.

    Raises InputError where the log cannot be opened, and where its environment names something that is not trusted.

    """
    refuse_named_code(
        folder / "config.yaml",
        config,
        trust=trust.names is None,
        repeated=[f"{key}={text}" for key, text in named_code(config) if text in (trust.names or ())],
        within=OF_THE_ENVIRONMENT,
        remedy=REPEAT,
    )
    moved = config if place is None else replace(config, data=replace(config.data, source=place))
    try:
        dataset, findings = examine_log(moved)
    except InputError as error:
        fix = f"if it was moved: python -m mopo_pl report {shlex.quote(str(folder))} dataset=PATH"
        raise InputError(f"the log of {folder} cannot be opened ({'; '.join(error.problems)}); {fix}") from error
    if dataset is None:
        raise InputError([f"the log of {folder}: {problem}" for problem in of_level("STOP", findings)])
    return dataset, findings


def refuse_changed_log(
    folder: Path, dataset: OfflineDataset, result: Mapping[str, Any] | None, provenance: Mapping[str, Any] | None
) -> None:
    """Raise InputError where the log differs from the one that the run was trained on, as far as the run recorded its hash."""
    told = (result or {}).get("dataset")
    then = told.get("hash") if isinstance(told, dict) else (provenance or {}).get("dataset")
    if isinstance(then, str) and then != dataset.hash:
        raise InputError(
            f"the log of {folder} has changed: the hash of {dataset.name} is {dataset.hash[:12]}, and was {then[:12]} when the "
            f"run was trained; restore the file, or give the right one: python -m mopo_pl report "
            f"{shlex.quote(str(folder))} dataset=PATH"
        )


def as_plain(config: Config) -> dict[str, Any]:
    """Return the configuration as plain values."""
    plain = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def changed_keys(plain: Mapping[str, Any]) -> dict[str, str]:
    """Return the dotted keys whose values differ from the defaults, with values as typed.

    >>> from mopo_pl.config.compose import compose
    >>> changed_keys(as_plain(compose(["dataset=log.npz", "rollout.horizon=3"])))
    {'dataset': 'log.npz', 'rollout.horizon': '3'}
    """
    return dict(_differences(as_plain(Config()), plain, ""))


def _differences(default: Mapping[str, Any], plain: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in plain.items():
        other = default.get(key)
        if isinstance(value, dict) and isinstance(other, dict) and other:
            yield from _differences(other, value, f"{prefix}{key}.")
        elif value != other:
            yield f"{prefix}{key}", format_value(value)
