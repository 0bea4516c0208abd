"""What every check looks at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mopo_pl.data.action_bounds import Bounds
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Level
from mopo_pl.data.raw_log import RawLog


class Verdict(NamedTuple):
    """A finding without the name of its check."""

    level: Level
    text: str
    fix: str


@dataclass(frozen=True)
class Evidence:
    """A log as the file holds it, and as it will be learned from."""

    raw: RawLog
    dataset: OfflineDataset
    bounds: Bounds
    """Of the actions, as -1 and +1 stand for them."""
    clip: bool
    """Whether the user has actions beyond them clipped."""

    @property
    def rows(self) -> int:
        """N."""
        return len(self.raw.rewards)

    @cached_property
    def observations(self) -> np.ndarray:
        """[N, D] float64."""
        return self.raw.observations.astype(np.float64)

    @cached_property
    def spread(self) -> np.ndarray:
        """Standard deviation of each observation column, 1 where it is constant [D]."""
        spread = self.observations.std(0)
        return np.where(spread > 0, spread, 1.0)

    @cached_property
    def ends(self) -> np.ndarray:
        """Last row of each episode [K]."""
        return self.dataset.episode_ends.numpy() - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Of each episode [K]."""
        return self.dataset.episode_lengths().numpy()

    @cached_property
    def inside(self) -> np.ndarray:
        """Whether the next row belongs to the same episode [N - 1] bool."""
        inside = np.ones(self.rows - 1, bool)
        inside[self.ends[:-1]] = False
        return inside

    def column(self, number: int) -> str:
        """Name of an observation column."""
        return self.dataset.names.observation(number)

    def columns(self, which: np.ndarray) -> str:
        """Names of the observation columns that are marked [D] bool."""
        return some([self.column(int(number)) for number in np.flatnonzero(which)])


Check = Callable[[Evidence], Iterator[Verdict]]


def some(items: list[str], most: int = 8) -> str:
    """The first of them, and how many there are besides."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def some_rows(which: np.ndarray, most: int = 3) -> str:
    """The first rows that are marked [N] bool."""
    return some([str(row) for row in np.flatnonzero(which)[:most]]) + (", …" if which.sum() > most else "")
