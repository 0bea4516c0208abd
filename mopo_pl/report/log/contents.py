"""`LogContents`: the contents of the page about a log, as plain numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.signals import Signals, signals_of
from mopo_pl.data.statistics import LogStatistics

BINS = 40
"""Number of bins of a histogram."""
CELLS = 32
"""Number of cells of the map of states in each direction."""
SAMPLED = 20_000
"""Largest number of rows from which the principal components are computed, evenly spaced."""
MOST_COMPONENTS_OF = 500
"""Number of observation columns above which principal components are not computed."""
NAMED = 3
"""Number of columns by which a principal component is described."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts between equally spaced edges."""

    low: float
    high: float
    counts: list[int]

    @classmethod
    def of(cls, values: np.ndarray, bins: int = BINS) -> "Histogram":
        """Count at least one finite value [n]. A constant is placed in the middle of a range of width 1, or a thousandth of its size if larger.

        >>> Histogram.of(np.array([0.0, 1.0, 1.0, 2.0]), bins=2)
        Histogram(low=0.0, high=2.0, counts=[1, 3])
        """
        low, high = float(values.min()), float(values.max())
        if not high - low > np.spacing(max(abs(low), abs(high))) * bins:
            margin = max(0.5, 5e-4 * abs(low))
            low, high = low - margin, high + margin
        counts, edges = np.histogram(values, bins, (low, high))
        return cls(low=float(edges[0]), high=float(edges[-1]), counts=counts.tolist())


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of observations, actions or rewards, in its unit."""

    kind: str
    """Kind of the column: observation, action or reward."""
    name: str
    unit: str
    """Unit from `data.units`; empty where none is given."""
    least: float
    mean: float
    greatest: float
    std: float
    unchanged: float
    """Share of the steps inside episodes that do not change the value; NaN where no episode has two rows."""
    histogram: Histogram
    bounds: tuple[float, float] | None = None
    """Bounds of an action column; None for other columns."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Number of visits of the log to each part of a plane of states."""

    labels: tuple[str, str]
    """Labels of the two axes."""
    consists_of: list[str]
    """Description of each axis, one sentence each; empty where the axes are columns."""
    x: tuple[float, float]
    y: tuple[float, float]
    counts: list[list[int]]
    """Number of rows in each cell [x, y]."""


@dataclass(frozen=True, kw_only=True)
class LogContents:
    """Contents of a log: its rows, columns and episodes."""

    rows: int
    episodes: int
    finished: int
    """Number of episodes whose returns are shown: the finished ones, or all if none is finished."""
    terminals: int
    unknown_next: int
    """Number of rows whose next state is not known."""
    mean_return: float
    columns: list[Column]
    returns: Histogram
    lengths: Histogram
    coverage: Coverage | None
    """Map of visited states; None where fewer than two columns vary, or too many columns do."""


def contents_of(dataset: OfflineDataset, units: Mapping[str, str]) -> LogContents:
    """Measure a log. Raises InputError where a unit names no column (`signals_of`)."""
    observed, acted = signals_of(dataset, units)
    log = dataset.transitions
    inside = np.ones(len(dataset) - 1, bool)
    inside[dataset.episode_ends.numpy()[:-1] - 1] = False
    states = log.newest_observations.numpy()
    actions = LogStatistics.of(dataset).in_log_units(log.actions).numpy()
    seen = tuple(map(dataset.names.observation, range(len(observed.names))))
    bounds = list(zip(dataset.action_low.tolist(), dataset.action_high.tolist(), strict=True))
    rewards = Signals(("reward",), ("",))
    returns = dataset.episode_returns().numpy()
    return LogContents(
        rows=len(dataset),
        episodes=len(dataset.episode_ends),
        finished=len(returns),
        terminals=int(log.terminals.sum()),
        unknown_next=int((~dataset.next_known).sum()),
        mean_return=float(returns.mean()),
        columns=[
            *_columns("observation", states, replace(observed, names=seen), inside),
            *_columns("action", actions, acted, inside, bounds),
            *_columns("reward", log.rewards.numpy()[:, None], rewards, inside),
        ],
        returns=Histogram.of(returns),
        lengths=Histogram.of(dataset.episode_lengths().numpy()),
        coverage=coverage_of(states, seen),
    )


def _columns(
    kind: str,
    array: np.ndarray,
    signals: Signals,
    inside: np.ndarray,
    bounds: list[tuple[float, float]] | None = None,
) -> Iterator[Column]:
    for number, (name, unit) in enumerate(zip(signals.names, signals.units, strict=True)):
        values = array[:, number].astype(np.float64)
        same = (values[1:] == values[:-1])[inside]
        yield Column(
            kind=kind,
            name=name,
            unit=unit,
            least=float(values.min()),
            mean=float(values.mean()),
            greatest=float(values.max()),
            std=float(values.std()),
            unchanged=float(same.mean()) if len(same) else float("nan"),
            histogram=Histogram.of(values),
            bounds=None if bounds is None else bounds[number],
        )


def coverage_of(states: np.ndarray, names: tuple[str, ...]) -> Coverage | None:
    """Count rows in the plane of the two columns that vary, or of the first two principal components of the standardised columns.

    Args:
        states: Observations [N, D].
        names: Names of the columns [D].

    """
    mean, std = states.mean(0, dtype=np.float64), states.std(0, dtype=np.float64)
    varied = np.flatnonzero(std > 0)
    if not 2 <= len(varied) <= MOST_COMPONENTS_OF:
        return None
    scaled = (states[:, varied] - mean[varied]) / std[varied]
    if len(varied) == 2:
        first, second = (int(column) for column in varied)
        return _plane(states[:, [first, second]].astype(np.float64), (names[first], names[second]), [])
    taken = scaled[np.linspace(0, len(scaled) - 1, min(len(scaled), SAMPLED)).astype(int)]
    variances, directions = np.linalg.eigh(taken.T @ taken / len(taken))
    main = directions[:, [-1, -2]]
    # The sign of a direction is arbitrary: its largest component is made positive.
    main = main * np.sign(main[np.abs(main).argmax(0), [0, 1]])
    shares = variances[[-1, -2]] / variances.sum()
    labels = (_share_of(1, shares[0]), _share_of(2, shares[1]))
    parts = [_made_of(i + 1, main[:, i], [names[int(column)] for column in varied]) for i in range(2)]
    return _plane(scaled @ main, labels, parts)


def _share_of(number: int, share: float) -> str:
    return f"component {number} ({100 * share:.0f} % of the variance)"


def _made_of(number: int, weights: np.ndarray, names: list[str]) -> str:
    largest = np.argsort(-np.abs(weights), kind="stable")[:NAMED]
    parts = ", ".join(f"{names[int(i)]} ({weights[i]:+.2f})" for i in largest)
    return f"Component {number} is mostly {parts}."


def _plane(points: np.ndarray, labels: tuple[str, str], consists_of: list[str]) -> Coverage:
    counts, x, y = np.histogram2d(points[:, 0], points[:, 1], CELLS)
    return Coverage(
        labels=labels,
        consists_of=consists_of,
        x=(float(x[0]), float(x[-1])),
        y=(float(y[0]), float(y[-1])),
        counts=counts.astype(int).tolist(),
    )
