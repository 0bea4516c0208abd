"""Opening of logs: files, folders, Minari ids, D4RL names, and logs that are collected by mopo_pl."""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from mopo_pl.config.foreign import arguments_reaching_out
from mopo_pl.config.schema import ColumnsConfig, DataConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor.checks import findings_of
from mopo_pl.data.findings import Finding, of_level
from mopo_pl.data.log.action_bounds import bounds_problem
from mopo_pl.data.log.cached_dataset import key_of, load_dataset, store_dataset
from mopo_pl.data.log.history import findings_of_history, with_history
from mopo_pl.data.log.packing import assemble, keep_last
from mopo_pl.data.readers.hdf5 import read_hdf5
from mopo_pl.data.readers.minari import minari_files, read_minari
from mopo_pl.data.readers.names import NOTHING, SETTINGS, Columns, shown
from mopo_pl.data.readers.npz import read_npz
from mopo_pl.data.readers.pendulum import collect_pendulum
from mopo_pl.data.readers.raw_log import RawLog, problems_of, squeeze
from mopo_pl.data.readers.tables.files import SUFFIXES
from mopo_pl.data.readers.tables.lerobot import is_lerobot, lerobot_files, read_lerobot
from mopo_pl.data.readers.tables.reading import read_folder, read_table, tables_of
from mopo_pl.environments.by_id import tried_environment
from mopo_pl.errors import InputError

READERS: dict[str, Callable[[Path, Columns], RawLog]] = {
    ".hdf5": read_hdf5,
    ".h5": read_hdf5,
    ".npz": read_npz,
    **dict.fromkeys(SUFFIXES, read_table),
}
NO_ENVIRONMENT = "none"
"""Value of `env_id` for no environment, even if the file names one."""


def open_dataset(*, name: str, data: DataConfig, env_id: str | None, env_kwargs: Mapping[str, Any]) -> OfflineDataset:
    """Open the log at `data.source`, or at `name` if that is not set, check it, and return it; see `DataConfig` for the options.

    Action bounds are taken from `data`, else from the file, else from the environment (`env_id`, or the one that the file names), else they
    are ±1. Raises InputError if the file cannot be read, if the environment cannot be made or does not match the file, and for each finding
    of level STOP.

    >>> from tempfile import TemporaryDirectory
    >>> arrays = {"observations": np.zeros((100, 3)), "actions": np.zeros((100, 1)), "rewards": np.ones(100)}
    >>> flags = {"terminals": np.zeros(100, bool), "timeouts": np.arange(1, 101) % 50 == 0}
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/log.npz", **arrays, **flags)
    ...     dataset = open_dataset(name=f"{folder}/log.npz", data=DataConfig(), env_id=None, env_kwargs={})
    >>> len(dataset), dataset.obs_dim, dataset.action_dim
    (100, 3, 1)
    """
    dataset, findings = examine(name=name, data=data, env_id=env_id, env_kwargs=env_kwargs)
    problems = list(of_level("STOP", findings))
    if dataset is None or problems:
        raise InputError(problems)
    return dataset


def examine(
    *, name: str, data: DataConfig, env_id: str | None, env_kwargs: Mapping[str, Any]
) -> tuple[OfflineDataset | None, tuple[Finding, ...]]:
    """Open and check a log like `open_dataset`, and return it with its findings instead of raising for them.

    The dataset is None if it cannot be packed. A large log that was opened before is read from the cache (`data.cache`). Raises InputError
    if the file cannot be read or lacks a field, and if the environment cannot be made.
    """
    source = data.source or name
    files = files_of(source, data) if data.cache else []
    states = _states(files)
    how = asdict(replace(data, cache=True, d4rl_folder="", history=1, units={}))
    del how["device"]  # does not affect what is read
    key = key_of(files, {"name": name, "data": how, "env_id": env_id, "env_kwargs": dict(env_kwargs)})
    if key is not None and (found := load_dataset(key)) is not None:
        dataset, spaces = found
        if spaces == _spaces_digest(dataset.env_id, dataset.env_kwargs):
            return _windowed(dataset, dataset.findings, data.history)
    dataset, findings = _examine(source, name, data, env_id, env_kwargs)
    if key is not None and dataset is not None and states == _states(files):
        store_dataset(key, dataset, _spaces_digest(dataset.env_id, dataset.env_kwargs))
    return (None, findings) if dataset is None else _windowed(dataset, findings, data.history)


def _windowed(
    dataset: OfflineDataset, findings: tuple[Finding, ...], steps: int
) -> tuple[OfflineDataset, tuple[Finding, ...]]:
    """Return the log with windows of `steps` observations as states, and all findings.

    If a window is longer than every episode, the log is unchanged.
    """
    more = findings_of_history(dataset, steps)
    if any(finding.level == "STOP" for finding in more):
        return dataset, (*findings, *more)
    windowed = with_history(dataset, steps)
    return (replace(windowed, findings=(*findings, *more)) if more else windowed), (*findings, *more)


def _states(files: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the size and modification time of each file. They show whether a file was written while it was read, and must not be cached."""
    return [(status.st_size, status.st_mtime_ns) for status in (path.stat() for path in files)]


def _spaces_digest(env_id: str | None, env_kwargs: Mapping[str, Any]) -> str:
    """Return a digest of the shapes and bounds of an environment's spaces, or "" without an environment."""
    if env_id is None:
        return ""
    environment = tried_environment(env_id, env_kwargs)
    spaces = (environment.observation_space, environment.action_space)
    environment.close()
    digest = hashlib.sha256(str(spaces[0].shape).encode())
    for space in spaces:
        if isinstance(space, gymnasium.spaces.Box):
            digest.update(np.stack([space.low.ravel(), space.high.ravel()]).astype(np.float64).tobytes())
    return digest.hexdigest()


def _examine(
    source: str, name: str, data: DataConfig, env_id: str | None, env_kwargs: Mapping[str, Any]
) -> tuple[OfflineDataset | None, tuple[Finding, ...]]:
    """Read and check the log at `source`, without the cache and without windows."""
    raw = read(source, data)
    _settle_environment(raw, env_id, env_kwargs)
    squeeze(raw)
    space, states, problems = (None, None, []) if raw.env_id is None else _spaces(raw)
    problems = [*problems, *problems_of(raw)]
    bounds = _bounds(raw, data, space)
    where = f"{raw.source}: {raw.key('actions')}"
    if not problems and (wrong := bounds_problem(raw.actions, bounds, where)) is not None:
        problems = [wrong]
    if problems:
        return None, tuple(Finding("STOP", "arrays", problem) for problem in problems)
    if data.max_rows is not None:
        keep_last(raw, data.max_rows, data.time_limit)
    # Actions beyond the bounds are clipped here and reported as a finding, so that the rest of the log can still be checked.
    dataset = assemble(
        raw,
        name=name,
        bounds=bounds,
        time_limit=data.time_limit,
        clip_actions=True,
        drop_time_limits=data.drop_time_limits,
    )
    _share_memory(raw, dataset)
    findings = tuple(findings_of(raw, dataset, bounds=bounds, clip=data.clip_actions, state_bounds=states))
    return replace(dataset, findings=findings), findings


def _share_memory(raw: RawLog, dataset: OfflineDataset) -> None:
    """Replace raw float32 states by views of the packed ones, which are identical, as a large log does not fit into memory twice."""
    for name in ("observations", "next_observations"):
        array = getattr(raw, name)
        if array is not None and array.dtype == np.float32:
            setattr(raw, name, getattr(dataset.transitions, name).numpy())


def _settle_environment(raw: RawLog, env_id: str | None, env_kwargs: Mapping[str, Any]) -> None:
    """Set the environment of the log: the user's, else the one in the file.

    Raises InputError if the one in the file would import a module, or has arguments such as a file, an address or Python code.
    """
    if env_id == NO_ENVIRONMENT:
        raw.env_id, raw.env_kwargs = None, {}
    elif env_id is not None:
        raw.env_id, raw.env_kwargs = env_id, env_kwargs
    elif raw.env_id is not None and ":" in raw.env_id:
        module = shown(raw.env_id.partition(":")[0])
        raise InputError(
            f"{raw.source} names the environment {shown(raw.env_id)}, which would import the module {module}: give "
            f"env_id={shown(raw.env_id)} if you trust it, or env_id=none"
        )
    elif env_kwargs:
        raw.env_kwargs = env_kwargs
    elif raw.env_id is not None and (places := arguments_reaching_out(raw.env_kwargs)):
        raise InputError(
            f"{raw.source} names {shown(raw.env_id)} with {shown(places[0], 200)}, a file, an address or Python code, which a "
            "file must not choose by itself: if you trust it, give "
            f"'env_kwargs={shown(json.dumps(dict(raw.env_kwargs), default=str), 500)}', else env_id=none"
        )


def read(source: str, data: DataConfig) -> RawLog:
    """Read the log at a path, a `collect:` source, a D4RL name or a Minari id."""
    if source.startswith("collect:"):
        return read_minari(_collect(source.removeprefix("collect:"), data))
    path, columns = Path(source).expanduser(), _columns(data.columns)
    reader = next((read for suffix, read in READERS.items() if path.name.lower().endswith(suffix)), None)
    if reader is not None and not (path.is_dir() and reader is read_table):
        if not path.is_file():
            raise InputError(f"dataset={source}: there is no such file{_near(path)}")
        return reader(path, columns)
    if path.is_dir() and (is_lerobot(path) or any(entry.is_file() for entry in path.iterdir()) or not _is_id(source)):
        return (read_lerobot if is_lerobot(path) else read_folder)(path, columns)
    if path.is_file():
        raise InputError(f"dataset={source} is not a file ending in {', '.join(READERS)}")
    if not _is_id(source):
        raise InputError(
            f"dataset={source} is no file or folder, no choice in conf/dataset, and no id (those end in -v0, -v1, …)"
        )
    return _read_id(source, Path(data.d4rl_folder).expanduser(), columns)


def files_of(source: str, data: DataConfig) -> list[Path]:
    """Return all files of a log; empty if it has none, or must be collected or downloaded first."""
    path = Path(source).expanduser()
    if source.startswith("collect:"):
        return []
    if path.is_dir():
        return lerobot_files(path) if is_lerobot(path) else tables_of(path.iterdir())
    if path.is_file():
        return [path] if path.name.lower().endswith(tuple(READERS)) else []
    if not _is_id(source):
        return []
    d4rl = [path for path in _d4rl_files(source, Path(data.d4rl_folder).expanduser()) if path.is_file()]
    return d4rl[:1] or minari_files(source)


def _is_id(source: str) -> bool:
    return re.search(r"-v\d+$", source) is not None


def _columns(given: ColumnsConfig) -> Columns:
    """Return the fields that the user has mapped, each with its keys; the keys are empty for `none`.

    Raises InputError for a key that was not given as text: YAML would read the name 1.10 as the number 1.1.
    """
    columns: dict[str, list[str]] = {}
    for field, setting in SETTINGS.items():
        value = getattr(given, setting)
        if value is not None:
            given_keys = value if isinstance(value, list) else [value]
            for key in given_keys:
                if isinstance(key, bool | float):
                    raise InputError(
                        f"data.columns.{setting} holds {key!r}, which is no text: put the name of the column in quotes, "
                        f"'data.columns.{setting}=[\"NAME\"]'"
                    )
            keys = [str(key) for key in given_keys]
            columns[field] = [] if keys == [NOTHING] else keys
    return columns


def _read_id(name: str, d4rl_folder: Path, columns: Columns) -> RawLog:
    """Read a log by its D4RL name if `d4rl_folder` holds its file, else by its Minari id."""
    candidates = _d4rl_files(name, d4rl_folder)
    d4rl = next((path for path in candidates if path.is_file()), None)
    if d4rl is not None:
        return read_hdf5(d4rl, columns)
    try:
        return read_minari(name)
    except InputError as error:
        names = dict.fromkeys(path.name for path in candidates)
        looked = f"{name}: no {' or '.join(names)} is in data.d4rl_folder={d4rl_folder}"
        raise InputError([looked, *error.problems]) from error


def _collect(what: str, data: DataConfig) -> str:
    if what != "pendulum":
        raise InputError(f"data.source=collect:{what} is not known; there is collect:pendulum")
    return collect_pendulum(data.collect_steps, data.collect_seed)


def _near(path: Path) -> str:
    beside = [entry.name for entry in path.parent.glob("*")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, 1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def _d4rl_files(name: str, folder: Path) -> list[Path]:
    """Return the possible files of a D4RL name. D4RL stores `halfcheetah-medium-v2` as `halfcheetah_medium-v2.hdf5`."""
    stem, _, version = name.rpartition("-")
    return [folder / f"{stem.replace('-', '_')}-{version}.hdf5", folder / f"{name}.hdf5"]


def _spaces(raw: RawLog) -> tuple[gymnasium.spaces.Box, tuple[np.ndarray, np.ndarray], list[str]]:
    """Return the environment's action space, the bounds of its states [D], and messages where the log does not match its spaces."""
    assert raw.env_id is not None
    environment = tried_environment(raw.env_id, raw.env_kwargs)
    observation, action = environment.observation_space, environment.action_space
    environment.close()
    if not isinstance(observation, gymnasium.spaces.Box) or not isinstance(action, gymnasium.spaces.Box):
        raise InputError(f"env_id={raw.env_id} has no Box spaces; MOPO needs continuous observations and actions")
    problems = []
    for name, array, space in (("observations", raw.observations, observation), ("actions", raw.actions, action)):
        columns, expected = int(np.prod(array.shape[1:])), int(np.prod(space.shape))
        if columns != expected:
            problems.append(
                f"{raw.source}: {raw.key(name)} has {columns} columns, {raw.env_id} has {expected}; "
                "is it the right env_id, and are env_kwargs missing?"
            )
    return action, (observation.low.ravel(), observation.high.ravel()), problems


def _bounds(raw: RawLog, data: DataConfig, space: gymnasium.spaces.Box | None) -> tuple[np.ndarray, np.ndarray]:
    columns = raw.actions.shape[1] if raw.actions.ndim == 2 else 1
    low, high = raw.bounds or (None, None)
    if low is None and space is not None:
        low, high = space.low.ravel(), space.high.ravel()
    if low is None or high is None:
        low, high = -np.ones(columns), np.ones(columns)
    low = low if data.action_low is None else np.array(data.action_low)
    high = high if data.action_high is None else np.array(data.action_high)
    return low, high
