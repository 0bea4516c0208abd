"""Links, pipes and records in what a stranger sent do not lead outside, neither to read nor to write."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from mopo_pl.cli import main
from mopo_pl.config.schema import DataConfig
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.errors import InputError
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.files.metrics_file import MetricsFile
from mopo_pl.run.loggers import build_loggers
from mopo_pl.storage.atomic_write import atomic_write, sha256_of

# Run folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "checkpoints", "checkpoints/refreshes", "logs", "policy/policy.json", ".lock"]
)
def test_a_link_out_of_a_run_folder_is_not_followed(run: Path, tmp_path: Path, name: str) -> None:
    outside, link = tmp_path / "mine", run / name
    outside.mkdir()
    if link.is_dir():
        link.rmdir()
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    with pytest.raises(InputError) as error:
        RunFolder.reopen(run)
    assert error.value.problems == [f"{link} is a link to a place outside the run: replace it by what it points to"]


def test_links_within_a_run_folder_and_to_it_are_followed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(run)
    (run / "old").symlink_to("metrics.jsonl")
    cache = run / "logs/wandb/run-1/logs"
    cache.mkdir(parents=True)
    (cache / "debug-core.log").symlink_to(tmp_path)  # as wandb makes it
    assert RunFolder.reopen(tmp_path / "latest").path == run


def test_a_link_to_itself_is_as_if_it_were_not_there(run: Path) -> None:
    (run / "checkpoints/policy-000000-000001.json").symlink_to("policy-000000-000001.json")
    assert RunFolder.reopen(run).path == run


def test_a_pipe_in_a_run_folder_is_not_waited_for(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(InputError, match="is a pipe or a device, which no run writes: remove it"):
        RunFolder.reopen(run)
    assert sha256_of(run / "metrics.jsonl") is None


def test_a_link_at_the_temporary_path_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".config.yaml.part").symlink_to(tmp_path / "mine")
    with atomic_write(tmp_path / "config.yaml") as aside:
        aside.write_text("new")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "config.yaml").read_text() == "new"
    assert not (tmp_path / "config.yaml").is_symlink()


@pytest.mark.parametrize(
    "entry",
    [
        {"identity": {"save_dir": "ELSEWHERE"}, "held": 5},
        {"identity": {"id": ["a"]}, "held": 5},
        {"identity": {"id": "a"}, "held": "5"},
        {"identity": {}},
        {"identity": [], "held": 5},
        [],
        5,
    ],
)
def test_records_do_not_say_where_a_logger_writes(
    run: Path, tmp_path: Path, entry: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (run / "logs").mkdir()
    records = json.dumps({"policy": {"tensorboard": entry}}).replace("ELSEWHERE", str(elsewhere))
    (run / "logs/records.json").write_text(records)
    metrics = MetricsFile(run / "metrics.jsonl", stage="policy")
    build_loggers({"tensorboard": {}}, {}, RunFolder(run), metrics, dataset="a", group=None)[0].finalize("success")
    assert not elsewhere.exists()
    assert capsys.readouterr().out == (
        f"{run}/logs/records.json is damaged: loggers begin new records, and are told the rows so far\n"
    )


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"stage": "dynamics", "update": true}', '{"stage": "dynamics", "update": 3, "a": "b"}']
)
def test_rows_that_no_run_writes_are_left_out(run: Path, line: str) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f"\n{line}\n")
    metrics = MetricsFile(run / "metrics.jsonl", stage="dynamics")
    assert [row["update"] for row in metrics.rows()] == [5]
    metrics.forget_after(5)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_lost_metrics_file_is_said_to_be(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "metrics.jsonl").unlink()
    MetricsFile(run / "metrics.jsonl", stage="dynamics").forget_after(0)
    assert capsys.readouterr().out == ""
    MetricsFile(run / "metrics.jsonl", stage="dynamics").forget_after(5)
    assert capsys.readouterr().out == (
        f"{run}/metrics.jsonl is missing: the rows so far are lost, and the curve begins here\n"
    )


def test_a_run_that_is_sent_with_its_log_beside_it_is_not_resumed_through_links(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "config.yaml").write_text("logger: {}\ntermination: never\nstage: dynamics\ndata: {source: log.npz}\n")
    (tmp_path / "mine").write_text("mine\n")
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(tmp_path / "mine")
    rng = np.random.default_rng(0)
    rows = {"observations": rng.normal(size=(300, 3)), "actions": rng.uniform(-1, 1, (300, 1))}
    np.savez(
        tmp_path / "log.npz",
        allow_pickle=False,
        **rows,
        rewards=rows["observations"][:, 0],
        terminals=np.zeros(300),
        timeouts=np.arange(1, 301) % 50 == 0,
    )
    assert main([f"resume={run}", f"dataset={tmp_path / 'log.npz'}"]) == 2
    assert "metrics.jsonl is a link to a place outside the run" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "mine\n"


# Minari ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a dataset `test/a-v0` of two episodes, in a store of its own."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    box = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    made = [
        EpisodeBuffer(
            id=number,
            observations=[np.zeros(1, np.float32)] * 3,
            actions=[np.zeros(1, np.float32)] * 2,
            rewards=[0.0] * 2,
            terminations=[False] * 2,
            truncations=[False, True],
        )
        for number in range(2)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari wants an author of every dataset
        minari.create_dataset_from_buffers("test/a-v0", buffer=made, observation_space=box, action_space=box)
    return tmp_path / "store/test/a-v0/data"


def opened() -> int:
    return len(open_dataset(name="test/a-v0", data=DataConfig(), env_id=None, env_kwargs={}))


def external_link(file: h5py.File, other: Path) -> None:
    file["episode_1/observations"] = h5py.ExternalLink(str(other), "x")


def external_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("episode_1/observations", (3, 1), "f4", external=[("/etc/passwd", 0, 12)])


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((3, 1), "f4")
    layout[:] = h5py.VirtualSource(str(other), "x", (3, 1))
    file.create_virtual_dataset("episode_1/observations", layout)


@pytest.mark.parametrize("replace", [external_link, external_storage, virtual])
def test_minari_does_not_read_other_files(
    dataset: Path, tmp_path: Path, replace: Callable[[h5py.File, Path], None]
) -> None:
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["x"] = np.ones((3, 1), np.float32)
    assert opened() == 4
    with h5py.File(dataset / "main_data.hdf5", "a") as file:
        del file["episode_1/observations"]
        replace(file, tmp_path / "other.hdf5")
    with pytest.raises(InputError, match=r"episode_1/observations lies in another file"):
        opened()


def test_minari_does_not_take_memory_that_a_file_cannot_fill(dataset: Path) -> None:
    with h5py.File(dataset / "main_data.hdf5", "a") as file:
        del file["episode_1/observations"]
        file.create_dataset("episode_1/observations", (2_000_000_000, 1), "f4", chunks=True)
    with pytest.raises(InputError, match=r"declares arrays of 8\.0 GB in a file of"):
        opened()


def test_minari_does_not_wait_for_pipes(dataset: Path) -> None:
    (dataset / "main_data.hdf5").unlink()
    os.mkfifo(dataset / "main_data.hdf5")
    with pytest.raises(InputError, match="is a pipe, a device or a link to nothing"):
        opened()
