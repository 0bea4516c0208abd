"""What the files of a run folder hold, and the log that it was trained on."""

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
"""Updates of its stage and value of each metric, by name."""


@dataclass(frozen=True)
class Trust:
    """Which Python code that a run's configuration names may be imported: a folder may come from someone else."""

    names: frozenset[str] | None
    """Of code, and of places that an environment may reach; None: all."""

    def allows(self, name: Any) -> bool:
        """Whether a value names no code (`module:name`), or code that may be imported.

        >>> [Trust(frozenset({"mine:reward"})).allows(name) for name in ("never", "mine:reward", "theirs:reward")]
        [True, True, False]
        """
        return not isinstance(name, str) or ":" not in name or self.names is None or name in self.names


EVERYTHING = Trust(None)
"""In the process that trained the run: its user named the code."""


def read_curves(path: Path) -> tuple[Curves, int]:
    """The metrics in `metrics.jsonl`, and the updates of the policy so far. Damaged lines are left out."""
    curves: Curves = {}
    updates = 0
    for row in _rows(path):
        if row["stage"] == "policy":
            updates = max(updates, row["update"])
        for name, value in row.items():
            if name not in ("stage", "update") and (value is None or isinstance(value, float | int)):
                # A whole number of JSON may be larger than any float.
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
    """The log of a run, and what the checks say of it.

    Args:
        folder: Of the run.
        config: Its configuration.
        trust: Whether an environment that is Python code may be imported, and which places it may be given.
        place: Where the log lies now, if it was moved.

    Raises InputError where it cannot be opened, and where its environment names what is not trusted.

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
    """Raise InputError where the log is another one than the run was trained on, as far as the run says which it was."""
    told = (result or {}).get("dataset")
    then = told.get("hash") if isinstance(told, dict) else (provenance or {}).get("dataset")
    if isinstance(then, str) and then != dataset.hash:
        raise InputError(
            f"the log of {folder} has changed: the hash of {dataset.name} is {dataset.hash[:12]}, and was {then[:12]} when the "
            f"run was trained; restore the file, or give the right one: python -m mopo_pl report "
            f"{shlex.quote(str(folder))} dataset=PATH"
        )


def as_plain(config: Config) -> dict[str, Any]:
    """The configuration as plain values."""
    plain = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def changed_keys(plain: Mapping[str, Any]) -> dict[str, str]:
    """The dotted keys whose values are not the defaults, as typed.

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
