"""Ends of episodes, derived from the flags, episode ids, times and files of a log."""

from collections.abc import Mapping, Sequence

import numpy as np

from mopo_pl.data.readers.raw_log import RawLog, marked_ends

MARKS = ("ends", "starts", "episodes", "times")
"""Fields that are used only to find the ends of episodes."""
SKIP = 1.5
"""Time step between two rows above which rows are missing between them, in medians of the step."""
RATE = 20
"""Number of consecutive rows whose median time step is compared with that of all rows."""
JITTER = 0.5
"""Interquartile range of such steps above which their median is not meaningful, in medians."""


def row_mark(name: str, mark: np.ndarray, rows: int) -> np.ndarray | None:
    """Return a mark with one value per row, [N], or None if the array cannot be such a mark."""
    mark = mark.ravel()
    if name == "starts" and len(mark) != rows:
        return _flags(mark, rows)
    if name == "ends" and len(mark) != rows and mark.dtype.kind in "iu" and len(mark) and mark[-1] in (rows, rows - 1):
        # The array contains either the indices after the last rows of episodes, or the indices of the last rows.
        return _flags(mark - (1 if mark[-1] == rows else 0), rows)
    if len(mark) != rows or (name == "times" and mark.dtype.kind not in "fiubmM"):
        return None
    if name in ("ends", "starts"):
        if mark.dtype.kind not in "fiub":
            return None
        # Rows with NaN are left out later.
        return mark if (np.isin(mark, (0, 1)) | (mark != mark)).all() else None
    return mark


def _flags(numbers: np.ndarray, rows: int) -> np.ndarray | None:
    """Return flags [N] that are set in the rows `numbers` [K]; None if these are not ascending indices of rows."""
    if numbers.dtype.kind not in "iu" or not (
        (np.diff(numbers) > 0).all() and ((numbers >= 0) & (numbers < rows)).all()
    ):
        return None
    flags = np.zeros(rows, bool)
    flags[numbers] = True
    return flags


def shows_borders(log: RawLog, marks: Mapping[str, np.ndarray]) -> bool:
    """Return whether the log contains data that show if an episode continues in the next file."""
    return log.next_observations is not None or bool({"episodes", "times", "starts"} & marks.keys())


def episode_ends(log: RawLog, marks: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return the rows after which another episode begins or rows are missing, [N] bool; None if the log has no such marks.

    `log.gaps` is set to the rows after which rows are missing, and `log.remarks` gets sentences about unusual marks.
    """
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
        log.gaps = marks["gaps"]
    if "times" in marks:
        back, skips = _time_breaks(marks["times"].astype(np.float64))
        if "episodes" in marks and (within := back & ~np.logical_or.reduce([marked_ends(log), *flags])).any():
            log.remarks.append(
                f"{log.key('times')} falls back or stands after {int(within.sum())} rows inside episodes of {log.key('episodes')}, the first "
                f"is row {int(within.argmax())}; episodes are taken to end there: data.columns.time=none leaves it out"
            )
        elif "episodes" not in marks:
            stands = np.append(np.diff(marks["times"].astype(np.float64)) == 0, False)
            if stands.any():
                log.remarks.append(
                    f"{log.key('times')} stands after {int(stands.sum())} rows, the first is row {int(stands.argmax())}; episodes are taken to "
                    "end there: a finer clock, or data.columns.time=none"
                )
        alone = skips & ~np.logical_or.reduce([marked_ends(log), *flags])
        log.gaps = alone if log.gaps is None else log.gaps | alone
        if alone.any():
            count = int(alone.sum())
            log.remarks.append(
                f"{log.key('times')} skips after {count} row{'' if count == 1 else 's'}, the first is row {int(alone.argmax())}; episodes "
                "are taken to end there"
            )
        if said := _other_rate(marks["times"].astype(np.float64)):
            log.remarks.append(f"{log.key('times')} {said}")
        flags.append(back | skips)
    return np.logical_or.reduce(flags) if flags else None


def _time_breaks(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows after which time decreases or stays equal, and the rows after which it skips, both [N] bool."""
    steps = np.diff(times)
    forward = steps[steps > 0]
    usual = np.median(forward) if len(forward) else np.inf
    return np.append(steps <= 0, False), np.append(steps > SKIP * usual, False)


def _other_rate(times: np.ndarray) -> str:
    """Return a remark if many consecutive rows were written at another rate than most rows; else an empty text."""
    steps = np.diff(times)
    steps = np.where(steps > 0, steps, np.nan)
    count = len(steps) // RATE * RATE
    if count == 0 or np.isnan(steps).all():
        return ""
    pieces = steps[:count].reshape(-1, RATE)
    pieces = pieces[np.isnan(pieces).sum(1) < RATE / 2]
    if not len(pieces):
        return ""
    low, middle, high = np.nanquantile(pieces, (0.25, 0.5, 0.75), axis=1)
    usual = np.nanmedian(steps)
    # If the steps of a piece vary widely, the clock jitters, and the median of the piece is not meaningful.
    other = ((middle < usual / SKIP) | (middle > SKIP * usual)) & (high - low < JITTER * middle)
    if not other.any():
        return ""
    first = int(other.argmax())
    return (
        f"goes on by {middle[first] / usual:.3g} times its usual step in about {int(other.sum()) * RATE} rows: they were written at another rate, at "
        "which an action does more or less in a row; keep rows at one rate"
    )


def join_interleaved_episodes(log: RawLog, marks: dict[str, np.ndarray], file_ends: Sequence[int]) -> None:
    """Put the rows of each episode together, in their order, if the file interleaves episodes.

    `file_ends` contains the index after the last row of each file of a folder. If each id forms one piece within a file, and files have ids
    in common, each file is assumed to number its episodes from the start again.
    """
    ids = marks.get("episodes")
    if ids is None:
        return
    marks["episodes"] = ids = _of_each_file(log, marks, file_ends)
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


def _of_each_file(log: RawLog, marks: Mapping[str, np.ndarray], file_ends: Sequence[int]) -> np.ndarray:
    """Return the episode ids [N], made different in each file if each file numbers its episodes from the start again."""
    ids, rows = marks["episodes"], len(marks["episodes"])
    changes = np.append(True, ids[1:] != ids[:-1])
    if len(file_ends) < 2 or (ids.dtype.kind == "f" and np.isnan(ids).any()):
        return ids
    borders = np.zeros(rows, bool)
    borders[[end for end in file_ends if end < rows]] = True
    if "times" not in marks and (kept := borders & ~changes).any():
        log.remarks.append(
            f"{log.key('episodes')} has the same value before and after {int(kept.sum())} of {len(file_ends) - 1} borders of files: the episode "
            "is taken to go on; write different values where it does not"
        )
    # A piece is a run of equal ids within a file.
    first = np.flatnonzero(changes | borders)
    file, code = np.searchsorted(file_ends, first, side="right"), np.unique(ids[first], return_inverse=True)[1]
    within = file * (code.max() + 1) + code
    again = changes[first] & (np.unique(code, return_index=True)[1][code] != np.arange(len(first)))
    if not again.any() or len(np.unique(within)) < len(first) or _times_go_on(marks, first, code):
        return ids
    log.remarks.append(
        f"{len(np.unique(code[again]))} values of {log.key('episodes')} stand in several files: each file is taken to count its episodes anew"
    )
    return np.cumsum(changes)


def _times_go_on(marks: Mapping[str, np.ndarray], first: np.ndarray, code: np.ndarray) -> bool:
    """Return whether time increases from the end of each piece to the start of the next piece of the same id.

    `first` are the first rows of the pieces, and `code` are their ids as integers.
    """
    if "times" not in marks:
        return False
    order = np.argsort(code, kind="stable")
    last = np.append(first[1:], len(marks["times"])) - 1
    same = code[order][1:] == code[order][:-1]
    return bool((marks["times"][first[order][1:]] > marks["times"][last[order][:-1]])[same].all())


def without_last_steps(log: RawLog, marks: Mapping[str, np.ndarray]) -> RawLog:
    """Convert an RLDS log, in which the last step of an episode has only an observation, and a meaningless action and reward.

    The observation becomes the next observation of the step before. Some writers store a complete transition in the last step instead: the
    steps are kept if any of their actions or rewards is not 0. A step before a gap is treated as a last step, as what followed was left out.
    """
    last = marks["ends"].astype(bool)
    log.ends = ends = episode_ends(log, marks)
    if ends is None or not len(last) or np.any(log.actions[last]) or np.any(log.rewards[last]):
        return log
    following = np.append(log.observations[1:], log.observations[-1:], axis=0)
    terminals = np.append(np.ravel(log.terminals)[1:], 0)
    log.timeouts = np.append(ends[1:], False) & ~terminals.astype(bool)
    log.next_observations, log.terminals = following, terminals
    log.ends, log.gaps, log.next_missing = None, None, False
    keep = ~ends
    keep[-1] = False
    log.take(np.flatnonzero(keep))
    log.remarks.append(f"RLDS: {int((~keep).sum())} last steps hold an observation alone, the next of the step before")
    return log
