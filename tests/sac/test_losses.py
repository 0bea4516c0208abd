"""The equations of SAC, by hand and against autograd."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mopo_pl.sac.losses import actor_loss, critic_loss, critic_target, polyak_, temperature, temperature_loss

QS = torch.tensor([[5.0, 1.0, 5.0], [3.0, 2.0, 3.0]])
"""min: 3, 1, 3."""
LOG_PROB = torch.tensor([0.5, -2.0, 0.5])
REWARD, TERMINAL = torch.tensor([1.0, 2.0, 7.0]), torch.tensor([0.0, 0.0, 1.0])
ALPHA = torch.tensor(0.2)


def test_the_target_by_hand() -> None:
    """1 + .5(3 - .2·.5) = 2.45; 2 + .5(1 + .2·2) = 2.7; the third row is terminal: its reward, and nothing after."""
    y = critic_target(REWARD, TERMINAL, QS, LOG_PROB, ALPHA, 0.5, soft=True)
    assert y.tolist() == pytest.approx([2.45, 2.7, 7.0])


def test_a_deterministic_backup_leaves_the_entropy_out() -> None:
    y = critic_target(REWARD, TERMINAL, QS, LOG_PROB, ALPHA, 0.5, soft=False)
    assert y.tolist() == pytest.approx([2.5, 2.5, 7.0])


def test_the_target_of_a_terminal_row_is_its_reward_whatever_the_values() -> None:
    y = critic_target(REWARD, torch.ones(3), 1e6 * QS, 1e6 * LOG_PROB, ALPHA, 0.99, soft=True)
    assert y.tolist() == REWARD.tolist()


def test_without_discount_the_target_is_the_reward() -> None:
    y = critic_target(REWARD, torch.zeros(3), QS, LOG_PROB, ALPHA, 0.0, soft=True)
    assert y.tolist() == REWARD.tolist()


def test_the_critic_loss_adds_both_mean_squared_errors() -> None:
    """Errors (1, 3) and (0, 2): (1 + 9)/2 + (0 + 4)/2."""
    q = torch.tensor([[2.0, 4.0], [1.0, 3.0]])
    assert critic_loss(q, torch.ones(2)).item() == pytest.approx(7.0)


def test_the_actor_loss_weighs_entropy_by_the_temperature_and_trusts_the_lower_critic() -> None:
    """((.2·.5 - 3) + (-.2·2 - 1) + (.2·.5 - 3))/3."""
    assert actor_loss(QS, LOG_PROB, ALPHA).item() == pytest.approx((-2.9 - 1.4 - 2.9) / 3)


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
