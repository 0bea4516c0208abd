"""`Signals`: the columns that a policy reads and commands, by name, unit and range in the log."""

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
    """n columns: the observations of a log, or its actions."""

    names: tuple[str, ...]
    """As the log calls them; else observations are "0", "1", … as in `termination.bounds`, and actions "action 0", … [n]."""
    units: tuple[str, ...]
    """As `data.units` gives them; "" where it does not [n]."""
    low: np.ndarray | None = None
    """Smallest logged value of each column in its unit, float32 [n]; None where the log is not known."""
    high: np.ndarray | None = None
    """Largest one."""

    @classmethod
    def numbered(cls, columns: int, name: str) -> "Signals":
        """Columns of which nothing is known. `name`: such as `action {}`."""
        return cls(tuple(name.format(column) for column in range(columns)), ("",) * columns)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], columns: int) -> "Signals":
        """Read what `plain` gave. Raises ValueError where it does not describe this many columns."""
        names, units = (tuple(map(str, plain[key])) for key in ("names", "units"))
        low, high = (None if plain[key] is None else np.array(plain[key], np.float32) for key in ("low", "high"))
        sizes = [len(names), len(units), *(array.size for array in (low, high) if array is not None)]
        if sizes != [columns] * len(sizes) or len(set(names)) < columns:
            raise ValueError(f"the description of its signals is not one of {columns} columns with different names")
        return cls(names, units, low, high)

    def plain(self) -> dict[str, Any]:
        """As lists, for a JSON file; every float32 is read back to the bit."""
        low, high = (None if array is None else array.tolist() for array in (self.low, self.high))
        return {"names": list(self.names), "units": list(self.units), "low": low, "high": high}


def signals_of(dataset: OfflineDataset, units: Mapping[str, str]) -> tuple[Signals, Signals]:
    """The observations and the actions of a log; of states that hold several observations, the newest.

    `units`: by the name of a column, or a pattern of names such as `joint_*`; a column's own name goes before a pattern.
    Raises InputError for entries that name no column.
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
    # Scaling keeps order: the two extreme actions are the ends of the range in the log's units too.
    acted = LogStatistics.of(dataset).in_log_units
    low, high = acted(log.actions.amin(0)), acted(log.actions.amax(0))
    return (
        Signals(names, _units_of(names, units), seen.amin(0).numpy(), seen.amax(0).numpy()),
        Signals(commanded, _units_of(commanded, units), low.numpy(), high.numpy()),
    )


def _units_of(names: Sequence[str], units: Mapping[str, str]) -> tuple[str, ...]:
    """The unit of each name, "" where none is given.

    >>> _units_of(["temp", "joint_a", "valve"], {"joint_*": "rad", "temp": "°C"})
    ('°C', 'rad', '')
    """
    matching = (next((units[entry] for entry in units if fnmatchcase(name, entry)), "") for name in names)
    return tuple(units.get(name, unit) for name, unit in zip(names, matching, strict=True))
