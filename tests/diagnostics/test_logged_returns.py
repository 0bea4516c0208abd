"""What the log earned: by hand, and by a slow sum over each start."""

import numpy as np
import pytest
import torch
from known_models import dataset_of, steered_log

from mopo_pl.diagnostics.estimates import logged_returns as module
from mopo_pl.diagnostics.estimates.logged_returns import logged_returns


def log_of(rewards: list[float], lengths: list[int], **more):
    states = np.arange(len(rewards), dtype=np.float32)[:, None]
    return dataset_of(states, 0 * states, states + 1, np.array(rewards), lengths=lengths, **more)


def test_whole_episodes_by_hand() -> None:
    log = logged_returns(log_of([1, 2, 4, 8, 16], [3, 2], terminal=[4]), 0.5)
    assert (log.whole_episodes, log.steps, log.rows.tolist()) == (True, 3, [0, 3])
    assert log.returns.tolist() == [7.0, 24.0]
    assert log.discounted.tolist() == [1 + 1 + 1, 8 + 8]
    # After a time limit the mean reward, 6.2, goes on for ever; after a terminal row nothing does.
    assert log.forever.tolist() == pytest.approx([3 + 0.5**3 * 6.2 / 0.5, 16])
    assert log.summary()["return"] == 15.5
    assert log.summary()["std"] == 8.5


@pytest.mark.parametrize("limit", [("SEGMENT_STEPS", 4), ("MOST_STEPS", 5)])
def test_windows_of_unfinished_or_long_episodes(limit: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    name, value = limit
    monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "SEGMENT_STEPS", 4)
    rng = np.random.default_rng(0)
    rewards, gamma = rng.standard_normal(20), 0.7
    log = log_of(list(rewards), [9, 3, 8], terminal=[11], finished=name == "MOST_STEPS")
    found = logged_returns(log, gamma)
    assert (found.whole_episodes, found.steps) == (False, 4)
    # Rows that four steps follow, and those of the episode that a terminal row ends.
    assert found.rows.tolist() == [*range(6), 9, 10, 11, *range(12, 17)]
    rewards = rewards.astype(np.float32).astype(float)
    for start, end, terminal, i in (
        (0, 9, False, 0),
        (5, 9, False, 5),
        (9, 12, True, 6),
        (11, 12, True, 8),
        (16, 20, False, 13),
    ):
        taken = rewards[start : min(start + 4, end)]
        discounted = sum(gamma**t * r for t, r in enumerate(taken))
        tail = 0 if terminal else gamma ** len(taken) * rewards.mean() / (1 - gamma)
        assert float(found.returns[i]) == pytest.approx(taken.sum())
        assert float(found.discounted[i]) == pytest.approx(discounted)
        assert float(found.forever[i]) == pytest.approx(discounted + tail)


def test_a_log_shorter_than_a_window_is_one_window() -> None:
    found = logged_returns(log_of([1.0, 2.0, 3.0], [3], finished=False), 0.9)
    assert (found.steps, found.rows.tolist(), found.returns.tolist()) == (3, [0], [6.0])


def test_starts_are_drawn_without_repetition_until_all_are_taken() -> None:
    log = logged_returns(steered_log(5, 4), 0.9)
    drawn = log.drawn(12, torch.Generator().manual_seed(0))
    assert sorted(drawn[:5].tolist()) == sorted(drawn[5:10].tolist()) == [0, 1, 2, 3, 4]
    assert len(log.drawn(3, torch.Generator().manual_seed(0)).unique()) == 3
