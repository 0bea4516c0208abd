"""Fitted Q evaluation on a chain whose values are known."""

from typing import Any

import pytest
import torch

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.data.statistics import returns_to_go
from mopo_pl.data.transitions import Transitions
from mopo_pl.diagnostics.estimates.behaviour_clone import fit_clone
from mopo_pl.diagnostics.estimates.fqe import FittedValues, fitted_values
from mopo_pl.diagnostics.estimates.logged_returns import logged_returns

STATES, GAMMA = 5, 0.8


def chain() -> Transitions:
    """Every step of a chain, both ways; leaving it to the right ends the task and pays 1, staying at the left end pays -0.1."""
    places = torch.eye(STATES)
    s = torch.arange(STATES).repeat_interleave(2)
    a = torch.tensor([-1.0, 1.0]).repeat(STATES)
    after = (s + a.long()).clamp(0, STATES - 1)
    terminal = (s == STATES - 1) & (a > 0)
    reward = terminal.float() - 0.1 * ((s == 0) & (a < 0))
    return Transitions.pack(places[s], a[:, None], places[after], reward, terminal)


def values(rows: Transitions, start: int = 0, **changes: Any) -> list[FittedValues]:
    """Of the policies that always go right and always go left, from each state by itself."""
    always = torch.tensor([1.0, -1.0])[:, None, None]
    sizes = {"updates": 700, "batch_size": 32, "hidden_sizes": [32], "tau": 0.1}
    given = {"discount": GAMMA, "centre": 0.0, "scale": 1.0, "seed": 0, **sizes}
    starts = torch.eye(STATES)[[start]]
    return fitted_values(rows, always.expand(2, len(rows), 1), starts, always.expand(2, 1, 1), **{**given, **changes})


@pytest.mark.parametrize(
    ("start", "right", "left"), [(0, GAMMA**4, -0.1 / (1 - GAMMA)), (3, GAMMA, -0.1 * GAMMA**3 / (1 - GAMMA))]
)
def test_a_chain_has_its_closed_form(start: int, right: float, left: float) -> None:
    found = values(chain(), start=start)
    assert found[0].values.tolist() == pytest.approx([right] * 3, abs=0.05)
    assert found[1].values.tolist() == pytest.approx([left] * 3, abs=0.05)


def test_seeds_differ_and_repeat() -> None:
    first, again, other = (values(chain(), updates=5, seed=seed)[0].values for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique()) == 3


def test_a_value_stays_within_what_rewards_allow() -> None:
    """Networks that begin far away say no more than r_max/(1 - γ)."""
    found = values(chain(), updates=1, centre=100.0)
    assert found[0].values.tolist() == pytest.approx([1 / (1 - GAMMA)] * 3)


def test_its_targets_are_what_rewards_allow_too() -> None:
    """Else the networks would stay as far away as their moving averages for long."""
    found = values(chain(), updates=100, centre=100.0, scale=30.0, learning_rate=0.02)
    assert all(0 < value < 4 for each in found for value in each.values.tolist())


def test_the_lower_bound_is_the_mean_less_two_deviations() -> None:
    summary = FittedValues(torch.tensor([-3.0, 1.0, 5.0], dtype=torch.float64)).summary()
    assert (summary["mean"], summary["min"], summary["std"], summary["lower"], summary["upper"]) == (1, -3, 4, -7, 9)


@pytest.mark.slow
def test_on_the_pendulum_the_logs_own_policy_is_worth_what_the_log_earned() -> None:
    dataset = open_dataset(name="pendulum", data=DataConfig(source="collect:pendulum"), env_id=None, env_kwargs={})
    clone, log = fit_clone(dataset, seed=0), logged_returns(dataset, 0.99)
    starts = dataset.transitions[log.rows]
    (found,) = fitted_values(
        dataset.transitions,
        clone.next_actions().unsqueeze(0),
        starts.observations,
        starts.actions.unsqueeze(0),
        discount=0.99,
        centre=0.0,
        scale=float(returns_to_go(dataset, 0.99).std()),
        seed=0,
    )
    assert float(found.values.mean()) == pytest.approx(float(log.forever.mean()), abs=50)
    assert float(found.values.std()) < 40
