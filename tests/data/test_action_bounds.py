"""Actions lie in [-1, 1] inside, in the environment's units outside."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.packing import assemble
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.policy import Policy

Open = Callable[..., OfflineDataset]
Arrays = dict[str, Any]


def opened(actions: np.ndarray, low: np.ndarray, high: np.ndarray, *, clip: bool = False) -> OfflineDataset:
    rows = len(actions)
    raw = RawLog(
        source="a test",
        observations=np.zeros((rows, 1)),
        next_observations=np.zeros((rows, 1)),
        actions=actions,
        rewards=np.zeros(rows),
        terminals=np.zeros(rows),
    )
    return assemble(raw, name="test", bounds=(low, high), time_limit=None, clip_actions=clip)


class Echo(torch.nn.Module):
    """An actor whose action in [-1, 1] is the observation itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.obs_dim = dim
        self.anchor = torch.nn.Parameter(torch.zeros(()))

    def mean_action(self, observations: torch.Tensor) -> torch.Tensor:
        return observations


def test_bounds_are_minus_one_and_one_and_their_middle_is_zero() -> None:
    dataset = opened(np.array([[-2, 0], [3, 10], [0.5, 5]]), np.array([-2, 0]), np.array([3, 10]))
    assert dataset.transitions.actions.tolist() == [[-1, -1], [1, 1], [0, 0]]


@settings(max_examples=100, deadline=None)
@given(
    low=st.lists(st.floats(-50, 50), min_size=2, max_size=2),
    width=st.lists(st.floats(0.1, 100), min_size=2, max_size=2),
    shares=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5),
)
def test_the_policy_undoes_the_scaling(low: list[float], width: list[float], shares: list[tuple[float, float]]) -> None:
    lower, upper = np.array(low), np.array(low) + np.array(width)
    actions = lower + np.array(shares) * (upper - lower)
    dataset = opened(actions, lower, upper)
    scaled = dataset.transitions.actions
    assert (scaled.abs() <= 1).all()
    policy = Policy(Echo(2), dataset.action_low, dataset.action_high, {})  # type: ignore[arg-type]
    np.testing.assert_allclose(policy(scaled.numpy()), actions, atol=1e-6 * np.abs([lower, upper]).max() + 1e-6)


def test_rounding_over_a_bound_is_clipped_silently() -> None:
    actions = opened(np.array([[1 + 4e-5], [-1 - 4e-5]]), -np.ones(1), np.ones(1)).transitions.actions
    assert actions.tolist() == [[1], [-1]]


def test_actions_outside_are_clipped_on_request(open_log: Open, tiny: Arrays) -> None:
    actions = open_log(tiny, action_low=[-0.5], action_high=[0.5], clip_actions=True).transitions.actions
    assert actions.flatten().tolist() == [-1, -1, 0, 0.5, 1, 1]


def test_given_bounds_go_before_the_environments(open_log: Open, tiny: Arrays) -> None:
    arrays = {**tiny, "observations": np.zeros((6, 3), np.float32)}
    del arrays["next_observations"]
    assert open_log(arrays, env_id="Pendulum-v1").transitions.actions[-1].tolist() == [0.5]
    given_bounds = open_log(arrays, env_id="Pendulum-v1", action_low=[-4.0], action_high=[4.0])
    assert given_bounds.transitions.actions[-1].tolist() == [0.25]


def test_one_given_bound_leaves_the_other(open_log: Open, tiny: Arrays) -> None:
    dataset = open_log(tiny, action_high=[3.0])
    assert (dataset.action_low.tolist(), dataset.action_high.tolist()) == ([-1], [3])
    assert dataset.transitions.actions.flatten().tolist() == [-1, -0.75, -0.5, -0.375, -0.25, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scaling_does_not_depend_on_the_files_precision(dtype: type) -> None:
    actions = opened(np.array([[0.25], [0.5]], dtype), np.array([0]), np.array([1])).transitions.actions
    assert actions.tolist() == [[-0.5], [0]]
