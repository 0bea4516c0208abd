"""From named arrays to a `RawLog`: which array is which field, and where episodes end."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mopo_pl.data.dataset import ColumnNames
from mopo_pl.data.raw_log import RawLog, Unused, fields_of, marked_ends, squeeze
from mopo_pl.data.readers.names import NAMES, REQUIRED, Columns, find_fields, listed
from mopo_pl.errors import InputError

SKIP = 1.5
"""Time between two rows, in medians of it, from which rows are missing between them."""

Shape = tuple[int, ...]


def log_of_arrays(
    source: str,
    shapes: Mapping[str, Shape],
    load: Callable[[str], np.ndarray],
    columns: Columns,
    *,
    required: Sequence[str] = REQUIRED,
    drop_missing: bool = False,
) -> RawLog:
    """Read the fields of a log from arrays by name.

    Args:
        source: File, as messages call it.
        shapes: Key and shape of each array of the file.
        load: Gives the array of a key; called for the keys that are used alone.
        columns: The user's mapping.
        required: Fields without which the log is refused.
        drop_missing: Leave out rows with NaN, and end an episode before each.

    """
    found = find_fields(shapes, source, columns, required)
    arrays: dict[str, Any] = {name: _stacked([load(key) for key in keys], keys, source) for name, keys in found.items()}
    rows = len(arrays["observations"]) if arrays["observations"].ndim else 0
    arrays.setdefault("terminals", np.zeros(rows, bool))
    marks = {name: arrays.pop(name) for name in ("ends", "starts", "episodes", "times") if name in arrays}
    log = RawLog(
        source=source,
        keys={name: keys[0] if len(keys) == 1 else listed(keys) for name, keys in found.items()},
        names=ColumnNames(
            *(tuple(found[name]) if len(found[name]) > 1 else () for name in ("observations", "actions"))
        ),
        unused=_unused(shapes, {key for keys in found.values() for key in keys}, rows),
        next_missing="next_observations" not in found and "next_observations" not in columns,
        **arrays,
    )
    if any(array.shape[:1] != (rows,) for _, array, _ in fields_of(log)):
        return log  # which is refused for it
    squeeze(log)
    _regroup(log, marks)
    if drop_missing:
        _drop_missing(log, marks)
    if "starts" in marks and "ends" in marks and found["ends"] == ["is_last"]:
        return _without_last_steps(log, marks["ends"])
    log.ends = episode_ends(log, marks)
    return log


def _stacked(arrays: list[np.ndarray], keys: Sequence[str], source: str) -> np.ndarray:
    """One array as it is, several as columns of one."""
    if len(arrays) == 1:
        return arrays[0]
    try:
        return np.column_stack(arrays)
    except ValueError as error:
        raise InputError(f"{source}: {listed(keys)} cannot be columns of one array ({error})") from error


def _unused(shapes: Mapping[str, Shape], used: set[str], rows: int) -> list[Unused]:
    known = {name for names in NAMES.values() for name in names}
    return [
        Unused(key, shape, key in known)
        for key, shape in shapes.items()
        if key not in used and shape[:1] == (rows,) and rows > 1
    ]


def episode_ends(log: RawLog, marks: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Rows after which the file begins another episode or leaves rows out [N] bool; None where nothing says so."""
    rows = len(log.observations)
    flags = []
    if "ends" in marks and marks["ends"].size == rows:
        flags.append(marks["ends"].ravel().astype(bool))
    if "starts" in marks:
        flags.append(_before(_starts(marks["starts"], rows)))
    if "episodes" in marks and len(marks["episodes"]) == rows:
        ids = marks["episodes"].ravel()
        flags.append(np.append(ids[1:] != ids[:-1], False))
    if "times" in marks and len(marks["times"]) == rows:
        back, skips = _time_breaks(marks["times"].ravel().astype(np.float64))
        alone = skips & ~np.logical_or.reduce([marked_ends(log), *flags])
        if alone.any():
            log.remarks.append(
                f"{log.key('times')} skips after {int(alone.sum())} rows, the first is row {int(alone.argmax())}; episodes "
                "are taken to end there"
            )
        flags.append(back | skips)
    if "gaps" in marks:
        flags.append(marks["gaps"])
    return np.logical_or.reduce(flags) if flags else None


def _starts(marks: np.ndarray, rows: int) -> np.ndarray:
    """Flags [N], or the row numbers of the beginnings [K], as flags."""
    marks = marks.ravel()
    flags = np.zeros(rows, bool)
    if len(marks) == rows and np.isin(marks, (0, 1)).all():
        return marks.astype(bool)
    if marks.dtype.kind in "iu" and len(marks) < rows and (np.diff(marks) > 0).all() and (marks < rows).all():
        flags[marks] = True
    return flags


def _before(starts: np.ndarray) -> np.ndarray:
    return np.append(starts[1:], False)


def _time_breaks(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows after which time falls back or stands, and rows after which it skips [N] bool."""
    steps = np.diff(times)
    forward = steps[steps > 0]
    usual = np.median(forward) if len(forward) else np.inf
    return np.append(steps <= 0, False), np.append(steps > SKIP * usual, False)


def _regroup(log: RawLog, marks: dict[str, np.ndarray]) -> None:
    """Put the rows of an episode together, in their order, where the file interleaves episodes."""
    ids = marks.get("episodes")
    if ids is None or len(ids) != len(log.observations):
        return
    _, first, place = np.unique(ids.ravel(), return_index=True, return_inverse=True)
    pieces = 1 + int((place[1:] != place[:-1]).sum())
    if pieces == len(first):
        return
    order = np.argsort(first[place], kind="stable")
    log.take(order)
    for name in marks:
        if len(marks[name]) == len(order):
            marks[name] = marks[name][order]
    log.remarks.append(
        f"the rows of {len(first)} episodes stand in {pieces} pieces; they are put together by {log.key('episodes')}"
    )


def _drop_missing(log: RawLog, marks: dict[str, np.ndarray]) -> None:
    """Leave out rows with NaN; `marks["gaps"]` says before which rows some were left out."""
    fields = [array for _, array, _ in fields_of(log)] + list(marks.values())
    rows = len(log.observations)
    missing = np.logical_or.reduce([np.isnan(array.reshape(rows, -1).astype(float)).any(1) for array in fields])
    if not missing.any():
        return
    keep = np.flatnonzero(~missing)
    log.take(keep)
    marks.update({name: array[keep] for name, array in marks.items()})
    marks["gaps"] = np.append(np.diff(keep) > 1, keep[-1:] < rows - 1)


def _without_last_steps(log: RawLog, last: np.ndarray) -> RawLog:
    """RLDS: the last step of an episode holds its last observation; its action and reward mean nothing.

    Some writers store a whole transition there instead: it is kept where an action or a reward is not 0.
    """
    last = last.ravel().astype(bool)
    if len(last) != len(log.observations) or np.any(log.actions[last]) or np.any(log.rewards[last]):
        log.ends = last
        return log
    following = np.append(log.observations[1:], log.observations[-1:], axis=0)
    terminals = np.append(np.ravel(log.terminals)[1:], 0)
    log.timeouts = np.append(last[1:], False) & ~terminals.astype(bool)
    log.next_observations, log.terminals = following, terminals
    log.next_missing = False
    keep = ~last
    keep[-1] = False
    log.take(np.flatnonzero(keep))
    log.remarks.append(f"RLDS: {int((~keep).sum())} last steps hold an observation alone, the next of the step before")
    return log
