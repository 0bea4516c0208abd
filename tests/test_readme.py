"""Every command and every example of the README does what it says, at small sizes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mopo_pl import __main__ as program
from mopo_pl import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SMALL = [
    *("dynamics.max_epochs=1", "dynamics.hidden_sizes=[8]", "dynamics.weight_decay=[0,0]", "sac.hidden_sizes=[8]"),
    *("trainer.max_epochs=2", "sac.updates_per_epoch=3", "rollout.starts=10", "data.collect_steps=400"),
    *("evaluation.episodes=2", "evaluation.final_episodes=2", "trainer.accelerator=cpu", "report=false"),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    return [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the logs that the README speaks of, and a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    rows = 300
    flags = np.arange(1, rows + 1) % 100 == 0

    def log(obs_dim: int, action_dim: int) -> dict[str, np.ndarray]:
        observations = rng.standard_normal((rows + 1, obs_dim)).astype(np.float32)
        return {
            "observations": observations[:-1],
            "next_observations": observations[1:],
            "actions": rng.uniform(-1, 1, (rows, action_dim)).astype(np.float32),
            "rewards": rng.standard_normal(rows).astype(np.float32),
            "terminals": np.zeros(rows, bool),
            "timeouts": flags,
        }

    np.savez(tmp_path / "my_log.npz", allow_pickle=False, **log(3, 1))
    (tmp_path / "d4rl").mkdir()
    with h5py.File(tmp_path / "d4rl" / "halfcheetah_medium-v2.hdf5", "w") as file:
        for key, array in log(17, 6).items():
            file[key] = array
    return tmp_path


def test_every_train_command_trains(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = [words[2:] for words in commands() if words[:2] == ["python", "train.py"]]
    assert len(trained) == 9
    several = [arguments for arguments in trained if "trainer.devices=2" in arguments]
    for arguments in several:
        # Lightning starts the second process by the first one's own command line, which here is pytest's.
        done = subprocess.run(
            [sys.executable, ROOT / "train.py", *arguments, *SMALL], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert "2 processes" in done.stdout
    for arguments in [arguments for arguments in trained if arguments not in several]:
        resumed = any(argument.startswith("resume=") for argument in arguments)
        assert cli.main(arguments + ([] if resumed else SMALL)) == 0, arguments
        said = capsys.readouterr().out
        assert "finished" in said if resumed else "run      runs/" in said


def test_every_other_program_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(SMALL) == 0
    others = [words[3:] for words in commands() if words[:3] == ["python", "-m", "mopo_pl"]]
    assert [words[0] for words in others] == ["inspect", "collect", "evaluate", "video", "export", "push", "theory"]
    for arguments in others:
        few = ["--steps", "300"] if arguments[0] == "collect" else []
        assert program.main([*arguments, *few]) == 0, arguments
    said = capsys.readouterr().out
    assert "rows      300" in said
    assert "Lemma 4.1" in said


def test_installing_and_testing_is_what_ci_does() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    plain = [words for words in commands() if words[0] in ("pip", "pytest")]
    assert ["pip", "install", "-c", "constraints.txt", "-e", ".[dev]"] in plain
    assert ["pytest", "-n", "auto", "--dist", "loadfile"] in plain
    assert 'pip install --quiet -c constraints.txt -e ".[dev]"' in script
    assert re.search(r"^pytest", script, re.MULTILINE)
    assert all(words[:4] == ["pip", "install", "-c", "constraints.txt"] for words in plain if words[0] == "pip")


def test_the_policy_example_acts(workplace: Path) -> None:
    assert cli.main(SMALL) == 0
    example = next(block for block in blocks("python") if "Policy.load" in block)
    names: dict = {"observation": torch.zeros(5, 3)}
    exec(example, names)
    assert names["action"].shape == (5, 1)
    assert (names["action"].abs() <= 2).all()


def test_the_trainer_example_learns_a_model_and_updates_a_policy(workplace: Path) -> None:
    example = next(block for block in blocks("python") if "L.Trainer" in block)
    assert len(example.splitlines()) <= 24
    names: dict = {}
    exec(example, names)
    assert names["sac"].updates == 400
    assert names["data"].model_buffer.refreshes == 2
    assert 2 * 2000 * 10 < len(names["data"].model_buffer) <= 2 * 2000 * 20  # some rollouts end where the log does
    assert torch.isfinite(names["dynamics"].holdout_mse).all()


def test_every_file_the_readme_links_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_annotated_tree_is_true() -> None:
    tree = README.split("## Where things are")[1].split("```")[1].strip("\n")
    for line in tree.splitlines():
        name = line.split()[0]
        folder = ROOT / "mopo_pl" if line.startswith("  ") and not name.startswith("(") else ROOT
        assert name.startswith("(") or (folder / name).exists(), name
