"""The clone's return is the log's where the model is true, and says how far the model is off where it is not."""

import pytest
import torch
from known_models import EVERYWHERE, KnownModel, dataset_of, penalised, steered, steered_log

from mopo_pl.diagnostics.estimates.behaviour_clone import BehaviourClone, fit_clone
from mopo_pl.diagnostics.estimates.logged_returns import logged_returns
from mopo_pl.diagnostics.estimates.model_returns import returns_in_elites

LOG = steered_log(episodes=12, steps=15)


def earned(clone: BehaviourClone, model: KnownModel, rows: torch.Tensor) -> torch.Tensor:
    return returns_in_elites(
        penalised(model),
        policy=clone.following(rows),
        starts=LOG.transitions[rows].observations,
        steps=15,
        discount=0.9,
        limits=EVERYWHERE,
        lowest_reward=0.0,
        generator=torch.Generator().manual_seed(0),
    ).sums["return"]


@pytest.mark.parametrize("updates", [0, 200])
def test_in_a_true_model_each_start_earns_what_the_log_did(updates: int) -> None:
    """Even where nothing was learned: the residuals hold what is missing."""
    clone, log = fit_clone(LOG, seed=0, updates=updates), logged_returns(LOG, 0.9)
    drawn = torch.tensor([5, 0, 11, 5])
    found = earned(clone, KnownModel([steered(), steered()]), log.rows[drawn])
    torch.testing.assert_close(found, log.returns[drawn].expand(2, 4), rtol=0, atol=1e-4)


def test_a_biased_model_shows_its_bias() -> None:
    clone, log = fit_clone(LOG, seed=0, updates=50), logged_returns(LOG, 0.9)
    found = earned(clone, KnownModel([steered(0.2)]), log.rows)
    torch.testing.assert_close(
        found[0] - log.returns, torch.full((12,), 15 * 0.2, dtype=torch.float64), rtol=0, atol=1e-3
    )


def test_residuals_go_on_from_the_middle_of_an_episode_and_begin_again_at_its_end() -> None:
    clone = fit_clone(LOG, seed=0, updates=0)
    act = clone.following(torch.tensor([15 + 13]))
    mean = clone.actor.mean_action(torch.zeros(1, 1))
    taken = torch.cat([act(torch.zeros(1, 1), torch.zeros(1, 1)) for _ in range(3)])
    expected = (mean + clone.residuals[torch.tensor([28, 29, 15])]).clamp(-1, 1)
    assert torch.equal(taken, expected)


def test_its_next_actions_are_the_logs_but_at_an_episodes_end() -> None:
    clone = fit_clone(LOG, seed=0, updates=20)
    taken, logged = clone.next_actions(), LOG.transitions.actions
    last = torch.zeros(len(LOG), dtype=torch.bool)
    last[LOG.episode_ends - 1] = True
    before = (~last).nonzero().squeeze(1)
    assert torch.equal(taken[before], logged[before + 1])
    mean = clone.actor.mean_action(LOG.transitions.next_observations[last])
    torch.testing.assert_close(taken[last], (mean + clone.residuals[last]).clamp(-1, 1))


def test_it_learns_the_mean_action_of_the_log() -> None:
    states = torch.linspace(-1, 1, 500)[:, None].numpy()
    log = dataset_of(states, -0.5 * states, states, states[:, 0], lengths=[500])
    first, again, other = (fit_clone(log, seed=seed, updates=400) for seed in (0, 0, 1))
    assert float(first.residuals.abs().mean()) < 0.02
    assert float(fit_clone(log, seed=0, updates=0).residuals.abs().mean()) > 0.1
    assert torch.equal(first.residuals, again.residuals)
    assert not torch.equal(first.residuals, other.residuals)
