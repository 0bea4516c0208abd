"""Statistics of returns over seeds, as defined by Agarwal et al. (2021, arXiv 2108.13264).

Values are float64 [n], one per run of a setting; runs of one setting differ only in their seed. A stratum is a log: runs of several
logs are resampled within each log.
"""

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 10_000
"""Number of bootstrap resamples for an interval."""
RESAMPLES_OF_PAIRS = 2000
"""Number of resamples for the interval of a probability of improvement; it is smaller, because there is one interval for each pair of settings."""
LEVEL = 0.95
"""Nominal coverage of the intervals."""
METHOD = (
    "IQM: the mean without the lowest ⌊n/4⌋ and the highest ⌊n/4⌋ of n runs; of up to three it is the plain mean. Intervals: "
    f"percentile bootstrap over the seeds, drawn within each log, {RESAMPLES} resamples, {LEVEL * 100:.0f} % (of "
    f"probabilities of improvement {RESAMPLES_OF_PAIRS}). With few seeds they are too narrow: three seeds cannot show more than their own spread"
)
"""Explanation of the statistics, shown on the pages of a comparison."""


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean along the last axis without the ⌊n/4⌋ lowest and the ⌊n/4⌋ highest of n values. [..., n] -> [...].

    >>> float(interquartile_mean(np.array([0.0, 10.0, 11.0, 100.0])))
    10.5
    """
    cut = values.shape[-1] // 4
    return np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(-1)


def probability_of_improvement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return P(X > Y) + ½ P(X = Y) for a run X of `ours` and a run Y of `theirs`. [..., n], [..., m] -> [...].

    >>> float(probability_of_improvement(np.array([2.0, 3.0]), np.array([1.0, 2.0])))
    0.875
    """
    differences = ours[..., :, None] - theirs[..., None, :]
    return ((differences > 0) + 0.5 * (differences == 0)).mean((-2, -1))


def interval(
    statistic: Callable[..., np.ndarray],
    *groups: Sequence[np.ndarray],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile interval of a statistic by the stratified bootstrap; None where every stratum has a single value.

    `groups` contains the strata of each argument of the statistic, float64 [n_k]; a resample draws n_k values of each with replacement.
    `statistic` takes one array per group, with the strata joined, [resamples, Σ n_k], and returns [resamples].
    """
    if all(len(stratum) < 2 for strata in groups for stratum in strata):
        return None
    rng = np.random.default_rng(seed)
    drawn = [
        np.concatenate([stratum[rng.integers(len(stratum), size=(resamples, len(stratum)))] for stratum in strata], 1)
        for strata in groups
    ]
    low, high = np.quantile(statistic(*drawn), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
