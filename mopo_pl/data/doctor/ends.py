"""Checks that the ends of episodes, and the flags of their reasons, are correct."""

from collections.abc import Iterator

import numpy as np

from mopo_pl.data.doctor.evidence import Evidence, Verdict, some_rows
from mopo_pl.data.readers.raw_log import marked_ends

LONG = 1000
"""Number of rows from which a log without a marked end is suspicious."""
SEVERAL = 5
"""Smallest number of agreeing episodes or rows that is not attributed to chance."""
SHORT = 20
"""Number of steps below which episodes of equal length are common."""


def both_flags(log: Evidence) -> Iterator[Verdict]:
    """Report rows that are marked both as terminal and as a time limit, which contradict each other."""
    if log.raw.timeouts is None:
        return
    limits = np.asarray(log.raw.timeouts, bool)
    both = limits & np.asarray(log.raw.terminals, bool)
    count, total = int(both.sum()), int(limits.sum())
    if not count:
        return
    terminals, timeouts = log.raw.key("terminals"), log.raw.key("timeouts")
    always = count == total and total >= SEVERAL and log.rows >= SHORT
    yield Verdict(
        "STOP" if always else "WARN",
        f"{terminals} and {timeouts} are both set in {count} rows (row {some_rows(both)}), of {total} with {timeouts}: "
        f"they count as terminal{', and the policy learns that time kills' if always else ''}",
        f"clear {terminals} where {timeouts} is set, if it was done = terminated or truncated",
    )


def terminal_limits(log: Evidence) -> Iterator[Verdict]:
    """Report terminal episodes of equal length, which look like a time limit."""
    terminal = np.asarray(log.raw.terminals, bool)[log.ends]
    lengths = log.lengths[terminal]
    if len(lengths) < SEVERAL:
        return
    longest = int(lengths.max())
    count = int((lengths == longest).sum())
    near = int(((lengths >= 0.9 * longest) & (lengths < longest)).sum())
    alike = count == len(lengths) and longest > 1
    if alike or (longest >= SHORT and count >= SEVERAL and count > 3 * near):
        yield Verdict(
            "WARN",
            f"{'all ' if alike else ''}{count}{'' if alike else f' of {len(lengths)}'} terminal episodes last {longest} steps"
            f"{'' if alike else ', and none is longer'}: that looks like a time limit",
            "mark it in timeouts and not as terminal, or the policy learns that time kills",
        )


def terminals_wrong(log: Evidence) -> Iterator[Verdict]:
    """Report terminal flags that are inverted, are in the row before or after the correct one, or stay on for several rows."""
    terminal = np.asarray(log.raw.terminals, bool)
    # If every row is terminal, each row is a separate episode.
    if log.rows >= SHORT and terminal.any() and not terminal.all():
        for found in (_inverted(log, terminal), _one_row_off(log, terminal), _held(log, terminal)):
            if found is not None:
                yield found
                return


def _inverted(log: Evidence, terminal: np.ndarray) -> Verdict | None:
    """Return a verdict if most rows are terminal [N] bool but continue in the next row, while most others do not; else None."""
    key, count = log.raw.key("terminals"), int(terminal.sum())
    if log.raw.next_observations is None or 2 * count <= log.rows:
        return None
    on = log.goes_on
    going = int((on & terminal[:-1]).sum())
    if 2 * going <= count or 2 * (on & ~terminal[:-1]).sum() > (~terminal[:-1]).sum():
        return None
    return Verdict(
        "STOP",
        f"{key} is set in {count} of {log.rows} rows, of which {going} go on with the next row: is it inverted, as a mask or a discount is?",
        f"write 1 - {key}, if 1 says there that the episode goes on",
    )


def _one_row_off(log: Evidence, terminal: np.ndarray) -> Verdict | None:
    """Return a verdict if terminal rows [N] bool continue in the next row, while the row before or after each ends without a mark; else None."""
    key, count = log.raw.key("terminals"), int(terminal.sum())
    if log.raw.next_observations is None:
        return None
    on = log.goes_on
    unmarked = ~on & ~marked_ends(log.raw)[:-1]
    inside = terminal[:-1] & on
    for word, off, fix in (
        ("late", inside & np.append(False, unmarked[:-1]), f"move {key} one row up"),
        ("early", inside & np.append(unmarked[1:], False), f"move {key} one row down"),
    ):
        if off.sum() < SEVERAL or 2 * off.sum() <= count:
            continue
        if word == "early" and _idle(log, np.flatnonzero(off) + 1):
            return Verdict(
                "STOP",
                f"a row without action and reward stands after {int(off.sum())} of {count} rows where {key} is set (row {some_rows(off)}): it "
                "seems to hold the last observation alone",
                "leave that row out",
            )
        return Verdict(
            "STOP",
            f"{key} stands one row too {word} in {int(off.sum())} of {count} rows (row {some_rows(off)}): s' goes on there as the next row, and "
            f"breaks off one row {'before' if word == 'late' else 'after'}",
            fix,
        )
    return None


def _idle(log: Evidence, rows: np.ndarray) -> bool:
    """Return whether action and reward are 0 in most of the given rows."""
    idle = (log.raw.actions[rows] == 0).all(1) & (np.asarray(log.raw.rewards)[rows] == 0)
    return bool(2 * idle.sum() > len(rows))


def _held(log: Evidence, terminal: np.ndarray) -> Verdict | None:
    """Return a verdict if terminal rows [N] bool follow each other more often than by chance, and continue in the next row; else None."""
    key, count = log.raw.key("terminals"), int(terminal.sum())
    held = terminal[1:] & terminal[:-1] & (True if log.raw.next_observations is None else log.goes_on)
    if held.sum() < SEVERAL or held.sum() / count <= max(0.25, 3 * count / log.rows):
        return None
    places = int((np.diff(np.append(False, held).astype(np.int8)) == 1).sum())
    return Verdict(
        "WARN",
        f"{key} stays on for several rows in {places} places (row {some_rows(np.append(held, False))}): each of these rows counts as an "
        "episode of its own",
        "set it in the first of them alone, and leave out the rows until the next episode begins",
    )


def no_ends(log: Evidence) -> Iterator[Verdict]:
    """Report a long log without a marked end of an episode."""
    if len(log.ends) == 1 and log.rows >= LONG:
        yield Verdict(
            "WARN",
            f"no end of an episode is marked in {log.rows} rows",
            "mark ends in timeouts, or set data.time_limit, unless this is one episode",
        )


def short(log: Evidence) -> Iterator[Verdict]:
    """Report episodes that are so short that most next states are unknown, or that returns are not meaningful."""
    terminal = np.asarray(log.raw.terminals, bool)
    lost = int((~log.dataset.next_known.numpy() & ~terminal).sum())
    alone = int((~terminal[log.ends] & (log.lengths == 1)).sum())
    if log.rows < SHORT or (2 * lost < log.rows and 2 * alone <= log.rows):
        return
    if not lost and log.raw.timeouts is None and log.raw.ends is None:
        return  # the rows are in another order, which `next_states.breaks` reports
    marks = [log.raw.keys[name] for name in ("times", "episodes", "ends", "starts", "timeouts") if name in log.raw.keys]
    of = f", whose ends {' and '.join(marks)} mark{'s' if len(marks) == 1 else ''}" if marks else ""
    clock = "times" in log.raw.keys
    yield Verdict(
        "STOP" if lost else "WARN",
        f"episodes{of}, last {log.rows / len(log.ends):.1f} rows on average"
        + (f"; of {lost} of {log.rows} rows it is not known what followed" if lost else "")
        + (
            "; where time falls back or stands, an episode ends: is the clock coarser than the rows, or do machines alternate?"
            if clock
            else ""
        ),
        (
            "data.columns.time=none, or a finer clock; data.columns.episode=COLUMN that tells the machines apart"
            if clock
            else "name another array, or none (data.columns.episode=none, data.columns.truncated=none), or add next_observations"
        ),
    )


def merged(log: Evidence) -> Iterator[Verdict]:
    """Report episodes without a terminal state whose lengths are multiples of the shortest one, as if some time limits were not marked."""
    limited = log.lengths[:-1][~np.asarray(log.raw.terminals, bool)[log.ends[:-1]]]
    if len(limited) < SEVERAL:
        return
    unit = int(limited.min())
    if unit >= SHORT and limited.max() > unit and not (limited % unit).any():
        count = int((limited > unit).sum())
        yield Verdict(
            "WARN",
            f"{count} of {len(limited)} episodes last a multiple of {unit} steps, up to {int(limited.max())}: some time "
            "limits seem not to be marked",
            f"mark them in timeouts, or set data.time_limit={unit}",
        )


def limit_beside_marks(log: Evidence) -> Iterator[Verdict]:
    """Report episodes that `data.time_limit` ends where the file marks no end."""
    if log.raw.timeouts is None:
        return
    marked = marked_ends(log.raw)
    marked[-1] = True
    cuts = len(log.ends) - int(marked[log.ends].sum())
    if cuts and log.raw.next_observations is None:
        yield Verdict("WARN", f"data.time_limit ends {cuts} episodes where {log.raw.key('timeouts')} marks no end", "")
