"""Reader of LeRobot's folders, versions 2.0 to 3, where `meta/info.json` describes the columns of the Parquet files in `data/`.

The format is described in LeRobot's documentation of LeRobotDataset v3.0. Version 2.1 has one file per episode, and version 3 has larger files.
Both are read in the same way, as each row contains its episode index. `next.reward` and `next.done` belong to the step of their row.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mopo_pl.data.readers.names import Columns, listed, shown
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.data.readers.tables.files import TableFile
from mopo_pl.data.readers.tables.reading import log_of_tables, tables_of
from mopo_pl.errors import InputError

NAMES = {
    "actions": ("action",),
    "rewards": ("next.reward",),
    "terminals": ("next.terminated", "next.done"),
    "timeouts": ("next.truncated",),
    "episodes": ("episode_index",),
    "times": ("frame_index", "timestamp"),
}
"""Columns of each field; the first one that exists is used."""
OBSERVATION = "observation."
"""Prefix of the columns that together form the observation."""
PICTURES = ("image", "video")
"""Data types of features that are not read."""
COUNTERS = ("index", "timestamp")
"""Columns that are redundant if `frame_index` is the time."""
LARGEST = 10_000_000
"""Largest size of `info.json` that is read, in bytes."""


def is_lerobot(folder: Path) -> bool:
    """Return whether a folder has LeRobot's format."""
    return (folder / "meta" / "info.json").is_file()


def read_lerobot(folder: Path, columns: Columns) -> RawLog:
    """Read a folder; raise InputError if it is damaged, or has no observations except pictures, or no rewards."""
    info = _info(folder / "meta" / "info.json")
    features: dict[str, dict[str, Any]] = info["features"]
    pictures = [key for key, feature in features.items() if feature.get("dtype") in PICTURES]
    states = [key for key in features if key.startswith(OBSERVATION) and key not in pictures]
    if not states and "observations" not in columns:
        reason = f"{listed(pictures)} are pictures" if pictures else f"no feature begins with {OBSERVATION}"
        raise InputError(
            f"{folder} has no observations that are numbers ({reason}); data.columns.observation=KEY names some"
        )
    if "next.reward" not in features and "rewards" not in columns:
        raise InputError(
            f"{folder} has no rewards: next.reward is not among its features {listed(features)}; "
            "data.columns.reward=KEY names another"
        )
    paths = lerobot_files(folder)[1:]
    if not paths:
        raise InputError(f"{folder} has no Parquet files in data/: download them all")
    mapping = {**_defaults(features, states), **columns}
    judged = {"terminals", "timeouts"}.isdisjoint(columns) and {"next.done", "next.success"} <= features.keys()
    judged = judged and mapping["terminals"] == ["next.done"] and "timeouts" not in mapping
    if judged:
        mapping["timeouts"] = ["next.success"]
    log = log_of_tables(
        str(folder),
        paths,
        mapping,
        labels=dict(_labels(features)),
        ignored=[*pictures, *(COUNTERS if mapping.get("times") == ["frame_index"] else ())],
    )
    if judged:
        _judge_ends(log)
    _say_what_is_left_out(log, info, pictures, rows=sum(TableFile(path).rows or 0 for path in paths))
    return log


def lerobot_files(folder: Path) -> list[Path]:
    """Return the path of `meta/info.json`, followed by the Parquet files in their order."""
    return [folder / "meta" / "info.json", *tables_of((folder / "data").rglob("*.parquet"))]


def _info(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError(f"{path} is no regular file: it describes no log")
        if size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST} bytes: it describes no log")
        info = json.loads(path.read_text())
        features = info["features"]
        if all(isinstance(feature, dict) for feature in features.values()):
            return info
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
    raise InputError(f"{path} does not describe a log of LeRobot: it must be a JSON object with features")


def _defaults(features: Mapping[str, Any], states: list[str]) -> dict[str, list[str]]:
    found = {"observations": states} if states else {}
    for name, keys in NAMES.items():
        found[name] = [key for key in keys if key in features][:1]
    return {name: keys for name, keys in found.items() if keys}


def _labels(features: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yield each feature and the names of its entries, which are a list, or a dict of lists by kind (motors, axes)."""
    for key, feature in features.items():
        names = feature.get("names")
        if isinstance(names, dict):
            names = [name for part in names.values() if isinstance(part, list) for name in part]
        if isinstance(names, list) and names:
            yield key, [f"{key}.{shown(str(name))}" for name in names]


def _judge_ends(log: RawLog) -> None:
    """Set terminals where an episode is done with success, and timeouts where it is done without success.

    LeRobot marks the last row of every episode as done. Before the call, `log.timeouts` contains the success flag of each row.
    """
    done, success = (np.asarray(flags) == 1 for flags in (log.terminals, log.timeouts))
    log.terminals, log.timeouts = done & success, (limits := done & ~success)
    log.keys = {**log.keys, "terminals": "next.done with next.success", "timeouts": "next.done without next.success"}
    cut = int(limits.sum())
    if cut:
        log.remarks.append(
            f"{cut} of {int(done.sum())} episodes are done without success: they are taken as cut by a time limit; "
            "data.columns.terminal=next.done makes them terminal"
        )


def _say_what_is_left_out(log: RawLog, info: Mapping[str, Any], pictures: list[str], *, rows: int) -> None:
    if pictures:
        log.remarks.append(f"{listed(pictures)}: pictures are not read, and the policy will not see them")
    frames = info.get("total_frames")
    if isinstance(frames, int) and frames != rows:
        log.remarks.append(f"meta/info.json counts {frames} frames, and the files hold {rows}: are all of them here?")
    told, whole = info.get("total_episodes"), log.gaps is None or not log.gaps.any()
    if isinstance(told, int) and log.ends is not None and whole and told != (found := 1 + int(log.ends[:-1].sum())):
        log.remarks.append(f"meta/info.json counts {told} episodes, and the files hold {found}: are all of them here?")
