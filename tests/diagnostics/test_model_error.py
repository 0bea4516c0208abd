"""Errors of models whose errors are known in closed form."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.history import with_history
from mopo_pl.diagnostics.one_step import one_step, predict, sampled_episodes, target_names
from mopo_pl.diagnostics.open_loop import known_stretch, open_loop
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalties import PENALTIES

Make = Callable[..., OfflineDataset]

NAMES = ["reward", "Δ x", "Δ y"]
GAIN = torch.tensor([[0.1, -0.2]])


class Offset(nn.Module):
    """Member i knows the system, but adds b_i to each target; all say σ."""

    def __init__(self, offsets: Tensor, std: float, law: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.offsets, self.std, self.law, self.members = offsets, std, law, len(offsets)

    def in_raw_units(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        known = self.law(inputs).expand(self.members, *inputs.shape[-2:-1], -1)
        mean = known + self.offsets.unsqueeze(1)
        return mean, torch.full_like(mean, 2 * math.log(self.std))


def pushed(inputs: Tensor) -> Tensor:
    """r = 0 and Δs = a·G of (s, a) [..., 3]."""
    change = inputs[..., 2:] @ GAIN
    return torch.cat([torch.zeros_like(change[..., :1]), change], -1)


@pytest.fixture
def log(make_dataset: Make) -> OfflineDataset:
    """400 steps of s' = s + a·G, in episodes of 50."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (400, 1)).astype(np.float32)
    changes = (actions @ GAIN.numpy()).reshape(8, 50, 2)
    after = changes.cumsum(1) + rng.standard_normal((8, 1, 2))
    return make_dataset(
        400,
        observations=(after - changes).reshape(400, 2).astype(np.float32),
        next_observations=after.reshape(400, 2).astype(np.float32),
        actions=actions,
        rewards=rng.standard_normal(400).astype(np.float32),
    )


def model(offsets: list[list[float]], std: float, law: Callable[[Tensor], Tensor] = pushed) -> TransitionModel:
    """The last member is no elite."""
    ensemble = Offset(torch.tensor(offsets), std, law)
    return TransitionModel(ensemble=ensemble, elites=torch.arange(len(offsets) - 1))  # type: ignore[arg-type]


OFFSETS = [[0.0, 0.1, 0.0], [0.0, 0.3, -0.4], [9.0, 9.0, 9.0]]


def test_one_step_errors_are_the_elites_offsets(log: OfflineDataset) -> None:
    rows = torch.arange(0, 400, 3)
    found = one_step(predict(model(OFFSETS, 0.5), log, rows, {}), NAMES, seed=0)
    reward, x, y = found.columns
    rewards = log.transitions.rewards.double()
    assert reward.rmse == pytest.approx(float(rewards[rows].square().mean().sqrt()))
    assert reward.relative == pytest.approx(reward.rmse / float(rewards.std(correction=0)))
    # The mixture's mean is off by the mean offset: 0.2 and -0.2.
    assert [x.rmse, y.rmse] == pytest.approx([0.2, 0.2], rel=1e-4)
    spread = (log.transitions.next_observations - log.transitions.observations).double().std(0, correction=0)
    assert [x.relative, y.relative] == pytest.approx([0.2 / float(each) for each in spread], rel=1e-4)
    # σ² = 0.5² + the variance of the offsets, 0.01 and 0.04, and every error is the same.
    deviations = [math.sqrt(0.26), math.sqrt(0.29)]
    assert [x.factor, y.factor] == pytest.approx([0.2 / each for each in deviations], rel=1e-4)
    assert [x.conformal_width, y.conformal_width] == pytest.approx([0.2, 0.2], rel=1e-4)
    assert (x.coverage, x.scaled_coverage) == (1.0, 1.0)  # 0.2 < 1.645·0.51, and the scaled σ is 0.2
    assert (found.rows, found.constant, [each.name for each in found.columns]) == (134, [], NAMES)


def test_an_uncertainty_that_is_the_error_ranks_perfectly_and_a_constant_one_not_at_all(log: OfflineDataset) -> None:
    def wrong(inputs: Tensor) -> Tensor:
        # Off by what the action is, in the first column alone.
        return pushed(inputs) + torch.cat([torch.zeros_like(inputs[..., :1]), inputs[..., 2:], 0 * inputs[..., 2:]], -1)

    def knows(mean: Tensor, std: Tensor, actions: Tensor) -> Tensor:
        return actions.abs().squeeze(-1)

    def inverse(mean: Tensor, std: Tensor, actions: Tensor) -> Tensor:
        return 2 - actions.abs().squeeze(-1)

    paid = torch.zeros(400)
    log.transitions.rows[:, -2] = paid  # the reward is predicted exactly, and never varies
    exact = model([[0.0] * 3, [0.0] * 3, [0.0] * 3], 0.1, wrong)
    found = one_step(
        predict(exact, log, torch.arange(400), {"knows": knows, "inverse": inverse, **PENALTIES}), NAMES, seed=0
    )
    told = {each.name: each for each in found.rankings}
    assert found.constant == ["reward"]
    assert told["knows"].spearman == pytest.approx(1.0, abs=1e-4)
    assert told["knows"].standardised_auroc == pytest.approx(1.0)
    assert told["inverse"].spearman == pytest.approx(-1.0, abs=1e-4)
    assert told["inverse"].auroc == pytest.approx(0.0)
    assert told["knows"].deciles == sorted(told["knows"].deciles)
    # All members agree, and σ is the same everywhere.
    for name in ("max_aleatoric", "ensemble_std", "none"):
        assert (told[name].spearman, told[name].auroc, told[name].deciles) == (None, None, [])


def test_a_penalty_sees_actions_in_the_logs_units_and_all_members(log: OfflineDataset) -> None:
    seen = {}

    def keeps(mean: Tensor, std: Tensor, actions: Tensor) -> Tensor:
        seen.update(members=len(mean), actions=actions)
        return actions.squeeze(-1)

    wide = OfflineDataset(**{**vars(log), "action_low": np.array([10.0]), "action_high": np.array([30.0])})
    predict(model(OFFSETS, 0.5), wide, torch.arange(5), {"keeps": keeps})
    assert seen["members"] == 3
    torch.testing.assert_close(seen["actions"], 20 + 10 * log.transitions.actions[:5].double(), check_dtype=False)


def test_open_loop_errors_grow_by_the_offset_at_each_step(log: OfflineDataset) -> None:
    starts = torch.tensor([0, 10, 45, 399])
    found = open_loop(model(OFFSETS, 0.5), log, starts, 7, ["x", "y"])
    spread = log.transitions.observations.double().std(0, correction=0)
    of_elite = [float((torch.tensor(offset[1:]).double() / spread).square().mean().sqrt()) for offset in OFFSETS[:2]]
    assert found.starts == [4, 3, 3, 3, 3, 2, 2]
    for h in range(7):
        assert [elite[h] for elite in found.elites] == pytest.approx([(h + 1) * e for e in of_elite], rel=1e-3)
        # Two values, in equal numbers: the quantiles between them are those of a sample [e0, …, e1, …].
        n = found.starts[h]
        sample = torch.tensor([(h + 1) * of_elite[0]] * n + [(h + 1) * of_elite[1]] * n).double()
        quantiles = sample.quantile(torch.tensor([0.1, 0.5, 0.9]).double()).tolist()
        assert [found.low[h], found.median[h], found.high[h]] == pytest.approx(quantiles, rel=1e-3)
    assert found.columns["y"] == pytest.approx([0.0] * 7, abs=1e-5)  # the lower median of 0 and 0.4·h
    assert found.columns["x"] == pytest.approx([0.1 * h for h in range(1, 8)], rel=1e-3)


def test_standing_still_is_as_wrong_as_the_log_moves(log: OfflineDataset) -> None:
    starts = torch.tensor([3, 60, 120])
    found = open_loop(model(OFFSETS, 0.5), log, starts, 5, ["x", "y"])
    observations = log.transitions.observations.double()
    spread = observations.std(0, correction=0)
    for h in range(1, 6):
        moved = [((observations[t + h] - observations[t]) / spread).square().mean().sqrt() for t in starts.tolist()]
        assert found.standing[h - 1] == pytest.approx(float(torch.stack(moved).median()), rel=1e-4)


def test_states_of_several_observations_are_moved_on(make_dataset: Make) -> None:
    """A system of constant speed, predicted by the difference of the last two observations: exact if the window moves."""
    speeds = np.linspace(-1, 1, 8).repeat(50)
    place = np.arange(400) % 50
    observations = (speeds * place)[:, None].astype(np.float32)
    plain = make_dataset(
        400,
        observations=observations,
        next_observations=observations + speeds[:, None].astype(np.float32),
        actions=np.zeros((400, 1), np.float32),
    )
    dataset = with_history(plain, 2)  # s = (o_t, o_{t-1}, a_{t-1})

    def coasting(inputs: Tensor) -> Tensor:
        return torch.cat([inputs[..., :1] * 0, inputs[..., :1] - inputs[..., 1:2]], -1)

    exact = model([[0.0, 0.0]] * 3, 0.1, coasting)
    starts = torch.tensor([1, 52, 120])  # from a first step nobody knows the speed
    assert open_loop(exact, dataset, starts, 20, ["x"]).high == pytest.approx([0.0] * 20, abs=1e-5)
    from_first = open_loop(exact, dataset, torch.tensor([0, 50]), 3, ["x"])
    assert from_first.low[0] > 0.01
    assert target_names(dataset.transitions, ["x"]) == ["reward", "Δ x"]


def test_a_model_that_explodes_is_counted_as_infinitely_wrong(log: OfflineDataset) -> None:
    found = open_loop(model([[0.0, math.nan, 0.0]] * 3, 0.5), log, torch.tensor([0, 1]), 2, ["x", "y"])
    assert found.median == [math.inf, math.inf]
    assert found.columns["x"] == [math.inf, math.inf]


def test_no_start_with_a_known_next_state_is_an_error(log: OfflineDataset) -> None:
    with pytest.raises(ValueError, match="no start has a known next state"):
        open_loop(model(OFFSETS, 0.5), log, torch.empty(0, dtype=torch.int64), 5, ["x", "y"])


def test_stretches_end_with_episodes_and_unknown_next_states(log: OfflineDataset) -> None:
    known = torch.rand(400, generator=torch.Generator().manual_seed(0)) > 0.1
    dataset = OfflineDataset(**{**vars(log), "next_known": known})

    def slow(t: int) -> int:
        count = 0
        while t + count < 400 and known[t + count] and (count == 0 or (t + count) % 50 != 0):
            count += 1
        return count

    assert known_stretch(dataset).tolist() == [slow(t) for t in range(400)]


def test_a_sample_holds_whole_episodes_of_rows_with_a_known_next_state(log: OfflineDataset) -> None:
    known = torch.ones(400, dtype=torch.bool)
    known[49::50] = False
    dataset = OfflineDataset(**{**vars(log), "next_known": known})
    rows = sampled_episodes(dataset, rows=98, seed=0)
    assert len(rows) == 98
    first, second = rows[:49], rows[49:]
    assert first.tolist() == list(range(int(first[0]), int(first[0]) + 49))
    assert first[0] % 50 == second[0] % 50 == 0
    assert first[0] != second[0]
    assert len(sampled_episodes(dataset, rows=10_000, seed=0)) == 392
    assert sampled_episodes(dataset, rows=98, seed=0).tolist() == rows.tolist()
    assert any(sampled_episodes(dataset, rows=98, seed=seed).tolist() != rows.tolist() for seed in range(1, 4))
