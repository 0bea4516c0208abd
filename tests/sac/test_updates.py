"""Gradients of the functional updates against a plainly written SAC and its `.backward()`."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_sac import ACTIONS, OBS, PlainSAC, networks, rows
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from mopo_pl.nn.layers import Normaliser, Params
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.critic import Critics
from mopo_pl.sac.updates import SACGradients, SACUpdate

VARIANTS = [
    pytest.param({"soft_backup": True, "alpha_max": 1.0}, id="as by default"),
    pytest.param({"soft_backup": False, "alpha_max": 1.0}, id="deterministic backup"),
    pytest.param({"soft_backup": True, "alpha_max": None}, id="no limit of the temperature"),
]


def params(module: nn.Module) -> Params:
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


class Pair:
    """The product's updates and the plain ones on the same weights, rows and noise; α = 2 lies above the limit of 1."""

    def __init__(self, seed: int, soft_backup: bool, alpha_max: float | None) -> None:
        actor, critic = networks(seed)
        constants: dict[str, Any] = {"discount": 0.9, "target_entropy": -1.5, "alpha_max": alpha_max}
        ours: dict[str, Any] = {**constants, "pessimism": None, "target_bounds": None}
        self.gradients = SACGradients(actor=actor, critic=critic, soft_backup=soft_backup, **ours)
        rates = {"actor_lr": 0.0, "critic_lr": 0.0, "alpha_lr": 0.0, "alpha_init": 2.0, "tau": 0.0}
        self.plain = PlainSAC(actor, critic, soft_backup=soft_backup, **constants, **rates)
        self.actor, self.critic, self.log_alpha = actor, critic, torch.tensor(math.log(2), dtype=torch.float64)
        # Slow critics of their own, so that taking one for the other shows.
        _, self.target = networks(seed + 1)
        self.plain.target = PlainSAC(actor, self.target, soft_backup=soft_backup, **constants, **rates).critics
        self.batch = rows(9, seed)
        generator = torch.Generator().manual_seed(seed)
        self.noise = torch.randn(9, ACTIONS, dtype=torch.float64, generator=generator)


def assert_same(gradients: Params, expected: list[Tensor]) -> None:
    for (name, gradient), other in zip(gradients.items(), expected, strict=True):
        assert (gradient - other).abs().max().item() < 1e-10, name


@pytest.mark.parametrize("variant", VARIANTS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_critic_gradients_loss_and_report(variant: dict[str, Any], seed: int) -> None:
    pair = Pair(seed, **variant)
    gradients, loss, q = pair.gradients.of_critic(
        params(pair.critic), params(pair.target), params(pair.actor), pair.log_alpha, pair.batch, pair.noise
    )
    expected = pair.plain.critic_loss(pair.batch, pair.noise)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-12)
    for parameter in pair.plain.actor.parameters():
        assert parameter.grad is None
        parameter.grad = torch.zeros_like(parameter)
    actor_layers = len(list(pair.plain.actor.parameters()))
    assert_same(gradients, PlainSAC.arranged(pair.plain.actor, pair.plain.critics, True)[actor_layers:])
    means = [v.mean() for v in pair.plain.value(pair.plain.critics, pair.batch.observations, pair.batch.actions)]
    torch.testing.assert_close(q, torch.stack(means).detach())


@pytest.mark.parametrize("variant", VARIANTS)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_actor_gradients_loss_and_report(variant: dict[str, Any], seed: int) -> None:
    pair = Pair(seed, **variant)
    gradients, loss, log_prob = pair.gradients.of_actor(
        params(pair.actor), params(pair.critic), pair.log_alpha, pair.batch, pair.noise
    )
    expected, expected_log_prob = pair.plain.actor_loss(pair.batch, pair.noise)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_prob, expected_log_prob, rtol=1e-9, atol=1e-9)
    assert_same(gradients, PlainSAC.arranged(pair.plain.actor, [], True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_temperatures_gradient_is_the_same_above_its_limit(variant: dict[str, Any]) -> None:
    pair = Pair(0, **variant)
    log_prob = torch.linspace(-3, 2, 7, dtype=torch.float64)
    gradient, loss = pair.gradients.of_temperature(pair.log_alpha, log_prob)
    expected = pair.plain.temperature_loss(log_prob)
    expected.backward()
    assert pair.plain.log_alpha.grad is not None
    torch.testing.assert_close(gradient, pair.plain.log_alpha.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-12)


def test_the_updates_change_nothing_they_are_given() -> None:
    pair = Pair(0, True, 1.0)
    critic, slow, actor = params(pair.critic), params(pair.target), params(pair.actor)
    before = [{name: value.clone() for name, value in group.items()} for group in (critic, slow, actor)]
    pair.gradients.of_critic(critic, slow, actor, pair.log_alpha, pair.batch, pair.noise)
    pair.gradients.of_actor(actor, critic, pair.log_alpha, pair.batch, pair.noise)
    for group, old in zip((critic, slow, actor), before, strict=True):
        assert all(torch.equal(group[name], old[name]) for name in group)


def test_the_twin_critic_is_two_networks_on_normalised_states_and_bare_actions() -> None:
    actor, critic = networks()
    constants: dict[str, Any] = {"discount": 0.9, "target_entropy": 0.0, "alpha_max": None, "soft_backup": True}
    plain = PlainSAC(actor, critic, **constants, actor_lr=0.0, critic_lr=0.0, alpha_lr=0.0, alpha_init=1.0, tau=0.0)
    batch = rows(5)
    assert isinstance(critic, Critics)
    q = critic(batch.observations, batch.actions)
    torch.testing.assert_close(q, torch.stack(plain.value(plain.critics, batch.observations, batch.actions)))


def test_gradients_of_five_critics_towards_a_pessimistic_and_bounded_target() -> None:
    """The same by autograd: mean - κ·std over the critics of the next state, clipped, and layers with LayerNorm."""
    actor, _ = networks()
    normaliser = Normaliser.identity(OBS).double()
    critics, target = (
        Critics(
            members=5,
            layer_norm=True,
            obs_dim=OBS,
            action_dim=ACTIONS,
            hidden_sizes=(8, 6),
            normaliser=normaliser,
            generator=generator_for(seed, "critics"),
        ).double()
        for seed in (0, 1)
    )
    gradients = SACGradients(
        actor=actor,
        critic=critics,
        discount=0.9,
        target_entropy=-1.0,
        alpha_max=None,
        soft_backup=True,
        pessimism=0.5,
        target_bounds=(-0.5, 0.5),
    )
    batch, log_alpha = rows(9), torch.tensor(-2.0, dtype=torch.float64)
    noise = torch.randn(9, ACTIONS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours, loss, q = gradients.of_critic(params(critics), params(target), params(actor), log_alpha, batch, noise)

    action, log_prob = actor(batch.next_observations, noise)
    following = target(batch.next_observations, action)
    value = following.mean(0) - 0.5 * following.std(0, unbiased=False) - log_alpha.exp() * log_prob
    unbounded = batch.rewards + 0.9 * (1 - batch.terminals) * value
    y = unbounded.clamp(-0.5, 0.5).detach()
    assert ((unbounded > 0.5).any(), (unbounded < -0.5).any(), (unbounded == y).any()) == (True, True, True)
    expected = (critics(batch.observations, batch.actions) - y).square().mean(-1).sum()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    assert q.shape == (2,)
    for name, parameter in critics.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, msg=name)


def test_layer_norm_makes_each_hidden_layer_of_a_critic_of_mean_0_and_variance_1() -> None:
    critic = Critics(
        members=3,
        layer_norm=True,
        obs_dim=OBS,
        action_dim=ACTIONS,
        hidden_sizes=(16,),
        normaliser=Normaliser.identity(OBS),
        generator=generator_for(0, "critics"),
    )
    batch = rows(4).to(torch.float32)
    first, last = critic.layers
    hidden = first(torch.cat([batch.observations, batch.actions], -1).expand(3, 4, OBS + ACTIONS))
    scaled = (hidden - hidden.mean(-1, keepdim=True)) / (hidden.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(critic(batch.observations, batch.actions), last(scaled.relu()).squeeze(-1))


def test_critics_that_start_at_a_value_say_it_of_every_state_and_keep_their_differences() -> None:
    _, critic = networks()
    assert isinstance(critic, Critics)
    batch = rows(6)
    before = critic(batch.observations, batch.actions).detach()
    critic.start_at(300.0)
    torch.testing.assert_close(critic(batch.observations, batch.actions), before + 300)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_limited_by_the_norm_that_torch_gives_to_the_bit(dtype: torch.dtype) -> None:
    _, critic = networks(0)
    found = {name: torch.randn_like(each, dtype=dtype) for name, each in params(critic).items()}
    update = SACUpdate(gradients=Pair(0, True, None).gradients, tau=0.0, gradient_clip_norm=0.3)
    scale = (0.3 / (get_total_norm(list(found.values()), foreach=False) + 1e-6)).clamp(max=1.0)
    assert scale < 1
    limited = update.limited(found)
    assert all(torch.equal(limited[name], gradient * scale) for name, gradient in found.items())
