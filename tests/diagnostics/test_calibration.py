"""Calibration against slow derivations, and the guarantee of conformal intervals."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mopo_pl.diagnostics.calibration import (
    by_decile,
    conformal_factor,
    log_likelihood,
    normal_coverage,
    spearman,
    worst_auroc,
    z_scale,
)

small = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


def slow_ranks(values: Sequence[float]) -> list[float]:
    """1 + how many are smaller + half of the others that are equal."""
    return [1 + sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]


def slow_correlation(first: list[float], second: list[float]) -> float:
    n = len(first)
    a, b = sum(first) / n, sum(second) / n
    covariance = sum((x - a) * (y - b) for x, y in zip(first, second, strict=True))
    return covariance / math.sqrt(sum((x - a) ** 2 for x in first) * sum((y - b) ** 2 for y in second))


@given(st.data(), small)
def test_spearman_is_the_correlation_of_ranks(data: st.DataObject, first: list[float]) -> None:
    second = data.draw(st.lists(st.integers(-3, 3), min_size=len(first), max_size=len(first)))
    found = spearman(torch.tensor(first).double(), torch.tensor(second).double())
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(slow_correlation(slow_ranks(first), slow_ranks(second)))


@given(st.data(), small, st.sampled_from([0.1, 0.3, 0.5]))
def test_auroc_compares_every_pair(data: st.DataObject, errors: list[float], share: float) -> None:
    u = data.draw(st.lists(st.integers(-3, 3), min_size=len(errors), max_size=len(errors)))
    found = worst_auroc(torch.tensor(u).double(), torch.tensor(errors).double(), share)
    limit = sorted(errors)[-max(1, math.ceil(share * len(errors)))]
    worst = [x for x, e in zip(u, errors, strict=True) if e >= limit]
    others = [x for x, e in zip(u, errors, strict=True) if e < limit]
    if not others:
        assert found is None
    else:
        wins = sum((w > o) + (w == o) / 2 for w in worst for o in others)
        assert found == pytest.approx(wins / (len(worst) * len(others)))


def heavy_tailed(n: int, tail: float, generator: torch.Generator) -> Tensor:
    """Errors whose size has a density that falls as a power, so that no normal distribution fits."""
    sign = torch.randint(2, (n, 1), generator=generator) * 2 - 1
    return sign * torch.rand(n, 1, generator=generator, dtype=torch.float64) ** -tail


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.05, 2.0), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_conformal_intervals_cover_whatever_the_distribution(seed: int, tail: float, level: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    n, m = 800, 4000
    std = torch.rand(n + m, 1, generator=generator, dtype=torch.float64) + 0.1  # unrelated to the errors
    errors = heavy_tailed(n + m, tail, generator)
    reach = conformal_factor(errors[:n], std[:n], level)
    covered = float((errors[n:].abs() <= reach * std[n:]).double().mean())
    # Coverage given the n rows is Beta-distributed around the level; the m rows estimate it.
    deviation = math.sqrt(level * (1 - level) * (1 / n + 1 / m))
    assert covered >= level - 5 * deviation
    assert covered <= level + 1 / n + 5 * deviation


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.sampled_from([0.5, 0.9]))
def test_the_conformal_factor_is_an_order_statistic(errors: list[float], level: float) -> None:
    found = float(
        conformal_factor(torch.tensor(errors, dtype=torch.float64)[:, None], torch.full((len(errors), 1), 2.0), level)
    )
    # The least q that as many scores reach as (n + 1)·level asks for.
    scores = sorted(abs(e) / 2.0 for e in errors)
    enough = [q for i, q in enumerate(scores, 1) if i >= (len(scores) + 1) * level - 1e-9]
    assert found == (enough[0] if enough else math.inf)


def test_scaling_calibrates_a_wrong_sigma() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.tensor([0.1, 3.0], dtype=torch.float64)
    errors = true * torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    told = torch.tensor([0.2, 1.0], dtype=torch.float64).expand_as(errors)
    factor = z_scale(errors, told)
    torch.testing.assert_close(factor, torch.tensor([0.5, 3.0], dtype=torch.float64), rtol=0.02, atol=0)
    before, after = normal_coverage(errors, told, 0.9), normal_coverage(errors, told * factor, 0.9)
    # P(|N(0, 1)| <= 1.645·c) for c = 2 and 1/3.
    assert before.tolist() == pytest.approx([0.99900, 0.41652], abs=0.01)
    assert after.tolist() == pytest.approx([0.9, 0.9], abs=0.01)
    # KL divergence of the true from the scaled distribution is what the likelihood loses.
    loss = sum(math.log(s / t) + t**2 / (2 * s**2) - 0.5 for s, t in ((0.2, 0.1), (1.0, 3.0)))
    gained = log_likelihood(errors, told * factor) - log_likelihood(errors, told)
    assert gained == pytest.approx(loss, rel=0.03)


def test_the_likelihood_is_that_of_a_normal_distribution() -> None:
    errors, std = torch.tensor([[1.0, -2.0], [0.0, 0.5]]).double(), torch.tensor([[2.0, 1.0], [1.0, 0.5]]).double()
    expected = torch.distributions.Normal(0.0, std).log_prob(errors).sum(-1).mean()
    assert log_likelihood(errors, std) == pytest.approx(float(expected))


def test_deciles_go_by_uncertainty_and_tell_the_mean_error() -> None:
    u = torch.arange(100.0).flip(0)
    errors = torch.arange(100.0)
    assert by_decile(u, errors) == [94.5, 84.5, 74.5, 64.5, 54.5, 44.5, 34.5, 24.5, 14.5, 4.5]
