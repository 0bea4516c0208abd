"""`python -m mopo_pl collect`, given behaviours."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
import torch

from mopo_pl.__main__ import main
from mopo_pl.collection import parser, recording, relabelling
from mopo_pl.collection.online import episode_returns
from mopo_pl.collection.progress import StepProgress
from mopo_pl.config.schema import DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.environments.stepping import SteppedEnvironment
from mopo_pl.nn.layers import Normaliser
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor

Collect = Callable[..., int]


def opened(name: str) -> OfflineDataset:
    return open_dataset(name=name, data=DataConfig(), env_id=None, env_kwargs={})


def test_the_same_log_is_written_in_every_form_and_read_back(
    collect: Collect, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a.hdf5", "a.npz", "mopo_pl/collect-test-v0"]
    for i, name in enumerate(names):
        assert collect(f"{name} --steps 450 --seed 3 --folder work{i}") == 0
    first, *others = map(opened, names)
    assert len(first) == 450
    assert first.env_id == "Pendulum-v1"
    assert (first.action_low.tolist(), first.action_high.tolist()) == ([-2.0], [2.0])
    assert first.episode_ends.tolist() == [200, 400, 450]
    for other in others:
        assert other.hash == first.hash
        assert torch.equal(other.transitions.rows, first.transitions.rows)
    environment = SteppedEnvironment("Pendulum-v1", {}, seed=3, purpose="training")
    rows = np.stack([environment.step(2 * action) for action in first.transitions.actions.numpy()])
    fields = environment.layout.fields(rows)
    assert np.array_equal(fields["observations"], first.transitions.observations.numpy())
    assert np.array_equal(fields["rewards"], first.transitions.rewards.numpy())
    assert f"sha256   {first.hash}" in capsys.readouterr().out
    actions = first.transitions.actions
    assert -0.1 < actions.mean() < 0.1
    assert actions.std().item() == pytest.approx(1 / 3**0.5, abs=0.05)  # uniform


def test_the_metadata_say_where_a_log_comes_from(collect: Collect) -> None:
    assert collect("a.hdf5 --steps 410 --noise 0.1") == 0
    assert collect("mopo_pl/collect-meta-v0 --steps 410 --noise 0.1") == 0
    with h5py.File("a.hdf5") as file:
        metadata = json.loads(str(file.attrs["metadata"]))
    assert metadata["command"] == "python -m mopo_pl collect Pendulum-v1 a.hdf5 --steps 410 --noise 0.1"
    assert metadata["sha256"] == opened("a.hdf5").hash
    assert (metadata["steps"], metadata["episodes"], metadata["seed"], metadata["noise"]) == (410, 2, 0, 0.1)
    assert metadata["reference_returns"] == [-1234.0, -150.0]
    assert metadata["returns"]["mean"] == pytest.approx(float(opened("a.hdf5").episode_returns().mean()), rel=1e-6)
    stored: Any = minari.load_dataset("mopo_pl/collect-meta-v0").storage.metadata
    assert json.loads(stored["mopo_pl"])["sha256"] == metadata["sha256"]
    assert (stored["ref_min_score"], stored["ref_max_score"]) == (-1234.0, -150.0)


def test_infos_are_kept_in_every_form(collect: Collect, capsys: pytest.CaptureFixture[str]) -> None:
    logs = []
    for i, name in enumerate(["c.hdf5", "c.npz", "mopo_pl/collect-infos-v0"]):
        assert collect(f"{name} --steps 60 --folder work{i}", "HalfCheetah-v5") == 0
        logs.append(relabelling.read(name, DataConfig()))
        assert not [found for found in opened(name).findings if "infos" in found.text]
    for log in logs:
        assert set(log.infos) == {"reward_ctrl", "reward_forward", "x_position", "x_velocity"}
        np.testing.assert_allclose(log.infos["reward_ctrl"], -0.1 * np.square(log.actions).sum(1), rtol=1e-5)
        for name, values in log.infos.items():
            assert np.array_equal(values, logs[0].infos[name])


SCRIPT = """
import numpy as np

def swing(observation):
    return np.array([np.clip(-8 * np.arctan2(observation[1], observation[0]) - 2 * observation[2], -2, 2)], np.float32)

def wide(observation):
    return np.array([3.0])

def narrow(observation):
    return np.zeros(2)
"""


def test_a_scripted_policy_acts_with_and_without_noise(
    collect: Collect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_script.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    assert collect("plain.hdf5 --policy my_script:swing --steps 300") == 0
    assert collect("noisy.hdf5 --policy my_script:swing --noise 0.2 --steps 300") == 0

    def deviations(name: str) -> np.ndarray:
        rows = opened(name).transitions
        angle = torch.atan2(rows.observations[:, 1], rows.observations[:, 0])
        wanted = (-8 * angle - 2 * rows.observations[:, 2]).clamp(-2, 2) / 2
        inside = wanted.abs() < 0.3
        return (rows.actions[:, 0] - wanted)[inside].numpy()

    assert np.abs(deviations("plain.hdf5")).max() < 1e-5
    assert deviations("noisy.hdf5").std() == pytest.approx(0.2, rel=0.35)
    assert opened("noisy.hdf5").transitions.actions.abs().max() <= 1


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("my_script:wide", r"must give an action \[1\] between \[-2.0\] and \[2.0\]; it gave \[3.0\]"),
        ("my_script:narrow", r"must give an action \[1\]"),
        ("my_script:other", "cannot be imported"),
        ("nobody", "is neither random, nor sac, nor module:function, nor a run folder"),
    ],
)
def test_a_policy_that_cannot_act_is_refused(
    collect: Collect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    policy: str,
    says: str,
) -> None:
    (tmp_path / "my_script.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    assert collect(f"a.hdf5 --policy {policy} --steps 10") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert collect(f"a.hdf5 --policy {policy} --steps 10") == 2
    import re

    assert re.search(says, capsys.readouterr().err)


def test_a_run_acts_by_its_mean_action(collect: Collect, tmp_path: Path) -> None:
    actor = TanhGaussianActor(
        obs_dim=3,
        action_dim=1,
        hidden_sizes=(8,),
        log_std_min=-5.0,
        log_std_max=2.0,
        normaliser=Normaliser.identity(3),
        generator=torch.Generator().manual_seed(0),
    )
    policy = Policy(actor, np.array([-2.0]), np.array([2.0]), {})
    policy.save(tmp_path / "run" / "policy")
    assert collect("a.hdf5 --policy run --steps 210") == 0
    rows = opened("a.hdf5").transitions
    torch.testing.assert_close(2 * rows.actions, policy(rows.observations), rtol=0, atol=1e-5)


# Killed, and begun again


@pytest.mark.parametrize("at", [1, 149, 150, 151, 420])
def test_a_killed_collection_goes_on_to_the_same_rows(
    collect: Collect, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(recording, "PART", 150)
    assert collect("whole.hdf5 --steps 450") == 0
    taken, step = [], SteppedEnvironment.step

    def killed(self: SteppedEnvironment, action: np.ndarray) -> np.ndarray:
        taken.append(action)
        if len(taken) == at:
            raise KeyboardInterrupt
        return step(self, action)

    with monkeypatch.context() as patched:
        patched.setattr(SteppedEnvironment, "step", killed)
        assert collect("again.hdf5 --steps 450") == 130
    assert not Path("again.hdf5").exists()
    taken.clear()
    with monkeypatch.context() as patched:
        patched.setattr(SteppedEnvironment, "step", lambda self, action: taken.append(action) or step(self, action))
        assert collect("again.hdf5 --steps 450") == 0
    assert opened("again.hdf5").hash == opened("whole.hdf5").hash
    done = (at - 1) // 150 * 150
    assert len(taken) == 450 - done + done % 200  # and the actions of the episode that is repeated


def test_a_damaged_part_is_named(collect: Collect, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect("a.hdf5 --steps 20") == 0
    Path("a.hdf5").unlink()
    Path("runs/collected/a/parts/steps-000000.npz").write_bytes(b"PK")
    assert collect("a.hdf5 --steps 20") == 2
    assert "steps-000000.npz is damaged" in capsys.readouterr().err


def test_another_collection_in_the_same_folder_is_refused(collect: Collect, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect("a.hdf5 --steps 20 --folder work") == 0
    assert collect("b.hdf5 --steps 30 --seed 1 --folder work") == 2
    said = capsys.readouterr().err
    assert "work has a collection with other settings (steps is 30, was 20" in said
    assert "seed is 1, was 0" in said
    assert not Path("b.hdf5").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a.csv", "a.csv is neither a file ending in .hdf5 or .npz, nor a Minari id, which ends in -v0"),
        ("a.hdf5 --steps 0", "--steps 0 must be at least 1"),
        ("a.hdf5 --level medium --policy random", "--level medium is of --policy sac, not random"),
        ("a.hdf5 --policy sac --steps 100", "--steps 100 must be more than the 5000 random --start-steps"),
        ("a.hdf5 --level medium-replay --steps 10", "--steps is not for medium-replay"),
        ("a.hdf5 --medium-return 3", "--medium-return is for the levels medium"),
        ("a.hdf5 --policy sac --noise 0.1", "--noise is not for a policy that learns"),
        ("a.hdf5 --noise -1", "--noise -1.0 at least 0"),
        ("a.hdf5 sac.taw=1", "sac.taw=1: there is no such key"),
        ("a.hdf5 --policy sac sac.normalise_observations=true", "sac.normalise_observations=true needs a log"),
        ("a.hdf5 trainer.devices=2", "with one seed, by one process"),
    ],
)
def test_a_wrong_command_is_refused_before_a_step(
    collect: Collect, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    assert collect(line) == 2
    assert says in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_a_log_that_is_there_is_not_written_over(collect: Collect, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.hdf5").write_text("mine")
    assert collect("a.hdf5 --steps 20") == 2
    assert capsys.readouterr().err == "error: a.hdf5 is there already: remove it, or choose another name\n"
    assert Path("a.hdf5").read_text() == "mine"


def test_the_names_known_without_torch_are_those_of_the_code() -> None:
    assert tuple(relabelling.TASKS) == parser.TASKS


def test_what_is_not_a_setting_is_an_unknown_argument(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["collect", "Pendulum-v1", "a.hdf5", "--stps=3"], ["theory", "a=b"]):
        with pytest.raises(SystemExit) as ended:
            main(line)
        assert ended.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err


# Relabelled


@pytest.mark.parametrize(
    ("env_id", "task"), [("mopo_pl/HalfCheetahJump-v0", "halfcheetah-jump"), ("mopo_pl/AntAngle-v0", "ant-angle")]
)
@pytest.mark.parametrize("form", ["a.hdf5", "mopo_pl/{task}-behaviour-v0"])
def test_a_relabelled_log_has_the_rewards_that_the_task_pays(
    collect: Collect, env_id: str, task: str, form: str
) -> None:
    """Its actions, taken again in the environment with the true reward."""
    source = form.format(task=task)
    assert collect(f"{source} --steps 120 --policy random env_kwargs.reward=behaviour", env_id) == 0
    assert main(["relabel", source, "task.hdf5", "--reward", task]) == 0
    before, after = opened(source), opened("task.hdf5")
    environment = SteppedEnvironment(env_id, {}, seed=0, purpose="training")
    rows = np.stack([environment.step(action) for action in after.transitions.actions.numpy()])
    fields = environment.layout.fields(rows)
    np.testing.assert_allclose(after.transitions.rewards, fields["rewards"], rtol=0, atol=1e-4)
    assert (after.transitions.rewards - before.transitions.rewards).abs().max() > 0.01
    assert torch.equal(after.transitions.rows[:, :-2], before.transitions.rows[:, :-2])
    assert (after.env_id, dict(after.env_kwargs)) == (env_id, {})
    with h5py.File("task.hdf5") as file:
        metadata = json.loads(str(file.attrs["metadata"]))
    assert metadata["source"] == {"name": source, "sha256": before.hash}
    assert metadata["sha256"] == after.hash


def test_a_log_of_another_reward_is_not_relabelled(collect: Collect, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect("a.hdf5 --steps 20", "mopo_pl/HalfCheetahJump-v0") == 0
    capsys.readouterr()
    assert main(["relabel", "a.hdf5", "b.hdf5", "--reward", "halfcheetah-jump"]) == 2
    assert "was not collected in mopo_pl/HalfCheetahJump-v0 with env_kwargs.reward=behaviour" in capsys.readouterr().err


def test_returns_are_those_of_episodes_that_ended() -> None:
    fields = {
        "rewards": np.array([1.0, 2.0, 4.0, 8.0, 16.0], np.float32),
        "terminals": np.array([0, 1, 0, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 1, 0], bool),
    }
    assert episode_returns(fields).tolist() == [3.0, 12.0]


def test_the_bar_leaves_the_output_to_other_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard error is looked at for a terminal; the bar must go there too."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with StepProgress("collecting", 1000, 0) as progress:
        progress.at(200)
    said = capsys.readouterr()
    assert (said.out, "collecting" in said.err) == ("", True)
