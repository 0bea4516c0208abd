"""Runs on two processes, with faults of both or of one: they end soon, and go on to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

KILLED = Path(__file__).parents[1] / "run/killed.py"
ARGUMENTS = [
    *("dataset=pendulum", "data.collect_steps=400", "threads=1", "compile=false", "trainer.accelerator=cpu"),
    *("dynamics.max_epochs=2", "dynamics.hidden_sizes=[16,16]", "dynamics.weight_decay=[0,0,0]"),
    *(
        "dynamics.batch_size=32",
        "sac.hidden_sizes=[16,16]",
        "sac.updates_per_epoch=20",
        "sac.updates_per_step=4",
        "trainer.max_epochs=3",
    ),
    *("rollout.starts=50", "evaluation.episodes=3", "evaluation.final_episodes=3", "logger=none", "report=false"),
    *("checkpoint.every_minutes=0", "trainer.devices=2"),
]
SOON = 60
"""Seconds within which the fault of one process must have ended the run."""


def start(*arguments: str, point: str = "nowhere", occurrence: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(KILLED), point, str(occurrence), *arguments]
    return subprocess.run(command, env={**os.environ}, capture_output=True, text=True, timeout=300)


def resume(folder: Path) -> subprocess.CompletedProcess[str]:
    return start(f"resume={folder}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on two processes that met no fault."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = start(*ARGUMENTS, f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert "2 processes: an update takes 2 x 256 = 512 rows, a refresh 2 x 50 = 100 starts" in done.stdout
    assert done.stdout.count("run folder") == 1
    return folder


@pytest.fixture
def ends_like(whole: Path) -> Callable[[Path], None]:
    """Asserts that a resumed run came to the same bits, rows and scores."""

    def compare(folder: Path) -> None:
        done = resume(folder)
        assert done.returncode == 0, done.stderr
        for file in ("dynamics.safetensors", "policy/policy.safetensors"):
            ours, theirs = load_file(folder / file), load_file(whole / file)
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
        names = ("final_return", "last10_return", "updates")
        ours, theirs = (json.loads((run / "result.json").read_text()) for run in (folder, whole))
        assert [ours[name] for name in names] == [theirs[name] for name in names]

    return compare


@pytest.mark.parametrize(
    ("point", "occurrence"),
    [
        ("after an epoch's last batch", 2),
        pytest.param("checkpoint half written", 1, marks=pytest.mark.slow),
        pytest.param("before the checksum file is written", 4, marks=pytest.mark.slow),
        pytest.param("before a refresh is renamed", 2, marks=pytest.mark.slow),
        pytest.param("between the stages", 1, marks=pytest.mark.slow),
        pytest.param("after a row is written", 4, marks=pytest.mark.slow),
    ],
)
def test_a_run_on_two_processes_that_was_killed_ends_as_if_it_had_not_been(
    tmp_path: Path, ends_like: Callable[[Path], None], point: str, occurrence: int
) -> None:
    folder = tmp_path / "run"
    killed = start(*ARGUMENTS, f"run_dir={folder}", point=point, occurrence=occurrence)
    assert killed.returncode not in (0, 2), killed.stderr
    assert not (folder / "result.json").exists()
    ends_like(folder)


@pytest.mark.parametrize("fault", ["rank 1 is killed", "rank 1 raises"])
def test_a_fault_of_one_process_ends_the_run_soon_and_it_can_go_on(
    tmp_path: Path, ends_like: Callable[[Path], None], fault: str
) -> None:
    folder = tmp_path / "run"
    begin = time.monotonic()
    done = start(*ARGUMENTS, f"run_dir={folder}", point=fault, occurrence=8)
    assert done.returncode not in (0, 2)
    assert time.monotonic() - begin < SOON
    assert ("the disk of rank 1 is on fire" in done.stderr) == (fault == "rank 1 raises")
    assert max((folder / "checkpoints").glob("*.ckpt")).name == "policy-000000-000005.ckpt"
    ends_like(folder)


def test_a_signal_to_one_process_saves_the_run_and_ends_it(tmp_path: Path, ends_like: Callable[[Path], None]) -> None:
    folder = tmp_path / "run"
    done = start(*ARGUMENTS, f"run_dir={folder}", point="rank 1 is told that time is up", occurrence=8)
    assert done.returncode == 128 + signal.SIGUSR1, done.stderr
    assert f"stopped by SIGUSR1; saved. Continue with: python train.py resume={folder}" in done.stdout
    assert max((folder / "checkpoints").glob("*.ckpt")).name == "policy-000001-000003.ckpt"
    ends_like(folder)


def test_torchrun_makes_the_run_that_lightning_makes(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "mopo_pl", "train", *ARGUMENTS, f"run_dir={folder}"]
    done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for file in ("dynamics.safetensors", "policy/policy.safetensors"):
        ours, theirs = load_file(folder / file), load_file(whole / file)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_processes_that_torchrun_started_and_the_flags_do_not_mention_are_refused(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "mopo_pl", "train", *ARGUMENTS, "trainer.devices=1", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "torchrun started 2 processes, but trainer.devices=1" in done.stderr
    assert not (tmp_path / "run").exists()
