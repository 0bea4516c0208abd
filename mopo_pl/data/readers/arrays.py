"""`log_of_arrays`: a `RawLog` made of named arrays, with the array of each field and the ends of episodes."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mopo_pl.data.dataset import ColumnNames
from mopo_pl.data.readers.episode_ends import (
    MARKS,
    episode_ends,
    join_interleaved_episodes,
    row_mark,
    shows_borders,
    without_last_steps,
)
from mopo_pl.data.readers.names import MATRICES, NAMES, REQUIRED, Columns, find_fields, listed, shown
from mopo_pl.data.readers.raw_log import RawLog, Unused, fields_of, squeeze
from mopo_pl.errors import InputError

LARGE = 2_000_000
"""Number of rows from which observations, actions and rewards are kept in float32, the type used for training, to save memory."""
NARROWED = (*MATRICES, "rewards")
"""Fields that are kept in float32 if the log is large."""

INFOS = "infos/"
"""Prefix of the keys of additional numbers of the environment (infos), as in D4RL files."""

Shape = tuple[int, ...]
Labels = Mapping[str, Sequence[str]]
"""Names of the columns of an array, by the key of the array."""


def log_of_arrays(
    source: str,
    shapes: Mapping[str, Shape],
    load: Callable[[str, Sequence[str]], np.ndarray],
    columns: Columns,
    *,
    required: Sequence[str] = REQUIRED,
    drop_missing: bool = False,
    labels: Labels | None = None,
    file_ends: Sequence[int] = (),
) -> RawLog:
    """Make a log of arrays with names.

    Args:
        source: How messages name the file.
        shapes: Key and shape of each array of the file.
        load: Function that returns the array of a field by its name and keys. Several keys are columns of one array.
        columns: The user's mapping.
        required: Fields that the log must have; InputError is raised for those that are missing.
        drop_missing: Whether to leave out rows with NaN, and to end an episode before each. This is always done if rows have times.
        labels: Names of the columns of arrays, where there are any.
        file_ends: Index after the last row of each file, if the log is a folder.

    """
    found = find_fields(shapes, source, columns, required)
    arrays: dict[str, Any] = {name: load(name, keys) for name, keys in found.items()}
    remarks: list[str] = []
    stood = arrays["rewards"].shape
    if _take_apart(arrays, remarks):
        shapes = {
            key: (shape[0] * shape[1], *shape[2:]) if shape[:2] == stood else shape for key, shape in shapes.items()
        }
    rows = len(arrays["observations"]) if arrays["observations"].ndim else 0
    if rows >= LARGE:
        arrays |= {name: _narrowed(arrays[name]) for name in NARROWED if name in arrays}
    arrays.setdefault("terminals", np.zeros(rows, bool))
    marks = {name: arrays.pop(name) for name in MARKS if name in arrays}
    readable = {name: flags for name, mark in marks.items() if (flags := row_mark(name, mark, rows)) is not None}
    if "times" in columns:
        _refuse_time_backwards(source, found, readable)
    if "times" in readable and "times" not in columns and not _advances(readable["times"]):
        remarks.append(
            f"{shown(found['times'][0])} is not taken for the time of the rows, since it mostly falls or stands; data.columns.time="
            f"{shown(found['times'][0])} takes it"
        )
        del readable["times"], marks["times"]
        del found["times"]
    if found.get("starts") == ["index"] and len(marks["starts"]) == rows:
        readable.pop("starts", None)  # NeoRL's index: first rows of episodes, not one value per row
    used = {key for name, keys in found.items() if name not in marks or name in readable for key in keys}
    log = RawLog(
        source=source,
        keys={name: keys[0] if len(keys) == 1 else listed(keys) for name, keys in found.items()},
        names=ColumnNames(*(_names(found[name], shapes, labels or {}) for name in ("observations", "actions"))),
        unused=_unused(shapes, used, rows),
        next_missing="next_observations" not in found and "next_observations" not in columns,
        remarks=remarks,
        infos={
            key.removeprefix(INFOS): load("infos", [key])
            for key in shapes
            if key.startswith(INFOS) and shapes[key] == (rows,)
        },
        **arrays,
    )
    if not rows or any(array.shape[:1] != (rows,) for _, array, _ in fields_of(log)):
        return log  # `problems_of` reports the problem later
    squeeze(log)
    if found.get("terminals") == ["dones"] and found.get("timeouts") == ["timeouts"]:
        _limits_are_not_terminal(log)
    if file_ends and not shows_borders(log, readable):
        readable["files"] = np.isin(np.arange(1, rows + 1), file_ends)
    if "episodes" in readable and readable["episodes"].dtype.kind == "f":
        readable["nameless"] = np.cumsum(np.isnan(readable["episodes"]))
    join_interleaved_episodes(log, readable, file_ends)
    if drop_missing or "times" in readable:
        _drop_missing(log, readable)
    if "starts" in readable and found.get("ends") == ["is_last"] and "ends" in readable:
        return without_last_steps(log, readable)
    log.ends = episode_ends(log, readable)
    return log


def _advances(times: np.ndarray) -> bool:
    """Return whether time increases from row to row in most rows."""
    return len(times) < 2 or bool((np.diff(times.astype(np.float64)) > 0).mean() > 0.5)


def _refuse_time_backwards(source: str, found: Mapping[str, Sequence[str]], marks: Mapping[str, np.ndarray]) -> None:
    if "times" in marks and len(marks["times"]) > 2 and (np.diff(marks["times"].astype(np.float64)) < 0).mean() > 0.5:
        raise InputError(
            f"{source}: {shown(found['times'][0])} falls from row to row: the rows stand newest first; write them in their order of "
            "collection"
        )


def stacked(arrays: list[np.ndarray], keys: Sequence[str], source: str) -> np.ndarray:
    """Return a single array unchanged, or several as the columns of one array. Raises InputError if their shapes differ."""
    if len(arrays) == 1:
        return arrays[0]
    try:
        return np.column_stack(arrays)
    except ValueError as error:
        raise InputError(f"{source}: {listed(keys)} cannot be columns of one array ({error})") from error


def _narrowed(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # inf is reported later, with its row
        return array.astype(np.float32) if array.dtype == np.float64 else array


def _names(keys: Sequence[str], shapes: Mapping[str, Shape], labels: Labels) -> tuple[str, ...]:
    """Return the name of each column; empty if all columns are in one array without names."""
    if len(keys) == 1 and keys[0] not in labels:
        return ()
    return tuple(name for key in keys for name in labels.get(key) or _numbered(key, shapes[key]))


def _numbered(key: str, shape: Shape) -> list[str]:
    return [f"{key} {column}" for column in range(shape[1])] if len(shape) > 1 else [key]


def _unused(shapes: Mapping[str, Shape], used: set[str], rows: int) -> list[Unused]:
    known = {name for names in NAMES.values() for name in names}
    return [
        Unused(key, shape, key in known)
        for key, shape in shapes.items()
        if key not in used and not key.startswith(INFOS) and shape[:1] == (rows,) and rows > 1
    ]


def _take_apart(arrays: dict[str, Any], remarks: list[str]) -> bool:
    """Reshape arrays [T, E, ...] of several environments or episodes to rows [E·T, ...]; return whether there were several.

    States change less from row to row along the time axis. If that is the second axis, the arrays are [episodes, steps, ...].
    """
    shape = arrays["rewards"].shape
    if len(shape) != 2 or shape[1] < 2 or arrays["observations"].ndim != 3 or arrays["observations"].shape[:2] != shape:
        return False
    by_episode = _continues(arrays["observations"], 1) < 0.5 * _continues(arrays["observations"], 0)
    for name, array in arrays.items():
        if array.shape[:2] == shape:
            arrays[name] = (array if by_episode else array.swapaxes(0, 1)).reshape(-1, *array.shape[2:])
    ends = np.arange(1, shape[0] * shape[1] + 1) % shape[1 if by_episode else 0] == 0
    arrays["ends"] = ends | arrays["ends"].astype(bool) if "ends" in arrays else ends
    if by_episode:
        remarks.append(
            f"{shape[0]} episodes of {shape[1]} rows each stand one after another, as their states go on in this order"
        )
        return True
    remarks.append(
        f"{shape[1]} environments stand side by side, {shape[0]} rows of each; they are put one after another"
    )
    return True


def _continues(states: np.ndarray, axis: int) -> float:
    """Return the mean step of states [A, B, D] along an axis, in standard deviations of each column; inf if there is no step."""
    if states.shape[axis] < 2 or states.dtype.kind not in "fiu":
        return np.inf
    spread = states.reshape(-1, states.shape[2]).std(0, dtype=np.float64)
    before, after = (states[:-1], states[1:]) if axis == 0 else (states[:, :-1], states[:, 1:])
    # Differences of unsigned integers would wrap. Floats keep their type, as float64 copies of a large log would not fit into memory.
    wide = np.float64 if states.dtype.kind in "iu" else states.dtype
    steps = np.abs(np.subtract(after, before, dtype=wide)).mean((0, 1), dtype=np.float64)
    return float((steps / np.where(spread > 0, spread, 1.0)).mean())


def _limits_are_not_terminal(log: RawLog) -> None:
    """Clear terminal flags at time limits: Stable-Baselines3 sets `dones` there too, and trains on dones · (1 - timeouts)."""
    assert log.timeouts is not None
    both = (log.timeouts == 1) & (log.terminals == 1)
    if both.any():
        log.terminals = np.where(both, np.zeros((), log.terminals.dtype), log.terminals)
        log.remarks.append(
            f"dones is set at {int(both.sum())} time limits too, as Stable-Baselines3 writes it; those rows are not terminal"
        )


def _drop_missing(log: RawLog, marks: dict[str, np.ndarray]) -> None:
    """Leave out rows with NaN, and add a remark with their counts.

    `marks["gaps"]` is set to the rows after which rows were left out, [N] bool for the N rows that remain. Raises InputError if none remain.
    """
    rows = len(log.observations)
    missing, counts = np.zeros(rows, bool), {}
    for key, column in _columns(log, marks):
        absent = np.isnan(column)
        if absent.any():
            missing |= absent
            counts[key] = int(absent.sum())
    if not counts:
        return
    each = ", ".join(f"{shown(key)} {count}" for key, count in counts.items())
    terminals = np.asarray(log.terminals) == 1
    if 2 * (lost := int((terminals & missing).sum())) > terminals.sum():
        each += f"; {lost} of all {int(terminals.sum())} terminal rows are among them"
    keep = np.flatnonzero(~missing)
    if not len(keep):
        raise InputError(f"{log.source}: each of its {rows} rows has a missing value ({each}); no row is left")
    log.take(keep)
    marks.update({name: mark[keep] for name, mark in marks.items()})
    marks["gaps"] = np.append(np.diff(keep) > 1, keep[-1] < rows - 1)
    log.remarks.append(
        f"{int(missing.sum())} of {rows} rows have missing values and are left out ({each}); "
        "the rows around them are not joined, and rows are counted without them"
    )


def _columns(log: RawLog, marks: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and values [N] of each column of floats, which may contain NaN."""
    given = {name: (array, getattr(log.names, name, ())) for name, array, _ in fields_of(log)}
    for name, (array, names) in {**given, **{name: (mark, ()) for name, mark in marks.items()}}.items():
        if array.dtype.kind != "f":
            continue
        for number, column in enumerate(array.reshape(len(array), -1).T):
            yield names[number] if names else log.key(name), column


def environment_arguments(text: str, path: Path) -> dict[str, Any]:
    """Return the arguments of an environment from JSON text; raise InputError if it is not a JSON object."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InputError(f"{path}: env_kwargs must be a JSON object such as {{}}, not {shown(text)}")
    return arguments
