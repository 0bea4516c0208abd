"""Which loggers a command line comes to, and under which names they file a run."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import TINY

from mopo_pl.cli import main

ROOT = Path(__file__).parents[2]

SHORT = ("preset=offline-sac", "trainer.max_epochs=1")


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The map of loggers that arguments come to."""
    monkeypatch.chdir(tmp_path)

    def read(*arguments: str) -> dict[str, Any]:
        assert main([*arguments, "--print-config"]) == 0, capsys.readouterr().err
        return yaml.safe_load(capsys.readouterr().out)["logger"]

    return read


WANDB = {"project": "mopo_pl", "offline": True}


@pytest.mark.parametrize(
    ("arguments", "loggers"),
    [
        ((), {"csv": {}}),
        (("logger=[tensorboard,wandb]",), {"tensorboard": {}, "wandb": WANDB}),
        (("logger=[tensorboard, csv]",), {"tensorboard": {}, "csv": {}}),
        (("logger=[wandb]", "logger.wandb.project=x"), {"wandb": {**WANDB, "project": "x"}}),
        (("logger={wandb: {}}",), {"wandb": WANDB}),
        (("logger={wandb: null}",), {"wandb": WANDB}),
        (("logger={wandb: {project: x}, csv: {}}",), {"wandb": {**WANDB, "project": "x"}, "csv": {}}),
        (("logger={wandb: {offline: false}}",), {"wandb": {**WANDB, "offline": False}}),
        (("logger.wandb.project=x",), {"csv": {}, "wandb": {**WANDB, "project": "x"}}),
        (("logger.wandb.offline=false", "logger=wandb"), {"wandb": {**WANDB, "offline": False}}),
        (("logger=tensorboard", "logger=wandb"), {"tensorboard": {}, "wandb": WANDB}),
        (("logger=tensorboard", "logger={csv: {}}"), {"tensorboard": {}, "csv": {}}),
        (("logger=tensorboard", "logger=none"), {}),
        (("logger=none", "logger=tensorboard"), {"tensorboard": {}}),
        (("logger=[]",), {}),
        (("logger={}",), {}),
    ],
)
def test_choices_lists_and_maps_come_to_loggers_with_their_defaults(
    chosen: Callable[..., Any], arguments: tuple[str, ...], loggers: dict[str, Any]
) -> None:
    assert chosen(*arguments) == loggers


@pytest.mark.parametrize("argument", ["logger=[tensorbord,wandb]", "logger=[[csv]]", "logger=[csv", "logger=[1]"])
def test_a_misspelt_list_is_one_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([argument, "--print-config"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {argument}: ")


def run(folder: Path, *arguments: str) -> None:
    assert main([*TINY, *SHORT, *arguments, f"run_dir={folder}"]) == 0


def test_a_list_beside_resume_is_taken(tmp_path: Path) -> None:
    run(tmp_path / "run")
    assert main([f"resume={tmp_path / 'run'}", "trainer.max_epochs=2", "logger=[csv,tensorboard]"]) == 0
    assert {path.name for path in (tmp_path / "run/logs").iterdir()} == {"csv", "tensorboard", "records.json"}


def test_mlflows_experiment_is_named_after_the_dataset(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    run(tmp_path / "run", "logger=mlflow")
    client = MlflowClient(f"sqlite:///{tmp_path}/run/logs/mlflow.db")
    (experiment,) = [found for found in client.search_experiments() if client.search_runs([found.experiment_id])]
    assert experiment.name == "pendulum"


@pytest.mark.parametrize("manner", ["in_turn", "side_by_side"])
def test_runs_of_a_list_of_seeds_share_a_group(tmp_path: Path, manner: str) -> None:
    run(tmp_path / "run", "seed=[3,4]", f"seeds={manner}")
    groups = {yaml.safe_load((tmp_path / f"run_s{seed}/config.yaml").read_text())["group"] for seed in (3, 4)}
    (group,) = groups
    assert group.startswith("pendulum-")


def test_each_logger_is_told_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.loggers import WandbLogger
    from mlflow.tracking import MlflowClient

    told: list[dict[str, Any]] = []
    made = WandbLogger.__init__

    def watched(self: WandbLogger, **arguments: Any) -> None:
        told.append(arguments)
        made(self, **arguments)

    monkeypatch.setattr(WandbLogger, "__init__", watched)
    run(tmp_path / "run", "group=sweep", "logger=[wandb,mlflow,tensorboard]")
    assert told[0]["group"] == "sweep"
    client = MlflowClient(f"sqlite:///{tmp_path}/run/logs/mlflow.db")
    (found,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert found.data.tags["group"] == "sweep"
    hparams = yaml.safe_load((tmp_path / "run/logs/tensorboard/policy/hparams.yaml").read_text())
    assert hparams["group"] == "sweep"


def test_a_group_of_the_users_own_goes_before(tmp_path: Path) -> None:
    run(tmp_path / "run", "seed=[3,4]", "seeds=in_turn", "group=mine")
    assert yaml.safe_load((tmp_path / "run_s3/config.yaml").read_text())["group"] == "mine"


AGED = """
import gymnasium
from gymnasium.envs.classic_control import PendulumEnv

for version in (0, 1):
    gymnasium.register(f"Aged-v{version}", entry_point=PendulumEnv, max_episode_steps=200)
"""


def test_what_an_environment_warns_of_is_one_line(tmp_path: Path) -> None:
    """It is made for its spaces, for each evaluation and at the end, and each time Gymnasium warns."""
    (tmp_path / "aged.py").write_text(AGED)
    arguments = [*TINY, "env_id=aged:Aged-v0", "termination=never", "trainer.max_epochs=4", "run_dir=run"]
    done = subprocess.run(
        [sys.executable, "-m", "mopo_pl", "train", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in (done.stdout + done.stderr).splitlines() if "out of date" in line]
    assert len(said) == 1
    assert "Aged-v0" in said[0]
    assert "\x1b" not in said[0]
    assert "DeprecationWarning" not in done.stderr
