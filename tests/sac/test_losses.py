"""The equations of SAC, by hand and against autograd."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mopo_pl.sac.losses import (
    actor_loss,
    critic_loss,
    critic_target,
    lower_estimate,
    polyak_,
    reachable_returns,
    temperature,
    temperature_loss,
)

QS = torch.tensor([[5.0, 1.0, 5.0], [3.0, 2.0, 3.0]])
"""min: 3, 1, 3."""
LOG_PROB = torch.tensor([0.5, -2.0, 0.5])
REWARD, TERMINAL = torch.tensor([1.0, 2.0, 7.0]), torch.tensor([0.0, 0.0, 1.0])
ALPHA = torch.tensor(0.2)


def test_the_target_by_hand() -> None:
    """1 + .5(3 - .2·.5) = 2.45; 2 + .5(1 + .2·2) = 2.7; the third row is terminal: its reward, and nothing after."""
    y = critic_target(REWARD, TERMINAL, (QS).amin(0), LOG_PROB, ALPHA, discount=0.5, soft=True)
    assert y.tolist() == pytest.approx([2.45, 2.7, 7.0])


def test_a_deterministic_backup_leaves_the_entropy_out() -> None:
    y = critic_target(REWARD, TERMINAL, (QS).amin(0), LOG_PROB, ALPHA, discount=0.5, soft=False)
    assert y.tolist() == pytest.approx([2.5, 2.5, 7.0])


def test_the_target_of_a_terminal_row_is_its_reward_whatever_the_values() -> None:
    y = critic_target(REWARD, torch.ones(3), (1e6 * QS).amin(0), 1e6 * LOG_PROB, ALPHA, discount=0.99, soft=True)
    assert y.tolist() == REWARD.tolist()


def test_without_discount_the_target_is_the_reward() -> None:
    y = critic_target(REWARD, torch.zeros(3), (QS).amin(0), LOG_PROB, ALPHA, discount=0.0, soft=True)
    assert y.tolist() == REWARD.tolist()


def test_the_critic_loss_adds_both_mean_squared_errors() -> None:
    """Errors (1, 3) and (0, 2): (1 + 9)/2 + (0 + 4)/2."""
    q = torch.tensor([[2.0, 4.0], [1.0, 3.0]])
    assert critic_loss(q, torch.ones(2)).item() == pytest.approx(7.0)


def test_the_actor_loss_weighs_entropy_by_the_temperature_and_trusts_the_lower_critic() -> None:
    """((.2·.5 - 3) + (-.2·2 - 1) + (.2·.5 - 3))/3."""
    assert actor_loss(QS.amin(0), LOG_PROB, ALPHA).item() == pytest.approx((-2.9 - 1.4 - 2.9) / 3)


@given(entropy=st.floats(-5, 5), goal=st.floats(-5, 5), log_alpha=st.floats(-3, 1))
def test_the_temperature_falls_where_the_policy_is_more_random_than_asked(
    entropy: float, goal: float, log_alpha: float
) -> None:
    """The gradient of log α is entropy - target: a descent step raises α exactly where there is too little entropy."""
    parameter = torch.tensor(log_alpha, dtype=torch.float64, requires_grad=True)
    temperature_loss(parameter, torch.full((4,), -entropy, dtype=torch.float64), goal).backward()
    assert parameter.grad is not None
    assert parameter.grad.item() == pytest.approx(entropy - goal, abs=1e-9)


def test_the_temperature_loss_by_hand() -> None:
    """-ln 2 · mean(1 - 3, 2 - 3)."""
    loss = temperature_loss(torch.tensor(2.0).log(), torch.tensor([1.0, 2.0]), -3.0)
    assert loss.item() == pytest.approx(1.5 * math.log(2))


@pytest.mark.parametrize(
    ("alpha", "limit", "used"), [(0.3, 1.0, 0.3), (5.0, 1.0, 1.0), (5.0, None, 5.0), (5.0, 2.0, 2.0)]
)
def test_the_temperature_is_clamped_where_it_is_used(alpha: float, limit: float | None, used: float) -> None:
    assert temperature(torch.tensor(alpha).log(), limit).item() == pytest.approx(used)


def test_the_slow_copy_moves_by_tau_towards_the_fast_one_in_place() -> None:
    slow, fast = [torch.tensor([1.0, 0.0]), torch.tensor([[4.0]])], [torch.tensor([3.0, 10.0]), torch.tensor([[0.0]])]
    polyak_(slow, fast, 0.1)
    assert slow[0].tolist() == pytest.approx([1.2, 1.0])
    assert slow[1].item() == pytest.approx(3.6)
    assert fast[0].tolist() == [3.0, 10.0]


@pytest.mark.parametrize(("tau", "result"), [(0.0, 1.0), (1.0, 3.0)])
def test_tau_runs_from_never_to_at_once(tau: float, result: float) -> None:
    slow = [torch.tensor([1.0])]
    polyak_(slow, [torch.tensor([3.0])], tau)
    assert slow[0].item() == result


def test_the_value_of_several_critics_is_their_minimum_or_their_mean_less_deviations() -> None:
    q = torch.tensor([[1.0, 4.0], [3.0, 4.0], [5.0, 4.0]])
    assert lower_estimate(q, None).tolist() == [1.0, 4.0]
    deviation = (8 / 3) ** 0.5  # of 1, 3 and 5
    assert lower_estimate(q, 0.5).tolist() == pytest.approx([3 - 0.5 * deviation, 4.0], abs=1e-5)


def test_the_gradient_of_the_pessimistic_value_is_finite_where_critics_agree() -> None:
    q = torch.ones(3, 2, requires_grad=True)
    lower_estimate(q, 1.0).sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


def test_a_target_beyond_the_reachable_returns_is_clipped() -> None:
    bounds = reachable_returns(torch.tensor([-1.0, 3.0, 0.5]), 0.9)
    assert bounds == pytest.approx((-10.0, 30.0))
    values = torch.tensor([100.0, -100.0, 2.0])
    y = critic_target(
        torch.zeros(3), torch.zeros(3), values, torch.zeros(3), ALPHA, discount=0.9, soft=False, bounds=bounds
    )
    assert y.tolist() == pytest.approx([30.0, -10.0, 1.8])


def test_rewards_of_one_sign_still_leave_room_for_an_episode_that_ends() -> None:
    assert reachable_returns(torch.tensor([1.0, 2.0]), 0.5) == (0.0, 4.0)
    assert reachable_returns(torch.tensor([-1.0, -2.0]), 0.5) == (-4.0, 0.0)
