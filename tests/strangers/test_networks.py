"""Policies, ensembles, learned rules and checkpoints are validated before they are used, and before memory is taken."""

import json
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mopo_pl.dynamics.model import load_model
from mopo_pl.dynamics.terminals.rule import load_rule, rule_facts
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy
from mopo_pl.storage.checkpoints import CheckpointFiles, ChecksummedCheckpointIO

FILES = {
    "policy": ("policy/policy.json", "actor"),
    "dynamics": ("dynamics.json", "shape"),
    "termination": ("termination.json", "shape"),
}
LOADERS: dict[str, Callable[[Path], Any]] = {"policy": Policy.load, "dynamics": load_model, "termination": load_rule}
DEEP = "deep"
"""Stands for JSON of too many levels."""


def refused(kind: str, run: Path) -> str:
    with pytest.raises(InputError) as error:
        LOADERS[kind](run)
    assert len(error.value.problems) == 1
    assert str(run) in str(error.value)
    return str(error.value)


def change(path: Path, keys: str, value: Any) -> None:
    """Set a key of a JSON file, `a.b` inside a map."""
    content = json.loads(path.read_text())
    place = content
    *outer, last = keys.split(".")
    for key in outer:
        place = place[key]
    place[last] = value
    path.write_text(json.dumps(content))


def test_what_was_not_changed_is_read(run: Path) -> None:
    assert [load(run) is not None for load in LOADERS.values()] == [True] * 3
    assert rule_facts(run)["threshold"] == 0.6


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_sizes", [60_000, 60_000]),
        ("hidden_sizes", [10**12]),
        ("hidden_sizes", [4.0]),
        ("hidden_sizes", [-4]),
        ("hidden_sizes", [True]),
        ("hidden_sizes", "4"),
        ("hidden_sizes", None),
        ("obs_dim", 10**9),
        ("obs_dim", "3"),
        ("obs_dim", 0),
        ("action_dim", 2),
        ("action_dim", -1),
        ("action_dim", [1]),
    ],
)
def test_a_shape_that_the_weights_are_not_of_is_refused_before_memory_is_taken(
    run: Path, kind: str, key: str, value: Any
) -> None:
    file, part = FILES[kind]
    change(run / file, f"{part}.{key}", value)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "holds a damaged" in refused(kind, run)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.mark.parametrize(
    "elites", [[], [99], [3], [-1], [0.5], [True], [0, 0], ["0"], 0, {"0": 1}, None, [[0]], [10**30]]
)
def test_elites_that_are_no_different_members_are_refused(run: Path, elites: Any) -> None:
    change(run / "dynamics.json", "elites", elites)
    assert "are not numbers of different members, 0 to 2" in refused("dynamics", run)


@pytest.mark.parametrize(
    ("kind", "key", "value", "said"),
    [
        ("policy", "action_low", [2.0], "a lower bound of its actions is not below the higher one"),
        ("policy", "action_low", [float("nan")], "not finite"),
        ("policy", "action_high", [float("inf")], "not finite"),
        ("policy", "action_high", [1e39], "not finite"),
        ("policy", "action_high", [1.0, 2.0], "not one for each"),
        ("policy", "action_high", "2", ""),
        ("policy", "history", 0, "whole numbers from 1 on"),
        ("policy", "history", 3, "no window of 3 observations"),
        ("policy", "history", 1.5, "whole numbers"),
        ("policy", "format", "1", ""),
        ("policy", "env_id", 5, "env_id must be a text or null"),
        ("policy", "dataset", "pendulum", "dataset must be an object"),
        ("policy", "env_kwargs", [1], "env_kwargs an object"),
        ("policy", "actor.log_std_min", None, ""),
        ("policy", "actor.class", 5, ""),
        ("dynamics", "hash", "0" * 64, "the hash differs"),
        ("dynamics", "hash", None, "the hash differs"),
        ("dynamics", "shape.members", 2, "damaged"),
        ("dynamics", "shape.members", 10**9, "it describes"),
        ("dynamics", "shape.newest_dim", 7, "damaged"),
        ("dynamics", "shape.more", 7, "damaged"),
        ("termination", "hash", "0" * 64, "the hash differs"),
        ("termination", "shape.share", 0.0, "no share of terminal rows"),
        ("termination", "shape.share", 1.5, "no share of terminal rows"),
        ("termination", "shape.share", "0.5", "damaged"),
    ],
)
def test_values_that_no_training_writes_are_refused(run: Path, kind: str, key: str, value: Any, said: str) -> None:
    change(run / FILES[kind][0], key, value)
    assert said in refused(kind, run)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", LOADERS)
def test_weights_that_are_not_finite_are_refused(run: Path, kind: str, value: float) -> None:
    path = run / ("policy/policy.safetensors" if kind == "policy" else f"{kind}.safetensors")
    weights = load_file(path)
    weights["layers.0.bias" if kind != "termination" else "classifier.layers.0.bias"].view(-1)[0] = value
    save_file(weights, path)
    assert "layers.0.bias is not finite: it holds NaN or inf" in refused(kind, run)


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("text", ["", "[]", "null", "{", DEEP, "\udcff", '{"a": ' + "9" * 5000 + "}"])
def test_descriptions_that_are_none_end_in_one_sentence(run: Path, kind: str, text: str) -> None:
    content = "[" * 100_000 if text == DEEP else text
    (run / FILES[kind][0]).write_text(content, errors="surrogateescape")
    assert "holds a damaged" in refused(kind, run)


@pytest.mark.parametrize("kind", LOADERS)
def test_pipes_are_not_waited_for(run: Path, kind: str) -> None:
    for suffix in ("json", "safetensors"):
        path = (run / FILES[kind][0]).with_suffix(f".{suffix}")
        path.unlink()
        os.mkfifo(path)
        assert "is no regular file" in refused(kind, run)
        path.unlink()
        path.symlink_to("/dev/zero")
        assert "is no regular file" in refused(kind, run)


@pytest.mark.parametrize(
    ("key", "value"), [("threshold", "0.5"), ("holdout", None), ("holdout.auc", "1"), ("seconds", [1])]
)
def test_figures_of_a_rule_that_are_none_are_refused(run: Path, key: str, value: Any) -> None:
    change(run / "termination.json", key, value)
    with pytest.raises(InputError, match="holds a damaged learned rule"):
        rule_facts(run)


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_that_unpacks_to_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy-000001-000001.ckpt"
    torch.save({"weights": torch.zeros(1_000_000)}, path)
    with zipfile.ZipFile(path) as plain:
        members = {entry.filename: plain.read(entry) for entry in plain.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    with pytest.raises(InputError, match="declares more than it holds"):
        ChecksummedCheckpointIO().load_checkpoint(path)


def test_a_checkpoint_of_the_writer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy-000001-000001.ckpt"
    ChecksummedCheckpointIO().save_checkpoint({"weights": torch.zeros(1000)}, path)
    assert ChecksummedCheckpointIO().load_checkpoint(path)["weights"].shape == (1000,)


def checkpoints(folder: Path, *numbers: tuple[int, int]) -> CheckpointFiles:
    files = CheckpointFiles(folder / "checkpoints", "policy")
    for epoch, batch in numbers:
        ChecksummedCheckpointIO().save_checkpoint({"epoch": epoch}, files.path(epoch, batch))
    return files


def test_checkpoints_are_ordered_by_number(run: Path) -> None:
    files = checkpoints(run, (999_999, 5), (1_000_000, 1), (1_000_000, 10))
    files.prune()
    newest = files.path(1_000_000, 10)
    assert files.newest_valid() == newest
    assert files.all() == [files.path(1_000_000, 1), newest]
    assert files.epochs_begun() == 1_000_001


def test_files_that_are_not_the_runs_are_left_alone(run: Path) -> None:
    files = checkpoints(run, (1, 5), (2, 5), (3, 5))
    mine = [files.folder / name for name in ("policy-mine.ckpt", "policy-best.ckpt", "policy-1-1.ckpt", ".mine.part")]
    for path in mine[:3]:
        path.write_text("mine")
    mine.append(files.path(0, 5))  # named as a checkpoint, and a folder
    (mine[4].with_suffix(".json")).mkdir()
    for folder in (*mine[3:], files.folder / "refreshes/mine.rows", files.folder / "refreshes/.a.part"):
        folder.mkdir(parents=True)
    files.drop_after(files.path(2, 5))
    files.prune()
    assert files.all() == [files.path(1, 5), files.path(2, 5)]
    assert all(path.exists() for path in mine)
    assert files.epochs_begun() == 3


@pytest.mark.parametrize(
    "checksums",
    [
        {"sha256": 5, "refreshes": {}},
        {"sha256": "0", "refreshes": []},
        {"sha256": "0", "refreshes": {"a": 1}},
        {"sha256": "0", "refreshes": {}, "score": "9"},
        [],
    ],
)
def test_checksums_of_another_type_are_damaged(run: Path, checksums: Any, capsys: pytest.CaptureFixture[str]) -> None:
    files = checkpoints(run, (1, 5), (2, 5))
    files.path(2, 5).with_suffix(".json").write_text(json.dumps(checksums))
    assert files.newest_valid() == files.path(1, 5)
    assert capsys.readouterr().out == (
        f"{files.path(2, 5)} is damaged or incomplete; the checkpoint before it is used\n"
    )
    files.prune()


def test_checksums_name_no_refresh_outside_the_folder(run: Path, tmp_path: Path) -> None:
    files = checkpoints(run, (1, 5))
    other = tmp_path / "other.rows"
    other.write_bytes(b"")
    path = files.path(1, 5).with_suffix(".json")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    change(path, "refreshes", {str(other): empty, "../../../other.rows": empty})
    assert files.newest_valid() is None
