"""The policy as a distribution over actions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_sac import ACTIONS, LOG_STD, OBS, networks
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from mopo_pl.nn.layers import BatchedLinear
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.actor import TanhGaussianActor


def actor_with(mean: list[float], log_std: list[float]) -> TanhGaussianActor:
    """A policy of fixed μ and log σ, whatever the state."""
    actor, _ = networks(action_dim=len(mean), hidden=())
    head = actor.layers[-1]
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([*mean, *log_std]))
    return actor


def states(size: int) -> Tensor:
    return torch.randn(size, OBS, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_the_log_density_is_that_of_a_transformed_distribution(seed: int) -> None:
    actor, _ = networks(seed)
    s = states(6)
    noise = torch.randn(6, ACTIONS, dtype=torch.float64, generator=generator_for(seed, "noise"))
    action, log_prob = actor(s, noise)
    mean, log_std = actor.distribution(s)
    law = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [TanhTransform()])
    torch.testing.assert_close(log_prob, law.log_prob(action), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.7, -1.0), (-1.5, 0.5), (0.0, 2.0)])
def test_the_density_over_actions_integrates_to_one(mean: float, log_std: float) -> None:
    """∫ p(a) da by the midpoint rule in x, a = tanh x, da = dx/cosh² x: dense at the ends, where p may peak."""
    actor = actor_with([mean], [log_std])
    std = math.exp(log_std)
    edges = torch.linspace(mean - 9 * std, mean + 9 * std, 4001, dtype=torch.float64)
    x, dx = (edges[1:] + edges[:-1]) / 2, edges.diff()
    action, log_prob = actor(states(1).expand(len(x), OBS), ((x - mean) / std).unsqueeze(-1))
    torch.testing.assert_close(action.squeeze(-1), torch.tanh(x))
    assert (log_prob.exp() * dx / torch.cosh(x).square()).sum().item() == pytest.approx(1.0, abs=1e-6)


def test_the_density_by_hand() -> None:
    """μ = 0, σ = 1, ε = 0: a = 0 with density 1/√(2π) in each dimension, where tanh has slope 1."""
    action, log_prob = actor_with([0.0, 0.0], [0.0, 0.0])(states(1), torch.zeros(1, 2, dtype=torch.float64))
    assert action.tolist() == [[0.0, 0.0]]
    assert log_prob.item() == pytest.approx(-math.log(2 * math.pi))


@pytest.mark.parametrize("size", [30.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_density_stays_finite_where_tanh_has_saturated(size: float, dtype: torch.dtype) -> None:
    """log(1 - tanh² u) → 2 log 2 - 2|u|."""
    for sign in (-1, 1):
        actor = actor_with([sign * size], [0.0]).to(dtype)
        _, log_prob = actor(states(1).to(dtype), torch.zeros(1, 1, dtype=dtype))
        expected = -0.5 * math.log(2 * math.pi) - 2 * math.log(2) + 2 * size
        assert log_prob.item() == pytest.approx(expected, rel=1e-6)


def test_the_deviation_is_clamped_at_both_ends() -> None:
    actor = actor_with([0.0, 0.0], [-100.0, 100.0])
    _, log_std = actor.distribution(states(1))
    assert tuple(log_std.flatten().tolist()) == LOG_STD


def test_samples_have_the_mean_and_deviation_of_the_normal_before_squashing() -> None:
    actor = actor_with([0.3, -0.2], [-1.0, -2.0])
    actions = actor.sample(states(1).expand(40_000, OBS), generator_for(0, "samples"))
    before = torch.atanh(actions)
    torch.testing.assert_close(before.mean(0), torch.tensor([0.3, -0.2]).double(), rtol=0, atol=0.01)
    covariance = torch.diag(torch.tensor([math.exp(-2.0), math.exp(-4.0)], dtype=torch.float64))
    torch.testing.assert_close(torch.cov(before.T), covariance, rtol=0, atol=0.005)


def test_sampling_is_the_forward_pass_with_the_streams_noise() -> None:
    actor, _ = networks()
    s = states(4)
    noise = torch.randn(4, ACTIONS, dtype=torch.float64, generator=generator_for(0, "x"))
    assert torch.equal(actor.sample(s, generator_for(0, "x")), actor(s, noise)[0])


def test_the_mean_action_is_the_action_without_noise() -> None:
    actor, _ = networks()
    s = states(4)
    assert torch.equal(actor.mean_action(s), actor(s, torch.zeros(4, ACTIONS, dtype=torch.float64))[0])


def test_initial_weights_follow_the_law_of_torch_linear_for_actor_and_critics_alike() -> None:
    actor, critic = networks(hidden=(400, 400))
    for layer in [*actor.layers, *critic.layers]:
        assert isinstance(layer, nn.Linear | BatchedLinear)
        fan_in = layer.weight.shape[-1] if isinstance(layer, nn.Linear) else layer.weight.shape[-2]
        assert layer.weight.abs().max().item() <= 1 / math.sqrt(fan_in)
        assert layer.weight.std().item() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.08)
        assert layer.bias.abs().max().item() <= 1 / math.sqrt(fan_in)


def test_the_twin_critics_begin_apart() -> None:
    _, critic = networks()
    q = critic(states(4), torch.zeros(4, ACTIONS, dtype=torch.float64))
    assert not torch.isclose(q[0], q[1]).any()
