"""Measure how fast logs are opened and checked, and how much memory that takes.

`python benchmarks/loading.py --rows 1000000`: writes a synthetic log of 17 observations and 6 actions in each format into
the folder `--folder`, and opens it in a process of its own: first read and checked (cold), then from the cache (cached).
Prints rows a second, seconds and peak memory, which holds Python, torch and the packed rows (168 bytes each).
`seconds` do not include the imports, which are shown by themselves.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

OBS, ACTION, EPISODE = 17, 6, 1000
PART = 1_000_000
"""Rows that are made at once, a multiple of an episode."""
FORMATS = ("npz", "hdf5", "parquet", "feather", "csv", "folder", "lerobot")
STATES = [f"o{i}" for i in range(OBS)]
ACTIONS = [f"a{i}" for i in range(ACTION)]


def parts(rows: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield a random walk that actions push, in float32, some rows at a time."""
    rng = np.random.default_rng(0)
    gain = 0.1 * rng.standard_normal((ACTION, OBS)).astype(np.float32)
    for start in range(0, rows, PART):
        number = np.arange(start, min(start + PART, rows))
        action = rng.uniform(-1, 1, (len(number), ACTION)).astype(np.float32)
        obs = 0.05 * rng.standard_normal((len(number), OBS), np.float32)
        obs[1:] += action[:-1] @ gain  # an action moves the state of the row after it
        for first in range(0, len(number), EPISODE):
            np.cumsum(obs[first : first + EPISODE], 0, out=obs[first : first + EPISODE])
        yield {
            "obs": obs,
            "action": action,
            "reward": -(obs**2).mean(1),
            "done": np.zeros(len(number), bool),
            "timeout": number % EPISODE == EPISODE - 1,
            "episode": number // EPISODE,
            "step": number % EPISODE,
        }


def write(kind: str, rows: int, folder: Path) -> Path:
    """Write the log in a format; return its path."""
    import h5py
    import pyarrow as pa
    from pyarrow import csv, feather, parquet

    path = folder / f"log.{kind}"
    arrays = ("obs", "action", "reward", "done", "timeout")
    if kind == "npz":
        whole: dict[str, list[np.ndarray]] = {key: [] for key in arrays}
        for part in parts(rows):
            for key in arrays:
                whole[key].append(part[key])
        np.savez(path, allow_pickle=False, **{key: np.concatenate(values) for key, values in whole.items()})
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            for start, part in zip(range(0, rows, PART), parts(rows), strict=True):
                for key in arrays:
                    array = file.require_dataset(key, (rows, *part[key].shape[1:]), part[key].dtype)
                    array[start : start + len(part[key])] = part[key]
    elif kind == "lerobot":
        (path / "meta").mkdir(parents=True)
        (path / "data").mkdir()
        for number, part in enumerate(parts(rows)):
            parquet.write_table(as_lerobot(part, number * PART), path / "data" / f"file-{number:03d}.parquet")
        features = {
            "observation.state": {"dtype": "float32", "shape": [OBS], "names": STATES},
            "action": {"dtype": "float32", "shape": [ACTION], "names": ACTIONS},
        }
        others = ("next.reward", "episode_index", "frame_index", "index")
        features |= {key: {"dtype": "float32", "shape": [1], "names": None} for key in others}
        (path / "meta" / "info.json").write_text(json.dumps({"features": features, "total_frames": rows}))
    else:
        tables = (as_table(part) for part in parts(rows))
        schema = as_table(next(parts(1))).schema
        if kind == "folder":
            path.mkdir()
            for number, table in enumerate(tables):
                parquet.write_table(table, path / f"part-{number}.parquet")
        elif kind == "parquet":
            with parquet.ParquetWriter(path, schema) as writer:
                for table in tables:
                    writer.write_table(table)
        elif kind == "csv":
            with csv.CSVWriter(path, schema) as writer:
                for table in tables:
                    writer.write_table(table)
        else:
            feather.write_feather(pa.concat_tables(tables), path)
    return path


def as_table(part: dict[str, np.ndarray]):
    """One column for each number of a step."""
    import pyarrow as pa

    columns = {name: part["obs"][:, i] for i, name in enumerate(STATES)}
    columns |= {name: part["action"][:, i] for i, name in enumerate(ACTIONS)}
    return pa.table({**columns, **{key: part[key] for key in ("reward", "episode", "step")}})


def as_lerobot(part: dict[str, np.ndarray], start: int):
    """Lists for states and actions."""
    import pyarrow as pa

    lists = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(part[key].ravel()), part[key].shape[1])
        for name, key in (("observation.state", "obs"), ("action", "action"))
    }
    counters = {"episode_index": part["episode"], "frame_index": part["step"]}
    index = np.arange(start, start + len(part["step"]))
    return pa.table({**lists, "next.reward": part["reward"], **counters, "index": index})


def opened(path: Path) -> dict[str, float | str]:
    """Open the log in this process; return seconds, memory [MB] and hash."""
    begin = time.perf_counter()
    from mopo_pl.config.schema import ColumnsConfig, DataConfig
    from mopo_pl.data.log.opening import open_dataset

    imported = time.perf_counter()
    columns = ColumnsConfig()
    if path.suffix not in (".npz", ".hdf5", ".lerobot"):
        columns = ColumnsConfig(observation=STATES, action=ACTIONS, reward="reward", episode="episode", time="step")
    dataset = open_dataset(name=str(path), data=DataConfig(columns=columns), env_id=None, env_kwargs={})
    return {
        "imports_s": imported - begin,
        "seconds": time.perf_counter() - imported,
        "peak_MB": peak(),
        "rows": len(dataset),
        "hash": dataset.hash,
    }


def peak() -> float:
    """Return the peak resident memory of this process [MB]."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes, on macOS
    # Not ru_maxrss, which begins with that of the parent.
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def main() -> None:
    """Print a line for each format, cold and cached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("loading"), help="made, and removed in the end")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open is not None:
        print(json.dumps(opened(options.open)))
        return
    options.folder.mkdir(parents=True)
    cache = options.folder.absolute() / "cache"
    print(f"{'format':<10}{'file MB':>9}{'':>8}{'seconds':>9}{'rows/s':>12}{'peak MB':>9}{'imports s':>11}  hash")
    try:
        for kind in options.formats:
            path = options.folder / f"log.{kind}"
            write(kind, options.rows, options.folder)
            size = sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path])) / 1e6
            for state in ("cold", "cached"):
                command = [sys.executable, __file__, "--open", str(path)]
                environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
                ended = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
                found = json.loads(ended.stdout)
                print(
                    f"{kind:<10}{size:>9.0f}{state:>8}{found['seconds']:>9.2f}{options.rows / found['seconds']:>12,.0f}"
                    f"{found['peak_MB']:>9.0f}{found['imports_s']:>11.1f}  {found['hash'][:8]}",
                    flush=True,
                )
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.rmtree(cache)
    finally:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
