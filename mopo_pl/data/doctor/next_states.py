"""Checks that next states are the states that followed."""

from collections.abc import Iterator

import numpy as np

from mopo_pl.data.doctor.evidence import ENOUGH, Evidence, Verdict, alike, evenly, some_rows
from mopo_pl.data.doctor.regression import MOST as LOOKED_AT
from mopo_pl.data.doctor.regression import explained
from mopo_pl.data.log.packing import SAME
from mopo_pl.data.readers.raw_log import blocks, marked_ends

MANY = 500
"""Smallest number of rows for a fit."""
FITTED = 100_000
"""Largest number of rows, evenly spaced, that are compared or fitted."""
FIT_WORK = 2 * 10**8
"""Largest product of rows and squared columns of a fit, which then takes a second or two."""
MOSTLY = 0.9
"""Share of the rows above which a pattern counts as a rule."""
LINEAR = 0.9999
"""Squared correlation above which two columns are the same in different units."""
FAR = 3.0
"""Ratio of the steps across borders of episodes to large steps inside them, above which the steps join unrelated states."""


def copied(log: Evidence) -> Iterator[Verdict]:
    """Report next states that equal the states, though the state changes from row to row."""
    following = log.raw.next_observations
    if following is None or log.rows < ENOUGH:
        return
    moving = log.moving
    same = alike(following[:-1], log.raw.observations[:-1]) & moving
    if 2 * same.sum() > moving.sum():
        yield Verdict(
            "STOP",
            f"{log.raw.key('next_observations')} equals {log.raw.key('observations')} in {int(same.sum())} of "
            f"{int(moving.sum())} rows after which the state changes: nothing would be learned of the dynamics",
            "write what followed each row, or leave the array out so that the next row is taken "
            "(data.columns.next_observation=none)",
        )


def shifted(log: Evidence) -> Iterator[Verdict]:
    """Report next states that are the states of one row too late or too early."""
    if log.shift is not None:
        direction, rows, moving = log.shift
        yield Verdict(
            "STOP",
            f"{log.raw.key('next_observations')} is one row too {direction} in {rows} of {moving} rows",
            "shift it by one row within each episode, or leave it out (data.columns.next_observation=none)",
        )


def breaks(log: Evidence) -> Iterator[Verdict]:
    """Report next states that differ from the next row's state in rows without a marked end."""
    if log.raw.next_observations is None or log.rows < ENOUGH or log.shift:  # then reported by `shifted`
        return
    broken = ~log.goes_on & ~marked_ends(log.raw)[:-1]
    count, inside = int(broken.sum()), int((~marked_ends(log.raw)[:-1]).sum())
    marked = log.raw.timeouts is not None or log.raw.ends is not None
    # Such rows directly after each other cannot be ends of episodes.
    in_a_row = int((broken[1:] & broken[:-1]).sum())
    looked_at = ~marked_ends(log.raw)[:-1] if 2 * count > inside else broken
    if (2 * count > inside or (in_a_row > ENOUGH and 2 * in_a_row > count)) and (
        wrong := _wrong_columns(log, looked_at)
    ):
        where = "" if 2 * count > inside else f" in {count} of {inside} rows (row {some_rows(broken)})"
        yield Verdict(
            "STOP",
            f"{log.raw.key('next_observations')} does not hold the next row's states{where}, though the rows are in order: {wrong}",
            "mend those columns, or leave the array out so that the next row is taken (data.columns.next_observation=none)",
        )
    elif 2 * count > inside:
        yield Verdict(
            "WARN",
            f"the next state is not the next row's in {count} of {inside} rows inside episodes: the rows are not in "
            "their order of collection, and returns of episodes are not known",
            "put them in order, unless each row is a transition of its own",
        )
    elif count and (marked or (in_a_row > ENOUGH and 2 * in_a_row > count)):
        yield Verdict(
            "WARN",
            f"the next state is not the next row's in {count} of {inside} rows where no end is marked (row "
            f"{some_rows(broken)}): episodes are taken to end there",
            "mark those ends in timeouts",
        )


def _wrong_columns(log: Evidence, which: np.ndarray) -> str:
    """Return a text on how columns of s' differ from the next row's state in the rows `which` [N - 1] bool.

    It names columns that hold the change, the values of another column, or values in other units, or it states that s' is the row's state or a
    later one. The text is empty if none of these applies.
    """
    assert log.raw.next_observations is not None
    rows = evenly(np.flatnonzero(which), FITTED)
    states, later, given = (
        array.astype(np.float64)
        for array in (log.raw.observations[rows], log.raw.observations[rows + 1], log.raw.next_observations[rows])
    )
    tolerance = SAME * log.spread

    def same(values: np.ndarray, others: np.ndarray, column: int) -> bool:
        return bool((np.abs(values - others) <= tolerance[column] + 1e-6 * np.abs(others)).mean() > MOSTLY)

    changing = [column for column in range(given.shape[1]) if np.ptp(given[:, column]) > 0]
    wrong = [column for column in changing if not same(given[:, column], later[:, column], column)]
    # If this holds in most rows, `copied` reports it.
    if 2 * which.sum() < log.rows and wrong and all(same(given[:, d], states[:, d], d) for d in changing):
        return "it is the row's own state"
    told = []
    for column in wrong:
        name, values = log.column(column), given[:, column]
        if same(values, later[:, column] - states[:, column], column):
            told.append(f"{name} holds the change")
            continue
        other = next((d for d in changing if d != column and same(values, later[:, d], d)), None)
        if other is not None:
            told.append(f"{name} holds {log.column(other)}")
        elif np.ptp(later[:, column]) > 0 and np.corrcoef(values, later[:, column])[0, 1] ** 2 > LINEAR:
            told.append(f"{name} is in other units")
    for steps in range(2, 6):
        ahead = rows[rows + steps < log.rows]
        further = log.raw.observations[ahead + steps].astype(np.float64)
        at = log.raw.next_observations[ahead].astype(np.float64)
        if wrong and not told and all(same(at[:, column], further[:, column], column) for column in changing):
            return f"it is the state {steps} rows later"
    return ", ".join(told[:8])


def across_borders(log: Evidence) -> Iterator[Verdict]:
    """Report next states at the ends of episodes that are the distant first state of the next episode, and rows that lead from one to the other."""
    following = log.raw.next_observations
    if following is None or len(log.ends) < 4:
        return
    marked = marked_ends(log.raw)[:-1]
    joined = marked & log.goes_on
    inside = ~marked
    if joined.sum() < 3 or 2 * joined.sum() <= marked.sum() or not inside.any():
        return
    after = np.flatnonzero(joined) + 1
    after = after[after < log.rows - 1]
    idle = np.asarray(log.raw.rewards)[after] == 0
    steps = np.empty(log.rows - 1)
    for part in blocks(log.rows - 1):
        change = following[part] - log.raw.observations[part].astype(np.float64)
        steps[part] = np.sqrt(((change / log.spread) ** 2).mean(1))
    usual = np.quantile(steps[inside], 0.99)
    if len(after) and idle.mean() > MOSTLY and np.median(steps[after]) > FAR * np.quantile(steps[inside], 0.9):
        yield Verdict(
            "STOP",
            f"after {len(after)} of {int(marked.sum())} ends stands a row with reward 0 that leads from the last state to the first one of "
            f"the next episode (row {int(after[0])}): Gymnasium's vector environments make such steps when they reset",
            "leave those rows out",
        )
    elif np.median(steps[joined]) > FAR * usual:
        yield Verdict(
            "STOP",
            f"the next state of {int(joined.sum())} of {int(marked.sum())} last rows is the first state of the next "
            f"episode (row {some_rows(joined)}): it is not what followed",
            "write the episode's own last state there, or leave the array out (data.columns.next_observation=none)",
        )


def at_ends(log: Evidence) -> Iterator[Verdict]:
    """Report next states at the ends of episodes that are placeholders: zeros, or the state itself."""
    following = log.raw.next_observations
    if following is None or len(log.ends) < 5:
        return
    last = following[log.ends]
    for what, filled in (("zeros", last == 0), ("the row's own state", last == log.raw.observations[log.ends])):
        count = int(filled.all(1).sum())
        if 2 * count > len(last) and 2 * int((following == 0).all(1).sum()) < log.rows:
            yield Verdict(
                "WARN",
                f"the next state of {count} of {len(last)} last rows is {what}: the model learns a false step there",
                "write the episode's own last state, or leave the array out (data.columns.next_observation=none)",
            )


def shuffled(log: Evidence) -> Iterator[Verdict]:
    """Report rows that do not explain the next row, in a log without next states."""
    if log.raw.next_observations is not None or log.inside.sum() < MANY:
        return
    here = evenly(np.flatnonzero(log.inside), LOOKED_AT)
    states = log.raw.observations
    shares = explained(np.concatenate([states[here], log.raw.actions[here]], 1, dtype=np.float64), states[here + 1])
    changing = log.moments[1] > 0
    if changing.any() and shares[changing].max() < 0.05:
        yield Verdict(
            "STOP",
            "states and actions say nothing about the next row, which is taken for what followed: the rows look shuffled",
            "write the rows in their order of collection, or add next_observations",
        )


def jumps(log: Evidence) -> Iterator[Verdict]:
    """Report a few rows whose next row is far from a linear prediction, in a log without next states."""
    if log.raw.next_observations is not None or log.inside.sum() < MANY:
        return
    here = np.flatnonzero(log.inside)
    moving = np.array([(log.steps(column) != 0).mean() > 0.5 for column in range(len(log.spread))])
    if not moving.any():
        return
    far = np.zeros(log.rows, bool)
    far[here] = _outlying(log, here, moving) > 12
    count = int(far.sum())
    if not 0 < count <= 0.05 * len(here):
        return
    begins, period = _like_beginnings(log, far), _period(log, far)
    column, alone = _jumping(log, far, here, moving)
    if alone:  # such as a clock that returns to 0 at midnight, or a dose; a new episode would change more columns
        begins, period = False, None
    sign = ", and is like the beginning of an episode" if begins else f", every {period} rows" if period else ""
    yield Verdict(
        "STOP" if sign else "WARN",
        f"in {count} rows inside episodes (row {some_rows(far)}) the next row does not continue the one before{sign}"
        + (": ends are not marked" if sign else f"; {column} {'alone jumps' if alone else 'changes most'} there"),
        "mark the ends of episodes and of gaps in timeouts, "
        f"set data.time_limit{f'={period}' if period else ''}, or add next_observations"
        + ("" if sign else "; nothing is to be done where that column jumps by itself"),
    )


def _jumping(log: Evidence, far: np.ndarray, here: np.ndarray, moving: np.ndarray) -> tuple[str, bool]:
    """Return the name of the column that changes most after the marked rows, and whether it is the only one of three or more that jumps.

    Args:
        log: The log.
        far: Marked rows, [N] bool.
        here: Indices of the rows inside episodes.
        moving: Columns that change in most rows, [D] bool.

    """
    usual, jumps = (
        np.abs(_changes(log, evenly(rows, FITTED), np.ones_like(moving))[1])
        for rows in (here[~far[here]], np.flatnonzero(far))
    )
    unusual = moving & (np.median(jumps, 0) > np.quantile(usual, 0.99, 0))
    if unusual.sum() == 1 and moving.sum() >= 3:
        return log.columns(unusual), True
    return log.column(int(jumps.mean(0).argmax())), False


def _period(log: Evidence, far: np.ndarray) -> int | None:
    """Return the greatest common divisor of the positions of the marked rows in their episodes, counted from 1.

    The result is None if there are fewer than three marked rows, or if the divisor is below `ENOUGH`.
    """
    rows = np.flatnonzero(far)
    starts = np.concatenate([[0], log.ends[:-1] + 1])
    after = rows + 1 - starts[np.searchsorted(log.ends, rows)]
    period = int(np.gcd.reduce(after))
    return period if len(rows) >= 3 and period >= ENOUGH else None


def _outlying(log: Evidence, here: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Return the distance of the changes after the rows `here` from a linear fit, in root mean square errors, [n].

    The fit, and the errors that are the unit, are those of the 95 % of the rows that are closest to it.
    """
    fitted = evenly(here, min(FITTED, max(FIT_WORK // len(moving) ** 2, LOOKED_AT)))
    inputs, targets = _changes(log, fitted, moving)
    near = np.ones(len(inputs), bool)
    distance = np.zeros(len(inputs))
    weights, scale = np.zeros((inputs.shape[1], targets.shape[1])), np.ones(targets.shape[1])
    for _ in range(3):
        weights = np.linalg.lstsq(inputs[near], targets[near], rcond=None)[0]
        errors = targets - inputs @ weights
        scale = np.sqrt((errors[near] ** 2).mean(0)) + 1e-3 * np.abs(targets[near]).mean(0) + 1e-12
        distance = np.sqrt(((errors / scale) ** 2).mean(1))
        near = distance <= np.quantile(distance, 0.95)
    if len(fitted) == len(here):
        return distance
    distance = np.empty(len(here))
    for part in blocks(len(here)):
        inputs, targets = _changes(log, here[part], moving)
        distance[part] = np.sqrt((((targets - inputs @ weights) / scale) ** 2).mean(1))
    return distance


def _changes(log: Evidence, rows: np.ndarray, moving: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs of states, actions and a constant 1, [n, D + A + 1], and the changes of the moving columns in standard deviations."""
    states, later = (log.raw.observations[at].astype(np.float64) for at in (rows, rows + 1))
    inputs = np.concatenate([states / log.spread, log.raw.actions[rows], np.ones((len(rows), 1))], 1, dtype=np.float64)
    return inputs, ((later - states) / log.spread)[:, moving]


def _like_beginnings(log: Evidence, far: np.ndarray) -> bool:
    """Return whether most states after the marked rows lie in the range of the first states of episodes, and less than half of all states do."""
    starts = log.raw.observations[log.ends[:-1] + 1].astype(np.float64)
    if len(starts) < 5 or far.sum() < 3:
        return False
    margin, like = 0.25 * (starts.max(0) - starts.min(0)) + 1e-9, np.empty(log.rows, bool)
    for part in blocks(log.rows):
        states = log.raw.observations[part].astype(np.float64)
        like[part] = ((states >= starts.min(0) - margin) & (states <= starts.max(0) + margin)).all(1)
    return bool(like[np.flatnonzero(far) + 1].mean() >= 0.8 and like.mean() < 0.5)
