"""Reading of HDF5 files with one group per episode, as written by robomimic and Minari, as one array per field."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from mopo_pl.data.readers.arrays import Shape
from mopo_pl.data.readers.names import NAMES, Columns, listed, natural_order, shown
from mopo_pl.errors import InputError

ENDS = "episode_ends"
"""Key of the flags of the last rows of episodes, which are derived from the groups."""
NUMBER = re.compile(r"\d+")
LONGEST = 200
"""Largest number of characters in the name of a group that may be an episode."""
NEXT = "next_"
"""Prefix of the key of next states that are the later rows of an array with one state more than there are actions."""

Group = dict[str, h5py.Dataset]
"""Arrays of one episode, by their path below its group."""


class EpisodeGroups(NamedTuple):
    """The episodes of a file, presented as arrays of all N rows."""

    path: Path
    groups: list[Group]
    """Arrays of each episode."""
    lengths: np.ndarray
    """Number of actions in each episode, [E] int64."""
    shapes: dict[str, Shape]
    """Shape (N, ...) of each array of all episodes."""

    def load(self, key: str) -> np.ndarray:
        """Return the array of all episodes under a key of `shapes`, [N, ...].

        Raises InputError where the episodes differ in type or in columns.
        """
        if key == ENDS and key not in self.groups[0]:
            flags = np.zeros(int(self.lengths.sum()), bool)
            flags[np.cumsum(self.lengths) - 1] = True
            return flags
        name, first = (key, 0) if key in self.groups[0] else (key.removeprefix(NEXT), 1)
        parts = [group[name][first : first + rows] for group, rows in zip(self.groups, self.lengths, strict=True)]
        try:
            return np.concatenate(parts)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.path}: the episodes differ in the type or the columns of {shown(name)}") from error


def episode_groups(path: Path, datasets: Mapping[str, h5py.Dataset], columns: Columns) -> EpisodeGroups | None:
    """Return the episodes of a file, or None where the file has no numbered groups, or has arrays of fields outside them.

    Raises InputError where no array of a group holds actions, or where an array of a field has another number of rows than the actions.

    Args:
        path: The file, as messages name it.
        datasets: All arrays of the file by their full names.
        columns: The user's mapping. Where one of its patterns names an array by its full name, the result is None.

    """
    patterns = [pattern for patterns in columns.values() for pattern in patterns]
    if any(key in NAMES[field] for key in datasets for field in ("observations", "actions", "rewards")):
        return None
    if any(fnmatchcase(key, pattern) for key in datasets for pattern in patterns):
        return None
    found = _grouped(path, datasets)
    if not found:
        return None
    actions = next((key for group in found.values() for key in group if _is(key, "actions", columns)), None)
    if actions is None:
        names = next(iter(found.values()))
        raise InputError(
            f"{path} has a group for each episode, and no actions in {shown(next(iter(found)))}: none of {', '.join(NAMES['actions'])} among "
            f"{listed(names)}; data.columns.action=KEY names another"
        )
    groups = {name: group for name, group in found.items() if _rows(group.get(actions)) != 0}
    if not groups:
        return None
    lengths = {name: _rows(group.get(actions)) for name, group in groups.items()}
    if (without := next((name for name, rows in lengths.items() if rows < 0), None)) is not None:
        raise InputError(
            f"{path}: {shown(without)} has no rows of {shown(actions)}; write one for each step, or leave that group out"
        )
    keys = list(dict.fromkeys(key for group in groups.values() for key in group))
    shapes: dict[str, Shape] = {}
    total = sum(lengths.values())
    for key in keys:
        more = {_rows(group.get(key)) - lengths[name] for name, group in groups.items()}
        is_state = _is(key, "observations", columns)
        if more == {0} or (more == {1} and (is_state or not _is_field(key, columns))):
            shapes[key] = (total, *next(iter(groups.values()))[key].shape[1:])
            if more == {1} and is_state and not any(_is(other, "next_observations", columns) for other in keys):
                shapes[f"{NEXT}{key}"] = shapes[key]
        elif _is_field(key, columns):
            wrong = next(name for name, group in groups.items() if _rows(group.get(key)) != lengths[name])
            raise InputError(
                f"{path}: {shown(wrong)} has {max(_rows(groups[wrong].get(key)), 0)} rows of {shown(key)}, and {lengths[wrong]} of "
                f"{shown(actions)}; write one for each step"
            )
    shapes.setdefault(ENDS, (total,))
    return EpisodeGroups(path, list(groups.values()), np.array(list(lengths.values())), shapes)


def _grouped(path: Path, datasets: Mapping[str, h5py.Dataset]) -> dict[str, Group]:
    """Return the arrays below each numbered group, in the order of the numbers; empty where there are no such groups.

    If numbered groups are nested (`run_2023/demo_7`), those of the first level with several groups are used. Raises InputError if their names
    are of several kinds.
    """
    deepest = max((key.count("/") for key in datasets), default=0)
    candidates = [grouped for depth in range(deepest) if (grouped := _at_depth(datasets, depth))]
    found = next((grouped for grouped in candidates if len(grouped) > 1), candidates[0] if candidates else {})
    kinds = {NUMBER.sub("…", name): name for name in found}
    if len(kinds) > 1:
        raise InputError(
            f"{path} has episodes in groups of several kinds, such as {listed(kinds.values())}: keep those of one kind in a file"
        )
    return found


def _at_depth(datasets: Mapping[str, h5py.Dataset], depth: int) -> dict[str, Group]:
    """Return the arrays below each group at a depth whose name ends in a number, in the order of all numbers in the names."""
    found: dict[str, Group] = {}
    for key, dataset in datasets.items():
        parts = key.split("/")
        if len(parts) < depth + 2 or 0 in (dataset.shape or ())[1:]:
            continue
        name = "/".join(parts[: depth + 1])
        if name[-1:].isdecimal() and len(name) <= LONGEST:
            found.setdefault(name, {})["/".join(parts[depth + 1 :])] = dataset
    return {name: found[name] for name in sorted(found, key=lambda name: (natural_order(name), name))}


def _is(key: str, field: str, columns: Columns) -> bool:
    """Return whether a key holds a field, or a part of it such as `observations/position`."""
    if field in columns:
        return any(fnmatchcase(key, pattern) for pattern in columns[field])
    return key.split("/")[0] in NAMES[field]


def _is_field(key: str, columns: Columns) -> bool:
    return any(_is(key, field, columns) for field in NAMES)


def _rows(dataset: h5py.Dataset | None) -> int:
    """Return the number of rows; -1 for a missing array or a single value."""
    return dataset.shape[0] if dataset is not None and dataset.shape else -1
