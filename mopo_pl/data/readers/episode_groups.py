"""HDF5 files with a group for each episode, as robomimic and Minari write them: one array for each field of all episodes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from mopo_pl.data.readers.arrays import INFOS, Shape
from mopo_pl.data.readers.names import NAMES, shown
from mopo_pl.errors import InputError

NUMBERED = re.compile(r"(.*?)(\d+)")
"""Name of the group of an episode: `demo_12`, `episode_3`, `7`."""
ENDS = "episode_ends"
"""Key under which the last rows of the groups are given."""


class EpisodeGroups(NamedTuple):
    """The arrays of a file whose episodes are groups, as if all rows stood in one array."""

    path: Path
    groups: list[dict[str, h5py.Dataset]]
    """Of each episode, in the order of their numbers, the arrays by their name in the group."""
    lengths: np.ndarray
    """Rows of each episode [E]."""
    shapes: dict[str, Shape]
    """Of each array of all episodes, (N, ...)."""

    def load(self, key: str) -> np.ndarray:
        """One array of all episodes [N, ...]; of an array with one row more than actions, the last one is left out or, for `next_`, the first."""
        if key not in self.groups[0] and key == ENDS:
            return np.isin(np.arange(1, self.lengths.sum() + 1), np.cumsum(self.lengths))
        name, first = (key, 0) if key in self.groups[0] else (key.removeprefix("next_"), 1)
        parts = [group[name][first : first + rows] for group, rows in zip(self.groups, self.lengths, strict=True)]
        if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            raise InputError(f"{self.path}: the episodes differ in the shape of {shown(name)}")
        return np.concatenate(parts)


def episode_groups(path: Path, datasets: Mapping[str, h5py.Dataset]) -> EpisodeGroups | None:
    """The episodes of a file, None where its arrays are not in a group for each.

    Raises InputError where an array is missing in one episode, or has another number of rows there.
    """
    if any(name in datasets for names in NAMES.values() for name in names):
        return None
    found: dict[tuple[str, int], dict[str, h5py.Dataset]] = {}
    for key, dataset in datasets.items():
        if (place := _place(key)) is not None:
            head, number, name = place
            found.setdefault((head, number), {})[name] = dataset
    if not found or len({head for head, _ in found}) > 1:
        return None
    order = sorted(found)
    groups = [found[place] for place in order]
    rows = _rows(groups[0])
    if rows is None:
        return None
    names = [name for name, dataset in groups[0].items() if _length(dataset) in (rows, rows + 1)]
    more = {name for name in names if _length(groups[0][name]) == rows + 1}
    lengths = np.array([_length(group.get(next(name for name in names if name not in more))) for group in groups])
    for (head, number), group, length in zip(order, groups, lengths, strict=True):
        for name in names:
            if _length(group.get(name)) != length + (name in more):
                raise InputError(
                    f"{path}: {shown(f'{head}{number}')} has {_said(group.get(name))} {shown(name)}, though {int(length)} rows of others; {shown(head)}"
                    f"{order[0][1]} has {rows + (name in more)}, and {rows} of others"
                )
    total = int(lengths.sum())
    shapes: dict[str, Shape] = {ENDS: (total,)}
    for name in names:
        shapes[name] = (total, *groups[0][name].shape[1:])
        if name in more and not name.startswith(INFOS):
            shapes.setdefault(f"next_{name}", shapes[name])
    return EpisodeGroups(path, groups, lengths, shapes)


def _place(key: str) -> tuple[str, int, str] | None:
    """Name and number of the group of an episode, and the name of an array in it; None where an array is in none.

    >>> _place("data/demo_12/obs/object"), _place("mask/train")
    (('data/demo_', 12, 'obs/object'), None)
    """
    parts = key.split("/")
    for i, part in enumerate(parts[:-1]):
        if (match := NUMBERED.fullmatch(part)) and len(match[2]) < 10:
            return "/".join([*parts[:i], match[1]]), int(match[2]), "/".join(parts[i + 1 :])
    return None


def _rows(group: Mapping[str, h5py.Dataset]) -> int | None:
    """Steps of an episode: as many rows as most arrays have, which may have one more for the last state."""
    lengths = [_length(dataset) for dataset in group.values() if _length(dataset) > 0]
    return max(
        set(lengths), key=lambda rows: (sum(length in (rows, rows + 1) for length in lengths), -rows), default=None
    )


def _length(dataset: h5py.Dataset | None) -> int:
    return dataset.shape[0] if dataset is not None and dataset.shape else -1


def _said(dataset: h5py.Dataset | None) -> str:
    return "no" if dataset is None else f"{max(_length(dataset), 0)} rows of"
