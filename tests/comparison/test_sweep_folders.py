"""Folders of sweeps in which something stands in the way, or that come from someone else."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mopo_pl.__main__ import main
from mopo_pl.errors import InputError
from mopo_pl.sweep import manifest

GRID = ["sweep", "dataset=pendulum", "data.collect_steps=400", "threads=1", "penalty.coef=0,1", "--folder", "F"]
SEARCH = ["sweep", "dataset=pendulum", "data.collect_steps=400", "threads=1", "penalty.coef=0.1..10", "--folder", "F"]
MANIFEST: dict[str, Any] = {
    "command": "python -m mopo_pl sweep",
    "settings": {"seed": ["0", "1"]},
    "search": None,
    "runs": ["s0", "s1"],
    "ensembles": {},
}
Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each test works; no run is ever started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mopo_pl.sweep.jobs.start_training", None)
    return tmp_path


def everything(folder: Path) -> dict[str, str | None]:
    return {str(path): path.read_text() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("name", ["output", "ensembles", "ensembles/s0", "coef-1_s0"])
@pytest.mark.parametrize("kind", ["file", "pipe", "link"])
def test_what_stands_where_a_folder_goes_is_told_before_anything_is_written(
    here: Path, capsys: Printed, name: str, kind: str
) -> None:
    place = Path("F") / name
    place.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to(here)
    else:
        place.write_text("mine")
    before = everything(Path("F"))
    assert main(GRID) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {place} stands where the sweep writes a folder: move it away, or give another --folder"
    assert everything(Path("F")) == before


@pytest.mark.parametrize("kind", [os.mkdir, os.mkfifo])
def test_what_stands_where_a_file_goes_is_told(capsys: Printed, kind: Any) -> None:
    Path("F/output").mkdir(parents=True)
    kind("F/output/coef-1_s0.txt")
    assert main(GRID) == 2
    assert "error: F/output/coef-1_s0.txt is no file, and the sweep writes there" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["output", "ensembles", "trials"])
def test_so_is_what_stands_in_the_way_of_a_search(capsys: Printed, name: str) -> None:
    Path("F").mkdir()
    (Path("F") / name).write_text("mine")
    assert main([*SEARCH, "--search", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: F/{name} stands where the sweep writes a folder: move it away, or give another --folder"
    assert [path.name for path in Path("F").iterdir()] == [name]


@pytest.mark.parametrize("storage", ["sqlite:///nowhere/a.db", "mysql://", "journal:nowhere/a", "journal:/dev/null/a"])
def test_a_storage_that_cannot_be_opened_leaves_nothing_behind(capsys: Printed, storage: str) -> None:
    assert main([*SEARCH, "--search", "2", f"storage={storage}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: storage={storage} cannot be opened: ")
    assert not Path("F").exists()


def test_a_sweep_that_has_begun_keeps_its_manifest(capsys: Printed) -> None:
    """A storage that is away for a while is no reason to forget what was searched."""
    words = [*SEARCH, "--search", "2", "storage=sqlite:///nowhere/a.db"]
    content = {**MANIFEST, "runs": [], "settings": {}, "search": {"objective": "return", "storage": words[-1][8:]}}
    for setting in [word for word in words if "=" in word]:
        key, _, text = setting.partition("=")
        content["settings"][key] = [text]
    Path("F").mkdir()
    Path("F/sweep.json").write_text(json.dumps(content))
    assert main(words) == 2
    assert "cannot be opened" in capsys.readouterr().err
    assert json.loads(Path("F/sweep.json").read_text()) == content


# sweep.json


def test_what_a_sweep_writes_is_read_back() -> None:
    Path("sweep.json").write_text(json.dumps({**MANIFEST, "created": "now"}))
    assert manifest.read(Path()) == manifest.Manifest(**MANIFEST)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("command", value) for value in (None, 1, [])),
        *(("settings", value) for value in (None, [], "a", {"seed": 1}, {"seed": "0"}, {"seed": [0]})),
        *(("search", value) for value in (1, [], "return", {"objective": None})),
        *(("runs", value) for value in (None, "s0", {"s0": 1}, [0], [None], 3)),
        *(("ensembles", value) for value in (None, [], {"a": 1})),
    ],
)
def test_a_value_of_another_type_is_damage(key: str, value: Any) -> None:
    Path("sweep.json").write_text(json.dumps({**MANIFEST, key: value}))
    with pytest.raises(InputError) as error:
        manifest.read(Path())
    assert error.value.problems == ["sweep.json is damaged: restore it, or begin the sweep in another --folder"]


@pytest.mark.parametrize("content", ["", "[]", "null", "3", '"a"', "{}", "[" * 5000, "\0"])
def test_what_is_no_manifest_is_damage(capsys: Printed, content: str) -> None:
    Path("F").mkdir()
    Path("F/sweep.json").write_text(content)
    for words in (["compare", "F"], GRID, [*SEARCH, "--search", "1"]):
        assert main(words) == 2
        assert capsys.readouterr().err == (
            "error: F/sweep.json is damaged: restore it, or begin the sweep in another --folder\n"
        )


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_manifest_that_is_no_file_is_damage(make: Any) -> None:
    make("sweep.json")
    with pytest.raises(InputError, match=r"sweep\.json is damaged"):
        manifest.read(Path())


@pytest.mark.parametrize(
    "name", ["../other", "/etc", "a/../../b", "", ".", "link", "link/a", "loop", "x" * 256, "a/" * 2500]
)
def test_a_run_outside_the_folder_is_refused(here: Path, name: str) -> None:
    folder = here / "F"
    folder.mkdir()
    (folder / "link").symlink_to(here)
    (folder / "loop").symlink_to("loop")
    (folder / "sweep.json").write_text(json.dumps({**MANIFEST, "runs": ["s0", name]}))
    with pytest.raises(InputError) as error:
        manifest.read(folder)
    assert error.value.problems == [
        f"{folder}/sweep.json names the run {name[:255]!r}, which does not lie in its folder: remove it there"
    ]
