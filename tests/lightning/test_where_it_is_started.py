"""Runs that are started from a notebook, a thread, SLURM's shell, or another folder."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny import TINY

from mopo_pl.cli import main

ROOT = Path(__file__).parents[2]

OWN_PARTS = """
import torch
import lightning as L


def rule(observations, actions, next_observations):
    return torch.zeros(len(observations), dtype=torch.bool)


def u(mean, std):
    return std.amax((0, 2))


class Told(L.Callback):
    def on_fit_end(self, trainer, pl_module):
        print(f"told of {type(pl_module).__name__}")
"""


def started(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1"}
    if command[0] == "-c" or command[0] == "-m":
        environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=folder, env=environment, timeout=300
    )


def test_several_devices_in_a_notebook_are_refused(tmp_path: Path) -> None:
    """IPython sets `sys.ps1`, by which Lightning knows a notebook and forks."""
    arguments = [*TINY, "trainer.devices=2", f"run_dir={tmp_path / 'run'}"]
    program = f"import sys; sys.ps1 = '>>> '; from mopo_pl.cli import main; raise SystemExit(main({arguments}))"
    done = started(tmp_path, "-c", program)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "trainer.devices=2" in line
    assert "notebook" in line
    assert "python train.py" in line
    assert not (tmp_path / "run").exists()


def test_one_device_in_a_notebook_trains(tmp_path: Path) -> None:
    arguments = [*TINY, f"run_dir={tmp_path / 'run'}"]
    program = f"import sys; sys.ps1 = '>>> '; from mopo_pl.cli import main; raise SystemExit(main({arguments}))"
    assert started(tmp_path, "-c", program).returncode == 0
    assert json.loads((tmp_path / "run/result.json").read_text())["updates"] == 40


@pytest.mark.parametrize("more", [(), ("seed=[3,4]", "seeds=side_by_side"), ("seed=[3,4]", "seeds=in_turn")])
def test_a_run_in_a_thread_ends_cleanly(tmp_path: Path, more: tuple[str, ...]) -> None:
    """Signals can be set in the main thread alone."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    codes: list[int] = []
    arguments = [*TINY, "preset=offline-sac", *more, f"run_dir={tmp_path / 'run'}"]
    thread = threading.Thread(target=lambda: codes.append(main(arguments)))
    thread.start()
    thread.join()
    assert codes == [0]
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
    assert len(list(tmp_path.glob("run*/result.json"))) == (2 if more else 1)


@pytest.mark.parametrize("name", ["bash", "interactive"])
def test_in_slurms_interactive_mode_plain_python_is_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """`salloc -n 2`, then `python train.py`: the allocation has two tasks, of which none was started."""
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", name)
    assert main([*TINY, "preset=offline-sac", f"run_dir={tmp_path / 'run'}"]) == 0


def test_processes_that_srun_starts_in_an_interactive_job_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning would take each for a run of its own."""
    for variable, value in {"NTASKS": "2", "JOB_NAME": "interactive", "STEP_NUM_TASKS": "2", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{variable}", value)
    assert main([*TINY, "preset=offline-sac", f"run_dir={tmp_path / 'run'}"]) == 2
    assert "SLURM_JOB_NAME" in capsys.readouterr().err


def test_processes_of_another_number_are_still_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in {"NTASKS": "2", "NTASKS_PER_NODE": "1", "JOB_NAME": "training", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{variable}", value)
    monkeypatch.setenv("SLURM_LOCALID", "0")
    assert main([*TINY, "preset=offline-sac", f"run_dir={tmp_path / 'run'}"]) == 2
    assert "SLURM started 2 processes" in capsys.readouterr().err


SCRIPT, TWO = (str(ROOT / "train.py"),), ("seed=[3,4]", "seeds=side_by_side")


@pytest.mark.parametrize(
    ("command", "more"),
    [(SCRIPT, ()), (("-m", "mopo_pl", "train"), ()), (SCRIPT, TWO)],
    ids=["script", "module", "two seeds"],
)
def test_parts_of_the_users_own_are_found_where_the_command_was_started(
    tmp_path: Path, command: tuple[str, ...], more: tuple[str, ...]
) -> None:
    (tmp_path / "mine.py").write_text(OWN_PARTS)
    done = started(
        tmp_path, *command, *TINY, *more, "termination=mine:rule", "penalty.name=mine:u", "trainer.max_epochs=1",
        "run_dir=run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("run*/result.json"))) == (2 if more else 1)


def test_a_file_beside_the_command_hides_no_module_of_pythons_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_PARTS)
    (tmp_path / "copy.py").write_text("raise SystemExit('the wrong copy')")
    (tmp_path / "colorsys.py").write_text("raise SystemExit('the wrong colorsys')")
    done = started(tmp_path, str(ROOT / "train.py"), *TINY, "termination=mine:rule", "--dry-run")
    assert done.returncode == 0, done.stderr
