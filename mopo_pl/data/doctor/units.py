"""Columns that some episodes of a log hold in another unit than the rest."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mopo_pl.data.doctor.evidence import Evidence, Verdict, some

APART = 1.0
"""Distance between the values of two groups of episodes, from which they are in two units [range of the larger group]."""
FURTHER = 3.0
"""The same distance where there are fewer than `MANY` episodes, whose levels may differ from day to day."""
MANY = 8
FACTOR = 8.0
"""Ratio of the sizes of the values of two groups of episodes, from which they are of two kinds."""
ALIKE = 2.0
"""Ratio up to which two ratios are one."""
FEWEST = 20
"""Rows of the smaller group."""
LOOKED_AT = 50
"""Episodes of each group whose rows are compared."""
VARIED = 10
"""Values of a column in each group, below which they are levels that somebody sets."""


class _Episodes(NamedTuple):
    """Of each episode with two rows or more [K], what one column is."""

    least: np.ndarray
    most: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    first: np.ndarray
    """Value in the first row."""


def other_units(log: Evidence) -> Iterator[Verdict]:
    """Columns that some episodes hold in other units than the rest: their values lie elsewhere, or all are a multiple."""
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
    """Name and values [N] float64 of each column of states and actions, and of the rewards."""
    yield from log.inputs()
    yield log.raw.key("rewards"), np.asarray(log.raw.rewards, np.float64)


def _measured(values: np.ndarray, log: Evidence, long: np.ndarray) -> _Episodes:
    starts = log.ends - log.lengths + 1
    low, high = (kind.reduceat(values, starts)[long] for kind in (np.minimum, np.maximum))
    lengths = log.lengths[long]
    # Less a value of its own, each episode keeps the digits of its squares.
    apart = values - np.repeat(values[starts], log.lengths)
    shift = np.add.reduceat(apart, starts)[long] / lengths
    apart **= 2
    square = np.add.reduceat(apart, starts)[long] / lengths
    first = values[starts][long]
    return _Episodes(low, high, first + shift, np.sqrt(np.maximum(square - shift**2, 0)), first)


def _elsewhere(episodes: _Episodes, lengths: np.ndarray) -> np.ndarray | None:
    """The smaller of two groups of episodes whose values lie far apart [K] bool; None where they do not."""
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
    """The smaller of two groups of episodes of which one has the values of the other times a factor [K] bool; None where none has."""
    varied = np.flatnonzero(episodes.spread > 0)
    if len(varied) < 2:
        return None
    order = varied[np.argsort(episodes.spread[varied])]
    gaps = np.diff(np.log(episodes.spread[order]))
    cut = int(gaps.argmax()) + 1
    if gaps[cut - 1] < np.log(ALIKE):
        return None
    small, large = order[:cut], order[cut:]
    # Values around zero are spread wider by another behaviour, too.
    if any(np.median(np.abs(episodes.mean[group])) < np.median(episodes.spread[group]) for group in (small, large)):
        return None
    spread, mean, first = (
        np.median(np.abs(array[large])) / max(float(np.median(np.abs(array[small]))), 1e-300)
        for array in (episodes.spread, episodes.mean, episodes.first)
    )
    # What another behaviour spreads wider still begins alike; in another unit the first rows are multiples too.
    if min(spread, mean, first) < FACTOR or max(spread, mean) > ALIKE * min(spread, mean):
        return None
    odd = np.zeros(len(episodes.spread), bool)
    odd[small if len(small) <= len(large) else large] = True
    return odd


def _varies(values: np.ndarray, log: Evidence, numbers: np.ndarray) -> bool:
    """Whether a column changes from row to row in some episodes, among more than a few values."""
    parts = [values[log.ends[k] + 1 - log.lengths[k] : log.ends[k] + 1] for k in numbers[:LOOKED_AT]]
    changes = np.concatenate([np.diff(part) for part in parts])
    return bool((changes != 0).mean() > 0.1) and len(np.unique(np.concatenate(parts))) > VARIED


def _range(episodes: _Episodes, which: np.ndarray) -> str:
    return f"{episodes.least[which].min():.6g} and {episodes.most[which].max():.6g}"


def _numbers(which: np.ndarray) -> str:
    """Runs of numbers of episodes, such as 3-5."""
    runs = np.split(which, np.flatnonzero(np.diff(which) > 1) + 1)
    return some([str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs], 4)
