"""LeRobot's folders, written here as its versions 2.1 and 3 write them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mopo_pl.config.schema import ColumnsConfig, DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.errors import InputError

Open = Callable[..., OfflineDataset]
Same = Callable[[OfflineDataset, OfflineDataset], None]
Arrays = dict[str, Any]
Folder = Callable[..., Path]
ENDS = [12, 20, 25, 37]
"""Row after the last of each episode; the second and the last end with success."""


@pytest.fixture
def rows() -> Arrays:
    rng = np.random.default_rng(1)
    ends = np.isin(np.arange(1, 38), ENDS)
    success = np.isin(np.arange(1, 38), [20, 37])
    return {
        "state": rng.normal(size=(37, 2)).astype(np.float32),
        "extra": rng.normal(size=(37, 1)).astype(np.float32),
        "action": rng.uniform(-1, 1, (37, 2)).astype(np.float32),
        "reward": rng.normal(size=37).astype(np.float32),
        "done": ends,
        "success": success,
        "episode": np.cumsum(ends) - ends,
        "frame": np.concatenate([np.arange(length) for length in np.diff([0, *ENDS])]),
    }


@pytest.fixture
def as_arrays(open_log: Open, rows: Arrays) -> OfflineDataset:
    """The same rows as plain arrays: the success is terminal, the rest is cut."""
    return open_log(
        {
            "obs": np.concatenate([rows["state"], rows["extra"]], 1),
            "action": rows["action"],
            "reward": rows["reward"],
            "done": rows["success"],
            "timeout": rows["done"] & ~rows["success"],
        }
    )


@pytest.fixture
def folder(tmp_path: Path, rows: Arrays) -> Folder:
    """Writes the folder; further keywords replace columns, None leaves one out."""

    def written(version: str = "v3.0", **replaced: Any) -> Path:
        root = tmp_path / f"robot-{version}"
        fixed = pa.list_(pa.float32(), 2)
        columns = {
            "observation.state": pa.array(rows["state"].tolist(), fixed),
            "observation.environment_state": rows["extra"][:, 0],
            "action": pa.array(rows["action"].tolist(), pa.list_(pa.float32())),
            "next.reward": rows["reward"],
            "next.done": rows["done"],
            "next.success": rows["success"],
            "episode_index": rows["episode"],
            "frame_index": rows["frame"],
            "timestamp": (rows["frame"] / 10).astype(np.float32),
            "index": np.arange(37),
            "task_index": np.zeros(37, int),
            **replaced,
        }
        table = pa.table({key: column for key, column in columns.items() if column is not None})
        features: dict[str, Any] = {
            key: {"dtype": "float32", "shape": [1], "names": None} for key in table.column_names
        }
        features["observation.state"] |= {"shape": [2], "names": {"motors": ["shoulder", "elbow"]}}
        features["action"] |= {"shape": [2], "names": ["shoulder", "elbow"]}
        features["observation.images.top"] = {
            "dtype": "video",
            "shape": [64, 64, 3],
            "names": ["height", "width", "channels"],
        }
        info = {"codebase_version": version, "fps": 10, "total_frames": 37, "features": features}
        write(root / "meta" / "info.json", info)
        if version == "v3.0":
            # As in a folder of many files: the second file goes on within the third episode.
            for number, (start, end) in enumerate([(0, 22), (22, 37)]):
                file = root / "data" / "chunk-000" / f"file-{number:03d}.parquet"
                file.parent.mkdir(parents=True, exist_ok=True)
                parquet.write_table(table.slice(start, end - start), file)
        else:
            for number, (start, end) in enumerate(zip([0, *ENDS], ENDS, strict=False)):
                file = root / "data" / f"chunk-{number // 3:03d}" / f"episode_{number:06d}.parquet"
                file.parent.mkdir(parents=True, exist_ok=True)
                parquet.write_table(table.slice(start, end - start), file)
        parquet.write_table(pa.table({"task": ["lift"]}), root / "meta" / "tasks.parquet")
        return root

    return written


def write(path: Path, info: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(info))


def opened(root: Path, **columns: Any) -> OfflineDataset:
    data = DataConfig(columns=ColumnsConfig(**columns))
    return open_dataset(name=str(root), data=data, env_id=None, env_kwargs={})


def warnings_of(log: OfflineDataset) -> list[str]:
    return [finding.text for finding in log.findings if finding.name in ("reading", "unused-arrays") and finding.text]


def refused(root: Path, *parts: str, **columns: Any) -> None:
    with pytest.raises(InputError) as error:
        opened(root, **columns)
    for part in (str(root), *parts):
        assert part in str(error.value)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_folder_is_the_arrays_it_holds(folder: Folder, as_arrays: OfflineDataset, same: Same, version: str) -> None:
    log = opened(folder(version))
    same(log, as_arrays)
    assert log.names.observations == (
        *("observation.state.shoulder", "observation.state.elbow"),
        "observation.environment_state",
    )
    assert log.names.actions == ("action.shoulder", "action.elbow")
    assert warnings_of(log) == [
        "not used: task_index [37]",
        "2 of 4 episodes are done without success: they are taken as cut by a time limit; data.columns.terminal=next.done "
        "makes them terminal",
        "observation.images.top: pictures are not read, and the policy will not see them",
    ]


def test_the_users_mapping_goes_before(folder: Folder, rows: Arrays) -> None:
    log = opened(folder(), terminal="next.done", reward="next.success", observation="observation.state")
    assert log.transitions.terminals.tolist() == rows["done"].tolist()
    assert log.transitions.rewards.tolist() == rows["success"].tolist()
    assert log.transitions.observations.tolist() == rows["state"].tolist()
    assert "not used: observation.environment_state [37], next.reward [37], task_index [37]" in warnings_of(log)


def test_done_alone_is_terminal(folder: Folder, rows: Arrays) -> None:
    log = opened(folder(**{"next.success": None}))
    assert log.transitions.terminals.tolist() == rows["done"].tolist()


def test_true_flags_go_before_done(folder: Folder, as_arrays: OfflineDataset, rows: Arrays, same: Same) -> None:
    flags = {"next.terminated": rows["success"], "next.truncated": rows["done"] & ~rows["success"]}
    log = opened(folder(**flags))
    same(log, as_arrays)
    assert "not used: next.done [37], next.success [37], task_index [37]" in warnings_of(log)


def test_frames_that_were_removed_end_the_episode(folder: Folder) -> None:
    root = folder()
    file = root / "data" / "chunk-000" / "file-000.parquet"
    table = parquet.read_table(file)
    parquet.write_table(table.filter(pa.array(np.arange(22) != 5)), file)
    log = opened(root)
    assert log.episode_ends.tolist() == [5, 11, 19, 24, 36]
    assert "frame_index skips after 1 row, the first is row 4; episodes are taken to end there" in warnings_of(log)


def test_files_that_are_missing_are_noticed(folder: Folder) -> None:
    root = folder("v2.1")
    (root / "data" / "chunk-000" / "episode_000001.parquet").unlink()
    says = "meta/info.json counts 37 frames, and the files hold 29: are all of them here?"
    assert says in warnings_of(opened(root))


def test_pictures_alone_are_refused(folder: Folder) -> None:
    root = folder()
    info = json.loads((root / "meta" / "info.json").read_text())
    info["features"] = {key: value for key, value in info["features"].items() if "state" not in key}
    write(root / "meta" / "info.json", info)
    refused(root, "has no observations that are numbers (observation.images.top are pictures)")


def test_a_folder_without_rewards_is_refused(folder: Folder) -> None:
    refused(
        folder(**{"next.reward": None}),
        "has no rewards: next.reward is not among its features",
        "data.columns.reward=KEY",
    )


def test_a_folder_without_files_is_refused(tmp_path: Path, folder: Folder) -> None:
    root = folder()
    (root / "data").rename(tmp_path / "elsewhere")
    refused(root, "has no Parquet files in data/: download them all")


@pytest.mark.parametrize(
    "info", ["", "[]", "{}", '{"features": []}', '{"features": {"action": 3}}', "[" * 9999], ids=lambda text: text[:9]
)
def test_a_description_that_is_none_is_refused(folder: Folder, info: str) -> None:
    root = folder()
    (root / "meta" / "info.json").write_text(info)
    refused(root, "info.json does not describe a log of LeRobot")


@pytest.mark.parametrize(
    ("told", "said"), [(4, []), (5, ["meta/info.json counts 5 episodes, and the files hold 4: are all of them here?"])]
)
def test_missing_episodes_are_told(folder: Folder, told: int, said: list[str]) -> None:
    root = folder()
    path = root / "meta" / "info.json"
    write(path, {**json.loads(path.read_text()), "total_episodes": told})
    assert [text for text in warnings_of(opened(root)) if "counts" in text] == said
