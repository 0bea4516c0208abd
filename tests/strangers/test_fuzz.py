"""A short run of `benchmarks/fuzz.py`, and what it found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mopo_pl.cli import main
from mopo_pl.config.compose import compose
from mopo_pl.config.schema import DataConfig
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.errors import InputError
from mopo_pl.storage.checkpoints import ChecksummedCheckpointIO

ROOT = Path(__file__).parents[2]


def fuzzed(folder: Path, inputs: int) -> tuple[int, str]:
    words = [
        sys.executable,
        str(ROOT / "benchmarks/fuzz.py"),
        "--inputs",
        str(inputs),
        "--folder",
        str(folder),
    ]
    ended = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert not ended.stderr, ended.stderr
    return ended.returncode, ended.stdout


def test_fuzzed_inputs_are_read_or_refused(tmp_path: Path) -> None:
    code, told = fuzzed(tmp_path, 100)
    assert code == 0, told
    assert told.endswith("0 of 100 inputs ended otherwise than read or refused\n")


def test_an_input_that_ends_otherwise_is_kept_and_a_crash_and_a_hang_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker's readers are replaced: by an error, the end of the process, and a wait."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "def replace():\n"
        "    import __main__ as fuzz\n"
        "    def fail(folder, words): raise KeyError('a')\n"
        "    def leave(folder, words): os._exit(9)\n"
        "    def wait(folder, words): time.sleep(100)\n"
        "    for kind, read in (('npz', fail), ('csv', leave), ('mapping', wait)):\n"
        "        fuzz.KINDS[kind] = (fuzz.KINDS[kind][0], read)\n"
        "    fuzz.make_base = lambda base: __import__('pathlib').Path(os.environ['BASE'])\n"
        "    fuzz.HANG = 3.0\n"
    )
    script = (
        (ROOT / "benchmarks/fuzz.py")
        .read_text()
        .replace("if __name__", "import sitecustomize\nsitecustomize.replace()\nif __name__")
    )
    (tmp_path / "fuzz.py").write_text(script)
    base = tmp_path / "base"
    base.mkdir()
    for name in ("log.npz", "packed.npz", "log.csv", "log.csv.gz", "plant.yaml"):
        (base / name).write_text("a: 1\n")
    (tmp_path / "kept/base/sweep").mkdir(parents=True)
    (tmp_path / "kept/base/sweep/sweep.json").touch()  # so that no worker is started for it
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "BASE": str(base)}
    words = [sys.executable, str(tmp_path / "fuzz.py"), "--inputs", "4", "--folder", str(tmp_path / "kept"), "--kinds"]
    for kind, outcome in (("npz", "KeyError"), ("csv", "crash 9"), ("mapping", "hang")):
        inputs = "1" if kind == "mapping" else "4"
        ended = subprocess.run([*words[:3], inputs, *words[4:], kind], capture_output=True, text=True, env=environment)
        assert ended.returncode == 1, ended.stderr
        assert f"{inputs} of {inputs} inputs ended otherwise" in ended.stdout
        assert ended.stdout.count(f"-{kind}  {outcome}") == int(inputs)
        assert (tmp_path / "kept" / f"bad-0-0-{kind}" / "SAID").read_text().startswith(outcome)


# What it found --------------------------------------------------------------------------------------------------------


def test_a_number_beyond_floats_is_wrong_input() -> None:
    with pytest.raises(InputError) as error:
        compose([f"rollout.real_ratio=1{'0' * 400}"])
    assert "int too large to convert to float" in error.value.problems[0]


@pytest.mark.parametrize("text", ['"["', "plant", "3", "'a: 1'"])
def test_a_mapping_that_is_a_text_is_not_parsed_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "plant.yaml").write_text(text)
    with pytest.raises(InputError, match="must be a map of keys"):
        compose([f"dataset={tmp_path / 'plant.yaml'}"])


def test_a_value_of_any_length_is_not_repeated_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"rollout.horizn=a{'2' * 9000}", "--print-config"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) == len("error: ") + 4000
    assert line.startswith("error: rollout.horizn=a222")
    assert line.endswith("2: there is no such key; did you mean rollout.horizon?")


def test_empty_lists_are_no_numbers(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"observation": [[1.0, 2.0]] * 9, "action": [[0.5]] * 9}
    empty = pa.array([[]] * 9, pa.list_(pa.float32()))
    parquet.write_table(pa.table({**columns, "reward": empty}), tmp_path / "log.parquet")
    with pytest.raises(InputError) as error:
        open_dataset(name=str(tmp_path / "log.parquet"), data=DataConfig(), env_id=None, env_kwargs={})
    assert error.value.problems == [f"{tmp_path}/log.parquet: column reward holds empty lists, not numbers"]


def test_a_checkpoint_of_another_content_ends_in_one_sentence(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checksum is right, as that of a stranger's would be."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    path = max((run / "checkpoints").glob("policy-*.ckpt"))
    for content in ({"epoch": 1}, {**torch.load(path, weights_only=True), "state_dict": {}}, [1]):
        ChecksummedCheckpointIO().save_checkpoint(content, path)  # type: ignore[arg-type]
        assert main([f"resume={run}", "trainer.max_epochs=2"]) == 2
        assert f"error: {path} cannot be continued from (" in capsys.readouterr().err
    path.unlink()
    assert main([f"resume={run}", "trainer.max_epochs=2"]) == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an epoch, with a checkpoint after it."""
    folder = tmp_path_factory.mktemp("finished")
    rng = np.random.default_rng(0)
    rows = {
        "observations": rng.normal(size=(200, 3)),
        "actions": rng.uniform(-1, 1, (200, 2)),
        "rewards": rng.normal(size=200),
    }
    rows |= {"terminals": np.zeros(200), "timeouts": np.arange(1, 201) % 50 == 0}
    np.savez(folder / "log.npz", allow_pickle=False, **rows)
    settings = [
        "preset=offline-sac",
        "termination=never",
        "logger=none",
        "trainer.max_epochs=1",
        "sac.updates_per_epoch=5",
    ]
    fixed = ["threads=1", "compile=false", "trainer.accelerator=cpu", "sac.hidden_sizes=[8]", "seeds=in_turn"]
    assert main([f"dataset={folder / 'log.npz'}", f"run_dir={folder / 'run'}", *settings, *fixed]) == 0
    return folder / "run"
