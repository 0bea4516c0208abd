"""Every example does what it says, at small sizes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import numpy as np
import pytest
import torch

from mopo_pl import Policy

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = [
    *("threads=1", "compile=false", "trainer.accelerator=cpu", "trainer.max_epochs=2", "sac.updates_per_epoch=5"),
    *("dynamics.max_epochs=1", "dynamics.hidden_sizes=[8]", "dynamics.weight_decay=[0,0]", "sac.hidden_sizes=[8]"),
    *(
        "rollout.starts=10",
        "data.collect_steps=400",
        "evaluation.episodes=2",
        "evaluation.final_episodes=2",
        "estimate=false",
        "report=false",
    ),
]


def load(name: str) -> ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run_here() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert names == {"own_log.py", "own_penalty.py", "own_trainer.py", "quick_start.ipynb"}


def test_own_log_trains_a_policy_and_compares_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load("own_log").main([str(tmp_path / "run"), *SMALL]) == 0
    assert "policy  mean return" in capsys.readouterr().out
    policy = Policy.load(tmp_path / "run")
    assert policy.action_high.tolist() == [2.0, 2.0]


def test_own_log_writes_whole_episodes_of_its_system() -> None:
    arrays = load("own_log").collect(episodes=3, seed=0)
    steps = load("own_log").STEPS
    assert np.flatnonzero(arrays["timeout"]).tolist() == [steps - 1, 2 * steps - 1, 3 * steps - 1]
    inside = ~arrays["timeout"][:-1]
    np.testing.assert_array_equal(arrays["next_obs"][:-1][inside], arrays["obs"][1:][inside])
    np.testing.assert_array_equal(arrays["reward"], -(arrays["next_obs"][:, 0] ** 2))


def test_own_penalty_is_the_one_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", list(sys.path))
    assert load("own_penalty").main([str(tmp_path / "run"), *SMALL]) == 0
    assert "name: own_penalty:next_state_disagreement" in (tmp_path / "run" / "config.yaml").read_text()


def test_own_penalty_is_blind_to_the_reward_and_sees_the_state() -> None:
    u = load("own_penalty").next_state_disagreement
    mean, std = torch.zeros(2, 1, 3), torch.ones(2, 1, 3)
    mean[0, 0, 0] = 5.0
    assert u(mean, std).tolist() == [0.0]
    mean[0, 0, 1:] = torch.tensor([6.0, 8.0])
    assert u(mean, std).tolist() == [5.0]


def test_own_trainer_trains_both_stages(npz_log: Path, tmp_path: Path) -> None:
    sizes = ["--model-epochs", "2", "--epochs", "2", "--updates", "5", "--starts", "10", "--width", "8"]
    load("own_trainer").main([str(npz_log), str(tmp_path), *sizes])
    action = Policy.load(tmp_path)(torch.zeros(4, 3))
    assert action.shape == (4, 2)
    assert (action.abs() <= 1).all()


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # Its cells are run in one namespace, as a kernel would; a kernel itself is not needed for that.
    monkeypatch.setenv("QUICK_START_FOLDER", str(tmp_path / "run"))
    monkeypatch.setenv("QUICK_START_SETTINGS", " ".join(SMALL))
    notebook = nbformat.read(EXAMPLES / "quick_start.ipynb", as_version=4)
    nbformat.validate(notebook)
    names: dict = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs, "the notebook is kept without outputs"
            exec(cell.source, names)
    assert len(names["curve"]) == 2
    assert "return of one episode" in capsys.readouterr().out


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
