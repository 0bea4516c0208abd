"""One log in four formats: the same rows, and the same policy, to the bit.

    python benchmarks/formats.py --data DMSD-high-100000-train.npz --folder formats --train --env mopo_pl/DMSD-v0

The log is written into the folder as one CSV file, as a folder of Parquet files and as a folder of LeRobot (version 3), with names of
columns and without an environment, and a mapping file for each. The four are opened by their mappings. Their packed rows, ends of
episodes, bounds and statistics are compared bit by bit with those of the `.npz`. With `--train`, the real command trains ensemble and
policy on each of them, two short epochs each, and `evaluate RUN env_id=…` scores the policies. Exit code 1: something differs.
"""

import argparse
import csv
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from mopo_pl.config.compose import compose
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.opening import open_dataset
from mopo_pl.data.statistics import LogStatistics

OBSERVATIONS = ("x1", "x2", "v1", "v2", "target1", "target2")
"""What DMSD's six columns are; the columns of another log are numbered."""
ROUTES = ("npz", "csv", "parquet", "lerobot")
PART = 30_000
"""Rows of a Parquet file."""
TINY = (
    *(
        "threads=1",
        "compile=false",
        "trainer.accelerator=cpu",
        "logger=none",
        "estimate=false",
        "report=false",
        "seed=0",
    ),
    *("dynamics.max_epochs=2", "dynamics.members=3", "dynamics.elites=2", "dynamics.hidden_sizes=[32,32]"),
    *("dynamics.weight_decay=[0,0,0]", "trainer.max_epochs=2", "sac.updates_per_epoch=100", "sac.hidden_sizes=[32,32]"),
    *("rollout.starts=500", "rollout.horizon=3"),
)
WEIGHTS = ("dynamics.safetensors", "policy/policy.safetensors")

Arrays = Mapping[str, np.ndarray]


def columns_of(arrays: Arrays) -> dict[str, np.ndarray]:
    """The log as a table: a column for each number of a row, an episode's number and the step in it."""
    observations, actions = arrays["obs"], arrays["action"]
    known = OBSERVATIONS if observations.shape[1] == len(OBSERVATIONS) else ()
    names = known or tuple(f"state{i}" for i in range(observations.shape[1]))
    table = {name: observations[:, i] for i, name in enumerate(names)}
    table |= {f"force{i + 1}": actions[:, i] for i in range(actions.shape[1])}
    table |= {"earned": arrays["reward"], "ended": arrays["done"].astype(bool), "cut": arrays["truncated"].astype(bool)}
    table |= {f"next_{name}": arrays["next_obs"][:, i] for i, name in enumerate(names)}
    last = (table["ended"] | table["cut"]).astype(int)
    episode = np.cumsum(last) - last
    first = np.flatnonzero(np.append(True, episode[1:] != episode[:-1]))
    return {
        **table,
        "run": episode,
        "step": np.arange(len(episode)) - first[np.searchsorted(first, np.arange(len(episode)), "right") - 1],
    }


def mapping(source: str, columns: Mapping[str, object]) -> str:
    """A mapping file. JSON is YAML."""
    data = {"source": source, "columns": dict(columns)}
    return json.dumps({"data": data, "termination": "never"}, indent=1) + "\n"


def write_routes(arrays: Arrays, folder: Path) -> dict[str, Path]:
    """Write the log in each format; the mapping file of each route."""
    folder.mkdir(parents=True, exist_ok=True)
    table = columns_of(arrays)
    states = [name for name in table if f"next_{name}" in table]
    forces = [name for name in table if name.startswith("force")]
    later = [f"next_{name}" for name in states]
    np.savez(folder / "log.npz", allow_pickle=False, **arrays)
    _write_csv(table, folder / "log.csv")
    _write_parquet(table, folder / "parts")
    _write_lerobot(table, {"observation.state": states, "action": forces, "next.state": later}, folder / "robot")
    by_name = {"observation": states, "action": forces, "next_observation": later, "reward": "earned"}
    by_name |= {"terminal": "ended", "truncated": "cut", "episode": "run", "time": "step"}
    of_routes = {
        "npz": ("log.npz", {}),
        "csv": ("log.csv", by_name),
        "parquet": ("parts", by_name),
        "lerobot": ("robot", {"next_observation": "next.state"}),
    }
    paths = {route: folder / f"{route}.yaml" for route in ROUTES}
    for route, (source, columns) in of_routes.items():
        paths[route].write_text(mapping(source, columns))
    return paths


def _write_csv(table: Arrays, path: Path) -> None:
    """Numbers as short as they can be read back to the same float32."""
    texts = [
        [str(value) for value in column] if column.dtype.kind == "f" else column.astype(int).tolist()
        for column in table.values()
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*texts, strict=True))


def _write_parquet(table: Arrays, folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(exist_ok=True)
    rows = len(table["earned"])
    for number, start in enumerate(range(0, rows, PART)):
        part = {name: column[start : start + PART] for name, column in table.items()}
        parquet.write_table(pa.table(part), folder / f"part-{number}.parquet")


def _write_lerobot(table: Arrays, lists: Mapping[str, Sequence[str]], folder: Path) -> None:
    """LeRobotDataset v3.0: a description, and one file of rows with lists of numbers."""
    import pyarrow as pa
    from pyarrow import parquet

    rows, run, step = len(table["earned"]), table["run"], table["step"]
    columns = {
        key: pa.FixedSizeListArray.from_arrays(pa.array(np.stack([table[n] for n in names], 1).ravel()), len(names))
        for key, names in lists.items()
    }
    columns |= {"next.reward": table["earned"], "next.terminated": table["ended"], "next.truncated": table["cut"]}
    columns |= {"next.done": table["ended"] | table["cut"]}
    columns |= {"episode_index": run, "frame_index": step, "timestamp": (step / 5).astype(np.float32)}
    columns |= {"index": np.arange(rows), "task_index": np.zeros(rows, int)}
    files = folder / "data" / "chunk-000"
    files.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), files / "file-000.parquet")
    features = {key: {"dtype": "float32", "shape": [len(names)], "names": list(names)} for key, names in lists.items()}
    features |= {
        key: {"dtype": str(pa.array(column[:1]).type), "shape": [1], "names": None}
        for key, column in columns.items()
        if key not in lists
    }
    info = {
        "codebase_version": "v3.0",
        "fps": 5,
        "total_episodes": int(run[-1]) + 1,
        "total_frames": rows,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "features": features,
    }
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info, indent=1))


def opened(mapped: Path) -> OfflineDataset:
    """The log of a mapping file, as a training opens it."""
    config = compose([f"dataset={mapped}", "data.cache=false"])
    return open_dataset(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)


def differences(log: OfflineDataset, other: OfflineDataset) -> Iterator[str]:
    """What of two logs is not the same to the bit."""
    of_log, of_other = LogStatistics.of(log), LogStatistics.of(other)
    pairs = {
        "rows": (log.transitions.rows, other.transitions.rows),
        "ends of episodes": (log.episode_ends, other.episode_ends),
        "finished": (log.finished, other.finished),
        "known next states": (log.next_known, other.next_known),
        "lower bounds": (torch.as_tensor(log.action_low), torch.as_tensor(other.action_low)),
        "upper bounds": (torch.as_tensor(log.action_high), torch.as_tensor(other.action_high)),
        **{field.name: (getattr(of_log, field.name), getattr(of_other, field.name)) for field in fields(LogStatistics)},
    }
    for name, (one, two) in pairs.items():
        if one.shape != two.shape or one.numpy().tobytes() != two.numpy().tobytes():
            yield name
    if log.hash != other.hash:
        yield "hash"


def trained(route: str, mapped: Path, folder: Path, env_id: str) -> tuple[str, str]:
    """Train by the real command; the hash of both networks, and what `evaluate` prints of the return."""
    run = folder / f"run-{route}"
    train = ["train", f"dataset={mapped}", *TINY, f"run_dir={run}"]
    score = ["evaluate", str(run), f"env_id={env_id}", "--episodes", "5", "--seed", "1"]
    for command in (train, score):
        ended = subprocess.run([sys.executable, "-m", "mopo_pl", *command], capture_output=True, text=True, check=False)
        if ended.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")
        said = ended.stdout
    weights = hashlib.sha256(b"".join((run / name).read_bytes() for name in WEIGHTS)).hexdigest()
    return weights, next(line for line in said.splitlines() if "return" in line)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="an .npz with obs, action, next_obs, reward, done, truncated"
    )
    parser.add_argument("--folder", type=Path, required=True, help="where the logs, mappings and runs are written")
    parser.add_argument("--train", action="store_true", help="train on each of them too")
    parser.add_argument("--env", default="mopo_pl/DMSD-v0", help="environment of the scores (default: %(default)s)")
    given = parser.parse_args()
    with np.load(given.data, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in ("obs", "action", "next_obs", "reward", "done", "truncated")}
    paths = write_routes(arrays, given.folder)
    whole, same, weights = None, True, set()
    print(
        "| format | seconds to open | hash of the rows | differs from .npz in | hash of both networks | evaluate |\n|"
        + "---|" * 6
    )
    for route, path in paths.items():
        begin = time.perf_counter()
        log = opened(path)
        seconds = time.perf_counter() - begin
        whole = log if whole is None else whole
        differs = list(differences(whole, log))
        same &= not differs
        found, said = trained(route, path, given.folder, given.env) if given.train else ("", "")
        weights.add(found)
        cells = [route, f"{seconds:.1f}", log.hash[:12], ", ".join(differs) or "nothing", found[:12], said]
        print(f"| {' | '.join(cells)} |", flush=True)
    return int(not same or len(weights) > 1)


if __name__ == "__main__":
    sys.exit(main())
