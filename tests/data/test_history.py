"""States that hold the last observations and actions."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mopo_pl import assembly
from mopo_pl.config.schema import DynamicsConfig, PenaltyConfig
from mopo_pl.data.dataset import ColumnNames, OfflineDataset
from mopo_pl.data.log.history import with_history
from mopo_pl.data.log.packing import assemble
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.data.window import Window
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.rollouts import branch
from mopo_pl.dynamics.termination import never
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy

Arrays = dict[str, Any]
Make = Callable[..., OfflineDataset]


def test_states_of_a_small_log_by_hand(tiny: Arrays, open_log: Callable[..., OfflineDataset]) -> None:
    """Episodes of 3, 2 and 1 rows: observations 0 1 2, 10 11, 20; actions -1 -.5 0, .25 .5, 1."""
    log = open_log(tiny, history=3).transitions
    assert log.observations.tolist() == [
        [0, 0, 0, 0, 0],
        [1, 0, 0, -1, 0],
        [2, 1, 0, -0.5, -1],
        [10, 10, 10, 0, 0],
        [11, 10, 10, 0.25, 0],
        [20, 20, 20, 0, 0],
    ]
    assert log.next_observations.tolist() == [
        [1, 0, 0, -1, 0],
        [2, 1, 0, -0.5, -1],
        [3, 2, 1, 0, -0.5],
        [11, 10, 10, 0.25, 0],
        [12, 11, 10, 0.5, 0.25],
        [21, 20, 20, 1, 0],
    ]
    assert log.newest_observations.flatten().tolist() == [0, 1, 2, 10, 11, 20]
    assert log.newest_next_observations.flatten().tolist() == [1, 2, 3, 11, 12, 21]


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_states_are_those_of_a_list_of_what_was_seen_and_done(make_dataset: Make, steps: int) -> None:
    """Several columns, and windows longer than the shortest episodes."""
    dataset = make_dataset(400, timeouts=np.isin(np.arange(400), [2, 50, 55, 199, 399]), next_observations=None)
    log, made = dataset.transitions, with_history(dataset, steps)
    ends = set((dataset.episode_ends - 1).tolist())
    seen: list[Tensor] = []
    done: list[Tensor] = []
    for row in range(400):
        if not seen:
            seen, done = [log.observations[row]] * steps, [torch.zeros(2)] * (steps - 1)
        expected = torch.cat([*seen, *done])
        assert torch.equal(made.transitions.observations[row], expected)
        done = [log.actions[row], *done][: steps - 1]
        seen = [log.next_observations[row], *seen[:-1]]
        assert torch.equal(made.transitions.next_observations[row], torch.cat([*seen, *done]))
        seen = [] if row in ends else [log.observations[row + 1], *seen[1:]]
    kept = ("actions", "rewards", "terminals")
    assert all(torch.equal(getattr(made.transitions, name), getattr(log, name)) for name in kept)
    assert made.window == Window(3, 2, steps)
    assert made.obs_dim == Window(3, 2, steps).width == 3 * steps + 2 * (steps - 1)


def test_a_history_of_one_changes_nothing(make_dataset: Make) -> None:
    dataset = make_dataset()
    assert with_history(dataset, 1) is dataset
    assert dataset.window is None
    assert Window(3, 2, 1).following(torch.zeros(3), torch.zeros(2), torch.ones(3)).tolist() == [1, 1, 1]


def test_columns_keep_their_names(make_dataset: Make) -> None:
    named = replace(make_dataset(), names=ColumnNames(("x", "y", "z"), ("u", "v")))
    names = with_history(named, 2).names.observations
    assert names == ("x", "y", "z", "x 1 ago", "y 1 ago", "z 1 ago", "u 1 ago", "v 1 ago")
    assert with_history(make_dataset(), 2).names.observations == ()


# A system with delay --------------------------------------------------------------------------------------------------

SMALL = DynamicsConfig(members=2, elites=1, hidden_sizes=[32], weight_decay=[0.0, 0.0], learning_rate=0.01)


def delayed(episodes: int = 40, length: int = 50) -> OfflineDataset:
    """x' = 0.9·x + the action of two steps before."""
    rng = np.random.default_rng(0)
    rows: dict[str, list] = {"observations": [], "actions": [], "next_observations": []}
    for _ in range(episodes):
        x, waiting = rng.standard_normal(), [0.0, 0.0]
        for _ in range(length):
            action = rng.uniform(-1, 1)
            following = 0.9 * x + waiting[0]
            for name, value in zip(rows, (x, action, following), strict=True):
                rows[name].append([value])
            x, waiting = following, [waiting[1], action]
    arrays: Arrays = {name: np.array(values, np.float32) for name, values in rows.items()}
    count = episodes * length
    ends = np.arange(1, count + 1) % length == 0
    arrays |= {"rewards": np.zeros(count), "terminals": np.zeros(count, bool), "timeouts": ends}
    one = np.ones(1)
    return assemble(
        RawLog(source="a test", **arrays), name="test", bounds=(-one, one), time_limit=None, clip_actions=False
    )


def holdout_error(dataset: OfflineDataset) -> float:
    """Root mean squared error of x' on held-out rows [standard deviations of the change], of the better member."""
    samples = assembly.build_samples(SMALL, dataset, seed=0)
    dynamics = assembly.build_dynamics(SMALL, samples, seed=0, compile=False)
    optimizer = dynamics.configure_optimizers()
    for _ in range(15):
        for block in samples:
            for index in range(len(block)):
                optimizer.zero_grad()
                dynamics.loss(block[index]).backward()
                optimizer.step()
    held_out = samples.log_rows[samples.holdout]
    change = held_out.newest_next_observations - held_out.newest_observations
    with torch.no_grad():
        mean, _ = dynamics.ensemble.in_raw_units(held_out.inputs)
    errors = (mean[..., 1:] - change).square().mean((1, 2)).sqrt()
    return float(errors.min() / change.std())


def test_a_history_makes_a_delayed_system_predictable() -> None:
    """The action that moves it is two steps old: of one observation it is unknown, of three it is a column."""
    dataset = delayed()
    assert holdout_error(dataset) > 0.7
    assert holdout_error(with_history(dataset, 3)) < 0.1


def test_the_ensemble_predicts_the_newest_observation_alone_and_its_penalty_is_of_that(make_dataset: Make) -> None:
    dataset = with_history(make_dataset(), 3)
    samples = assembly.build_samples(SMALL, dataset, seed=0)
    model = assembly.build_dynamics(SMALL, samples, seed=0, compile=False).model()
    rows = dataset.transitions[:7]
    mean, std = model.predict(rows.inputs)
    assert mean.shape == std.shape == (2, 7, 1 + 3)


# Rollouts -------------------------------------------------------------------------------------------------------------


def test_rollouts_move_the_window_as_a_list_would(make_dataset: Make) -> None:
    """The rule and the reward see the newest observation, and the policy the whole window."""
    dataset = with_history(make_dataset(), 3)
    samples = assembly.build_samples(SMALL, dataset, seed=0)
    transition = assembly.build_dynamics(SMALL, samples, seed=0, compile=False).model()
    shapes = set()

    def rule(s: Tensor, a: Tensor, after: Tensor) -> Tensor:
        shapes.add((s.shape[-1], a.shape[-1], after.shape[-1]))
        return torch.zeros(len(s), dtype=torch.bool)

    def reward(s: Tensor, a: Tensor, after: Tensor) -> Tensor:
        return after[:, 0] - s[:, 0]

    def policy(states: Tensor, noise: Tensor) -> Tensor:
        return torch.tanh(states[:, :2] - states[:, 3:5] + noise)

    model: PenalisedModel = assembly.build_penalised_model(
        PenaltyConfig(name="none", value_coef=0.0, halt_widths=None), transition, rule, dataset, reward, discount=0.9
    )
    starts = dataset.transitions.observations[10:30]
    everywhere = StateLimits(torch.full((13,), -torch.inf), torch.full((13,), torch.inf))
    rollout = branch(model, policy, starts, 4, everywhere, generator_for(0, "x")).transitions
    assert shapes == {(3, 2, 3)}
    assert rollout.history == 3
    seen = [starts[:, 3 * lag : 3 * lag + 3] for lag in range(3)]
    done = [starts[:, 9:11], starts[:, 11:13]]
    for step in range(4):
        row = rollout[step]
        assert torch.equal(row.observations, torch.cat([*seen, *done], -1))
        after = row.newest_next_observations
        torch.testing.assert_close(row.rewards, after[:, 0] - seen[0][:, 0])
        assert (after != seen[0]).all()
        seen, done = [after, *seen[:2]], [row.actions, done[0]]
        assert torch.equal(row.next_observations, torch.cat([*seen, *done], -1))


def test_the_newest_observation_alone_decides_whether_a_state_is_known(make_dataset: Make) -> None:
    dataset = with_history(make_dataset(), 3)
    settings = replace(SMALL, elites=2)
    samples = assembly.build_samples(settings, dataset, seed=0)
    transition = assembly.build_dynamics(settings, samples, seed=0, compile=False).model()
    model = assembly.build_penalised_model(
        PenaltyConfig(name="none", halt_widths=0.02), transition, never, dataset, discount=0.5
    )
    halt = model.halt
    assert halt is not None
    assert halt.known.states.low.shape == halt.known.changes.low.shape == (3,)
    model = replace(model, value=lambda states: states[:, 0])
    rows = dataset.transitions[5:25]
    beyond = rows.observations.clone()
    beyond[:10, :3] += 1e3
    beyond[10:, 3:] += 1e3
    older = rows.observations.clone()
    older[:, 3:] += 1e3
    actions = torch.zeros_like(rows.actions)
    made = model.step(beyond, actions, model.draw(beyond, generator_for(0, "x")))
    assert made.halted[:10].all()
    assert made.transitions.terminals[:10].all()
    torch.testing.assert_close(made.transitions.rewards[:10], beyond[:10, 0] - float(halt.price_limit))
    assert dataset.window is not None
    newest = dataset.window.newest(older)
    assert not halt.known.exclude(newest, newest).any()


def test_elites_differ_about_the_value_of_whole_windows(make_dataset: Make) -> None:
    """V is a sum over the window, of which only the newest observation differs; its weight there is 2."""
    dataset = with_history(make_dataset(), 3)
    settings = replace(SMALL, elites=2)
    samples = assembly.build_samples(settings, dataset, seed=0)
    transition = assembly.build_dynamics(settings, samples, seed=0, compile=False).model()
    weights = torch.cat([torch.full((3,), 2.0), torch.ones(10)])
    model = assembly.build_penalised_model(
        PenaltyConfig(name="none", value_coef=1.0),
        transition,
        never,
        dataset,
        lambda s, a, after: torch.zeros(len(s)),
        discount=0.5,
    )
    model = replace(model, value=lambda states: states @ weights)
    rows = dataset.transitions[5:25]
    cost = model.step(rows.observations, rows.actions, model.draw(rows.observations, generator_for(0, "x"))).cost
    mean, _ = transition.predict(rows.inputs)
    expected = 0.5 * (2 * mean[..., 1:].sum(-1)).std(0, correction=0)
    torch.testing.assert_close(cost, expected)
    assert (cost > 0).all()


# The policy -----------------------------------------------------------------------------------------------------------


class Replaying(torch.nn.Module):
    """An actor that writes down the states that it is given, and does what the log did."""

    obs_dim, action_dim = 13, 2

    def __init__(self, actions: Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.actions, self.given = list(actions), []  # type: ignore[var-annotated]

    def mean_action(self, states: Tensor) -> Tensor:
        self.given.append(states)
        return self.actions[len(self.given) - 1]


def test_the_policys_window_along_a_logged_episode_is_the_logs(make_dataset: Make) -> None:
    """Bounds of its own: what the window holds of actions is in [-1, 1]."""
    dataset = with_history(make_dataset(), 3)
    log = dataset.transitions
    actor = Replaying(log.actions[:100])
    policy = Policy(actor, np.array([-3.0, 0.0]), np.array([5.0, 1.0]), {}, history=3)  # type: ignore[arg-type]
    for row in range(100):
        if row == 50:
            policy.reset()
        action = policy(log.newest_observations[row])
        torch.testing.assert_close(action, torch.tensor([1.0, 0.5]) + torch.tensor([4.0, 0.5]) * log.actions[row])
    assert torch.equal(torch.stack(actor.given), log.observations[:100])


def test_a_history_that_no_episode_fills_stops_and_one_that_few_fill_is_named(
    tiny: Arrays, open_log: Callable[..., OfflineDataset]
) -> None:
    """Episodes of 3, 2 and 1 rows."""
    with pytest.raises(InputError, match=r"data\.history=4 is more than the longest episode has rows, 3"):
        open_log(tiny, history=4)
    (finding,) = (each for each in open_log(tiny, history=3).findings if each.name == "history-padded")
    assert finding.level == "WARN"
    assert finding.text.startswith("1 of 6 rows have 2 rows before them in their episode")
    assert not [each for each in open_log(tiny, history=2).findings if each.name == "history-padded"]
