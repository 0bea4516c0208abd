"""A run that was killed by SIGKILL, at whatever point, ends in the same bits as one that was not."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from mopo_pl.cli import main
from mopo_pl.storage.checkpoints import CheckpointFiles

Rows = Callable[[Path], list[dict[str, Any]]]
Same = Callable[[Path, Path, str], bool]

KILLED = Path(__file__).with_name("killed.py")
OFTEN = ["checkpoint.every_minutes=0", "trainer.max_epochs=3", "logger=csv"]
"""Five checkpoints: two of the ensemble, three of the policy. The CSV logger, as by default."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Path:
    """The run that was never killed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*tiny, *OFTEN, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def kill(tmp_path: Path, tiny: list[str]) -> Callable[..., Path]:
    """A run that killed itself at a point's so-many-th occurrence."""

    def run(point: str, occurrence: int, **environment: str) -> Path:
        folder = tmp_path / "run"
        command = [sys.executable, str(KILLED), point, str(occurrence), *tiny, *OFTEN, f"run_dir={folder}"]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (folder / "result.json").exists()
        return folder

    return run


@pytest.fixture
def ends_like(whole: Path, rows: Rows, same_weights: Same) -> Callable[[Path], None]:
    """Asserts that a run came to the weights, optimisers, rows and scores of the run that was never killed."""

    def compare(folder: Path) -> None:
        assert same_weights(folder, whole, "dynamics.safetensors")
        assert same_weights(folder, whole, "policy/policy.safetensors")
        assert rows(folder) == rows(whole)
        for stage in ("dynamics", "policy"):
            logged = [(run / "logs/csv" / stage / "metrics.csv").read_text() for run in (folder, whole)]
            assert logged[0] == logged[1]
        names = ("final_return", "final_return_std", "last10_return", "updates")
        ours, theirs = (json.loads((run / "result.json").read_text()) for run in (folder, whole))
        assert [ours[name] for name in names] == [theirs[name] for name in names]
        for name in ("dynamics-000001-000005", "policy-000002-000020"):
            saved = [torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for run in (folder, whole)]
            for part in ("state_dict", "optimizer_states", "lr_schedulers"):
                torch.testing.assert_close(saved[0][part], saved[1][part], rtol=0, atol=0)
        assert not list(folder.rglob("*.part"))

    return compare


FEW = [
    ("checkpoint half written", 4),
    ("before a checkpoint is renamed", 2),
    ("before the checksum file is written", 5),
    ("after an epoch's last batch", 2),
    ("between the stages", 1),
]
MORE = [
    ("checkpoint half written", 1),
    ("checkpoint half written", 3),
    ("before a checkpoint is renamed", 4),
    ("before the checksum file is written", 1),
    ("before the checksum file is written", 3),
    ("after the checksum file is written", 1),
    ("after the checksum file is written", 4),
    ("before a refresh is renamed", 1),
    ("before a refresh is renamed", 3),
    ("before old checkpoints leave", 2),
    ("before old checkpoints leave", 5),
    ("after an epoch's last batch", 1),
    ("after an epoch's last batch", 3),
    ("before a row is written", 2),
    ("before a row is written", 4),
    ("after a row is written", 1),
    ("after a row is written", 4),
    ("before the ensemble is written", 1),
    ("between the ensemble's files", 1),
    ("before the policy is written", 1),
    ("before the result is written", 1),
]
POINTS = [*FEW, *(pytest.param(*point, marks=pytest.mark.slow) for point in MORE)]


@pytest.mark.parametrize(("point", "occurrence"), POINTS)
def test_a_run_killed_at_any_point_ends_as_if_it_had_not_been(
    kill: Callable[..., Path], ends_like: Callable[[Path], None], point: str, occurrence: int
) -> None:
    folder = kill(point, occurrence)
    assert main([f"resume={folder}"]) == 0
    ends_like(folder)


def test_no_half_file_stands_where_tmpdir_is_another_file_system(
    kill: Callable[..., Path], ends_like: Callable[[Path], None]
) -> None:
    elsewhere = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
    folder = kill("checkpoint half written", 4, TMPDIR=str(elsewhere))
    for path in (folder / "checkpoints").glob("*.ckpt"):
        torch.load(path, weights_only=True)
    assert main([f"resume={folder}"]) == 0
    ends_like(folder)


# Damage, without a kill


@pytest.fixture
def stopped(tmp_path: Path, tiny: list[str], stop_after: Callable[[int | None], int]) -> Path:
    """A run stopped in its last policy epoch, with the checkpoints of the two epochs before it: one is the best."""
    folder = tmp_path / "run"
    stop_after(10 + 45)
    with patch("mopo_pl.storage.checkpoints.KEEP", 3):
        assert main([*tiny, *OFTEN, f"run_dir={folder}"]) == 130
    stop_after(None)
    return folder


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("policy-*.ckpt"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [truncate, flip, lambda path: path.write_bytes(b"")], ids=["cut", "flipped", "empty"]
)
def test_where_the_newest_checkpoint_is_damaged_the_one_before_it_is_taken(
    stopped: Path, ends_like: Callable[[Path], None], capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    damaged = newest(stopped)
    damage(damaged)
    assert main([f"resume={stopped}"]) == 0
    assert f"{damaged} is damaged or incomplete; the checkpoint before it is used" in capsys.readouterr().out
    ends_like(stopped)


def test_where_a_refresh_is_damaged_an_older_checkpoint_that_does_not_need_it_is_taken(
    stopped: Path, ends_like: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    flip(max((stopped / "checkpoints/refreshes").glob("*.rows")))
    assert main([f"resume={stopped}"]) == 0
    assert "is damaged or incomplete" in capsys.readouterr().out
    ends_like(stopped)
    # The refresh was imagined again, and its file written again.
    files = CheckpointFiles(stopped / "checkpoints", "policy")
    assert files.newest_valid() == files.path(2, 20)


def test_what_is_damaged_does_not_stand_in_the_way_of_new_checkpoints(
    stopped: Path, stop_after: Callable[[int | None], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two files of later epochs are torn: the next one saved is of an earlier epoch, and must stay."""
    files = CheckpointFiles(stopped / "checkpoints", "policy")
    good, torn = files.path(0, 20), [files.path(1, 20), newest(stopped)]
    assert good in files.all()
    for path in torn:
        truncate(path)
    stop_after(3)
    assert main([f"resume={stopped}"]) == 130
    stop_after(None)
    assert files.all() == [good, files.path(1, 3)]
    assert files.newest_valid() == files.path(1, 3)


def test_saving_one_stage_leaves_the_refreshes_that_the_other_names(stopped: Path) -> None:
    before = sorted((stopped / "checkpoints/refreshes").iterdir())
    assert before
    CheckpointFiles(stopped / "checkpoints", "dynamics").prune()
    assert sorted((stopped / "checkpoints/refreshes").iterdir()) == before


def test_where_every_checkpoint_is_damaged_the_stage_starts_from_its_beginning(
    stopped: Path, ends_like: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (stopped / "checkpoints").glob("policy-*.ckpt"):
        truncate(path)
    assert main([f"resume={stopped}"]) == 0
    assert "policy: there is no checkpoint, so that it starts from its beginning" in capsys.readouterr().out
    ends_like(stopped)
