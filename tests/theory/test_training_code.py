"""The pipeline's penalty, relabelled rewards and rollouts against the exact penalised return of a finite MDP.

What is compared shares nothing: linear algebra in `mopo_pl.theory` on one side, the code that trains on the other.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from finite_pipeline import DISCOUNT, ELITES, EVERYWHERE, MEMBERS, STATES, TERMINAL, Pipeline, build
from torch import Generator, Tensor

from mopo_pl.callbacks import RolloutRefresh
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalised_model import Draws, Imagined, PenalisedModel
from mopo_pl.dynamics.penalties import max_aleatoric, none
from mopo_pl.dynamics.termination import never
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.losses import critic_target, lower_estimate
from mopo_pl.sac.module import SACModule
from mopo_pl.theory.distances import TotalVariation, model_distances
from mopo_pl.theory.returns import action_values, expected_return, truncated_return
from mopo_pl.theory.setting import constant_from_rewards

ADMISSIBLE = 9.0
"""γc, with c = r_max/(1 - γ) for rewards in [0, 1]."""
HORIZONS, COEFS, SEEDS = (3, 12), (1.0, ADMISSIBLE), (0, 1)
ROLLOUTS = 20_000


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return build()


def standard_errors(
    pipeline: Pipeline, model: PenalisedModel, coef: float, horizon: int, seed: int, rollouts: int = ROLLOUTS
) -> float:
    """By how many of them the pipeline's estimate is off the exact h-step return in M̃."""
    exact = truncated_return(pipeline.model.penalised(pipeline.u, coef), pipeline.probabilities, horizon)
    mean, error = pipeline.estimate(model, horizon, rollouts, seed)
    return (mean - float(exact)) / error


# Rollouts -------------------------------------------------------------------------------------------------------------


def test_the_coefficient_is_the_one_the_theorem_asks_for(pipeline: Pipeline) -> None:
    assert (pipeline.mdp.rewards.min(), pipeline.mdp.rewards.max()) == (0.0, 1.0)
    assert DISCOUNT * constant_from_rewards(pipeline.mdp, TotalVariation()) == pytest.approx(ADMISSIBLE)
    assert pipeline.u.max() > 0.5
    assert pipeline.u[TERMINAL].tolist() == [0.0] * pipeline.mdp.actions


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("coef", COEFS)
@pytest.mark.parametrize("seed", SEEDS)
def test_imagined_returns_are_the_exact_penalised_return(
    pipeline: Pipeline, coef: float, horizon: int, seed: int
) -> None:
    z = standard_errors(pipeline, pipeline.penalised(coef), coef, horizon, seed)
    print(f"h {horizon}, λ {coef:g}, seed {seed}: {z:+.2f} standard errors")
    assert abs(z) < 4


def test_what_the_pipeline_earns_in_its_penalised_model_is_a_lower_bound_of_the_true_return(pipeline: Pipeline) -> None:
    """(7), with the training code on its right side; 80 steps leave 2e-4 of the whole."""
    mean, error = pipeline.estimate(pipeline.penalised(ADMISSIBLE), 80, 2000, 0)
    true = float(expected_return(pipeline.mdp, pipeline.probabilities))
    exact = float(expected_return(pipeline.model.penalised(pipeline.u, ADMISSIBLE), pipeline.probabilities))
    assert abs(mean - exact) < 4 * error + 1e-2
    assert mean + 4 * error + 1e-2 < true


class Added(PenalisedModel):
    """The penalty added instead of subtracted."""

    def step(self, observations: Tensor, actions: Tensor, draws: Draws) -> Imagined:
        made = super().step(observations, actions, draws)
        made.transitions.rows[:, -2] += 2 * made.cost
        return made


class OneElite(TransitionModel):
    """A row keeps the elite of its first step: no T̂ any more."""

    def draw(self, observations: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return super().draw(observations, Generator().manual_seed(0))


def added(model: PenalisedModel) -> Added:
    return Added(**{entry.name: getattr(model, entry.name) for entry in fields(model) if entry.init})


def with_model(pipeline: Pipeline, **replaced: Any) -> PenalisedModel:
    return replace(pipeline.penalised(ADMISSIBLE), **replaced)


def drawn_from(pipeline: Pipeline, elites: list[int], kind: type[TransitionModel] = TransitionModel) -> TransitionModel:
    return kind(ensemble=pipeline.transition.ensemble, elites=torch.tensor(elites))


MUTANTS: dict[str, Callable[[Pipeline], PenalisedModel]] = {
    "the penalty added": lambda p: added(p.penalised(ADMISSIBLE)),
    "no penalty": lambda p: with_model(p, penalty=none),
    "variance for deviation": lambda p: with_model(p, penalty=lambda mean, std: max_aleatoric(mean, std.square())),
    "the penalty of elites alone": lambda p: with_model(p, penalty=lambda mean, std: max_aleatoric(mean, std[ELITES])),
    "the mean deviation": lambda p: with_model(p, penalty=lambda mean, std: std.norm(dim=-1).mean(0)),
    "every member imagines": lambda p: with_model(p, transition=drawn_from(p, list(range(MEMBERS)))),
    "one elite a rollout": lambda p: with_model(p, transition=drawn_from(p, ELITES, OneElite)),
    "no episode ends": lambda p: with_model(p, termination=never),
    "half of lambda": lambda p: with_model(p, coef=ADMISSIBLE / 2),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_pipeline_that_is_wrong_fails_the_same_check(pipeline: Pipeline, mutant: str) -> None:
    z = standard_errors(pipeline, MUTANTS[mutant](pipeline), ADMISSIBLE, max(HORIZONS), seed=0, rollouts=10_000)
    print(f"{mutant}: {z:+.0f} standard errors")
    assert abs(z) > 6


def test_a_discount_that_is_wrong_fails_the_same_check(pipeline: Pipeline) -> None:
    other = replace(pipeline.model.penalised(pipeline.u, ADMISSIBLE), discount=0.88)
    mean, error = pipeline.estimate(pipeline.penalised(ADMISSIBLE), max(HORIZONS), 10_000, 0)
    assert abs(mean - float(truncated_return(other, pipeline.probabilities, max(HORIZONS)))) > 6 * error


# The buffer and its batches -------------------------------------------------------------------------------------------


def filled(pipeline: Pipeline, data: OfflineDataModule, model: PenalisedModel) -> OfflineDataModule:
    """The model buffer after one refresh by the callback that trains."""
    refresh = RolloutRefresh(
        model,
        horizon=3,
        starts=8000,
        every_n_epochs=1,
        continue_share=0.0,
        chunk=1000,
        limits=EVERYWHERE,
        max_dropped=0.0,
        seed=0,
        compile=False,
    )
    actor = SimpleNamespace(act=pipeline.policy)
    module = cast(SACModule, SimpleNamespace(device=torch.device("cpu"), actor=actor, updates=0))
    refresh.on_fit_start(cast(Any, SimpleNamespace(global_rank=0, ckpt_path=None)), module)
    refresh.refresh(module, data)
    return data


def stored(data: OfflineDataModule) -> Transitions:
    """Every imagined row."""
    return Transitions(
        data.model_buffer.rows[: len(data.model_buffer)], data.log_rows.obs_dim, data.log_rows.action_dim
    )


def check_real(pipeline: Pipeline, data: OfflineDataModule) -> None:
    """Real rows of batches carry the log's rewards, which are M's: nothing is subtracted."""
    for batch in data.sample(20).rows:
        real = replace(data.log_rows, rows=batch[: data.real_rows])
        assert len(real) == 16
        np.testing.assert_array_equal(real.rewards.numpy(), pipeline.mdp.rewards[pipeline.pairs(real)])


def off_imagined(pipeline: Pipeline, rows: Transitions) -> float:
    """By how many standard errors the rewards of imagined rows are off r(s, a) - λu(s, a) in the mean."""
    expected = pipeline.model.penalised(pipeline.u, ADMISSIBLE).rewards[pipeline.pairs(rows)]
    difference = rows.rewards.double().numpy() - expected
    return float(difference.mean() / difference.std() * len(difference) ** 0.5)


def test_imagined_rows_of_a_batch_are_penalised_and_real_ones_are_not(pipeline: Pipeline) -> None:
    data = filled(pipeline, pipeline.data(), pipeline.penalised(ADMISSIBLE))
    check_real(pipeline, data)
    assert abs(off_imagined(pipeline, stored(data))) < 4
    drawn = data.sample(100).rows[:, data.real_rows :].flatten(0, 1)
    assert abs(off_imagined(pipeline, Transitions(drawn, stored(data).obs_dim, stored(data).action_dim))) < 4


def test_a_penalty_that_is_added_is_seen_in_the_buffer(pipeline: Pipeline) -> None:
    data = filled(pipeline, pipeline.data(), MUTANTS["the penalty added"](pipeline))
    assert abs(off_imagined(pipeline, stored(data))) > 6


class PenalisedLog(OfflineDataModule):
    """Charges λu for every row of a batch, real ones included."""

    pipeline: Pipeline

    def sample(self, updates: int) -> Transitions:
        batches = super().sample(updates)
        for batch in batches.rows:
            real = replace(self.log_rows, rows=batch[: self.real_rows])  # the others have paid already
            real.rewards.sub_(torch.tensor(ADMISSIBLE * self.pipeline.u[self.pipeline.pairs(real)]))
        return batches


def test_a_penalty_on_real_rows_is_seen(pipeline: Pipeline) -> None:
    data = pipeline.data()
    data.__class__ = PenalisedLog
    cast(PenalisedLog, data).pipeline = pipeline
    filled(pipeline, data, pipeline.penalised(ADMISSIBLE))
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        check_real(pipeline, data)


def test_imagined_next_states_follow_the_mixture_of_the_elites(pipeline: Pipeline) -> None:
    """Pearson's χ² over every (s, a); where T̂ gives nothing, nothing may come. Episodes end in the terminal state."""
    rows = stored(filled(pipeline, pipeline.data(), pipeline.penalised(ADMISSIBLE)))
    s, a = pipeline.pairs(rows)
    after = pipeline.codes.state(rows.next_observations).numpy()
    counts = np.zeros(pipeline.model.transitions.shape)
    np.add.at(counts, (s, a, after), 1)
    expected = pipeline.model.transitions * counts.sum(-1, keepdims=True)
    possible = expected > 0
    assert not counts[~possible].any()
    freedom = possible.sum() - (counts.sum(-1) > 0).sum()
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5
    assert not (s == TERMINAL).any()
    np.testing.assert_array_equal(rows.terminals.numpy() == 1, after == TERMINAL)


# The critic's equation ------------------------------------------------------------------------------------------------


def off_bellman(pipeline: Pipeline, rows: Transitions, discount: float) -> float:
    """By how many standard errors the critic's targets, with M̃'s exact Q on their right side, are off that Q."""
    exact = action_values(pipeline.model.penalised(pipeline.u, ADMISSIBLE), pipeline.probabilities)
    table = torch.tensor(exact)
    table[TERMINAL] = 1000.0  # no value follows an end: this must not be looked at
    s, a = (torch.tensor(index) for index in pipeline.pairs(rows))
    after = pipeline.codes.state(rows.next_observations)
    noise = torch.randn(rows.actions.shape, generator=generator_for(1, "theory"))
    action = pipeline.codes.action(pipeline.policy(rows.next_observations, noise))
    next_q = torch.stack([table[after, action], table[after, action] + 5])  # of twins the lower one counts
    nothing = torch.zeros(len(rows))
    value = lower_estimate(next_q, None)
    zero = torch.tensor(0.0)
    target = critic_target(rows.rewards, rows.terminals, value, nothing, zero, discount=discount, soft=False)
    difference = target - table[s, a]
    return float(difference.mean() / difference.std() * len(rows) ** 0.5)


def test_the_exact_values_of_the_penalised_model_solve_the_critics_equation(pipeline: Pipeline) -> None:
    """Over all of time, not h steps: what the critic learns from imagined rows alone is Q in M̃."""
    rows = stored(filled(pipeline, pipeline.data(), pipeline.penalised(ADMISSIBLE)))
    assert abs(off_bellman(pipeline, rows, DISCOUNT)) < 4
    assert abs(off_bellman(pipeline, rows, 0.88)) > 6
    added = stored(filled(pipeline, pipeline.data(), MUTANTS["the penalty added"](pipeline)))
    assert abs(off_bellman(pipeline, added, DISCOUNT)) > 6


# What it is compared with ---------------------------------------------------------------------------------------------


def test_the_known_error_is_that_of_the_elites_mixture(pipeline: Pipeline) -> None:
    """u by hand: of each (s, a), the elites' maps counted, beside M."""
    ensemble = cast(Any, pipeline.transition.ensemble)
    for s in range(STATES - 1):
        for a in range(pipeline.mdp.actions):
            mixture = np.bincount(ensemble.maps[ELITES, s, a].numpy(), minlength=STATES) / len(ELITES)
            by_hand = np.abs(mixture - pipeline.mdp.transitions[s, a]).sum() / 2
            assert pipeline.u[s, a] == pytest.approx(by_hand)
            assert float(ensemble.deviations[:, s, a].max()) == pytest.approx(by_hand, rel=1e-6)
    distances = model_distances(pipeline.mdp.transitions, pipeline.model.transitions, TotalVariation())
    np.testing.assert_array_equal(pipeline.u, distances)
