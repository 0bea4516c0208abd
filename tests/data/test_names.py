"""Logs of other libraries, by their own keys."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mopo_pl.config.schema import ColumnsConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.errors import InputError

Open = Callable[..., OfflineDataset]
Same = Callable[[OfflineDataset, OfflineDataset], None]
Arrays = dict[str, Any]

pytestmark = pytest.mark.parametrize("suffix", [".npz", ".hdf5"])


def renamed(arrays: Arrays, **names: str) -> Arrays:
    """The fields that are given, under other keys."""
    return {name: arrays[field] for field, name in names.items()}


def test_rllib(open_log: Open, tiny: Arrays, suffix: str) -> None:
    arrays = renamed(
        tiny,
        observations="obs",
        next_observations="new_obs",
        actions="actions",
        rewards="rewards",
        terminals="terminateds",
        timeouts="truncateds",
    )
    expected = open_log(tiny)
    log = open_log({**arrays, "eps_id": np.array([7, 7, 7, 3, 3, 9]), "t": np.array([0, 1, 2, 0, 1, 0])}, suffix)
    assert log.hash == expected.hash


@pytest.mark.parametrize(
    "marks",
    [
        {"eps_id": np.array([7, 7, 7, 3, 3, 9])},
        {"t": np.array([0, 1, 2, 0, 1, 0])},
        {"t": np.array([0.0, 0.1, 0.2, 1.0, 1.1, 5.0])},
        {"index": np.array([0, 3, 5])},
        {"episode_starts": np.array([1, 0, 0, 1, 0, 1], bool)},
        {"episode_terminals": np.array([0, 0, 1, 0, 1, 1], np.float32)},
    ],
    ids=["episode", "step", "time", "index", "starts", "ends"],
)
def test_episodes_end_by_each_kind_of_mark(open_log: Open, tiny: Arrays, marks: Arrays, suffix: str) -> None:
    log = open_log(
        {**renamed(tiny, observations="obs", actions="actions", rewards="rewards", terminals="done"), **marks}, suffix
    )
    assert log.episode_ends.tolist() == [3, 5, 6]
    assert log.next_known.tolist() == [True, True, False, True, False, False]
    assert log.transitions.terminals.tolist() == [0, 0, 1, 0, 0, 0]


def test_flags_and_times_may_be_columns(open_log: Open, tiny: Arrays, suffix: str) -> None:
    arrays = renamed(tiny, observations="obs", actions="action", rewards="reward", terminals="done")
    columns = {key: arrays[key][:, None] for key in ("reward", "done")} | {
        "t": np.array([[0], [1], [2], [0], [1], [3]])
    }
    assert open_log({**arrays, **columns}, suffix).episode_ends.tolist() == [3, 5, 6]


def test_interleaved_episodes_are_put_together(open_log: Open, tiny: Arrays, suffix: str) -> None:
    order = np.array([0, 3, 1, 5, 4, 2])
    arrays = {key: array[order] for key, array in {**tiny, "episode_id": np.array([1, 1, 1, 2, 2, 3])}.items()}
    log = open_log(arrays, suffix)
    assert log.transitions.observations.flatten().tolist() == [0, 1, 2, 10, 11, 20]
    (remark,) = remarks(log)
    assert remark == "the rows of 3 episodes stand in 6 pieces; they are put together by episode_id"


def test_d3rlpy_1(open_log: Open, tiny: Arrays, suffix: str) -> None:
    arrays = renamed(tiny, observations="observations", actions="actions", rewards="rewards", terminals="terminals")
    extra = {"episode_terminals": np.array([0, 0, 1, 0, 1, 1]), "discrete_action": False, "version": 1.0}
    log = open_log({**arrays, **extra}, suffix)
    assert log.episode_ends.tolist() == [3, 5, 6]
    assert log.finished.all()


def remarks(log: OfflineDataset) -> list[str]:
    return [finding.text for finding in log.findings if finding.name == "reading" and finding.text]


STABLE_BASELINES = {
    "observations": "observations",
    "next_observations": "next_observations",
    "actions": "actions",
    "rewards": "rewards",
    "terminals": "dones",
    "timeouts": "timeouts",
}


def test_stable_baselines_with_one_environment(open_log: Open, tiny: Arrays, suffix: str, same: Same) -> None:
    arrays = {key: array[:, None] for key, array in renamed(tiny, **STABLE_BASELINES).items()}
    expected = open_log(tiny)
    same(open_log(arrays, suffix), expected)
    arrays["dones"] = arrays["dones"] | arrays["timeouts"]
    log = open_log(arrays, suffix)
    same(log, expected)
    assert remarks(log) == [
        "dones is set at 1 time limits too, as Stable-Baselines3 writes it; those rows are not terminal"
    ]


def test_stable_baselines_with_several_environments(open_log: Open, tiny: Arrays, suffix: str, same: Same) -> None:
    del tiny["next_observations"]
    other = {key: array if array.dtype == bool else array * 0.5 for key, array in tiny.items()}
    apart = {key: np.concatenate([tiny[key], other[key]]) for key in tiny}
    apart["timeouts"] = np.isin(np.arange(12), [4, 5, 10])
    expected = open_log(apart)
    arrays = {key: np.stack([tiny[key], other[key]], 1) for key in tiny}
    log = open_log({key: arrays[field] for field, key in STABLE_BASELINES.items() if field in arrays}, suffix)
    assert log.transitions.rows.tolist() == expected.transitions.rows.tolist()
    assert log.episode_ends.tolist() == expected.episode_ends.tolist() == [3, 5, 6, 9, 11, 12]
    assert remarks(log) == ["2 environments stand side by side, 6 rows of each; they are put one after another"]


def test_tianshou(open_log: Open, tiny: Arrays, suffix: str, same: Same) -> None:
    arrays = renamed(
        tiny,
        observations="obs",
        next_observations="obs_next",
        actions="act",
        rewards="rew",
        terminals="terminated",
        timeouts="truncated",
    )
    expected = open_log(tiny)
    log = open_log({**arrays, "done": tiny["terminals"] | tiny["timeouts"]}, suffix)
    same(log, expected)
    assert [finding.text for finding in log.findings if finding.level == "WARN"] == ["not used: done [6]"]


def test_neorl(open_log: Open, tiny: Arrays, suffix: str, same: Same) -> None:
    names = {"observations": "obs", "next_observations": "next_obs", "actions": "action", "rewards": "reward"}
    arrays = renamed(tiny, **names, terminals="done")
    expected = open_log(tiny)
    same(open_log({**arrays, "index": np.array([0, 3, 5])}, suffix), expected)
    same(open_log({**arrays, "index": np.array([0, 3, 5]), "truncated": tiny["timeouts"]}, suffix), expected)


@pytest.mark.parametrize(
    "mark",
    [
        {"index": np.arange(6)},
        {"index": np.array([0, 3, 9])},
        {"index": np.array([-1, 3])},
        {"is_last": np.array([0, 0, 2, 0, 1, 1])},
        {"is_last": np.zeros(6, [("a", "i4")])},
        {"t": np.array([b"a"] * 6)},
    ],
    ids=["row numbers", "beyond the rows", "before the rows", "no flags", "records", "texts"],
)
def test_marks_that_say_nothing_of_rows_are_named(open_log: Open, tiny: Arrays, mark: Arrays, suffix: str) -> None:
    (key, array), expected = next(iter(mark.items())), open_log(tiny)
    log = open_log({**tiny, key: array}, suffix)
    assert log.hash == expected.hash
    unused = [finding.text for finding in log.findings if finding.name == "unused-arrays"]
    assert unused == ([f"not used: {key} [6]"] if len(array) == 6 else [""])


@pytest.fixture
def rlds() -> Arrays:
    """The tiny log as steps: each episode ends with a step that holds an observation alone."""
    return {
        "observation": np.array([[0], [1], [2], [3], [10], [11], [12]], np.float32),
        "action": np.array([[-1], [-0.5], [0.5], [0], [0.25], [0.5], [0]], np.float32),
        "reward": np.array([1, 2, 4, 0, 8, 16, 0], np.float32),
        "is_first": np.array([1, 0, 0, 0, 1, 0, 0], bool),
        "is_last": np.array([0, 0, 0, 1, 0, 0, 1], bool),
        "is_terminal": np.array([0, 0, 0, 1, 0, 0, 0], bool),
    }


def test_rlds_steps_become_transitions(open_log: Open, rlds: Arrays, suffix: str, same: Same) -> None:
    plain = {
        "observations": np.array([[0], [1], [2], [10], [11]], np.float32),
        "actions": np.array([[-1], [-0.5], [0.5], [0.25], [0.5]], np.float32),
        "next_observations": np.array([[1], [2], [3], [11], [12]], np.float32),
        "rewards": np.array([1, 2, 4, 8, 16], np.float32),
        "terminals": np.array([0, 0, 1, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 0, 1], bool),
    }
    expected = open_log(plain)
    log = open_log(rlds, suffix)
    same(log, expected)
    assert log.transitions.rows.tolist() == [
        [0, -1, 1, 1, 0],
        [1, -0.5, 2, 2, 0],
        [2, 0.5, 3, 4, 1],
        [10, 0.25, 11, 8, 0],
        [11, 0.5, 12, 16, 0],
    ]
    assert log.episode_ends.tolist() == [3, 5]
    assert log.finished.all()


def test_rlds_steps_that_are_missing_join_no_strangers(open_log: Open, rlds: Arrays, suffix: str) -> None:
    """Without row 3, episode 1 has no last step; its row 2 then holds the last observation."""
    log = open_log({key: np.delete(array, 3, 0) for key, array in rlds.items()}, suffix)
    assert log.transitions.rows.tolist() == [
        [0, -1, 1, 1, 0],
        [1, -0.5, 2, 2, 0],
        [10, 0.25, 11, 8, 0],
        [11, 0.5, 12, 16, 0],
    ]
    rlds["reward"][1], rlds["t"] = np.nan, np.array([0, 1, 2, 3, 0, 1, 2])
    log = open_log(rlds, suffix)
    assert log.transitions.rows.tolist() == [[2, 0.5, 3, 4, 1], [10, 0.25, 11, 8, 0], [11, 0.5, 12, 16, 0]]
    assert log.episode_ends.tolist() == [1, 3]


def test_rlds_last_steps_with_an_action_are_transitions(open_log: Open, rlds: Arrays, suffix: str) -> None:
    rlds["action"][3] = 0.75
    log = open_log(rlds, suffix)
    assert len(log) == 7
    assert log.episode_ends.tolist() == [4, 7]
    assert log.next_known.tolist() == [True, True, True, False, True, True, False]


def test_rows_with_a_time_and_a_missing_value_are_left_out(open_log: Open, tiny: Arrays, suffix: str) -> None:
    arrays = renamed(tiny, observations="obs", actions="action", rewards="reward", terminals="done")
    arrays["obs"] = np.concatenate([arrays["obs"], arrays["obs"]], 1)
    arrays["obs"][1, 1] = np.nan
    with pytest.raises(InputError, match=r"obs has NaN, inf or numbers beyond float32 in 1 rows, the first is row 1"):
        open_log(arrays, suffix)
    log = open_log({**arrays, "t": np.arange(6)}, suffix)
    assert log.transitions.observations[:, 0].tolist() == [0, 2, 10, 11, 20]
    assert log.episode_ends.tolist() == [1, 2, 5]
    assert log.next_known.tolist() == [False, False, True, True, False]
    assert remarks(log) == [
        "1 of 6 rows have missing values and are left out (obs 1); the rows around them are not joined, and rows are counted without them"
    ]


def test_a_row_without_an_episode_joins_no_strangers(open_log: Open, tiny: Arrays, suffix: str) -> None:
    arrays = renamed(tiny, observations="obs", actions="action", rewards="reward")
    arrays |= {"done": np.zeros(6, bool), "t": np.arange(6)}
    log = open_log({**arrays, "eps_id": np.array([1, 1, np.nan, 1, 1, 2])}, suffix)
    assert log.transitions.observations[:, 0].tolist() == [0, 1, 10, 11, 20]
    assert log.episode_ends.tolist() == [2, 4, 5]


def test_a_mapping_goes_before_the_names(open_log: Open, tiny: Arrays, suffix: str) -> None:
    arrays = {**tiny, "shaped": 2 * tiny["rewards"], "after": tiny["next_observations"]}
    del arrays["next_observations"]
    columns = ColumnsConfig(reward="shaped", next_observation="after")
    log = open_log(arrays, suffix, columns=columns)
    assert log.transitions.rewards.tolist() == [2, 4, 8, 16, 32, 64]
    assert log.next_known.all()


def test_a_mapping_to_several_arrays_makes_columns_of_them(open_log: Open, tiny: Arrays, suffix: str) -> None:
    arrays = {f"joint_{i}": tiny["observations"][:, 0] + i for i in range(2)} | {"speed": tiny["rewards"]}
    del tiny["observations"], tiny["next_observations"]
    log = open_log({**tiny, **arrays}, suffix, columns=ColumnsConfig(observation=["speed", "joint_*"]))
    assert log.transitions.observations[:2].tolist() == [[1, 0, 1], [2, 1, 2]]
    assert log.names.observations == ("speed", "joint_0", "joint_1")


def test_a_field_can_be_said_to_be_missing(open_log: Open, tiny: Arrays, suffix: str) -> None:
    log = open_log(tiny, suffix, columns=ColumnsConfig(next_observation="none"))
    assert log.next_known.tolist() == [True, True, False, True, False, False]


def test_a_mapping_to_nothing_is_answered_with_the_nearest_key(open_log: Open, tiny: Arrays, suffix: str) -> None:
    with pytest.raises(InputError, match=r"data\.columns\.reward=rewardz: .* has no such key; did you mean rewards\?"):
        open_log(tiny, suffix, columns=ColumnsConfig(reward="rewardz"))
    with pytest.raises(
        InputError, match=r"data\.columns\.observation=\[\] names nothing: write its key, or leave the setting out"
    ):
        open_log(tiny, suffix, columns=ColumnsConfig(observation=[]))


def test_many_keys_and_strange_ones_do_not_fill_the_screen(open_log: Open, suffix: str) -> None:
    arrays = {f"key\x1b[31m{i}": np.zeros(3) for i in range(1000)}
    with pytest.raises(InputError) as error:
        open_log(arrays, suffix)
    assert all(len(problem) < 1000 for problem in error.value.problems)
    assert "and 988 more" in error.value.problems[0]
    assert "\x1b" not in str(error.value)
