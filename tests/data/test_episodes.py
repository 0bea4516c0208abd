"""Where episodes end, what followed each row, and what an episode came to."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor.report import describe
from mopo_pl.data.log.packing import assemble
from mopo_pl.data.readers.raw_log import RawLog

Open = Callable[..., OfflineDataset]
Arrays = dict[str, Any]


def without(arrays: Arrays, *keys: str) -> Arrays:
    return {key: array for key, array in arrays.items() if key not in keys}


def test_terminals_and_time_limits_end_episodes_but_only_terminals_are_terminal(open_log: Open, tiny: Arrays) -> None:
    dataset = open_log(tiny)
    assert dataset.episode_ends.tolist() == [3, 5, 6]
    assert dataset.transitions.terminals.tolist() == [0, 0, 1, 0, 0, 0]


def test_next_observations_of_the_file_are_used_where_it_has_them(open_log: Open, tiny: Arrays) -> None:
    dataset = open_log(tiny, ".hdf5")
    assert dataset.transitions.next_observations.flatten().tolist() == [1, 2, 3, 11, 12, 21]
    assert dataset.next_known.all()


def test_without_next_observations_the_next_row_follows_and_never_that_of_another_episode(
    open_log: Open, tiny: Arrays
) -> None:
    dataset = open_log(without(tiny, "next_observations"), ".hdf5")
    assert dataset.transitions.next_observations.flatten().tolist() == [1, 2, 2, 11, 11, 20]
    assert dataset.next_known.tolist() == [True, True, False, True, False, False]


def test_terminal_rows_are_kept_where_what_followed_is_unknown(open_log: Open, tiny: Arrays) -> None:
    dataset = open_log(without(tiny, "next_observations"))
    assert dataset.transitions[2:3].rows.tolist() == [[2, 0, 2, 4, 1]]


def test_a_log_without_timeouts_is_cut_at_the_time_limit(open_log: Open, tiny: Arrays) -> None:
    arrays = without(tiny, "next_observations", "timeouts")
    assert open_log(arrays).episode_ends.tolist() == [3, 6]
    cut = open_log(arrays, time_limit=2)
    assert cut.episode_ends.tolist() == [2, 3, 5, 6]
    assert cut.next_known.tolist() == [True, False, False, True, False, False]
    assert cut.transitions.terminals.tolist() == [0, 0, 1, 0, 0, 0]


def test_an_episode_of_exactly_the_time_limit_is_cut_once(open_log: Open, tiny: Arrays) -> None:
    dataset = open_log(without(tiny, "next_observations", "timeouts"), time_limit=3)
    assert dataset.episode_ends.tolist() == [3, 6]
    assert dataset.finished.tolist() == [True, True]


def test_the_time_limit_also_cuts_episodes_beside_limits_that_the_file_marks(open_log: Open, tiny: Arrays) -> None:
    assert open_log(tiny, time_limit=3).episode_ends.tolist() == [3, 5, 6]
    assert open_log(tiny, time_limit=2).episode_ends.tolist() == [2, 3, 5, 6]


def test_next_observations_that_are_not_the_next_row_show_where_episodes_end(open_log: Open, tiny: Arrays) -> None:
    assert open_log(without(tiny, "timeouts")).episode_ends.tolist() == [3, 5, 6]


def test_a_last_episode_cut_by_the_files_end_is_not_finished(open_log: Open, tiny: Arrays) -> None:
    assert open_log(tiny).finished.tolist() == [True, True, False]


@pytest.mark.parametrize("flag", ["terminals", "timeouts"])
def test_a_last_episode_that_is_marked_is_finished(open_log: Open, tiny: Arrays, flag: str) -> None:
    tiny[flag][-1] = True
    assert open_log(tiny).finished.all()


def test_returns_are_those_of_finished_episodes(open_log: Open, tiny: Arrays) -> None:
    dataset = open_log(tiny)
    assert dataset.episode_returns().tolist() == [7, 24]
    assert dataset.episode_lengths().tolist() == [3, 2, 1]


def test_a_log_with_no_finished_episode_counts_what_it_has(open_log: Open, tiny: Arrays) -> None:
    tiny["terminals"][:] = False
    tiny["timeouts"][:] = False
    dataset = open_log(without(tiny, "next_observations"))
    assert not dataset.finished.any()
    assert dataset.episode_returns().tolist() == [63]


def test_returns_do_not_lose_small_rewards_beside_large_ones(open_log: Open, tiny: Arrays) -> None:
    tiny["rewards"] = np.array([2**24, 1, 1, 1, 1, 1], np.float32)  # 2^24 + 1 is no float32
    assert open_log(tiny).episode_returns().tolist() == [2**24 + 2, 2]


def test_the_description_tells_rows_ends_and_returns(open_log: Open, tiny: Arrays) -> None:
    text = describe(open_log(without(tiny, "next_observations"), action_low=[-1.0], action_high=[3.0]))
    assert "rows      6, of which 3 without a true next state" in text
    assert "ends      1 terminal, 1 by a time limit, 1 episodes in part, beside a gap or the file's end" in text
    assert "returns   of 2 whole episodes: mean 15.50 ± 8.50, min 7.00, max 24.00" in text
    assert "length min 1, median 2, max 3" in text
    action = next(line for line in text.splitlines() if line.startswith("action 0"))
    assert [float(number) for number in action.split()[2:5]] == [-1, 0.04167, 1]  # in the file's own units


# A slow model: walk through the log and keep a list of rows for each episode.
@st.composite
def flagged_logs(draw: st.DrawFn) -> dict[str, Any]:
    rows = draw(st.integers(2, 12))
    flags = st.lists(st.booleans(), min_size=rows, max_size=rows)
    has_next = draw(st.booleans())
    return {
        "terminals": draw(flags),
        "timeouts": draw(st.none() | flags),
        # Whether the next row is another beginning: shows in next_observations only.
        "breaks": draw(flags) if has_next else None,
        "time_limit": draw(st.none() | st.integers(1, 4)),
    }


def walk(terminals: list[bool], timeouts: list | None, breaks: list | None, time_limit: int | None) -> list[list[int]]:
    episodes, current = [], []
    for row, terminal in enumerate(terminals):
        current.append(row)
        over = terminal or row == len(terminals) - 1 or len(current) == time_limit
        over |= timeouts is not None and timeouts[row]
        over |= breaks is not None and breaks[row]
        if over:
            episodes.append(current)
            current = []
    return episodes


@settings(max_examples=200, deadline=None)
@given(flagged_logs())
def test_episodes_are_those_of_a_walk_through_the_rows(log: dict[str, Any]) -> None:
    terminals, timeouts, breaks = log["terminals"], log["timeouts"], log["breaks"]
    rows = len(terminals)
    states = np.arange(rows, dtype=np.float32)[:, None]
    following = None if breaks is None else states + 1 + 100 * np.array(breaks)[:, None]
    # Where most rows break off, marks alone say where episodes end.
    if timeouts is not None and breaks is not None and 2 * sum(breaks[:-1]) > rows - 1:
        breaks = None
    episodes = walk(terminals, timeouts, breaks, log["time_limit"])
    ends = {episode[-1] for episode in episodes}
    assume(following is not None or len(ends) < rows or any(terminals))  # else the log teaches nothing
    dataset = assemble(
        RawLog(
            source="a test",
            observations=states,
            actions=np.zeros((rows, 1)),
            rewards=2.0 ** np.arange(rows),
            terminals=np.array(terminals),
            timeouts=None if timeouts is None else np.array(timeouts),
            next_observations=following,
        ),
        name="test",
        bounds=(-np.ones(1), np.ones(1)),
        time_limit=log["time_limit"],
        clip_actions=False,
    )
    assert dataset.episode_ends.tolist() == [episode[-1] + 1 for episode in episodes]
    assert dataset.episode_lengths().tolist() == [len(episode) for episode in episodes]
    assert dataset.transitions.terminals.tolist() == terminals
    for row in range(rows):
        last = row in ends
        told = following is not None
        expected = following[row, 0] if following is not None else row if last else row + 1
        assert dataset.transitions.next_observations[row, 0] == expected
        assert bool(dataset.next_known[row]) == (told or not last)
    assert dataset.finished[:-1].all()
    marked = terminals[-1] or (timeouts is not None and timeouts[-1])
    assert bool(dataset.finished[-1]) == (marked or len(episodes[-1]) == log["time_limit"])
    # Rewards are powers of 2, so that a sum tells its summands.
    returns = [float(sum(2**row for row in episode)) for episode in episodes]
    counted = [value for value, finished in zip(returns, dataset.finished, strict=True) if finished]
    assert dataset.episode_returns().tolist() == (counted or returns)
