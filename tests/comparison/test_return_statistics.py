"""Interquartile mean, stratified bootstrap and probability of improvement: closed forms, invariants, slow re-derivations."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mopo_pl.comparison.statistics import interquartile_mean, interval, probability_of_improvement

VALUES = arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e3, 1e3))


def mean(values: np.ndarray) -> np.ndarray:
    return values.mean(-1)


# Interquartile mean


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 6.0], 3.0),
        ([0.0, 10.0, 11.0, 100.0], 10.5),
        (list(range(8)), 3.5),
        (list(range(9)), 4.0),
    ],
)
def test_the_interquartile_mean_of_values_by_hand(values: list[float], expected: float) -> None:
    assert interquartile_mean(np.array(values)) == expected


@given(VALUES)
def test_the_interquartile_mean_is_what_a_loop_comes_to(values: np.ndarray) -> None:
    left = sorted(values.tolist())
    for _ in range(len(left) // 4):
        left = left[1:-1]
    assert interquartile_mean(values) == pytest.approx(math.fsum(left) / len(left), abs=1e-9)


@given(VALUES, st.floats(0.1, 10), st.floats(-100, 100), st.randoms(use_true_random=False))
def test_the_interquartile_mean_moves_with_its_values_whatever_their_order(
    values: np.ndarray, factor: float, shift: float, random: Any
) -> None:
    moved = list(factor * values + shift)
    random.shuffle(moved)
    assert interquartile_mean(np.array(moved)) == pytest.approx(factor * interquartile_mean(values) + shift, abs=1e-6)


@given(arrays(np.float64, st.integers(4, 20), elements=st.floats(-1e3, 1e3)))
def test_one_outlier_does_not_move_it(values: np.ndarray) -> None:
    high = values.copy()
    high[values.argmax()] = 1e12
    assert interquartile_mean(high) == interquartile_mean(values)


# Probability of improvement


@given(VALUES, VALUES)
def test_the_probability_of_improvement_counts_pairs(ours: np.ndarray, theirs: np.ndarray) -> None:
    won = sum(1.0 if x > y else 0.5 if x == y else 0.0 for x, y in itertools.product(ours, theirs))
    assert probability_of_improvement(ours, theirs) == pytest.approx(won / (len(ours) * len(theirs)))


@given(VALUES, VALUES)
def test_one_of_two_wins(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert probability_of_improvement(ours, theirs) + probability_of_improvement(theirs, ours) == pytest.approx(1)
    assert probability_of_improvement(ours, ours) == pytest.approx(0.5)


# Intervals


def test_a_resample_of_two_values_has_the_binomial_distribution() -> None:
    """The mean of two draws of 0 and 1 is 0, ½ or 1 with probability ¼, ½ and ¼."""
    seen: list[np.ndarray] = []

    def keep(values: np.ndarray) -> np.ndarray:
        seen.append(mean(values))
        return seen[-1]

    assert interval(keep, [np.array([0.0, 1.0])], resamples=40_000) == (0.0, 1.0)
    shares = [float((seen[0] == value).mean()) for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.01)


def test_each_log_keeps_its_number_of_runs() -> None:
    """With a stratum of zeros and one of ones, a stratified resample has the same mean always; an unstratified one has not."""
    strata = [np.zeros(3), np.ones(5)]
    assert interval(mean, strata, resamples=500) == (5 / 8, 5 / 8)
    joined = interval(mean, [np.concatenate(strata)], resamples=500)
    assert joined is not None
    assert joined[0] < 5 / 8 < joined[1]


@settings(max_examples=20)
@given(st.lists(arrays(np.float64, st.integers(1, 6), elements=st.floats(-10, 10)), min_size=1, max_size=3))
def test_the_interval_is_what_a_slow_bootstrap_comes_to(strata: list[np.ndarray]) -> None:
    """The same draws one at a time, sorted, and the quantiles interpolated by hand."""
    if all(len(stratum) < 2 for stratum in strata):
        assert interval(interquartile_mean, strata) is None
        return
    resamples = 50
    rng = np.random.default_rng(0)
    chosen = [rng.integers(len(stratum), size=(resamples, len(stratum))) for stratum in strata]
    reached = []
    for i in range(resamples):
        drawn = [float(stratum[j]) for stratum, rows in zip(strata, chosen, strict=True) for j in rows[i]]
        reached.append(float(interquartile_mean(np.array(drawn))))
    reached.sort()
    expected = []
    for level in (0.05, 0.95):
        at = level * (resamples - 1)
        low = math.floor(at)
        expected.append(reached[low] + (at - low) * (reached[min(low + 1, resamples - 1)] - reached[low]))
    assert interval(interquartile_mean, strata, resamples=resamples, level=0.9) == pytest.approx(
        tuple(expected), abs=1e-9
    )


def test_an_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    found = [interval(mean, [rng.standard_normal(30)], resamples=400) for _ in range(300)]
    covered = sum(bounds is not None and bounds[0] <= 0 <= bounds[1] for bounds in found) / len(found)
    assert 0.89 <= covered <= 0.98


def test_an_interval_of_single_values_is_none_and_the_same_call_gives_the_same() -> None:
    assert interval(mean, [np.array([1.0])], [np.array([2.0])]) is None
    values = [np.random.default_rng(0).standard_normal(12)]
    assert interval(mean, values) == interval(mean, values) != interval(mean, values, seed=1)


def test_the_interval_of_two_settings_draws_each_by_itself() -> None:
    bounds = interval(probability_of_improvement, [np.array([1.0, 3.0])], [np.array([2.0, 2.5])], resamples=4000)
    assert bounds == (0.0, 1.0)
    assert interval(probability_of_improvement, [np.array([3.0, 4.0])], [np.array([1.0, 2.0])]) == (1.0, 1.0)
