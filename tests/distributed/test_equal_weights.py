"""Two processes compute what one computes on all their rows."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

PAIR = Path(__file__).with_name("pair.py")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PAIR), str(folder), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each rank of a run came to, by `world-rank`."""
    folder = tmp_path_factory.mktemp("ranks")
    for arguments in (("1",), ("2",), ("2", "mutant")):
        done = run(folder, *arguments)
        assert done.returncode == 0, done.stderr
    return {path.stem: torch.load(path) for path in folder.iterdir()}


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference of any weight."""
    return max(float((first[name] - second[name]).abs().max()) for name in first if first[name].is_floating_point())


@pytest.mark.parametrize("stage", ["sac", "cloning", "dynamics"])
def test_two_processes_come_to_the_weights_of_one_on_all_rows(left: dict[str, Any], stage: str) -> None:
    assert distance(left["1-0"][stage], left["2-0"][stage]) < 1e-12


@pytest.mark.parametrize("stage", ["sac", "cloning", "dynamics"])
def test_both_processes_hold_the_same_bits(left: dict[str, Any], stage: str) -> None:
    first, second = left["2-0"][stage], left["2-1"][stage]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_members_stop_and_are_chosen_alike(left: dict[str, Any]) -> None:
    one, first, second = (left[name] for name in ("1-0", "2-0", "2-1"))
    assert one["epochs"] == first["epochs"] == second["epochs"]
    assert torch.equal(first["best"], second["best"])
    assert torch.allclose(one["best"], first["best"], rtol=1e-12)
    assert torch.equal(one["dynamics"]["elites"], first["dynamics"]["elites"])


def test_the_weights_moved(left: dict[str, Any]) -> None:
    """Fifty updates that change nothing would be equal as well."""
    assert distance(left["2-0"]["sac"], left["2-0-mutant"]["sac"]) > 1e-6


@pytest.mark.parametrize("stage", ["sac", "cloning"])
def test_gradients_that_are_not_averaged_let_the_processes_drift_apart(left: dict[str, Any], stage: str) -> None:
    assert distance(left["2-0-mutant"][stage], left["2-1-mutant"][stage]) > 1e-3
    assert distance(left["1-0"][stage], left["2-0-mutant"][stage]) > 1e-3


@pytest.mark.parametrize(
    ("which", "names"),
    [((), "actor, average_actor, critic, log_alpha, target_critic"), (("temperature",), "log_alpha")],
)
def test_weights_that_drift_apart_end_the_run(tmp_path: Path, which: tuple[str, ...], names: str) -> None:
    done = run(tmp_path, "2", "mutant", "watched", *which)
    assert done.returncode != 0
    said = re.findall(r"processes of the run differ at update 50 in ([\w, ]+);", done.stderr)
    assert set(said) == {names}
    assert not list(tmp_path.iterdir())
