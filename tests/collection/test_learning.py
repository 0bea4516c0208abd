"""`python -m mopo_pl collect --policy sac` and the levels of D4RL."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from small_training import SAC

from mopo_pl.__main__ import main
from mopo_pl.callbacks import OnlineSteps
from mopo_pl.config.schema import DataConfig
from mopo_pl.data.batches import replay_buffer
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.policy import Policy

Collect = Callable[..., int]
StopAt = Callable[[int | None], None]
LEARNS = f"--policy sac --steps 390 {SAC}"


def opened(name: str) -> OfflineDataset:
    return open_dataset(name=name, data=DataConfig(), env_id=None, env_kwargs={})


def history(folder: str) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [(row["update"], row["evaluation/return"]) for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `whole.hdf5`, and what its training left in `work`: three epochs."""
    folder = tmp_path_factory.mktemp("whole")
    words = f"{folder}/whole.hdf5 {LEARNS} --folder {folder}/work".split()
    assert main(["collect", "Pendulum-v1", *words]) == 0
    return folder


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_buffer, "SEGMENT", 100)


def test_the_log_of_a_policy_that_learns_is_all_it_did(whole: Path) -> None:
    rows = opened(str(whole / "whole.hdf5")).transitions
    assert len(rows) == 390
    assert [update for update, _ in history(str(whole / "work"))] == [50, 100, 150]
    torch.testing.assert_close(rows.observations[1:200], rows.next_observations[:199])
    assert Policy.load(whole / "work")(rows.observations[:5]).shape == (5, 1)


@pytest.mark.parametrize("at", [5, 13])
def test_a_training_that_was_stopped_ends_in_the_same_rows(
    collect: Collect, stop_at: StopAt, small_segments: None, whole: Path, at: int
) -> None:
    """At an epoch's end, and within a third one; 250 and more steps in files of 100."""
    stop_at(at)
    assert collect(f"again.hdf5 {LEARNS}") == 130
    assert not Path("again.hdf5").exists()
    assert len(list(Path("runs/collected/again/checkpoints/refreshes").glob("*.rows"))) >= 2
    stop_at(None)
    assert collect(f"again.hdf5 {LEARNS}") == 0
    assert opened("again.hdf5").hash == opened(str(whole / "whole.hdf5")).hash
    assert history("runs/collected/again") == history(str(whole / "work"))


def test_steps_come_after_the_updates_they_follow_and_batches_from_all_steps(
    collect: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, drawn = [], []
    took, sampled = OnlineSteps.on_train_batch_end, replay_buffer.ReplayDataModule.sample

    def take(self: OnlineSteps, trainer: Any, *arguments: Any) -> None:
        took(self, trainer, *arguments)
        sizes.append(trainer.datamodule.size)

    def sample(self: replay_buffer.ReplayDataModule, updates: int) -> Any:
        batch = sampled(self, updates)
        drawn.append((self.size, batch, self.rows[: self.size].clone()))
        return batch

    monkeypatch.setattr(OnlineSteps, "on_train_batch_end", take)
    monkeypatch.setattr(replay_buffer.ReplayDataModule, "sample", sample)
    assert collect(f"a.hdf5 --policy sac --steps 350 {SAC}") == 0
    assert sizes == list(range(260, 351, 10))
    assert [size for size, _, _ in drawn] == list(range(250, 341, 10))
    for _, batch, rows in drawn:
        assert batch.rows.shape == (10, 32, 9)
        assert batch.actions.abs().max() <= 1
        stored = {tuple(row) for row in rows[:, :3].tolist()}
        assert {tuple(state) for state in batch.observations.flatten(0, 1).tolist()} <= stored
        state = batch.observations[0, 0]
        (place,) = (rows[:, :3] == state).all(1).nonzero()[:1].squeeze(-1).tolist()
        assert batch.actions[0, 0].item() == pytest.approx(rows[place, 3].item() / 2)


# Levels


def test_random_is_uniform(collect: Collect) -> None:
    assert collect("a.hdf5 --level random --steps 300") == 0
    assert collect("b.hdf5 --policy random --steps 300") == 0
    assert opened("a.hdf5").hash == opened("b.hdf5").hash


def test_the_levels_of_one_training(collect: Collect, capsys: pytest.CaptureFixture[str]) -> None:
    """`--medium-return` -99999: the first evaluation is medium. Each level in a folder of its own, from the same seed."""
    train = f"--train-steps 350 --medium-return -99999 {SAC}"
    assert collect(f"replay.hdf5 --level medium-replay {train}") == 0
    assert collect(f"medium.hdf5 --level medium --steps 220 {train}") == 0
    assert collect(f"expert.hdf5 --level expert --steps 220 --train-steps 350 {SAC}") == 0
    assert collect(f"both.hdf5 --level medium-expert --steps 439 {train}") == 0
    replay, medium, expert, both = map(opened, ("replay.hdf5", "medium.hdf5", "expert.hdf5", "both.hdf5"))

    assert len(replay) == 250 + 50  # it stops with its first evaluation
    assert [update for update, _ in history("runs/collected/medium")] == [50]
    assert [update for update, _ in history("runs/collected/expert")] == [50, 100]
    assert torch.equal(both.transitions.rows[:220], medium.transitions.rows)
    assert torch.equal(both.transitions.rows[220:], expert.transitions.rows[:219])
    assert both.episode_ends.tolist() == [200, 220, 420, 439]
    assert (len(medium), len(expert)) == (220, 220)
    with h5py.File("both.hdf5") as file:
        assert np.flatnonzero(np.asarray(file["timeouts"])).tolist() == [199, 219, 419]

    for log, folder in ((medium, "runs/collected/medium/snapshots/00000050"), (expert, "runs/collected/expert")):
        policy, rows = Policy.load(folder), log.transitions
        mean, log_std = policy.actor.distribution(rows.observations)
        noise = (torch.atanh(rows.actions.clamp(-0.999, 0.999)) - mean) / log_std.exp()
        inside = rows.actions.abs() < 0.99
        assert abs(noise[inside].mean().item()) < 0.35  # drawn from that policy, not its mean
        assert 0.6 < noise[inside].std().item() < 1.3


def test_a_level_that_was_killed_while_it_was_recorded_goes_on(
    collect: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mopo_pl.collection import recording
    from mopo_pl.environments.stepping import SteppedEnvironment

    line = f"--level expert --steps 220 --train-steps 300 {SAC}"
    monkeypatch.setattr(recording, "PART", 90)
    assert collect(f"whole.hdf5 {line}") == 0
    step, taken = SteppedEnvironment.step, []

    def killed(self: SteppedEnvironment, action: np.ndarray) -> np.ndarray:
        taken.append(action)
        if len(taken) == 300 + 100:
            raise KeyboardInterrupt
        return step(self, action)

    with monkeypatch.context() as patched:
        patched.setattr(SteppedEnvironment, "step", killed)
        assert collect(f"again.hdf5 {line}") == 130
    assert collect(f"again.hdf5 {line}") == 0
    assert opened("again.hdf5").hash == opened("whole.hdf5").hash


def test_a_return_that_is_never_reached_is_said_with_the_best(
    collect: Collect, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"a.hdf5 --level medium-replay --train-steps 300 {SAC}"
    assert collect(f"{line} --medium-return 0") == 2
    best = max(value for _, value in history("runs/collected/a"))
    assert f"no evaluation reached --medium-return 0.0, the best is {best:.1f}" in capsys.readouterr().err
    assert collect(f"{line} --medium-return -99999") == 0  # the training is not made again
    assert len(opened("a.hdf5")) == 250 + 50


def test_medium_is_a_third_of_the_way_from_random_to_the_last_evaluations() -> None:
    from mopo_pl.collection.online import Learned

    def learned(*returns: float, random: list[float]) -> Learned:
        nothing: Any = None
        return Learned(
            rows=np.zeros((0, 1)),
            start_steps=0,
            history=[[100.0 * (i + 1), value] for i, value in enumerate(returns)],
            returns=np.array(random),
            final=nothing,
            snapshots=nothing,
        )

    late = [100.0] * 10
    assert learned(-20.0, 10.0, 33.0, 34.0, 90.0, *late, random=[-10.0, 10.0]).medium(None) == 400
    assert (
        learned(-20.0, 10.0, 33.0, 34.0, 90.0, *late, random=[]).medium(None) == 300
    )  # from the first evaluation's -20
    assert learned(-20.0, 10.0, 33.0, *late, random=[0.0]).medium(5.0) == 200
