"""`Signals`: names, units and logged ranges of the columns that a policy reads, and of those that it outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from mopo_pl.config.keys import suggestion_for
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import LogStatistics
from mopo_pl.errors import InputError


@dataclass(frozen=True)
class Signals:
    """Description of n columns: the observations of a log, or its actions."""

    names: tuple[str, ...]
    """Names of the columns in the log, [n]. Without names, observations are "0", "1", … as in `termination.bounds`, and actions "action 0", …"""
    units: tuple[str, ...]
    """Units from `data.units`, or "" where it gives none, [n]."""
    low: np.ndarray | None = None
    """Smallest logged value of each column in its unit, [n] float32; None if the log is not available."""
    high: np.ndarray | None = None
    """Largest logged value of each column in its unit, [n] float32; None if the log is not available."""

    @classmethod
    def numbered(cls, columns: int, name: str) -> "Signals":
        """Return columns without units and ranges. `name` is the format of their names, such as `action {}`."""
        return cls(tuple(name.format(column) for column in range(columns)), ("",) * columns)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], columns: int) -> "Signals":
        """Return the signals that `plain` turned into lists.

        Raises ValueError if they do not describe `columns` columns with different names.
        """
        names, units = (tuple(map(str, plain[key])) for key in ("names", "units"))
        low, high = (None if plain[key] is None else np.array(plain[key], np.float32) for key in ("low", "high"))
        sizes = [len(names), len(units), *(array.size for array in (low, high) if array is not None)]
        if sizes != [columns] * len(sizes) or len(set(names)) < columns:
            raise ValueError(f"the description of its signals is not one of {columns} columns with different names")
        return cls(names, units, low, high)

    def plain(self) -> dict[str, Any]:
        """Return the fields as lists for a JSON file, from which `from_plain` restores every float32 exactly."""
        low, high = (None if array is None else array.tolist() for array in (self.low, self.high))
        return {"names": list(self.names), "units": list(self.units), "low": low, "high": high}


def signals_of(dataset: OfflineDataset, units: Mapping[str, str]) -> tuple[Signals, Signals]:
    """Return the signals of the observations and of the actions of a log.

    If states hold several observations, the signals are those of the newest observation.
    Raises InputError for entries of `units` that match no column.

    Args:
        dataset: The log.
        units: Units by the name of a column, or by a pattern of names such as `joint_*`. The name of a column takes precedence over a pattern.

    """
    log = dataset.transitions
    names = dataset.names.of_observations(dataset.obs_dim)[: log.newest_dim]
    commanded = dataset.names.actions or tuple(f"action {column}" for column in range(dataset.action_dim))
    problems = [
        f"data.units.{entry}: there is no such column{suggestion_for(entry, (*names, *commanded))}"
        for entry in units
        if not any(name == entry or fnmatchcase(name, entry) for name in (*names, *commanded))
    ]
    if problems:
        raise InputError(problems)
    seen = log.newest_observations
    # Scaling is monotonic, so the extremes of the scaled actions are the extremes in the log's units too.
    acted = LogStatistics.of(dataset).in_log_units
    low, high = acted(log.actions.amin(0)), acted(log.actions.amax(0))
    return (
        Signals(names, _units_of(names, units), seen.amin(0).numpy(), seen.amax(0).numpy()),
        Signals(commanded, _units_of(commanded, units), low.numpy(), high.numpy()),
    )


def _units_of(names: Sequence[str], units: Mapping[str, str]) -> tuple[str, ...]:
    """Return the unit of each name, or "" if none is given.

    >>> _units_of(["temp", "joint_a", "valve"], {"joint_*": "rad", "temp": "°C"})
    ('°C', 'rad', '')
    """
    matching = (next((units[entry] for entry in units if fnmatchcase(name, entry)), "") for name in names)
    return tuple(units.get(name, unit) for name, unit in zip(names, matching, strict=True))
