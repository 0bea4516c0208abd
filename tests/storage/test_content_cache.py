"""Arrays in the user's cache folder."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mopo_pl.storage import content_cache
from mopo_pl.storage.content_cache import cache_folder, load, store

TENSORS = {"rows": torch.arange(6.0).reshape(2, 3), "flags": torch.tensor([True, False]), "none": torch.zeros(0)}
VALUES: dict[str, Any] = {"name": "log", "names": [["a"], []], "limit": None}


def test_what_was_stored_is_loaded(tmp_path: Path) -> None:
    assert load(tmp_path, "key") is None
    store(tmp_path, "key", TENSORS, VALUES)
    found = load(tmp_path, "key")
    assert found is not None
    assert {name: tensor.tolist() for name, tensor in found[0].items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }
    assert found[0]["flags"].dtype == torch.bool
    assert found[1] == VALUES
    assert load(tmp_path, "other") is None


def test_each_byte_of_a_file_matters(tmp_path: Path) -> None:
    store(tmp_path, "key", TENSORS, VALUES)
    path = tmp_path / "key.safetensors"
    content = path.read_bytes()
    # The header ends in blanks, which mean nothing.
    for place in [*range(0, len(content), 13), len(content) - 1]:
        if content[place] == ord(" "):
            continue
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        found = load(tmp_path, "key")
        assert found is None or found[1] == VALUES, place
        assert found is None or found[0]["rows"].equal(TENSORS["rows"]), place
    path.write_bytes(content[:-1])
    assert load(tmp_path, "key") is None
    assert not path.exists()


def test_the_folder_is_bounded_and_what_was_used_last_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path, "0", TENSORS, VALUES)
    size = (tmp_path / "0.safetensors").stat().st_size
    monkeypatch.setattr(content_cache, "LIMIT", 3 * size)
    for number in range(1, 3):
        store(tmp_path, str(number), TENSORS, VALUES)
    for age, number in enumerate("210"):
        os.utime(tmp_path / f"{number}.safetensors", (1000 - age, 1000 - age))
    assert load(tmp_path, "0") is not None  # the oldest, which is now the newest
    store(tmp_path, "3", TENSORS, VALUES)
    assert {path.stem for path in tmp_path.iterdir()} == {"0", "2", "3"}
    monkeypatch.setattr(content_cache, "LIMIT", 10)
    store(tmp_path, "4", TENSORS, VALUES)
    assert not (tmp_path / "4.safetensors").exists()


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    for name, age in (("old", 4000), ("new", 100)):
        (tmp_path / f".part-{name}").write_bytes(b"part")
        os.utime(tmp_path / f".part-{name}", (0, time.time() - age))
    store(tmp_path, "key", TENSORS, VALUES)
    assert {path.name for path in tmp_path.iterdir()} == {".part-new", "key.safetensors"}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store(tmp_path / "file", "key", TENSORS, VALUES)
    assert load(tmp_path / "file", "key") is None


def test_the_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 2 * 26 - 1

    monkeypatch.setattr(content_cache.shutil, "disk_usage", lambda path: Usage)
    store(tmp_path, "key", TENSORS, VALUES)
    assert list(tmp_path.iterdir()) == []
    Usage.free += 1
    store(tmp_path, "key", TENSORS, VALUES)
    assert len(list(tmp_path.iterdir())) == 1


BOTH = """
import sys, torch
from pathlib import Path
from mopo_pl.storage.content_cache import load, store

def store_and_load(folder):
    tensors = {"rows": torch.ones(1000, 100)}
    for _ in range(40):
        store(folder, "key", tensors, {"i": 1})
        found = load(folder, "key")
        assert found is not None and found[0]["rows"].equal(tensors["rows"])

if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    store_and_load(Path(sys.argv[1]))
"""


def test_two_processes_may_store_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BOTH, str(tmp_path)]
    names: dict[str, Any] = {"__name__": "here"}
    exec(BOTH, names)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        names["store_and_load"](tmp_path)
    assert other.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["key.safetensors"]


@pytest.mark.parametrize("given", ["", "relative/cache"])
def test_the_folder_is_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache_folder("logs") == tmp_path / ".cache" / "mopo_pl" / "logs"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert cache_folder("logs") == Path("/var/cache/mopo_pl/logs")
