"""Reader of `.hdf5` logs: named arrays at the top of the file, one array per field and episode (d3rlpy), or one group per episode."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5l, h5o  # type: ignore[attr-defined]

from mopo_pl.data.readers.arrays import Shape, environment_arguments, log_of_arrays, stacked
from mopo_pl.data.readers.episode_groups import EpisodeGroups, episode_groups
from mopo_pl.data.readers.names import Columns, listed, shown
from mopo_pl.data.readers.raw_log import RawLog, Unused
from mopo_pl.data.readers.sizes import brief, refuse_oversized
from mopo_pl.errors import InputError

D3RLPY = {"observations": "observations", "actions": "actions", "rewards": "rewards", "terminated": "terminals"}
"""Arrays of an episode in a d3rlpy 2 file (`observations_0`, `actions_0`, ...) and the fields that they hold."""


def read_hdf5(path: Path, columns: Columns) -> RawLog:
    """Read a log, with the environment from the attributes `env_id` and `env_kwargs` (JSON) if the file has them.

    Raises InputError if the file is damaged, is open for writing in another program, or lacks a key.
    """
    try:
        with h5py.File(path, "r") as file:
            datasets = dict(_datasets(file, path))
            refuse_oversized(path, sum(dataset.nbytes for dataset in datasets.values()))
            episodes = _episodes(datasets)
            if episodes:
                log = _of_episodes(path, datasets, episodes)
            elif groups := episode_groups(path, datasets, columns):
                log = _of_groups(path, groups, columns)
            else:
                log = _of_arrays(path, file, datasets, columns)
            if "env_id" in file.attrs:
                log.env_id = _text(file.attrs["env_id"], "env_id", path)
            if "env_kwargs" in file.attrs:
                log.env_kwargs = environment_arguments(_text(file.attrs["env_kwargs"], "env_kwargs", path), path)
            return log
    except BlockingIOError as error:
        raise InputError(f"{path} is open for writing in another program: close it there first") from error
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        if "already open for write" in str(error) or "unable to lock file" in str(error):
            raise InputError(f"{path} is open for writing in another program: close it there first") from error
        raise InputError(f"{path} cannot be read as HDF5: it is damaged or cut short ({brief(error)})") from error


def _datasets(file: h5py.File, path: Path) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the arrays of the file with their full names.

    Raises InputError for links to other files at the top of the file. Those inside groups are skipped.
    """
    groups = []
    for key in map(str, file):
        link = file.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise InputError(
                f"{path}: {shown(key)} lies in another file ({shown(link.filename)}); copy it into this one"
            )
        if isinstance(link, h5py.SoftLink) and key not in file:
            raise InputError(f"{path} cannot be read as HDF5: {shown(key)} is a link to nothing")
        item = file[key]
        if _elsewhere(item, file):
            raise InputError(f"{path}: {shown(key)} lies in another file; copy it into this one")
        if isinstance(item, h5py.Dataset):
            yield key, item
        elif isinstance(item, h5py.Group):
            groups.append((key, item))
    yield from _inside(groups, file)


def _elsewhere(item: Any, file: h5py.File) -> bool:
    """Return whether an array, or a part of it, is stored in another file."""
    other = isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)
    return bool(other) or item.file.filename != file.filename


def refuse_outside(path: Path) -> None:
    """Raise InputError if any part of a file is stored in another file, or if it declares more data than the file can hold.

    This protects readers that follow such links and trust such sizes. Each object is visited once, without reading its values.
    """
    declared = 0
    with h5py.File(path, "r") as file:

        def external(name: bytes, link: Any) -> bytes | None:
            return name if link.type == h5l.TYPE_EXTERNAL else None

        def stored_elsewhere(name: bytes, kind: Any) -> bytes | None:
            nonlocal declared
            if kind.type != h5o.TYPE_DATASET:
                return None
            dataset = h5d.open(file.id, name)
            declared += dataset.get_space().get_select_npoints() * dataset.get_type().get_size()
            how = dataset.get_create_plist()
            return name if how.get_layout() == h5d.VIRTUAL or how.get_external_count() else None

        found = file.id.links.visit(external, info=True) or h5o.visit(file.id, stored_elsewhere, info=True)
    if found is not None:
        raise InputError(f"{path}: {shown(found.decode(errors='replace'))} lies in another file; copy it into this one")
    refuse_oversized(path, declared)


def _inside(groups: list[tuple[str, h5py.Group]], file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the arrays of groups and of their subgroups. Each group is visited once, as it may contain a link to itself."""
    seen = set()
    while groups:
        prefix, group = groups.pop()
        if group in seen:
            continue
        seen.add(group)
        for name in map(str, group):
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item, key = group[name], f"{prefix}/{name}"
            if isinstance(item, h5py.Group):
                groups.append((key, item))
            elif isinstance(item, h5py.Dataset) and not _elsewhere(item, file):
                yield key, item


def _of_arrays(path: Path, file: h5py.File, datasets: dict[str, h5py.Dataset], columns: Columns) -> RawLog:
    groups = [key for key in map(str, file) if key not in datasets]
    shapes: dict[str, Shape] = {
        key: () if dataset.shape is None else dataset.shape for key, dataset in datasets.items()
    }
    return log_of_arrays(
        str(path),
        {**shapes, **dict.fromkeys(groups, ())},
        lambda _, keys: stacked([_array(datasets.get(key), key, path) for key in keys], keys, str(path)),
        columns,
    )


def _of_groups(path: Path, groups: EpisodeGroups, columns: Columns) -> RawLog:
    def load(_: str, keys: Sequence[str]) -> np.ndarray:
        return stacked([groups.load(key) for key in keys], keys, str(path))

    return log_of_arrays(str(path), groups.shapes, load, columns)


def _array(dataset: h5py.Dataset | None, key: str, path: Path) -> np.ndarray:
    if dataset is None:
        raise InputError(f"{path}: {shown(key)} is a group, not an array")
    if dataset.shape is None:
        raise InputError(f"{path}: {shown(key)} is empty; it has no shape")
    value = dataset[()]
    return value if isinstance(value, np.ndarray) else np.asarray(value)


def _episodes(datasets: dict[str, h5py.Dataset]) -> list[str]:
    """Return the numbers of the episodes of a d3rlpy 2 file, in order; empty for other files."""
    numbers = {match[1] for key in datasets if (match := re.fullmatch(r"observations_(\d+)", key))}
    return sorted(numbers, key=int) if "observations" not in datasets else []


def _of_episodes(path: Path, datasets: dict[str, h5py.Dataset], episodes: list[str]) -> RawLog:
    missing = [f"{key}_{i}" for i in episodes for key in D3RLPY if f"{key}_{i}" not in datasets]
    if missing:
        raise InputError(f"{path} is a file of d3rlpy 2 without {listed(missing)}")
    parts: dict[str, list[np.ndarray]] = {key: [] for key in D3RLPY}
    for i in episodes:
        values = {key: _array(datasets[f"{key}_{i}"], f"{key}_{i}", path) for key in D3RLPY}
        steps = len(values["observations"])
        values["rewards"] = values["rewards"].reshape(-1)
        values["terminated"] = np.append(np.zeros(steps - 1, bool), bool(values["terminated"]))
        for key, value in values.items():
            parts[key].append(value)
    try:
        arrays: dict[str, Any] = {D3RLPY[key]: np.concatenate(values) for key, values in parts.items()}
    except ValueError as error:
        raise InputError(f"{path}: its episodes differ in shape ({brief(error)})") from error
    ends = np.zeros(len(arrays["terminals"]), bool)
    ends[np.cumsum([len(part) for part in parts["terminated"]]) - 1] = True
    return RawLog(source=str(path), ends=ends, unused=_unused(datasets, episodes, len(ends)), **arrays)


def _unused(datasets: dict[str, h5py.Dataset], episodes: list[str], rows: int) -> list[Unused]:
    """Return the other fields that every episode has with one row per step."""
    shapes = {key: dataset.shape or () for key, dataset in datasets.items()}
    names = {key.rpartition("_")[0] for key in shapes if key.endswith(f"_{episodes[0]}")} - set(D3RLPY)
    return [
        Unused(name, (rows, *shapes[f"{name}_{episodes[0]}"][1:]), known=False)
        for name in sorted(names)
        if all(
            shapes.get(f"{name}_{i}", ())[:1] == shapes[f"observations_{i}"][:1] and shapes[f"observations_{i}"]
            for i in episodes
        )
    ]


def _text(attribute: Any, name: str, path: Path) -> str:
    """Return an attribute as text; raise InputError if it is not text.

    h5py returns text of fixed length as bytes, and an attribute of one element as an array.
    """
    if isinstance(attribute, np.ndarray) and attribute.size == 1:
        attribute = attribute.item()
    if isinstance(attribute, bytes):
        attribute = attribute.decode(errors="replace")
    if not isinstance(attribute, str):
        raise InputError(f"{path}: the attribute {name} must be a text, not {type(attribute).__name__}")
    return attribute
