"""From named arrays to a `RawLog`: which array is which field, and where episodes end."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mopo_pl.data.dataset import ColumnNames
from mopo_pl.data.readers.names import NAMES, REQUIRED, Columns, find_fields, listed, shown
from mopo_pl.data.readers.raw_log import RawLog, Unused, fields_of, marked_ends, squeeze
from mopo_pl.errors import InputError

SKIP = 1.5
"""Time between two rows, in medians of it, from which rows are missing between them."""
LARGE = 2_000_000
"""Rows from which observations, actions and rewards are held in float32, as they are learned from, to save memory."""
MATRICES = ("observations", "actions", "next_observations")
"""Fields of several columns."""
NARROWED = (*MATRICES, "rewards")
"""Fields that are held in float32 where the log is large."""
MARKS = ("ends", "starts", "episodes", "times")
"""Fields that only say where episodes end."""

INFOS = "infos/"
"""Beginning of the keys of an environment's further numbers, as D4RL calls them."""

Shape = tuple[int, ...]
Labels = Mapping[str, Sequence[str]]
"""Names of the columns of an array, by its key."""


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
    """Read the fields of a log from arrays by name.

    Args:
        source: File, as messages call it.
        shapes: Key and shape of each array of the file.
        load: Gives the array of a field by its name and keys, several keys as columns of one array.
        columns: The user's mapping.
        required: Fields without which the log is refused.
        drop_missing: Leave out rows with NaN, and end an episode before each. Rows with a time are always treated so.
        labels: Names of the columns of arrays that have some.
        file_ends: Row after the last of each file, where the log is a folder.

    """
    found = find_fields(shapes, source, columns, required)
    arrays: dict[str, Any] = {name: load(name, keys) for name, keys in found.items()}
    remarks: list[str] = []
    _take_apart(arrays, remarks)
    rows = len(arrays["observations"]) if arrays["observations"].ndim else 0
    if rows >= LARGE:
        arrays |= {name: _narrowed(arrays[name]) for name in NARROWED if name in arrays}
    arrays.setdefault("terminals", np.zeros(rows, bool))
    marks = {name: arrays.pop(name) for name in MARKS if name in arrays}
    readable = {name: flags for name, mark in marks.items() if (flags := _as_rows(name, mark, rows)) is not None}
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
        return log  # which is refused for it
    squeeze(log)
    if found.get("terminals") == ["dones"] and found.get("timeouts") == ["timeouts"]:
        _limits_are_not_terminal(log)
    if file_ends and not _shows_borders(log, readable):
        readable["files"] = np.isin(np.arange(1, rows + 1), file_ends)
    if "episodes" in readable and readable["episodes"].dtype.kind == "f":
        readable["nameless"] = np.cumsum(np.isnan(readable["episodes"]))
    _regroup(log, readable)
    if drop_missing or "times" in readable:
        _drop_missing(log, readable)
    if "starts" in readable and found.get("ends") == ["is_last"] and "ends" in readable:
        return _without_last_steps(log, readable)
    log.ends = episode_ends(log, readable)
    return log


def stacked(arrays: list[np.ndarray], keys: Sequence[str], source: str) -> np.ndarray:
    """One array as it is, several as columns of one."""
    if len(arrays) == 1:
        return arrays[0]
    try:
        return np.column_stack(arrays)
    except ValueError as error:
        raise InputError(f"{source}: {listed(keys)} cannot be columns of one array ({error})") from error


def _narrowed(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # inf is refused later, with its row
        return array.astype(np.float32) if array.dtype == np.float64 else array


def _names(keys: Sequence[str], shapes: Mapping[str, Shape], labels: Labels) -> tuple[str, ...]:
    """Of each column; none where one array without names holds them all."""
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


def _take_apart(arrays: dict[str, Any], remarks: list[str]) -> None:
    """Put the rows of several environments [T, E, ...] one environment after another [E·T, ...]."""
    shape = arrays["rewards"].shape
    if len(shape) != 2 or shape[1] < 2 or arrays["observations"].ndim != 3 or arrays["observations"].shape[:2] != shape:
        return
    for name, array in arrays.items():
        if array.shape[:2] == shape:
            arrays[name] = array.swapaxes(0, 1).reshape(-1, *array.shape[2:])
    ends = np.arange(1, shape[0] * shape[1] + 1) % shape[0] == 0
    arrays["ends"] = ends | arrays["ends"].astype(bool) if "ends" in arrays else ends
    remarks.append(
        f"{shape[1]} environments stand side by side, {shape[0]} rows of each; they are put one after another"
    )


def _limits_are_not_terminal(log: RawLog) -> None:
    """Stable-Baselines3 sets `dones` at time limits too, and trains on dones · (1 - timeouts)."""
    assert log.timeouts is not None
    both = (log.timeouts == 1) & (log.terminals == 1)
    if both.any():
        log.terminals = np.where(both, np.zeros((), log.terminals.dtype), log.terminals)
        log.remarks.append(
            f"dones is set at {int(both.sum())} time limits too, as Stable-Baselines3 writes it; those rows are not terminal"
        )


def _as_rows(name: str, mark: np.ndarray, rows: int) -> np.ndarray | None:
    """A mark with one value a row [N]; None where it is no such mark."""
    mark = mark.ravel()
    if name == "starts" and len(mark) != rows:
        return _flags(mark, rows)
    if len(mark) != rows or (name == "times" and mark.dtype.kind not in "fiubmM"):
        return None
    if name in ("ends", "starts"):
        if mark.dtype.kind not in "fiub":
            return None
        # NaN: the row is left out later.
        return mark if (np.isin(mark, (0, 1)) | (mark != mark)).all() else None
    return mark


def _flags(numbers: np.ndarray, rows: int) -> np.ndarray | None:
    """The row numbers of the beginnings [K] as flags [N]."""
    if numbers.dtype.kind not in "iu" or not (
        (np.diff(numbers) > 0).all() and ((numbers >= 0) & (numbers < rows)).all()
    ):
        return None
    flags = np.zeros(rows, bool)
    flags[numbers] = True
    return flags


def _shows_borders(log: RawLog, marks: Mapping[str, np.ndarray]) -> bool:
    """Whether the log itself says where an episode goes on in the next file."""
    return log.next_observations is not None or bool({"episodes", "times", "starts"} & marks.keys())


def episode_ends(log: RawLog, marks: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Rows after which the file begins another episode or leaves rows out [N] bool; None where nothing says so."""
    flags = []
    if "ends" in marks:
        flags.append(marks["ends"].astype(bool))
    if "starts" in marks:
        flags.append(np.append(marks["starts"][1:].astype(bool), False))
    for name in ("episodes", "nameless"):
        if name in marks:
            flags.append(np.append(marks[name][1:] != marks[name][:-1], False))
    if "files" in marks:
        alone = (marks["files"] & ~np.logical_or.reduce([marked_ends(log), *flags]))[:-1]
        if alone.any():
            log.remarks.append(
                f"episodes are taken to end with {int(alone.sum())} of the files, the first after row "
                f"{int(alone.argmax())}; data.columns.episode or data.columns.time would say where they go on"
            )
        flags.append(marks["files"])
    if "gaps" in marks:
        flags.append(marks["gaps"])
    if "times" in marks:
        back, skips = _time_breaks(marks["times"].astype(np.float64))
        alone = skips & ~np.logical_or.reduce([marked_ends(log), *flags])
        if alone.any():
            log.remarks.append(
                f"{log.key('times')} skips after {_counted(int(alone.sum()), 'row')}, the first is row {int(alone.argmax())}; episodes "
                "are taken to end there"
            )
        flags.append(back | skips)
    return np.logical_or.reduce(flags) if flags else None


def _time_breaks(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows after which time falls back or stands, and rows after which it skips [N] bool."""
    steps = np.diff(times)
    forward = steps[steps > 0]
    usual = np.median(forward) if len(forward) else np.inf
    return np.append(steps <= 0, False), np.append(steps > SKIP * usual, False)


def _regroup(log: RawLog, marks: dict[str, np.ndarray]) -> None:
    """Put the rows of an episode together, in their order, where the file interleaves episodes."""
    ids = marks.get("episodes")
    if ids is None:
        return
    begins = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    pieces = len(begins)
    if len(np.unique(ids[begins])) == pieces:
        return
    _, first, place = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first[place], kind="stable")
    log.take(order)
    marks.update({name: mark[order] for name, mark in marks.items()})
    log.remarks.append(
        f"the rows of {len(first)} episodes stand in {pieces} pieces; they are put together by {log.key('episodes')}"
    )


def _drop_missing(log: RawLog, marks: dict[str, np.ndarray]) -> None:
    """Leave out rows with NaN, and count them; `marks["gaps"]` says before which rows some were left out."""
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


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _columns(log: RawLog, marks: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values [N] of each column that may hold NaN."""
    given = {name: (array, getattr(log.names, name, ())) for name, array, _ in fields_of(log)}
    for name, (array, names) in {**given, **{name: (mark, ()) for name, mark in marks.items()}}.items():
        if array.dtype.kind != "f":
            continue
        for number, column in enumerate(array.reshape(len(array), -1).T):
            yield names[number] if names else log.key(name), column


def _without_last_steps(log: RawLog, marks: Mapping[str, np.ndarray]) -> RawLog:
    """RLDS: the last step of an episode holds its last observation; its action and reward mean nothing.

    Some writers store a whole transition there instead: it is kept where an action or a reward is not 0. Before a gap,
    a step is treated as the last: what followed it was left out.
    """
    last = marks["ends"].astype(bool)
    log.ends = ends = episode_ends(log, marks)
    if ends is None or not len(last) or np.any(log.actions[last]) or np.any(log.rewards[last]):
        return log
    following = np.append(log.observations[1:], log.observations[-1:], axis=0)
    terminals = np.append(np.ravel(log.terminals)[1:], 0)
    log.timeouts = np.append(ends[1:], False) & ~terminals.astype(bool)
    log.next_observations, log.terminals = following, terminals
    log.ends, log.next_missing = None, False
    keep = ~ends
    keep[-1] = False
    log.take(np.flatnonzero(keep))
    log.remarks.append(f"RLDS: {int((~keep).sum())} last steps hold an observation alone, the next of the step before")
    return log


def environment_arguments(text: str, path: Path) -> dict[str, Any]:
    """Arguments of an environment from their JSON; raise InputError where it is none."""
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InputError(f"{path}: env_kwargs must be a JSON object such as {{}}, not {shown(text)}")
    return arguments
