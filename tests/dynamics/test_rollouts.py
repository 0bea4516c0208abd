"""Branched rollouts with a model whose outcomes name the member that made them."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Generator, Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import LogStatistics
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.known_steps import Halt, KnownSteps, StateLimits
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalised_model import Draws, PenalisedModel
from mopo_pl.dynamics.penalties import disagreement, max_aleatoric, none
from mopo_pl.dynamics.rollouts import Rollout, RolloutStatistics, RolloutStep, Stepper, branch, compiled_step, one_step
from mopo_pl.dynamics.terminals.classifier import unfitted
from mopo_pl.dynamics.terminals.rule import LearnedRule
from mopo_pl.dynamics.termination import StateBox, never
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for

MEMBERS, OBS, ACTIONS = 7, 2, 1
EVERYWHERE = StateLimits(torch.full((OBS,), -torch.inf), torch.full((OBS,), torch.inf))
SHAPE = cast(GaussianEnsemble, SimpleNamespace(obs_dim=OBS, action_dim=ACTIONS))


class NamingModel(TransitionModel):
    """Member i predicts the reward 100 + i and adds i to every coordinate, with deviations of one's choice [E]."""

    def __init__(self, elites: list[int], deviations: list[float] | None = None) -> None:
        self.ensemble, self.elites = SHAPE, torch.tensor(elites)
        self.deviations = torch.tensor(deviations or [0.0] * MEMBERS)

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        assert inputs.shape[1] == OBS + ACTIONS
        member = torch.arange(float(MEMBERS)).view(-1, 1, 1).expand(MEMBERS, len(inputs), 1)
        mean = torch.cat([100 + member, *[member] * OBS], -1)
        return mean, self.deviations.view(-1, 1, 1).expand_as(mean)


def penalised(model: TransitionModel, **replaced: Any) -> PenalisedModel:
    arguments = {"transition": model, "penalty": none, "coef": 0.0, "termination": never, **replaced}
    return PenalisedModel(**arguments)


def halt(known: StateLimits) -> Halt:
    """Of C = 40."""
    cost = torch.tensor(40.0, dtype=torch.float64)
    any_change = StateLimits(torch.full_like(known.low, -torch.inf), torch.full_like(known.low, torch.inf))
    return Halt(
        known=KnownSteps(states=known, changes=any_change),
        price_limit=cost,
        share=0.1,
        least=1.0,
        most=100.0,
        lowest=-1e6,
    )


def still(observations: Tensor, noise: Tensor) -> Tensor:
    return observations.new_zeros(len(observations), ACTIONS)


def imagine(model: PenalisedModel, observations: Tensor) -> tuple[Transitions, Tensor]:
    """One step of no action, and its cost."""
    draws = model.draw(observations, generator_for(0, "x"))
    made = model.step(observations, still(observations, draws.policy), draws)
    return made.transitions, made.cost


def roll(
    model: PenalisedModel, starts: Tensor, horizon: int, seed: int = 0, limits: StateLimits = EVERYWHERE
) -> Rollout:
    return branch(model, still, starts, horizon, limits, generator_for(seed, "test"))


# Which member makes an outcome ----------------------------------------------------------------------------------------


def test_every_outcome_comes_from_an_elite_and_each_elite_as_often_as_the_others() -> None:
    rows = 20_000
    imagined, _ = imagine(penalised(NamingModel([5, 0, 3])), torch.zeros(rows, OBS))
    counts = Counter(imagined.next_observations[:, 0].tolist())
    assert set(counts) == {5.0, 0.0, 3.0}
    expected = rows / 3
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 13.8  # 2 degrees of freedom: exceeded once in a thousand streams, and this one is fixed


def test_state_and_reward_of_a_row_come_from_the_same_member() -> None:
    imagined, _ = imagine(penalised(NamingModel([1, 2, 4, 6])), torch.full((500, OBS), 10.0))
    member = imagined.rewards - 100
    for i in range(OBS):
        assert torch.equal(imagined.next_observations[:, i], 10 + member)


def test_each_step_of_a_row_draws_its_member_anew_and_apart_from_other_rows() -> None:
    rollout = roll(penalised(NamingModel([0, 6])), torch.zeros(2000, OBS), 4)
    drawn = rollout.transitions.rewards - 100
    same_as_before = (drawn[1:] == drawn[:-1]).float().mean().item()
    same_as_next_row = (drawn[:, 1:] == drawn[:, :-1]).float().mean().item()
    assert same_as_before == pytest.approx(0.5, abs=0.03)
    assert same_as_next_row == pytest.approx(0.5, abs=0.03)


def test_both_the_state_and_the_reward_are_sampled_with_the_deviation_of_the_drawn_member() -> None:
    rows = 40_000
    deviations = [0.0, 0.5, 0.0, 2.0, 0.0, 0.0, 0.0]
    model = penalised(NamingModel([1], deviations))
    first, _ = imagine(model, torch.zeros(rows, OBS))
    outcome = torch.cat([first.rewards.unsqueeze(-1) - 100, first.next_observations], -1)
    covariance = torch.cov(outcome.double().T)
    torch.testing.assert_close(outcome.mean(0), torch.ones(1 + OBS), atol=0.01, rtol=0)
    torch.testing.assert_close(covariance, 0.25 * torch.eye(1 + OBS, dtype=torch.float64), atol=0.01, rtol=0)


# The penalty ----------------------------------------------------------------------------------------------------------


def test_the_penalty_is_taken_over_all_members_not_the_elites() -> None:
    """Member 3 is no elite and the least certain: ‖σ‖ = 2·√3 over the reward and two coordinates."""
    model = penalised(NamingModel([0, 2], [0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]), penalty=max_aleatoric, coef=1.5)
    imagined, cost = imagine(model, torch.zeros(50, OBS))
    torch.testing.assert_close(cost, torch.full((50,), 1.5 * 2 * math.sqrt(3)))
    predicted = 100 + imagined.next_observations[:, 0]
    torch.testing.assert_close(imagined.rewards, predicted - cost)


def test_the_coefficient_enters_as_reward_minus_lambda_u_and_nowhere_else() -> None:
    starts = torch.zeros(30, OBS)
    free, priced = (roll(penalised(NamingModel([1, 5]), penalty=disagreement, coef=c), starts, 3) for c in (0.0, 2.0))
    u = disagreement(*NamingModel([1, 5]).predict(torch.zeros(30, OBS + ACTIONS)))
    torch.testing.assert_close(priced.transitions.rewards, free.transitions.rewards - 2.0 * u)
    assert (u > 0).all()
    assert torch.equal(priced.transitions.next_observations, free.transitions.next_observations)
    torch.testing.assert_close(priced.costs, (2.0 * u).expand(3, 30))
    assert (free.costs == 0).all()


def test_a_known_reward_takes_the_place_of_the_learned_one_and_is_penalised() -> None:
    """It is given s, a and s'; member 3's σ is as before, and the states are those of the learned model."""

    def known(s: Tensor, a: Tensor, after: Tensor) -> Tensor:
        return 7 * s[:, 0] + 10 * a[:, 0] + 100 * after[:, 1]

    transition = NamingModel([0, 2], [0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0])
    starts, actions = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.5], [-1.0]])
    learned = penalised(transition, penalty=max_aleatoric, coef=1.5)
    draws = learned.draw(starts, generator_for(0, "x"))
    expected, u, _ = learned.step(starts, actions, draws)
    made, also, _ = replace(learned, reward=known).step(starts, actions, draws)
    assert torch.equal(made.next_observations, expected.next_observations)
    assert torch.equal(also, u)
    after = expected.next_observations[:, 1]
    by_hand = torch.tensor([7 * 1 + 10 * 0.5, 7 * 3 - 10 * 1]) + 100 * after - 1.5 * 2 * math.sqrt(3)
    torch.testing.assert_close(made.rewards, by_hand)


def test_a_known_reward_sees_actions_in_the_logs_units(make_dataset: Callable[..., OfflineDataset]) -> None:
    log = replace(LogStatistics.of(make_dataset()), action_low=torch.tensor([2.0]), action_high=torch.tensor([6.0]))
    model = penalised(NamingModel([0]), log=log, reward=lambda s, a, after: a[:, 0])
    starts = torch.zeros(3, OBS)
    actions = torch.tensor([[-1.0], [0.0], [1.0]])
    made = model.step(starts, actions, model.draw(starts, generator_for(0, "x"))).transitions
    assert made.rewards.tolist() == [2.0, 4.0, 6.0]


def test_elites_that_differ_about_the_worth_of_a_step_cost_their_standard_deviation() -> None:
    """Elite i pays 100 + i and leads to s + i: worth 100 + i + 0.9·V(s + i), without V where s₀ + i exceeds 4."""

    def value(states: Tensor) -> Tensor:
        return 10 * states[:, 0] + states[:, 1]

    model = penalised(
        NamingModel([1, 2, 6], [0.5] * MEMBERS),
        penalty=max_aleatoric,
        coef=2.0,
        termination=lambda s, a, after: after[:, 0] > 4,
        value_coef=0.25,
        value=value,
        discount=0.9,
    )
    starts = torch.tensor([[0.0, 0.0], [1.5, -1.0], [3.0, 7.0]])
    _, costs = imagine(model, starts)
    for row, (first, second) in enumerate(starts.tolist()):
        worth = []
        for elite in (1, 2, 6):
            alive = first + elite <= 4
            worth.append(100 + elite + 0.9 * alive * (10 * (first + elite) + second + elite))
        mean = sum(worth) / 3
        spread = math.sqrt(sum((each - mean) ** 2 for each in worth) / 3)
        assert float(costs[row]) == pytest.approx(2.0 * 0.5 * math.sqrt(3) + 0.25 * spread, rel=1e-5)


def test_the_spread_is_of_the_known_reward_where_there_is_one() -> None:
    model = penalised(
        NamingModel([0, 4]),
        reward=lambda s, a, after: after[:, 1] ** 2,
        value_coef=1.0,
        value=lambda states: torch.zeros(len(states)),
        discount=0.9,
    )
    _, costs = imagine(model, torch.tensor([[0.0, 3.0]]))
    assert costs.tolist() == [(7.0**2 - 3.0**2) / 2]


def test_elites_that_agree_cost_nothing_and_a_missing_value_is_named() -> None:
    agreeing = penalised(NamingModel([3, 3]), value_coef=1.0, value=lambda states: states[:, 0], discount=0.9)
    assert imagine(agreeing, torch.zeros(5, OBS))[1].tolist() == [0.0] * 5
    with pytest.raises(
        ValueError, match=r"value_coef and halt need a value: give PenalisedModel\(value=\.\.\., discount=\.\.\.\)"
    ):
        imagine(replace(agreeing, value=None), torch.zeros(5, OBS))


# When rows end --------------------------------------------------------------------------------------------------------


class Counting(TransitionModel):
    """s' = s + 1 in every coordinate, reward s₀; `spoil` may change the predicted means."""

    def __init__(self, spoil: Callable[[Tensor, Tensor], Tensor] = lambda states, mean: mean) -> None:
        self.ensemble, self.elites, self.spoil = SHAPE, torch.tensor([0]), spoil

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        states = inputs[:, :OBS]
        mean = self.spoil(states, torch.cat([states[:, :1], torch.ones_like(states)], -1)).unsqueeze(0)
        return mean, torch.zeros_like(mean)


def at_least(limit: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda s, a, after: after[..., 0] >= limit


def columns(starts: list[float]) -> Tensor:
    return torch.tensor(starts).unsqueeze(-1).repeat(1, OBS)


def test_a_rollout_has_as_many_steps_as_its_horizon_where_nothing_ends() -> None:
    rollout = roll(penalised(Counting()), columns([0.0, 10.0]), 4)
    assert rollout.transitions.observations[..., 0].tolist() == [[0, 10], [1, 11], [2, 12], [3, 13]]
    assert rollout.transitions.next_observations[..., 1].tolist() == [[1, 11], [2, 12], [3, 13], [4, 14]]
    assert rollout.valid.all()


def test_rows_end_with_their_terminal_step_and_never_come_back() -> None:
    """Starts 0, 2 and 9 count up to 3: three steps, one step, and one step that ends at once."""
    rollout = roll(penalised(Counting(), termination=at_least(3.0)), columns([0.0, 2.0, 9.0]), 5)
    assert rollout.valid.T.tolist() == [
        [True, True, True, False, False],
        [True, False, False, False, False],
        [True, False, False, False, False],
    ]
    valid = rollout.transitions.rows[rollout.valid]
    kept = Transitions(valid, OBS, ACTIONS)
    assert sorted(zip(kept.observations[:, 0].tolist(), kept.terminals.tolist(), strict=True)) == [
        (0.0, 0.0),
        (1.0, 0.0),
        (2.0, 1.0),
        (2.0, 1.0),
        (9.0, 1.0),
    ]


def test_the_rule_sees_state_action_and_next_state() -> None:
    def rule(s: Tensor, a: Tensor, after: Tensor) -> Tensor:
        return (s[:, 0] == 1) & (a[:, 0] == 1) & (after[:, 0] == 2)

    model = penalised(Counting(), termination=rule)
    rollout = branch(
        model, lambda s, noise: s[:, :ACTIONS], columns([1.0, 0.0, 2.0]), 2, EVERYWHERE, generator_for(0, "x")
    )
    assert (rollout.transitions.terminals * rollout.valid).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_the_policy_acts_on_the_imagined_state_and_the_action_is_stored() -> None:
    rollout = branch(
        penalised(Counting()), lambda s, noise: -s[:, :ACTIONS], columns([5.0]), 3, EVERYWHERE, generator_for(0, "x")
    )
    assert rollout.transitions.actions.flatten().tolist() == [-5.0, -6.0, -7.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", [0, 2], ids=["reward", "state"])
def test_a_row_that_is_not_finite_ends_is_left_out_and_counted_once(value: float, column: int) -> None:
    def spoil(states: Tensor, mean: Tensor) -> Tensor:
        spoilt = mean.clone()
        spoilt[states[:, 0] == 2, column] = value
        return spoilt

    rollout = roll(penalised(Counting(spoil)), columns([0.0, 2.0, 7.0]), 4)
    assert rollout.valid.T.tolist() == [
        [True, True, False, False],
        [False, False, False, False],
        [True, True, True, True],
    ]
    assert rollout.non_finite.nonzero().tolist() == [[0, 1], [2, 0]]
    assert rollout.transitions.rows[rollout.valid].isfinite().all()


def test_an_infinite_penalty_makes_no_valid_row() -> None:
    model = penalised(Counting(), penalty=lambda mean, std: mean[0, :, 0] / 0, coef=1.0)
    rollout = roll(model, columns([1.0]), 2)
    assert not rollout.valid.any()
    assert rollout.non_finite.sum() == 1


def test_a_row_that_leads_beyond_the_limits_ends_is_left_out_and_counted_once() -> None:
    limits = StateLimits(torch.full((OBS,), -torch.inf), torch.tensor([2.5, torch.inf]))
    rollout = roll(penalised(Counting()), columns([0.0, 2.0, -7.0]), 4, limits=limits)
    assert rollout.valid.T.tolist() == [[True, True, False, False], [False] * 4, [True] * 4]
    assert rollout.out_of_range.nonzero().tolist() == [[0, 1], [2, 0]]
    assert not rollout.non_finite.any()


def test_a_step_beyond_the_logs_states_is_terminal_and_worth_what_the_state_before_is_less_c() -> None:
    """V(s) = 10 s₀ and C = 40: from 2 to 3, where nothing is known, -20."""
    known = StateLimits(torch.full((OBS,), -torch.inf), torch.tensor([2.5, torch.inf]))
    halting = penalised(
        Counting(), penalty=lambda mean, std: mean[0, :, 0], coef=0.25, halt=halt(known), value=lambda s: 10 * s[:, 0]
    )
    free = replace(halting, halt=None)
    starts = columns([0.0, 2.0, -7.0])
    rollout, plain = roll(halting, starts, 4), roll(free, starts, 4)
    assert rollout.valid.T.tolist() == [[True, True, True, False], [True, False, False, False], [True] * 4]
    left = torch.zeros(4, 3, dtype=torch.bool)
    left[2, 0] = left[0, 1] = True
    assert torch.equal(rollout.halted, left)
    assert not plain.halted.any()
    within = rollout.valid & ~left
    assert rollout.transitions.terminals[rollout.valid].tolist() == left[rollout.valid].float().tolist()
    assert torch.equal(rollout.transitions.rows[within], plain.transitions.rows[within])
    torch.testing.assert_close(rollout.transitions.rewards[left], torch.full((2,), 10 * 2.0 - 40))
    # What was subtracted stays what it is called: r̃ = r̂ - cost.
    predicted = plain.transitions.rewards + plain.costs
    torch.testing.assert_close((rollout.transitions.rewards + rollout.costs)[rollout.valid], predicted[rollout.valid])
    assert not rollout.non_finite.any()
    assert not rollout.out_of_range.any()


def test_a_step_beyond_the_log_is_taught_however_far_it_leads() -> None:
    """Of both limits the step from 2 leads beyond; what is stored of s' lies within the wider ones."""
    known, limits = (
        StateLimits(torch.full((OBS,), -torch.inf), torch.tensor([high, torch.inf])) for high in (2.25, 2.5)
    )
    rollout = roll(
        penalised(Counting(), halt=halt(known), value=lambda s: 10 * s[:, 0]), columns([2.0]), 2, limits=limits
    )
    assert rollout.valid.T.tolist() == rollout.halted.T.tolist() == [[True, False]]
    assert not rollout.out_of_range.any()
    assert not rollout.running.any()
    assert rollout.transitions.next_observations[0, 0, 0] == 2.5
    assert rollout.transitions.rewards[0, 0] == 10 * 2.0 - 40
    assert rollout.transitions.terminals[0, 0] == 1


def test_a_step_faster_than_the_logs_is_terminal_wherever_it_leads() -> None:
    """Members add i to each coordinate; no logged step changed one by more than 2.5."""
    at_most = replace(halt(EVERYWHERE), known=KnownSteps(states=EVERYWHERE, changes=StateLimits(*columns([-1.0, 2.5]))))
    model = penalised(NamingModel([2, 3]), halt=at_most, value=lambda s: 10 * s[:, 0])
    rollout = roll(model, torch.zeros(40, OBS), 2)
    fast = rollout.transitions.next_observations[..., 0] - rollout.transitions.observations[..., 0] == 3
    assert 0 < fast[0].sum() < 40
    assert torch.equal(rollout.halted, fast & rollout.valid)
    assert torch.equal(rollout.valid[1], ~fast[0])


@pytest.mark.parametrize("predicted", [math.inf, math.nan, 3e8])
def test_what_a_reward_is_where_nothing_is_known_does_not_matter(predicted: float) -> None:
    known = StateLimits(torch.full((OBS,), -torch.inf), torch.tensor([2.5, torch.inf]))
    model = penalised(
        Counting(),
        reward=lambda s, a, after: torch.where(after[:, 0] > 2.5, predicted, 1.0),
        halt=halt(known),
        value=lambda s: 10 * s[:, 0],
    )
    made, _ = imagine(model, columns([2.0, 0.0]))
    assert made.rewards.tolist() == [-20, 1]
    assert made.terminals.tolist() == [1, 0]


def test_a_state_that_is_no_number_is_dropped_and_not_taken_for_halt() -> None:
    known = StateLimits(torch.full((OBS,), -1.0), torch.full((OBS,), 1.0))
    rollout = roll(penalised(Counting(), halt=halt(known), value=lambda s: s[:, 0]), columns([math.nan]), 1)
    assert rollout.non_finite.all()
    assert not rollout.valid.any()
    assert not rollout.halted.any()


# Streams --------------------------------------------------------------------------------------------------------------


def small_ensemble() -> TransitionModel:
    ensemble = GaussianEnsemble(
        obs_dim=OBS,
        action_dim=ACTIONS,
        members=3,
        hidden_sizes=(8,),
        normaliser=Normaliser.identity(OBS + ACTIONS),
        target_normaliser=Normaliser.identity(1 + OBS),
        generator=generator_for(0, "test"),
    )
    return TransitionModel(ensemble=ensemble, elites=torch.tensor([2, 0]))


def test_a_stream_determines_a_rollout_and_another_gives_another() -> None:
    model, starts = penalised(small_ensemble(), penalty=max_aleatoric, coef=1.0), torch.randn(20, OBS)
    torch.manual_seed(1)
    first = roll(model, starts, 3)
    torch.manual_seed(2)  # the global generator has no part in it
    again, other = roll(model, starts, 3), roll(model, starts, 3, seed=1)
    assert torch.equal(first.transitions.rows, again.transitions.rows)
    assert not torch.equal(first.transitions.rows, other.transitions.rows)


def test_a_real_ensemble_samples_its_own_predictions() -> None:
    """Standardised by the mean and deviation of the member that can have made it, an outcome is the stream's noise."""
    model, rows = small_ensemble(), 4
    observations, actions = torch.randn(rows, OBS), torch.rand(rows, ACTIONS)
    inputs = torch.cat([observations, actions], -1)
    mean, std = model.predict(inputs)
    after, reward = model.sample(observations, mean, std, *model.draw(observations, generator_for(0, "x")))
    generator: Generator = generator_for(0, "x")
    member = [[2, 0][i] for i in torch.randint(2, (rows,), generator=generator).tolist()]
    noise = torch.randn((rows, 1 + OBS), generator=generator)
    expected_mean, log_var = model.ensemble.in_raw_units(inputs)
    for row, i in enumerate(member):
        outcome = expected_mean[i, row] + (log_var[i, row] / 2).exp() * noise[row]
        torch.testing.assert_close(reward[row], outcome[0])
        torch.testing.assert_close(after[row], observations[row] + outcome[1:])


# Chunks ---------------------------------------------------------------------------------------------------------------


def tight(states: Tensor) -> StateLimits:
    """Limits that some rows leave."""
    return StateLimits(states.quantile(0.1, 0), states.quantile(0.9, 0))


def wandering(observations: Tensor, noise: Tensor) -> Tensor:
    return torch.tanh(observations[:, :ACTIONS] + noise)


def doubled(coef: float = 1.0) -> PenalisedModel:
    transition = small_ensemble()
    transition.ensemble.double()
    return penalised(transition, penalty=max_aleatoric, coef=coef, termination=lambda s, a, after: after[:, 0] > 1)


def parts(rollout: Rollout) -> list[Tensor]:
    return [
        rollout.transitions.rows,
        rollout.costs,
        rollout.valid,
        rollout.non_finite,
        rollout.out_of_range,
        rollout.halted,
    ]


def test_chunks_rolled_out_one_by_one_are_the_rows_of_all_starts_at_once() -> None:
    """On the same draws, with rows that end and rows that leave the limits; one chunk is a single start."""
    model, starts, horizon = doubled(), torch.randn(40, OBS, dtype=torch.float64), 3
    draws = [model.draw(starts, generator_for(step, "x")) for step in range(horizon)]

    def rolled(rows: slice) -> list[Tensor]:
        handed = iter([Draws(*(part[rows] for part in step)) for step in draws])

        def step(*given: Any) -> RolloutStep:
            *others, _ = given
            return one_step(*others, draws=next(handed))

        return parts(branch(model, wandering, starts[rows], horizon, tight(starts), generator_for(0, "unused"), step))

    whole = rolled(slice(None))
    chunks = [rolled(slice(begin, begin + 13)) for begin in range(0, 40, 13)]
    together = [torch.cat(pieces, 1) for pieces in zip(*chunks, strict=True)]
    torch.testing.assert_close(together, whole, rtol=1e-9, atol=1e-9)
    assert 0 < whole[2].sum() < whole[2].numel()


# The compiled step ----------------------------------------------------------------------------------------------------


def assert_compiled_is_eager(step: Stepper, model: PenalisedModel, starts: Tensor) -> None:
    rollouts = [
        branch(model, wandering, starts, 3, tight(starts), generator_for(0, "x"), stepper)
        for stepper in (one_step, step)
    ]
    eager, compiled = map(parts, rollouts)
    torch.testing.assert_close(compiled, eager, rtol=1e-9, atol=1e-9)
    assert 0 < rollouts[0].valid.sum() < rollouts[0].valid.numel()


@pytest.mark.usefixtures("nothing_falls_back")
def test_the_compiled_step_is_the_eager_one() -> None:
    """To machine code, in double precision, with rows that end and rows that leave the limits. Needs a C++ compiler."""
    assert_compiled_is_eager(
        compiled_step(40, torch.device("cpu")), doubled(), torch.randn(40, OBS, dtype=torch.float64)
    )


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Compiles without machine code, and counts the graphs."""
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any, options: Any) -> Any:
        graphs.append(len(graphs))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return graphs


def test_the_compiled_step_follows_another_model_and_leaves_other_numbers_of_rows_alone(traced: list[int]) -> None:
    """λ may be changed in the middle of a run."""
    step, starts = compiled_step(40, torch.device("cpu")), torch.randn(40, OBS, dtype=torch.float64)
    for coef in (1.0, 3.0):
        assert_compiled_is_eager(step, doubled(coef), starts)
    assert len(traced) == 2
    assert_compiled_is_eager(step, doubled(), starts[:20])
    assert len(traced) == 2


def test_the_compiled_step_follows_a_known_reward(traced: list[int]) -> None:
    step, starts = compiled_step(40, torch.device("cpu")), torch.randn(40, OBS, dtype=torch.float64)
    for reward in (None, lambda s, a, after: s[:, 0] - after[:, 1], lambda s, a, after: a[:, 0].exp()):
        assert_compiled_is_eager(step, replace(doubled(), reward=reward), starts)
    assert len(traced) == 3


def test_the_compiled_step_follows_the_value_of_the_elites(traced: list[int]) -> None:
    step, starts = compiled_step(40, torch.device("cpu")), torch.randn(40, OBS, dtype=torch.float64)
    for coef in (0.0, 0.5):
        model = replace(doubled(), value_coef=coef, value=lambda states: states.square().sum(-1), discount=0.9)
        assert_compiled_is_eager(step, model, starts)
    assert len(traced) == 2


def test_the_compiled_step_halts_where_the_eager_one_does(traced: list[int]) -> None:
    step, starts = compiled_step(40, torch.device("cpu")), torch.randn(40, OBS, dtype=torch.float64)
    known = StateLimits(*(torch.full((OBS,), side, dtype=torch.float64) for side in (-1.0, 1.0)))
    halting = halt(known)
    model = replace(doubled(), halt=halting, value=lambda states: states.square().sum(-1))
    for cost in (40.0, 3.0):
        halting.price_limit.fill_(cost)
        assert_compiled_is_eager(step, model, starts)
        assert branch(model, wandering, starts, 3, tight(starts), generator_for(0, "x")).halted.any()
    assert len(traced) == 1  # C changes in every refresh


def test_the_compiled_step_ends_rollouts_at_the_limits_of_a_box(traced: list[int]) -> None:
    step, starts = compiled_step(40, torch.device("cpu")), torch.randn(40, OBS, dtype=torch.float64)
    box = StateBox.of_columns({"0": [-0.5, None], "1": [None, 0.5]}, ["0", "1"])
    assert_compiled_is_eager(step, replace(doubled(), termination=box), starts)
    assert len(traced) == 1


def test_the_compiled_step_ends_rollouts_by_a_learned_rule(traced: list[int]) -> None:
    """Of weights in single precision, in rollouts in double precision."""
    network = unfitted(obs_dim=OBS, action_dim=ACTIONS, hidden_sizes=[8], share=0.5)
    step, starts = compiled_step(40, torch.device("cpu")), torch.randn(40, OBS, dtype=torch.float64)
    for threshold in (-0.1, 0.1):
        assert_compiled_is_eager(step, replace(doubled(), termination=LearnedRule(network, threshold)), starts)
    assert len(traced) >= 1


def test_a_box_and_a_reward_with_tensors_are_copied_to_the_device_of_the_model() -> None:
    """One object of the user's may serve a run on a GPU, and on the host what is estimated afterwards."""
    box, reward = StateBox.of_columns({"0": [0, 1]}, ["0", "1"]), torch.nn.Bilinear(2, 1, 1)
    model = penalised(small_ensemble(), termination=box, reward=reward).to("meta")
    assert isinstance(model.termination, StateBox)
    assert isinstance(model.reward, torch.nn.Bilinear)
    assert {model.termination.low.device.type, model.reward.weight.device.type} == {"meta"}
    assert {box.low.device.type, reward.weight.device.type} == {"cpu"}


@pytest.mark.usefixtures("traced")
def test_a_penalty_that_cannot_be_compiled_costs_one_line_and_no_step(capsys: pytest.CaptureFixture[str]) -> None:
    """What it does depends on a number, which no graph holds."""
    model = replace(
        doubled(), penalty=lambda mean, std: max_aleatoric(mean, std) if bool(std.max() > 0) else mean[0, :, 0]
    )
    step = compiled_step(40, torch.device("cpu"))
    for _ in range(2):
        assert_compiled_is_eager(step, model, torch.randn(40, OBS, dtype=torch.float64))
    assert capsys.readouterr().out.count("the rollouts' step is not compiled: ") == 1


def test_more_changes_than_the_compiler_follows_end_the_compiling_and_not_the_run(
    traced: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each λ is a constant of its graph, and torch.compile gives up after eight."""
    step, starts = compiled_step(40, torch.device("cpu")), torch.randn(40, OBS, dtype=torch.float64)
    for coef in range(10):
        assert_compiled_is_eager(step, doubled(float(coef)), starts)
    assert len(traced) == 8
    assert capsys.readouterr().out.count("is not compiled: it was recompiled too often") == 1


def test_bf16_rounds_neither_a_users_penalty_nor_a_users_rule_nor_reward() -> None:
    """Products of their own among them: of 1 + 2⁻¹² and 1, bf16 would make 1."""
    seen: list[torch.Tensor] = []

    def product(*given: torch.Tensor) -> torch.Tensor:
        seen.append(torch.tensor([[1 + 2**-12]]) @ torch.ones(1, 1))
        return given[0].new_ones(given[0].shape[-2])

    with torch.autocast("cpu", torch.bfloat16):
        imagine(penalised(NamingModel([0]), penalty=product, termination=product, reward=product), torch.zeros(3, OBS))
    assert [made.item() for made in seen] == [1 + 2**-12] * 3


# Statistics -----------------------------------------------------------------------------------------------------------


def statistics_by_hand(rollouts: list[Rollout]) -> dict[str, float]:
    rows, ended, non_finite, out_of_range, starts, penalty, reward, size = 0, 0, 0, 0, 0, 0.0, 0.0, 0.0
    pinned, entries, first, last, halted, paid = 0, 0, [], [], 0, 0
    for rollout in rollouts:
        horizon, width = rollout.valid.shape
        starts += width
        for step in range(horizon):
            for row in range(width):
                non_finite += bool(rollout.non_finite[step, row])
                out_of_range += bool(rollout.out_of_range[step, row])
                if rollout.valid[step, row]:
                    cost = float(rollout.costs[step, row])
                    predicted = float(rollout.transitions.rewards[step, row]) + cost
                    rows = rows + 1
                    if rollout.halted[step, row]:
                        halted += 1
                    else:
                        paid, ended = paid + 1, ended + int(rollout.transitions.terminals[step, row])
                        penalty, reward, size = penalty + cost, reward + predicted, size + abs(predicted)
                        first += [cost] * (step == 0)
                        last += [cost] * (step == horizon - 1)
                    actions = rollout.transitions.actions[step, row].tolist()
                    pinned, entries = pinned + sum(abs(a) > 0.99 for a in actions), entries + len(actions)
    return {
        "transitions": rows,
        "length": rows / starts,
        "terminated": ended / starts,
        "halted": halted / starts,
        "non_finite": non_finite,
        "out_of_range": out_of_range,
        "dropped_share": (non_finite + out_of_range) / starts,
        "penalty": penalty / paid,
        "reward": reward / paid,
        "penalty_share": penalty / size,
        "pinned": pinned / entries,
        "penalty_first": sum(first) / len(first),
        "penalty_last": sum(last) / len(last),
    }


@pytest.mark.parametrize(("halting", "halted"), [(False, 0), (True, 3)])
def test_statistics_over_chunks_are_those_of_a_loop_over_all_rows(halting: bool, halted: int) -> None:
    """From -9.8, -9 and 2.5 the first step leads beyond the log, if that is asked for; from 2 to 3 it is the rule that ends one. The
    step from -9.8 leads beyond the wider limits too.
    """

    def spoil(states: Tensor, mean: Tensor) -> Tensor:
        return torch.where(states[:, :1] == -5, torch.full_like(mean, math.nan), mean)

    model = penalised(
        Counting(spoil),
        penalty=lambda mean, std: mean[0, :, 0].abs(),
        coef=0.5,
        termination=at_least(3.0),
        halt=halt(StateLimits(*columns([-7.5, 3.2]))) if halting else None,
        value=lambda states: states[:, 0],
    )
    limits = StateLimits(torch.full((OBS,), -8.5), torch.full((OBS,), torch.inf))
    chunks = [roll(model, columns(s), 4, limits=limits) for s in ([0.0, 2.0, -9.0], [-6.0, -5.0, -9.8], [2.5, -4.0])]
    statistics = RolloutStatistics("cpu")
    for chunk in chunks:
        statistics.add(chunk)
    by_hand = statistics_by_hand(chunks)
    assert (by_hand["non_finite"], by_hand["out_of_range"]) == (2, 0 if halting else 1)
    assert by_hand["halted"] == halted / 8
    assert by_hand["terminated"] == (3 - halting) / 8
    assert statistics.summary() == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("high", "beyond"), [(4.0, 3), (4.98, 2), (4.96, 3)]
)  # within 1 % of the range 5 still counts as in it
def test_states_outside_the_logs_range_are_counted_beside_the_others(high: float, beyond: int) -> None:
    """From 0 and from 3 rollouts come to 1, 2, 3 and 4, 5, 6; and from 20 to 21, which is not counted as it is dropped."""
    log = SimpleNamespace(observation_low=torch.full((OBS,), 2.0), observation_high=torch.full((OBS,), high))
    chunk = roll(penalised(Counting()), columns([0.0, 3.0, 20.0]), 3, limits=StateLimits(*columns([-9.0, 9.0])))
    with_log, without = RolloutStatistics("cpu", log), RolloutStatistics("cpu")  # type: ignore[arg-type]
    for _ in range(2):
        with_log.add(chunk)
        without.add(chunk)
    assert with_log.summary() == {**without.summary(), "beyond_log": beyond / 6}


def test_statistics_of_a_refresh_that_imagined_nothing_count_nothing() -> None:
    statistics = RolloutStatistics("cpu")
    nothing = penalised(Counting(lambda states, mean: mean * math.nan))
    statistics.add(roll(nothing, columns([0.0, 1.0]), 3))
    summary = statistics.summary()
    assert (summary["transitions"], summary["length"], summary["non_finite"]) == (0, 0, 2)
    assert all(math.isfinite(value) for value in summary.values())


def test_rolling_out_leaves_the_ensemble_without_gradients() -> None:
    model = small_ensemble()
    rollout = roll(penalised(model, penalty=max_aleatoric, coef=1.0), torch.zeros(3, OBS), 2)
    assert not rollout.transitions.rows.requires_grad
    assert not any(parameter.requires_grad for parameter in model.ensemble.parameters())
