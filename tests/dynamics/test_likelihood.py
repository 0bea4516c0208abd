"""The loss is the Gaussian likelihood of reward and state change, per member."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import huber_loss

from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.losses import (
    EnsembleLoss,
    HoldoutErrors,
    beta_weights,
    bound_loss,
    gaussian_loss,
    model_target,
    negative_log_likelihood,
)
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for


def predictions(members: int, rows: int, targets: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (members, rows, targets)
    mean, log_var = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return mean, 2 * log_var, torch.randn(shape, generator=generator, dtype=torch.float64)


@given(members=st.integers(1, 4), rows=st.integers(1, 5), targets=st.integers(1, 4), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_the_loss_is_twice_the_negative_log_likelihood_less_log_two_pi(
    members: int, rows: int, targets: int, seed: int
) -> None:
    mean, log_var, target = predictions(members, rows, targets, seed)
    loss = gaussian_loss(mean, log_var, target, beta=0.0)
    for i in range(members):
        nll = -Normal(mean[i], (0.5 * log_var[i]).exp()).log_prob(target[i]).mean()
        torch.testing.assert_close(loss[i], 2 * nll - math.log(2 * math.pi), rtol=1e-12, atol=1e-12)


def test_the_negative_log_likelihood_is_that_of_the_diagonal_normal_summed_over_targets() -> None:
    mean, log_var, target = predictions(3, 4, 2, 0)
    expected = -Normal(mean, (0.5 * log_var).exp()).log_prob(target).sum(-1)
    torch.testing.assert_close(negative_log_likelihood(mean, log_var, target), expected)


def test_the_loss_by_hand() -> None:
    """One row, error 2 at variance 4 and error 0 at variance 1: ((4/4 + ln 4) + (0 + 0)) / 2."""
    mean, log_var = torch.tensor([[[2.0, 5.0]]]), torch.tensor([[[math.log(4), 0.0]]])
    loss = gaussian_loss(mean, log_var, torch.tensor([[0.0, 5.0]]), beta=0.0)
    assert loss.item() == pytest.approx((1 + math.log(4)) / 2)


def test_the_loss_of_a_member_does_not_depend_on_the_other_members() -> None:
    mean, log_var, target = predictions(3, 4, 2, 1)
    alone = gaussian_loss(mean[1:2], log_var[1:2], target[1:2], beta=0.0)
    torch.testing.assert_close(gaussian_loss(mean, log_var, target, beta=0.0)[1:2], alone)


def test_the_loss_is_least_where_the_variance_is_the_squared_error() -> None:
    error = torch.tensor([[[0.3, 2.0]]], dtype=torch.float64)
    log_var = error.square().log().requires_grad_()
    gaussian_loss(error, log_var, torch.zeros(1, 2, dtype=torch.float64), beta=0.0).sum().backward()
    assert log_var.grad is not None
    torch.testing.assert_close(log_var.grad, torch.zeros_like(log_var))


def test_the_pull_on_the_bounds_is_their_gap_summed_over_targets_and_averaged_over_members() -> None:
    low = torch.tensor([[[-10.0, -9.0]], [[-8.0, -7.0]]])
    high = torch.tensor([[[0.5, 0.5]], [[1.0, 0.0]]])
    assert bound_loss(low, high).item() == pytest.approx(((10.5 + 9.5) + (9.0 + 7.0)) / 2)


def test_the_target_is_the_reward_and_then_the_change_of_state() -> None:
    rows = Transitions.pack(
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([[9.0]]),
        torch.tensor([[1.5, -2.0]]),
        torch.tensor([7.0]),
        torch.tensor([1.0]),
    )
    assert model_target(rows).tolist() == [[7.0, 0.5, -4.0]]


@given(cuts=st.lists(st.integers(1, 9), max_size=3, unique=True).map(sorted))
@settings(max_examples=20, deadline=None)
def test_holdout_errors_do_not_depend_on_how_rows_are_cut_into_batches(cuts: list[int]) -> None:
    mean, log_var, targets = predictions(2, 10, 3, 2)
    target = targets[0]
    metric = HoldoutErrors(2, 3)
    for begin, end in itertools.pairwise([0, *cuts, 10]):
        metric.update(mean[:, begin:end], log_var[:, begin:end], target[begin:end])
    squared, geometric, likelihood = metric.compute()
    for i in range(2):
        by_hand = [sum(float(mean[i, row, t] - target[row, t]) ** 2 for row in range(10)) / 10 for t in range(3)]
        assert squared[i].item() == pytest.approx(sum(by_hand) / 3)
        assert geometric[i].item() == pytest.approx(math.prod(by_hand) ** (1 / 3))
        log_prob = Normal(mean[i], (0.5 * log_var[i]).exp()).log_prob(target).sum(-1).mean()
        assert likelihood[i].item() == pytest.approx(-log_prob.item())


def test_the_geometric_mean_sees_progress_beside_a_target_that_nobody_can_predict() -> None:
    """The mean of the errors is that target's alone; neither unit of a target nor a target without any error matters."""

    def errors(*deviations: float) -> tuple[float, float]:
        metric = HoldoutErrors(1, len(deviations))
        off = torch.tensor(deviations).expand(1, 50, -1)
        metric.update(off, torch.zeros_like(off), torch.zeros(50, len(deviations)))
        mean, geometric, _ = metric.compute()
        return mean.item(), geometric.item()

    before, after = errors(0.02, 1.0), errors(0.01, 1.0)
    assert after[0] > 0.999 * before[0]
    assert after[1] == pytest.approx(0.5 * before[1])
    assert errors(0.01, 7.0)[1] / errors(0.02, 7.0)[1] == pytest.approx(0.5)
    assert errors(0.01, 0.0)[1] / errors(0.02, 0.0)[1] == pytest.approx(0.5)
    assert errors(0.0, 0.0)[1] > 0


def test_beta_weighs_each_term_by_the_variance_without_a_gradient_through_the_weight() -> None:
    mean, log_var, target = predictions(2, 3, 2, 5)
    mean.requires_grad_()
    log_var.requires_grad_()
    gaussian_loss(mean, log_var, target, beta=0.5).sum().backward()
    std, error = (0.5 * log_var).exp().detach(), (mean - target).detach()
    assert mean.grad is not None
    assert log_var.grad is not None
    # By hand: d/dμ of σ·((μ - y)²/σ² + log σ²) is 2(μ - y)/σ, d/d log σ² is σ·(1 - (μ - y)²/σ²), over 3·2 terms.
    torch.testing.assert_close(mean.grad, 2 * error / std / 6)
    torch.testing.assert_close(log_var.grad, std * (1 - error.square() / std.square()) / 6)


def test_with_beta_one_the_mean_learns_as_by_squared_error() -> None:
    mean, log_var, target = predictions(1, 4, 3, 6)
    mean.requires_grad_()
    gaussian_loss(mean, log_var, target, beta=1.0).sum().backward()
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad, 2 * (mean - target).detach() / 12)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 2.0])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_the_bounds_rest_where_they_do_without_beta(beta: float, sigma: float) -> None:
    """Where all rows have one σ, β scales the likelihood and the pull alike: the same root of their sum."""
    low, high = torch.full((2, 1, 3), -9.0, dtype=torch.float64), torch.full((2, 1, 3), 1.0, dtype=torch.float64)
    mean, _, target = predictions(2, 5, 3, 0)

    def slopes(beta: float) -> tuple[Tensor, Tensor]:
        bounds = low.clone().requires_grad_(), high.clone().requires_grad_()
        log_var = (2 * math.log(sigma) + (bounds[0] - low) + (bounds[1] - high)).expand(2, 5, 3)
        weights = beta_weights(log_var, beta).mean(-2, keepdim=True) if beta else 1.0
        total = gaussian_loss(mean, log_var, target, beta=beta).sum() + 0.01 * bound_loss(*bounds, weights)
        total.backward()
        assert bounds[0].grad is not None
        assert bounds[1].grad is not None
        return bounds[0].grad, bounds[1].grad

    scale = sigma ** (2 * beta)
    for ours, plain in zip(slopes(beta), slopes(0.0), strict=True):
        torch.testing.assert_close(ours, scale * plain)


def fitted(beta: float) -> GaussianEnsemble:
    """Three members after 800 steps on 2000 rows whose targets are nearly without noise."""
    generator, obs_dim = torch.Generator().manual_seed(0), 11
    states, actions = torch.randn(2000, obs_dim, generator=generator), torch.randn(2000, 2, generator=generator)
    mixing = torch.randn(obs_dim + 2, obs_dim, generator=generator) / (obs_dim + 2) ** 0.5
    change = torch.tanh(torch.cat([states, actions], -1) @ mixing)
    change = change + 0.02 * torch.randn(2000, obs_dim, generator=generator)
    rows = Transitions.pack(states, actions, states + change, change.sum(-1), torch.zeros(2000))
    ensemble = GaussianEnsemble(
        obs_dim=obs_dim,
        action_dim=2,
        members=3,
        hidden_sizes=(32, 32),
        normaliser=Normaliser.fit(rows.inputs),
        target_normaliser=Normaliser.fit(model_target(rows)),
        generator=generator_for(0, "weights"),
    )
    loss = EnsembleLoss(ensemble=ensemble, bound_coef=0.01, beta=beta, huber_delta=None)
    optimizer = torch.optim.Adam(ensemble.parameters(), lr=3e-3)
    for _ in range(800):
        batch = rows[torch.randint(2000, (3, 128), generator=generator)]
        optimizer.zero_grad()
        loss(dict(ensemble.named_parameters()), batch).backward()
        optimizer.step()
    return ensemble


def test_with_beta_sigma_keeps_room_above_the_states_of_the_log() -> None:
    """u must be able to grow away from the log: the ceiling of σ is no lower than that of the plain likelihood."""
    plain, weighed = fitted(0.0), fitted(0.5)
    assert (weighed.max_log_var > weighed.min_log_var).all()
    ceilings = [(0.5 * ensemble.max_log_var).exp().norm(dim=-1).detach() for ensemble in (plain, weighed)]
    assert (ceilings[1] >= ceilings[0]).all()


@given(seed=st.integers(0, 10**6), delta=st.floats(0.1, 10.0), beta=st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=30, deadline=None)
def test_with_delta_the_square_is_twice_hubers_function_of_the_residual_in_sigmas(
    seed: int, delta: float, beta: float
) -> None:
    mean, log_var, target = predictions(2, 5, 3, seed)
    z = (mean - target) / (0.5 * log_var).exp()
    expected = 2 * huber_loss(z, torch.zeros_like(z), reduction="none", delta=delta) + log_var
    expected = (expected * (beta * log_var).exp()).mean((-2, -1))
    torch.testing.assert_close(gaussian_loss(mean, log_var, target, beta=beta, huber_delta=delta), expected)


def test_with_delta_no_residual_pulls_more_than_one_of_delta() -> None:
    """d/dμ of z² is 2z/σ, here σ = ½: 4z, and 4δ from δ on; none at z = 0, where a root has no derivative."""
    mean = torch.tensor([0.0, 1.0, 1.5, 4.0, -400.0], dtype=torch.float64, requires_grad=True)
    log_var = torch.full((1, 5, 1), 2 * math.log(0.5), dtype=torch.float64)
    loss = gaussian_loss(mean.view(1, 5, 1), log_var, torch.zeros(1, 5, 1), beta=0.0, huber_delta=3.0)
    (gradient,) = torch.autograd.grad(5 * loss.sum(), mean)
    torch.testing.assert_close(gradient, torch.tensor([0.0, 8.0, 12.0, 12.0, -12.0], dtype=torch.float64))


def test_with_delta_jumps_that_nothing_announces_do_not_keep_the_other_targets_from_being_learned() -> None:
    """s₂ jumps by 1 in 1 % of the rows and is constant in the others; r is learned beside it."""
    generator = torch.Generator().manual_seed(0)
    states, actions = torch.randn(4000, 2, generator=generator), torch.randn(4000, 1, generator=generator)
    jumps = torch.randint(0, 100, (4000,), generator=generator) == 0
    change = torch.stack([0.1 * states[:, 0], jumps * torch.randn(4000, generator=generator).sign()], -1)
    rewards = torch.sin(2 * states[:, 0]) * torch.cos(2 * actions[:, 0])
    rows = Transitions.pack(states, actions, states + change, rewards, torch.zeros(4000))
    errors = []
    for delta in (None, 3.0):
        ensemble = GaussianEnsemble(
            obs_dim=2,
            action_dim=1,
            members=3,
            hidden_sizes=(64, 64),
            normaliser=Normaliser.fit(rows.inputs),
            target_normaliser=Normaliser.fit(model_target(rows)),
            generator=generator_for(0, "weights"),
        )
        loss = EnsembleLoss(ensemble=ensemble, bound_coef=0.01, beta=0.5, huber_delta=delta)
        optimizer, draws = torch.optim.Adam(ensemble.parameters(), lr=3e-3), torch.Generator().manual_seed(1)
        for _ in range(600):
            batch = rows[torch.randint(4000, (3, 256), generator=draws)]
            optimizer.zero_grad()
            loss(dict(ensemble.named_parameters()), batch).backward()
            optimizer.step()
        mean, _ = ensemble.in_raw_units(rows.inputs[~jumps])
        errors.append((mean - model_target(rows)[~jumps]).square().mean((0, 1)).sqrt().detach())
    plain, robust = errors
    assert robust[0] < 0.85 * plain[0], errors
    assert robust[2] < 0.5 * plain[2], errors
