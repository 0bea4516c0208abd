"""What Lightning says, and callbacks are shown, on two processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder, and standard error."""
    folder = tmp_path_factory.mktemp("two")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def test_lightning_recommends_no_sums_that_are_made_already(ran: tuple[Path, str]) -> None:
    assert ran[1].count("sync_dist") == 0


@pytest.mark.parametrize(("stage", "values"), [("dynamics", 7), ("policy", 7), ("cloning", 1)])
def test_callbacks_of_both_processes_are_shown_the_same_values(ran: tuple[Path, str], stage: str, values: int) -> None:
    first, second = (torch.load(ran[0] / f"{stage}-{rank}.pt") for rank in (0, 1))
    assert first == second
    assert len(first) >= values
