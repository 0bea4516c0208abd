"""The policy beside the log, for policies and models that are known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import LogStatistics
from mopo_pl.diagnostics.policy_actions import AT, BINS, beside_the_log, uncertainty_on_log, visited
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.termination import never

Make = Callable[..., OfflineDataset]


class Drifting(nn.Module):
    """Every member says that s moves by the same step, and that σ is next to nothing."""

    def __init__(self, step: list[float], action_dim: int) -> None:
        super().__init__()
        self.step, self.members, self.action_dim = torch.tensor([0.0, *step]), 2, action_dim

    def in_raw_units(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.step.expand(self.members, len(inputs), -1)
        return mean, torch.full_like(mean, -80.0)


def size_of_action(mean: Tensor, std: Tensor, actions: Tensor) -> Tensor:
    return actions.abs().sum(-1)


def drifting(dataset: OfflineDataset, step: list[float]) -> PenalisedModel:
    ensemble = Drifting(step, dataset.action_dim)
    transition = TransitionModel(ensemble=ensemble, elites=torch.tensor([0, 1]))  # type: ignore[arg-type]
    statistics = LogStatistics.of(dataset)
    return PenalisedModel(transition=transition, penalty=size_of_action, coef=0.0, termination=never, log=statistics)


@pytest.fixture
def log(make_dataset: Make) -> OfflineDataset:
    """Actions of two columns between bounds of their own."""
    plain = make_dataset(400)
    bounds = {"action_low": np.array([-4.0, 0.0], np.float32), "action_high": np.array([4.0, 1.0], np.float32)}
    return OfflineDataset(**{**vars(plain), **bounds})


def test_a_policy_that_repeats_the_log_is_at_no_distance(log: OfflineDataset) -> None:
    rows = torch.arange(400)
    kept = iter(log.transitions.actions.split(5000))
    columns = beside_the_log(lambda s: next(kept), log, rows)
    assert [(column.name, column.low, column.high) for column in columns] == [
        ("action 0", -4.0, 4.0),
        ("action 1", 0.0, 1.0),
    ]
    for column in columns:
        assert column.distance == 0
        assert column.chosen == column.logged
        assert column.chosen_histogram == column.logged_histogram
        assert sum(column.logged_histogram) == pytest.approx(1.0)
        assert len(column.logged_histogram) == BINS
    # Uniform actions, in the column's own unit.
    assert columns[0].logged == pytest.approx([8 * at - 4 for at in AT], abs=0.6)
    assert columns[1].logged == pytest.approx(list(AT), abs=0.08)


def test_a_policy_at_its_bounds_is_seen(log: OfflineDataset) -> None:
    rows = torch.arange(0, 400, 2)
    first, second = beside_the_log(lambda s: torch.tensor([1.0, -0.995]).expand(len(s), 2), log, rows)
    logged = log.transitions[rows].actions.double()
    assert (first.chosen_pinned, second.chosen_pinned) == (1.0, 1.0)
    assert first.logged_pinned == pytest.approx(float((logged[:, 0].abs() >= 0.99).double().mean()))
    assert first.logged_pinned < 0.05
    assert first.distance == pytest.approx(float((1 - logged[:, 0]).mean()))
    assert first.chosen == [4.0] * 5
    assert first.chosen_histogram[-1] == second.chosen_histogram[0] == 1.0


def test_uncertainty_is_that_of_each_ones_action_in_the_logs_units(log: OfflineDataset) -> None:
    rows = torch.arange(400)
    found = uncertainty_on_log(drifting(log, [0.0] * 3), "size", lambda s: torch.ones(len(s), 2), log, rows)
    actions = log.transitions.actions.double()
    u = (4 * actions[:, 0]).abs() + (actions[:, 1] + 1) / 2
    assert found.chosen == pytest.approx([5.0] * 5)  # |4| + |1|
    assert found.logged == pytest.approx(u.quantile(torch.tensor(AT).double()).tolist(), rel=1e-4)
    assert found.ratio == pytest.approx(5.0 / float(u.mean()), rel=1e-4)
    assert found.beyond == 1.0
    half = uncertainty_on_log(
        drifting(log, [0.0] * 3), "size", lambda s: torch.where(s[:, :1] > 0, 1.0, 0.0).expand(-1, 2), log, rows
    )
    assert half.beyond == pytest.approx(float((log.transitions.observations[:, 0] > 0).double().mean()))
    usual = uncertainty_on_log(
        drifting(log, [0.0] * 3), "size", lambda s: torch.tensor([0.5, 0.0]).expand(len(s), 2), log, rows
    )
    assert usual.beyond == 0.0  # u = 2.5, amid the log's


def run_out(log: OfflineDataset, step: list[float], widths: float = 100.0):
    return visited(
        drifting(log, step),
        lambda s, noise: torch.zeros(len(s), 2),
        log,
        torch.arange(400),
        starts=100,
        horizon=4,
        names=["a", "b", "c"],
        limits=StateLimits.around(log.transitions.observations, widths),
        generator=torch.Generator().manual_seed(0),
    )


def test_where_nothing_moves_the_states_are_those_of_the_starts(log: OfflineDataset) -> None:
    found = run_out(log, [0.0, 0.0, 0.0])
    assert (found.starts, found.horizon, found.steps) == (100, 4, 400)
    observations = log.transitions.observations.double()
    for i, column in enumerate(found.columns):
        assert column.logged == pytest.approx(observations[:, i].quantile(torch.tensor(AT).double()).tolist())
        starts = observations[:100, i].repeat(4)
        assert column.imagined == pytest.approx(starts.quantile(torch.tensor(AT).double()).tolist(), rel=1e-5)
        assert column.outside <= 0.05


def test_a_policy_that_leaves_the_log_is_seen_in_the_column_that_does(log: OfflineDataset) -> None:
    found = {column.name: column for column in run_out(log, [0.0, 50.0, 0.0]).columns}
    assert found["b"].outside == 1.0
    assert found["a"].outside <= 0.05
    assert found["b"].imagined[2] > found["b"].logged[4] + 50


def test_rollouts_that_leave_the_limits_are_not_counted(log: OfflineDataset) -> None:
    found = run_out(log, [1e6, 0.0, 0.0], widths=1.0)
    assert (found.steps, found.columns) == (0, [])
