"""What every check looks at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Level
from mopo_pl.data.log.action_bounds import TOLERANCE, Bounds, scaled
from mopo_pl.data.log.packing import goes_on
from mopo_pl.data.readers.raw_log import RawLog, blocks, marked_ends, moments

ENOUGH = 20
"""Rows from which shares mean something."""
LOOKED_AT = 20_000
"""Rows of a log, evenly spaced, from which columns are compared."""
ECHO = 0.05
"""Standard deviation of a column less an action, in that of the action, below which the column is a measurement of it."""
NEAR = 2**12
"""Rows whose columns are read one after another while they are near to the processor."""


class Verdict(NamedTuple):
    """A finding without the name of its check."""

    level: Level
    text: str
    fix: str


class Shift(NamedTuple):
    """Next states that are the states of one row too late, or too early."""

    direction: str
    """`late` or `early`."""
    rows: int
    """How many are."""
    moving: int
    """Rows inside episodes after which the state changes."""


@dataclass(frozen=True)
class Evidence:
    """A log as the file holds it, and as it will be learned from."""

    raw: RawLog
    dataset: OfflineDataset
    bounds: Bounds
    """Of the actions, as -1 and +1 stand for them."""
    clip: bool
    """Whether the user has actions beyond them clipped."""
    state_bounds: Bounds | None = None
    """Lowest and highest state of the environment [D], infinite where it has none; None without an environment."""

    @property
    def rows(self) -> int:
        """N."""
        return len(self.raw.rewards)

    def values(self, column: int) -> np.ndarray:
        """An observation column [N] float64."""
        return self.raw.observations[:, column].astype(np.float64)

    def inputs(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and values [N] float64 of each column of states and actions."""
        for number in range(self.raw.observations.shape[1]):
            yield self.column(number), self.values(number)
        for number in range(self.raw.actions.shape[1]):
            yield self.dataset.names.action(number), self.raw.actions[:, number].astype(np.float64)

    def steps(self, column: int) -> np.ndarray:
        """Differences of a column from row to row inside episodes float64."""
        return np.diff(self.values(column))[self.inside]

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each observation column [D]."""
        return moments(self.raw.observations)

    @cached_property
    def spread(self) -> np.ndarray:
        """Standard deviation of each observation column, 1 where it is constant [D]."""
        spread = self.moments[1]
        return np.where(spread > 0, spread, 1.0)

    @cached_property
    def moving(self) -> np.ndarray:
        """Rows inside episodes after which the state changes [N - 1] bool."""
        return ~marked_ends(self.raw)[:-1] & ~alike(self.raw.observations[1:], self.raw.observations[:-1])

    @cached_property
    def shift(self) -> Shift | None:
        """Of the next states in most of the moving rows; None where there is none, or no array of next states."""
        following, states = self.raw.next_observations, self.raw.observations
        if following is None or self.rows < ENOUGH or 2 * self.goes_on.sum() > self.rows:
            return None
        moving = self.moving[:-1]
        for direction, same in (
            ("late", alike(following[:-2], states[2:])),
            ("early", alike(following[1:-1], states[:-2])),
        ):
            count = int((same & moving).sum())
            if 2 * count > moving.sum():
                return Shift(direction, count, int(moving.sum()))
        return None

    @cached_property
    def echoes(self) -> dict[int, int]:
        """Columns of the states that are, but for noise, an action of the same rows; by number, and which action.

        A measured position that follows the action, or a column that holds the action before, lies as near to the row before.
        """
        rows = evenly(np.flatnonzero(self.inside) + 1, LOOKED_AT)
        if len(rows) < ENOUGH:
            return {}
        states = self.raw.observations[rows].astype(np.float64)
        now, before = (self.raw.actions[at].astype(np.float64) for at in (rows, rows - 1))
        spread, found = now.std(0), {}
        for column, values in enumerate(states.T):
            apart, from_before = ((values[:, None] - actions).std(0) for actions in (now, before))
            nearest = int((apart - ECHO * spread).argmin())
            if apart[nearest] < ECHO * spread[nearest] and 2 * apart[nearest] < from_before[nearest]:
                found[column] = nearest
        return found

    @cached_property
    def at_bounds(self) -> np.ndarray:
        """Which action columns are at a bound in more than 95 % of the rows [A] bool."""
        count = np.zeros(self.raw.actions.shape[1])
        for part in blocks(self.rows):
            size = np.abs(scaled(self.raw.actions[part], self.bounds))
            count += ((size > 0.999) & (size <= 1 + TOLERANCE)).sum(0)
        return count > 0.95 * self.rows

    @cached_property
    def goes_on(self) -> np.ndarray:
        """Whether a row's next state is the next row's state [N - 1] bool; of a log that has next states."""
        return goes_on(self.raw)

    @cached_property
    def signatures(self) -> np.ndarray:
        """One number for each row, the same for equal rows [N] uint64."""
        words = self.dataset.transitions.rows.numpy().view(np.uint32)
        factors = np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64, endpoint=False) | np.uint64(1)
        total = np.zeros(len(words), np.uint64)
        for part in blocks(len(words), NEAR):
            for column, factor in enumerate(factors):
                total[part] += (words[part, column] + np.uint64(1)) * factor
        return total

    @cached_property
    def copies(self) -> np.ndarray:
        """Whether an episode of two steps or more has been there before [K] bool."""
        seen, copies = set(), np.zeros(len(self.lengths), bool)
        for number, (end, length) in enumerate(zip(self.ends + 1, self.lengths, strict=True)):
            content = self.signatures[end - length : end].tobytes()
            copies[number] = length > 1 and content in seen
            seen.add(content)
        return copies

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


def evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """All of them, or as many as are allowed, evenly spaced."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def alike(states: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether two states are equal [n] bool."""
    equal = np.empty(len(states), bool)
    for part in blocks(len(states)):
        equal[part] = (states[part] == others[part]).all(1)
    return equal


Check = Callable[[Evidence], Iterator[Verdict]]


def some(items: list[str], most: int = 8) -> str:
    """The first of them, and how many there are besides."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def some_rows(which: np.ndarray, most: int = 3) -> str:
    """The first rows that are marked [N] bool."""
    return some([str(row) for row in np.flatnonzero(which)[:most]]) + (", …" if which.sum() > most else "")
