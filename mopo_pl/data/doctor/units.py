"""Check for columns that are in different units in some episodes of a log."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mopo_pl.data.doctor.evidence import Evidence, Verdict, some

APART = 1.0
"""Distance between the values of two groups of episodes above which they are in different units, in ranges of the larger group."""
FURTHER = 3.0
"""The same distance for logs with fewer than `MANY` episodes, whose levels may differ from day to day."""
MANY = 8
"""Number of episodes from which levels that differ from day to day are expected to fill the gaps between each other."""
FACTOR = 8.0
"""Ratio of the sizes of the values of two groups of episodes above which they are in different units."""
ALIKE = 2.0
"""Largest ratio of two ratios that count as equal."""
FEWEST = 20
"""Smallest number of rows of the smaller group."""
LOOKED_AT = 50
"""Largest number of episodes of each group whose rows are compared."""
VARIED = 10
"""Number of different values of a column in a group up to which they are treated as set points."""


class _Episodes(NamedTuple):
    """Statistics of one column in each episode with at least two rows, [K] each."""

    least: np.ndarray
    most: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    first: np.ndarray
    """Value in the first row of the episode."""


def other_units(log: Evidence) -> Iterator[Verdict]:
    """Report columns whose values in some episodes lie in another range than in the rest, or are a multiple of them."""
    long = np.flatnonzero(log.lengths > 1)
    if len(long) < 2:
        return
    for name, values in _columns(log):
        episodes = _measured(values, log, long)
        odd = _elsewhere(episodes, log.lengths[long])
        if odd is None:
            odd = _multiples(episodes)
        if odd is None or not (_varies(values, log, long[odd]) and _varies(values, log, long[~odd])):
            continue
        here, rest = (_range(episodes, which) for which in (odd, ~odd))
        yield Verdict(
            "WARN",
            f"{name} lies between {here} in {int(odd.sum())} of {len(log.lengths)} episodes (number {_numbers(long[odd])}), and between {rest} "
            "in the others: they seem to be in two units",
            "write all episodes in one unit; nothing is to be done where they are of two machines, of two ways to run one, or where the column goes on counting",
        )


def _columns(log: Evidence) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and values [N] float64 of each column of states and actions, and of the rewards."""
    yield from log.inputs()
    yield log.raw.key("rewards"), np.asarray(log.raw.rewards, np.float64)


def _measured(values: np.ndarray, log: Evidence, long: np.ndarray) -> _Episodes:
    starts = log.ends - log.lengths + 1
    low, high = (kind.reduceat(values, starts)[long] for kind in (np.minimum, np.maximum))
    lengths = log.lengths[long]
    # The first value of each episode is subtracted, so that the sums of squares do not lose precision.
    apart = values - np.repeat(values[starts], log.lengths)
    shift = np.add.reduceat(apart, starts)[long] / lengths
    apart **= 2
    square = np.add.reduceat(apart, starts)[long] / lengths
    first = values[starts][long]
    return _Episodes(low, high, first + shift, np.sqrt(np.maximum(square - shift**2, 0)), first)


def _elsewhere(episodes: _Episodes, lengths: np.ndarray) -> np.ndarray | None:
    """Return the smaller of two groups of episodes whose values lie far apart, [K] bool; None if there are no such groups."""
    order = np.argsort(episodes.least)
    low, high = episodes.least[order], np.maximum.accumulate(episodes.most[order])
    gaps = low[1:] - high[:-1]
    cut = int(gaps.argmax()) + 1
    odd = np.zeros(len(order), bool)
    odd[order[:cut]] = True
    if lengths[odd].sum() > lengths[~odd].sum():
        odd = ~odd
    width = episodes.most[~odd].max() - episodes.least[~odd].min()
    apart = APART if len(order) >= MANY else FURTHER
    return odd if gaps[cut - 1] > apart * width > 0 and lengths[odd].sum() >= FEWEST else None


def _multiples(episodes: _Episodes) -> np.ndarray | None:
    """Return the smaller of two groups of episodes whose values differ by a factor, [K] bool; None if there are no such groups."""
    varied = np.flatnonzero(episodes.spread > 0)
    if len(varied) < 2:
        return None
    order = varied[np.argsort(episodes.spread[varied])]
    gaps = np.diff(np.log(episodes.spread[order]))
    cut = int(gaps.argmax()) + 1
    if gaps[cut - 1] < np.log(ALIKE):
        return None
    small, large = order[:cut], order[cut:]
    # The spread of values around zero may also differ because of another behaviour.
    if any(np.median(np.abs(episodes.mean[group])) < np.median(episodes.spread[group]) for group in (small, large)):
        return None
    spread, mean, first = (
        np.median(np.abs(array[large])) / max(float(np.median(np.abs(array[small]))), 1e-300)
        for array in (episodes.spread, episodes.mean, episodes.first)
    )
    # With another behaviour, values spread more but begin alike. In another unit, the first values differ by the factor too.
    if min(spread, mean, first) < FACTOR or max(spread, mean) > ALIKE * min(spread, mean):
        return None
    odd = np.zeros(len(episodes.spread), bool)
    odd[small if len(small) <= len(large) else large] = True
    return odd


def _varies(values: np.ndarray, log: Evidence, numbers: np.ndarray) -> bool:
    """Return whether a column has more than `VARIED` values and changes in more than 10 % of the rows of the episodes `numbers`."""
    parts = [values[log.ends[k] + 1 - log.lengths[k] : log.ends[k] + 1] for k in numbers[:LOOKED_AT]]
    changes = np.concatenate([np.diff(part) for part in parts])
    return bool((changes != 0).mean() > 0.1) and len(np.unique(np.concatenate(parts))) > VARIED


def _range(episodes: _Episodes, which: np.ndarray) -> str:
    return f"{episodes.least[which].min():.6g} and {episodes.most[which].max():.6g}"


def _numbers(which: np.ndarray) -> str:
    """Return a text with the numbers of episodes, where runs are written as 3-5."""
    runs = np.split(which, np.flatnonzero(np.diff(which) > 1) + 1)
    return some([str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs], 4)
