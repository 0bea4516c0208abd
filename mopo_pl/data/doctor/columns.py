"""Checks for observation columns and rewards that are unsuitable for a network or for float32."""

from collections.abc import Callable, Iterator

import numpy as np

from mopo_pl.data.doctor.evidence import LOOKED_AT, Evidence, Verdict, evenly, some_rows
from mopo_pl.data.readers.names import shown
from mopo_pl.data.readers.raw_log import blocks

SCALES = 1000.0
"""Ratio of the standard deviations of two columns above which a network hardly uses the smaller one."""
STUCK = 20
"""Smallest number of steps without a change that count as stuck, in a column that otherwise changes in 99 % of the steps."""
COARSE = 0.1
"""Resolution of float32 at the values of a column, above which its steps are lost to rounding, in median steps."""
GAP = 3.0
"""Distance of a value from all others above which it is not a normal measurement, in ranges of the others."""
CODES = 3
"""Largest number of values of one column that may be codes, such as -999 and -998."""
RUINOUS = 100.0
"""The same distance above which a normalised observation column carries no information any more."""
FEW = 200
"""Smallest number of rows for checks of shares of the rows."""
STRAIGHT = 0.5
"""Share of the rows in which a column repeats its last step, above which its values count as interpolated."""
HUGE = 1e4
"""Size of rewards above which state values are too large for the critics."""


def constant(log: Evidence) -> Iterator[Verdict]:
    """Report observation columns that never change."""
    states = log.raw.observations
    same = np.logical_and.reduce([(states[part] == states[0]).all(0) for part in blocks(len(states))])
    if same.any():
        yield Verdict("WARN", f"observation columns never change: {log.columns(same)}", "leave them out")


def scales(log: Evidence) -> Iterator[Verdict]:
    """Report observation columns whose standard deviations differ by a large factor."""
    spread = log.moments[1]
    changing = np.flatnonzero(spread > 0)
    if len(changing) < 2:
        return
    small, large = (int(changing[pick(spread[changing])]) for pick in (np.argmin, np.argmax))
    if spread[large] > SCALES * spread[small]:
        yield Verdict(
            "WARN",
            f"observation columns differ in scale by {spread[large] / spread[small]:.0e}: the standard deviation of "
            f"{log.column(large)} is {spread[large]:.3g}, of {log.column(small)} {spread[small]:.3g}",
            "keep sac.normalise_observations=true, or use other units",
        )


def stuck(log: Evidence) -> Iterator[Verdict]:
    """Report observation columns that repeat one value for many steps and otherwise change in nearly every step."""
    steps = max(int(log.inside.sum()), 1)
    for column, values in enumerate(log.raw.observations.T):
        first, length = _runs((values[1:] == values[:-1]) & log.inside)
        long = length >= STUCK
        # A value may rest at the end of its range (sunlight at night), or be held at one and the same level by a programme.
        levels = values[first]
        long &= (levels != values.min()) & (levels != values.max())
        if len(held := levels[long]) > 2 and (held == held[0]).all():
            continue
        rest = int(length[~long & (length < STUCK)].sum())
        if long.any() and rest <= 0.01 * steps and length[long].sum() <= 0.5 * steps:
            at = int(first[long][0])
            yield Verdict(
                "WARN",
                f"{log.column(column)} repeats one value for {int(length[long].max())} steps, "
                f"{'once' if long.sum() == 1 else f'{int(long.sum())} times'}, from row {at} on; else it changes at each step",
                "look for a sensor that was stuck, and leave those rows out",
            )


def _runs(marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first index and the length of each run of True."""
    edges = np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8))
    first = np.flatnonzero(edges == 1)
    return first, np.flatnonzero(edges == -1) - first


def counters(log: Evidence) -> Iterator[Verdict]:
    """Report observation columns that count time or rows, with nearly the same step in every row."""
    if log.inside.sum() < STUCK:
        return
    counts = np.zeros(log.raw.observations.shape[1], bool)
    for column in range(len(counts)):
        steps = log.steps(column)
        usual = np.median(steps)
        counts[column] = usual != 0 and (np.abs(steps - usual) <= 1e-2 * np.abs(usual)).mean() > 0.99
    if counts.any():
        yield Verdict(
            "WARN",
            f"observation columns count time or rows: {log.columns(counts)}",
            "leave them out, unless the task depends on time",
        )


def rounded(log: Evidence) -> Iterator[Verdict]:
    """Report observation columns whose steps are too small for the resolution of float32 at their values."""
    if not log.inside.any():
        return
    coarse = np.zeros(log.raw.observations.shape[1], bool)
    for column in range(len(coarse)):
        steps = np.abs(log.steps(column))
        steps = steps[steps != 0]
        resolution = np.spacing(np.abs(log.values(column)).max().astype(np.float32))
        coarse[column] = len(steps) and resolution > COARSE * np.median(steps)
    if coarse.any():
        yield Verdict(
            "WARN",
            f"float32 rounds away the steps of observation columns {log.columns(coarse)}",
            "subtract their mean, or use other units, before the log is written",
        )


def interpolated(log: Evidence) -> Iterator[Verdict]:
    """Report rows between measurements of the state, which were filled in by straight lines or by the values of the row before."""
    yield from _held(log)
    # Only rows in which the action changes are used. With a constant action, a measured level may also repeat its step.
    acted = (log.raw.actions[1:-1] != log.raw.actions[:-2]).any(1)
    here = evenly(np.flatnonzero(log.inside[:-1] & log.inside[1:] & acted), LOOKED_AT)
    if len(here) < FEW:
        return
    first, second, third = (log.raw.observations[here + k].astype(np.float64) for k in range(3))
    before, after = second - first, third - second
    moves = before != 0
    same = (np.abs(after - before) <= 1e-3 * np.abs(before) + _rounding(before)) & moves
    share = same.sum(0) / np.maximum(moves.sum(0), 1)
    # A column that always repeats its step is a clock, which `counters` reports.
    moving = (moves.mean(0) >= 0.5) & (share < 0.99)
    straight = moving & (share > STRAIGHT)
    # Interpolated columns have their straight lines between the same rows. Axes that each move at a constant speed turn in different rows.
    together = same[:, straight].all(1).sum() > 0.9 * same[:, straight].any(1).sum()
    if straight.sum() > 1 and 2 * straight.sum() > moving.sum() and together:
        yield Verdict(
            "WARN",
            "observation columns go on by the same step in most rows, as values that are interpolated between the stored ones: "
            f"{log.columns(straight)}; such a row says what follows it, which the machine does not",
            "export the stored values, one row for each moment at which they were measured",
        )


def _rounding(steps: np.ndarray) -> np.ndarray:
    """Return by how much equal steps [n, D] may differ because values are rounded to a decimal, [D]; 0 if steps are not much larger than that."""
    sizes = np.abs(steps)
    unit = np.where(sizes > 1e-9 * sizes.max(0), sizes, np.inf).min(0)
    return np.where(np.median(sizes, 0) > 20 * unit, 1.5 * unit, 0.0)


def _held(log: Evidence) -> Iterator[Verdict]:
    """Report states that stay unchanged for the same number of rows each time, as if measured less often than rows are written."""
    still = np.zeros(log.rows - 1, bool)
    for part in blocks(log.rows - 1):
        still[part] = (log.raw.observations[1:][part] == log.raw.observations[:-1][part]).all(1)
    still &= log.inside
    length = _runs(still)[1]
    if len(length) < FEW / 4 or not 0.45 * log.inside.sum() < still.sum() < 0.999 * log.inside.sum():
        return
    usual = int(np.median(length))
    if (length == usual).mean() > 0.8:
        yield Verdict(
            "WARN",
            f"no observation column changes in {int(still.sum())} of {int(log.inside.sum())} steps, {usual} steps each time: the state is measured "
            f"once in {usual + 1} rows",
            "keep the rows in which it is measured, with the mean action and the sum of the rewards until the next one",
        )


def beyond_environment(log: Evidence) -> Iterator[Verdict]:
    """Report states outside the range of the environment, as from normalised columns or columns in another order."""
    if log.state_bounds is None:
        return
    low, high = (np.asarray(bound, np.float64) for bound in log.state_bounds)
    room = 1e-3 * np.where(np.isfinite(high - low), high - low, 1.0)
    beyond = np.zeros(len(low))
    for part in blocks(log.rows):
        states = log.raw.observations[part]
        beyond += ((states < low - room) | (states > high + room)).sum(0)
    often = beyond > 0.001 * log.rows
    if often.any():
        yield Verdict(
            "WARN",
            f"{log.columns(often)} lie outside the range of the states of {log.raw.env_id} in up to {int(beyond.max())} of {log.rows} rows: are "
            "they normalised, in other units, or in another order?",
            "write them as the environment gives them, or leave env_id out",
        )


def isolated(log: Evidence) -> Iterator[Verdict]:
    """Report values far from all others of their column, such as codes for missing values, or spikes."""
    # Columns are checked one at a time, as all columns in float64 would take twice the memory of the log.
    for name, values, is_state in _columns(log):
        for pick in (np.min, np.max):
            found = _far_off(values, pick)
            if found is None:
                continue
            there, codes, distance = found
            count, rest = int(there.sum()), values[~there]
            # If an observation column is normalised with such a value, all other values become nearly equal.
            ruinous = distance > RUINOUS and is_state
            yield Verdict(
                "STOP" if ruinous else "WARN",
                f"{shown(name)} is {' or '.join(f'{code:g}' for code in codes)} in {count} row{'' if count == 1 else 's'} (row "
                f"{some_rows(there)}), and lies between {rest.min():.6g} and {rest.max():.6g} in all others: a code for a missing value, "
                "or a spike",
                "leave those rows out, or write the values as missing (an empty cell of a table, NaN)",
            )


def _far_off(values: np.ndarray, pick: Callable[[np.ndarray], float]) -> tuple[np.ndarray, list[float], float] | None:
    """Return the rows of extreme values far from the rest, [N] bool, those values, and their distance in ranges of the rest; else None.

    There is one such value, or up to `CODES` values that are close together, of which all but the last repeat. `pick` is `np.min` or `np.max`.
    """
    there, rest, codes = np.zeros(len(values), bool), values, []
    while len(codes) < CODES:
        codes.append(float(pick(rest)))
        same = values == codes[-1]
        there |= same
        rest = values[~there]
        if len(rest) < STUCK or 2 * there.sum() > len(values):
            return None
        gap, width = abs(float(pick(rest)) - codes[-1]), float(np.ptp(rest))
        together = abs(codes[-1] - codes[0]) <= 0.1 * gap
        if together and width > 0 and gap > GAP * width and len(np.unique(rest[:1000])) > 10:
            return there, codes, gap / width
        if same.sum() < 2:
            return None
    return None


def _columns(log: Evidence) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Yield the name and values [N] float64 of each column of states and actions with True, and those of the rewards with False."""
    yield from ((name, values, True) for name, values in log.inputs())
    yield log.raw.key("rewards"), np.asarray(log.raw.rewards, np.float64), False


def constant_rewards(log: Evidence) -> Iterator[Verdict]:
    """Report rewards that are all equal, except nonzero ones in a log with terminals, where the length of an episode makes a difference."""
    values = np.asarray(log.raw.rewards, np.float64)
    ends = log.raw.terminals is not None and log.raw.terminals.any()
    if (values == values[0]).all() and (values[0] == 0 or not ends):
        yield Verdict(
            "WARN",
            f"every reward is {values[0]:g}: nothing can be learned from them",
            "name the array or column of the rewards (data.columns.reward=NAME), or give reward=module:function",
        )


def rewards(log: Evidence) -> Iterator[Verdict]:
    """Report rewards of which nearly all are 0, and rewards that are very large."""
    values = np.asarray(log.raw.rewards, np.float64)
    if (values == values[0]).all():
        return
    rare = int((values != 0).sum())
    if rare < 0.01 * len(values):
        yield Verdict("WARN", f"only {rare} of {len(values)} rewards are not 0", "expect a weak signal")
    if np.abs(values).max() > HUGE:
        yield Verdict(
            "WARN",
            f"rewards reach {values[np.abs(values).argmax()]:.3g} (row {int(np.abs(values).argmax())}), "
            f"their median size is {np.median(np.abs(values)):.3g}",
            "divide them by a constant, and look for outliers",
        )
