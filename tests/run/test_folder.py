"""Where a run leaves its files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from mopo_pl.cli import main

Train = Callable[..., Path]


def test_a_run_leaves_what_the_readme_promises(finished: Path) -> None:
    left = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    checkpoints = {path for path in left if path.startswith("checkpoints/")}
    assert left - checkpoints == {
        *("config.yaml", "provenance.json", "metrics.jsonl", "result.json", "dynamics.safetensors", "dynamics.json"),
        *("policy/policy.safetensors", "policy/policy.json", ".lock"),
    }
    stages = [Path(path).name.split("-")[0] for path in checkpoints if path.endswith(".ckpt")]
    assert set(stages) == {"dynamics", "policy"}
    assert max(map(stages.count, stages)) <= 3


def test_every_checkpoint_holds_plain_data(finished: Path) -> None:
    for path in (finished / "checkpoints").glob("*.ckpt"):
        torch.load(path, weights_only=True)


def test_the_configuration_is_resolved(finished: Path) -> None:
    config = OmegaConf.load(finished / "config.yaml")
    assert config.compile == []
    assert config.sac.schedule_epochs == config.trainer.max_epochs == 12
    assert config.env_id == "Pendulum-v1"
    assert config.data.source == "collect:pendulum"
    assert OmegaConf.missing_keys(config) == set()


def test_the_configuration_can_be_read_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"resume={finished}", "--print-config"]) == 0
    stored = (finished / "config.yaml").read_text()
    assert stored.count("\nresume: null\n") == 1
    assert capsys.readouterr().out == stored.replace("\nresume: null\n", f"\nresume: {finished}\n")


def test_without_run_dir_a_run_is_named_after_dataset_time_and_seed_and_is_the_latest(
    tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (5, 6):
        assert main([*tiny, "preset=offline-sac", "trainer.max_epochs=1", f"seed={seed}"]) == 0
    five, six = (next(Path("runs/pendulum").glob(f"*-*_s{seed}")) for seed in (5, 6))
    assert Path("runs/latest").is_symlink()
    assert Path("runs/latest").resolve() == six.resolve() != five.resolve()
    assert not Path("runs/latest").readlink().is_absolute()


def test_a_run_in_a_chosen_folder_is_the_latest_beside_it(train: Train, tmp_path: Path) -> None:
    folder = train("run", "preset=offline-sac", "trainer.max_epochs=1")
    assert (tmp_path / "latest").resolve() == folder


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("run", "preset=offline-sac", "trainer.max_epochs=1")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    train("run", "preset=offline-sac", "trainer.max_epochs=1", code=2)
    out, err = capsys.readouterr()
    assert err == f"error: run_dir={folder} holds a run already: choose another, or continue it by resume={folder}\n"
    assert out == ""
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_occupied_folder_of_a_later_seed_is_reported_before_the_first_trains(train: Train, tmp_path: Path) -> None:
    train("run_s1", "preset=offline-sac", "trainer.max_epochs=1")
    train("run", "seed=[0,1]", code=2)
    assert not (tmp_path / "run_s0").exists()


def test_a_folder_that_cannot_be_made_is_wrong_input(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    train("file", code=2)
    assert capsys.readouterr().err.startswith(f"error: run_dir: {tmp_path / 'file'}")
