"""Checks that actions and rewards are in the rows to which they belong."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mopo_pl.data.doctor.evidence import Evidence, Verdict, evenly
from mopo_pl.data.doctor.regression import MOST, explained
from mopo_pl.data.log.packing import SAME

ENOUGH = 500
"""Smallest number of rows for a fit."""
BETTER = 0.6
"""Ratio of the unexplained variance with values of another row to that with values of the same row, below which the former fit better."""
CLEARLY = 0.02
"""Smallest gain of R² that counts, however small the unexplained variance is."""
ALL = 0.99
"""Share of the rows in which two columns must agree to count as the same."""
NOTHING = 0.003
"""Share of the variance left unexplained by the state, below which actions count as explaining nothing. Measured values are 0.5 and more for
sound logs, and below 0.001 for actions in random order."""
DISCOUNT = 0.99
"""Discount factor of the discounted sums of later rewards that are looked for."""
FAR = 3
"""Largest distance in rows, before and after a row, at which the matching actions and rewards are looked for."""
FOLLOWS = 0.7
"""Ratio of the R² of an action by one state to that by a step between two states, above which the action follows the state. Measured values
are 0.8 to 1 for a noisy P or PD controller, and 0.2 to 0.4 for actions that are in wrong rows."""
FEW = 0.02
"""Share of the rows, those with the largest errors, that are left out of the R² of rewards."""
PAIRS = 25
"""Largest number of columns for which a fit uses products of all pairs; with more columns it uses only squares."""


class _Sum(NamedTuple):
    """A kind of sum over rows, such as a return-to-go, that a file may contain instead of rewards."""

    rows: str
    """Rows of the sum, as text for a message."""
    fix: str
    """Advice on how to compute the rewards from the sum."""
    changes: np.ndarray
    """Rewards that result if the logged values are this sum, [n]."""


def actions_shifted(log: Evidence) -> Iterator[Verdict]:
    """Report actions that seem to be in wrong rows, and observation columns that hold the action of the same row.

    Actions seem to be in wrong rows if the action of another row, or no action, explains how the state changes.
    """
    here = _rows(log)
    if len(here) < ENOUGH:
        return
    for column, action in log.echoes.items():
        yield Verdict(
            "WARN",
            f"{log.column(column)} is {log.dataset.names.action(action)} of the same row, but for noise: a policy sees its state "
            "before it acts",
            "if it is measured after the action, leave that column out or give its value of the row before; nothing is to be done where it is "
            "what the action follows, such as a set point",
        )
    steps = _Steps.of(log, here)
    if not len(steps.columns):
        return
    for distance in range(1, FAR + 1):
        there = _rows(log, distance)
        if len(there) < ENOUGH:
            break
        near = steps if distance == 1 else _Steps.of(log, there)
        if verdict := _of_other_rows(log, near, there, distance):
            yield verdict
            return
    effect = (steps.own - steps.alone) / np.maximum(1 - steps.alone, 1e-9)
    varied = steps.actions[:, steps.actions.std(0) > 0]
    # Actions that are a function of the state explain nothing beyond it; `actions.without_exploration` reports them.
    free = varied.size > 0 and explained(steps.states, varied).min() < 0.99
    if (1 - steps.alone > 1e-6).any() and effect.max() < NOTHING and free:
        yield Verdict(
            "WARN",
            "the actions say nothing about how the state changes: they seem to be of other rows, or to act on nothing that is logged",
            "make sure that each action stands in the row whose state it was taken in",
        )


class _Steps(NamedTuple):
    """Some rows, and the R² with which their states and actions explain the changes of the state."""

    states: np.ndarray
    """States in standard deviations, [n, D]."""
    actions: np.ndarray
    """Actions, [n, A]."""
    changes: np.ndarray
    """Changes of the state columns that change and are not copies of an action, in standard deviations, [n, C]."""
    columns: np.ndarray
    """Numbers of these columns, [C]."""
    alone: np.ndarray
    """R² of a fit of the changes by the states, [C]."""
    own: np.ndarray
    """R² of a fit of the changes by the states and the actions of the same rows, [C]."""

    @classmethod
    def of(cls, log: Evidence, here: np.ndarray) -> "_Steps":
        states = log.raw.observations[here].astype(np.float64) / log.spread
        actions = log.raw.actions[here].astype(np.float64)
        changes = _reached(log, here) / log.spread - states
        moving = changes.std(0) > 0
        moving[list(log.echoes)] = False
        changes = changes[:, moving]
        alone, own = explained(states, changes), explained(_beside(states, actions), changes)
        return cls(states, actions, changes, np.flatnonzero(moving), alone, own)


def _of_other_rows(log: Evidence, steps: _Steps, here: np.ndarray, distance: int) -> Verdict | None:
    """Return a verdict if the actions `distance` rows before or after the rows `here` [n] explain the changes; else None."""
    before, later = (log.raw.actions[here + k].astype(np.float64) for k in (-distance, distance))
    late, early = (_gain(steps, other) for other in (later, before))
    ahead = _ahead(log, here, int(steps.columns[late.argmax()])) if late.any() and distance == 1 else None
    if late.any() and ahead is None and _follows_state(log, here, later, distance):
        late[:] = 0
    if max(late.max(initial=0), early.max(initial=0)) <= 0:
        return None
    gain, is_late = (late, True) if late.max() >= early.max() else (early, False)
    worst = int(gain.argmax())
    column = int(steps.columns[worst])
    rows = "one row" if distance == 1 else f"{distance} rows"
    if is_late and (other := ahead) is not None:
        return Verdict(
            "STOP",
            f"{log.column(column)} holds the value of {log.column(other)} of the next row, which nobody knows when the policy acts; or, where "
            f"{log.column(other)} is meant to be the older of the two, the actions stand one row too late",
            f"leave {log.column(column)} out (data.columns.next_observation takes next states), or move the actions one row up within each "
            "episode",
        )
    said = (
        f"the change of {log.column(column)} after a row is explained by the action of the row "
        f"{rows + ' ' if distance > 1 else ''}{'after it' if is_late else 'before it'} (R² {steps.own[worst] + gain[worst]:.2f}), not by its own "
        f"({steps.own[worst]:.2f})"
    )
    if is_late:
        # At larger distances, a log of correct rows from a controller is more likely to look like this, so the level is only WARN.
        level = "STOP" if distance == 1 else "WARN"
        return Verdict(level, f"the actions stand {rows} too late: {said}", f"move them {rows} up within each episode")
    return Verdict(
        "WARN",
        f"the actions stand {rows} too early, or act {rows} later: {said}",
        f"move them {rows} down within each episode, or set data.history={distance + 1} where they act late",
    )


def _ahead(log: Evidence, here: np.ndarray, column: int) -> int | None:
    """Return the column whose values in the next rows equal those of `column` in the rows `here` [n]; None if there is none."""
    values, later = log.raw.observations[here, column], log.raw.observations[here + 1]
    same = (np.abs(later - values[:, None].astype(np.float64)) <= SAME * log.spread).mean(0) > ALL
    same[column] = False
    same &= (later != log.raw.observations[here]).mean(0) > 0.5  # flags that rarely change are equal by chance
    return int(same.argmax()) if same.any() else None


def _gain(steps: _Steps, other: np.ndarray) -> np.ndarray:
    """Return the gain of R² by the actions `other` [n, A] of other rows over those of the same rows, [C].

    The gain is 0 for columns where the actions of the other rows are not clearly the matching ones.
    """
    theirs = explained(_beside(steps.states, other), steps.changes)
    both = explained(_beside(steps.states, other, steps.actions), steps.changes)
    gain = theirs - steps.own
    # With feedback, the action of another row depends on the state, and thus on the change. The row's own action then improves the fit further.
    right = (gain > CLEARLY) & (1 - theirs < BETTER * (1 - steps.own)) & (both - theirs < 0.25 * gain)
    return np.where(right, gain, 0.0)


def _follows_state(log: Evidence, here: np.ndarray, later: np.ndarray, distance: int) -> bool:
    """Return whether the actions of later rows [n, A] are those of a controller that follows the state.

    Such an action depends on the later state, and so seems to explain how the state changed. A single later state explains it about as well
    as the step between two states does. A shifted action caused that step, and only the step explains it.
    """
    varied = later[:, later.std(0) > 0]
    states = [log.raw.observations[here + k].astype(np.float64) / log.spread for k in range(distance + 1)]
    step = explained(_beside(states[0], states[1]), varied)
    return varied.size > 0 and any((explained(each, varied) > FOLLOWS * step).any() for each in states[1:])


def rewards_shifted(log: Evidence) -> Iterator[Verdict]:
    """Report rewards that are in wrong rows, are sums of rewards, or are explained by neither states nor actions."""
    rewards = np.asarray(log.raw.rewards, np.float64)
    low, high = np.quantile(rewards, (0.001, 0.999))
    here = _rows(log)
    here = here[(rewards[here] >= low) & (rewards[here] <= high)]  # a spike would dominate the variance
    if len(here) < ENOUGH or (rewards[here] != 0).mean() < 0.5 or np.ptp(rewards[here]) == 0:
        return
    whole = [number for number, end in enumerate(log.ends) if log.lengths[number] > 1]
    starts = log.ends - log.lengths + 1
    alike = [
        bool((rewards[starts[number] : log.ends[number] + 1] == rewards[log.ends[number]]).all()) for number in whole
    ]
    if len(whole) >= 3 and all(alike):
        yield Verdict(
            "WARN",
            "each episode has one reward in all its rows: it looks like the return of the episode",
            "write what each row earned, for instance the whole in the last row and 0 before",
        )
        return
    own = _explained_reward(log, here, here, rewards[here])
    sums = [
        _Sum("so far", "write each less the one of the row before", rewards[here] - rewards[here - 1]),
        _Sum("to come (return-to-go)", "write each less the one of the row after", rewards[here] - rewards[here + 1]),
        _Sum(
            "to come, discounted",
            f"write each less {DISCOUNT} times the one of the row after",
            rewards[here] - DISCOUNT * rewards[here + 1],
        ),
    ]
    shares = [_explained_reward(log, here, here, each.changes) for each in sums]
    # A sum of later rewards is small at the ends of episodes. The three sums differ little if all rewards are alike.
    to_come = (
        np.abs(rewards[log.ends]).mean() < np.abs(rewards[starts]).mean() and max(shares[1:]) > shares[0] - CLEARLY
    )
    best = 1 + int(np.argmax(shares[1:])) if to_come else 0
    change = shares[best]
    if change > 0.9 and 1 - change < BETTER * (1 - own) and change - own > CLEARLY:
        yield Verdict(
            "WARN",
            f"the change of the reward from row to row is a function of the row (R² {change:.2f}), the reward is not ({own:.2f}): it "
            f"looks like a sum over the rows {sums[best].rows}",
            sums[best].fix,
        )
        return
    for distance in range(1, FAR + 1):
        there = _rows(log, distance)
        there = there[(rewards[there] >= low) & (rewards[there] <= high)]
        if len(there) < ENOUGH:
            break
        if verdict := _reward_of_other_rows(log, there, rewards[there], distance):
            yield verdict
            return
    if max(_explained_reward(log, here, here + k, rewards[here], leave_out=0.0) for k in (0, -1, 1)) < 0.01:
        yield Verdict(
            "WARN",
            "states and actions say nothing about the rewards: they seem to be of other rows, or to hang on what is not logged",
            "make sure that each reward stands in the row whose action earned it",
        )


def _reward_of_other_rows(log: Evidence, here: np.ndarray, rewards: np.ndarray, distance: int) -> Verdict | None:
    """Return a verdict if the rows `distance` before or after the rows `here` [n] explain their rewards [n] better; else None."""
    own = _explained_reward(log, here, here, rewards)
    for sign, text, fix in ((-1, "late", "up"), (1, "early", "down")):
        other = _explained_reward(log, here, here + sign * distance, rewards)
        if other > 0.9 and 1 - other < 0.5 * (1 - own):
            rows = "one row" if distance == 1 else f"{distance} rows"
            return Verdict(
                "WARN",
                f"the rewards seem to stand {rows} too {text}: state, action and next state of the row "
                f"{rows + ' ' if distance > 1 else ''}{'before' if sign < 0 else 'after'} explain more of them (R² {other:.4f}) than their own row "
                f"({own:.4f})",
                f"move them {rows} {fix} within each episode",
            )
    return None


def _rows(log: Evidence, distance: int = 1) -> np.ndarray:
    """Return rows, evenly spaced, that have at least `distance` rows before and after them in the same episode."""
    between = np.zeros(log.rows, bool)
    between[distance:-distance] = True
    for k in range(distance):
        between[: log.rows - 1 - k] &= log.inside[k:]
        between[k + 1 :] &= log.inside[: log.rows - 1 - k]
    return evenly(np.flatnonzero(between), MOST)


def _reached(log: Evidence, rows: np.ndarray) -> np.ndarray:
    """Return the states that followed the given rows, [n, D] float64."""
    following = log.raw.next_observations
    return (log.raw.observations[rows + 1] if following is None else following[rows]).astype(np.float64)


def _beside(*columns: np.ndarray) -> np.ndarray:
    return np.concatenate(columns, 1)


def _explained_reward(
    log: Evidence, here: np.ndarray, rows: np.ndarray, rewards: np.ndarray, *, leave_out: float = FEW
) -> float:
    """Return the R² of a fit of rewards [n] by a quadratic function of s, a, s' of the rows `rows` [n].

    Args:
        log: The log.
        here: Rows that hold the rewards, [n].
        rows: Rows that explain them, [n]. s' is used only if none of these rows comes after its row of `here`.
        rewards: Rewards of the rows `here`, [n].
        leave_out: Share of the rows, those with the largest errors, that do not count.

    """
    # The next state of a later row may belong to another episode, so that only its state is used.
    reached = [_reached(log, rows)] if (rows <= here).all() else []
    inputs = _beside(
        *(part.astype(np.float64) for part in (log.raw.observations[rows], log.raw.actions[rows], *reached))
    )
    scale = inputs.std(0)
    inputs = (inputs - inputs.mean(0)) / np.where(scale > 0, scale, 1.0)
    if inputs.shape[1] > PAIRS:
        products = inputs**2
    else:
        first, second = np.triu_indices(inputs.shape[1])
        products = inputs[:, first] * inputs[:, second]
    # A set point and its next value differ only in the few rows where it changes. These rows must not decide the result.
    return float(explained(_beside(inputs, products), rewards[:, None], leave_out=leave_out)[0])
