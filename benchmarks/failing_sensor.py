"""Let a sensor fail midway through the episodes of a run's policy, and print what each guard makes of it.

`python benchmarks/failing_sensor.py RUN [--column NAME] [--from-step 100] [--episodes 20]`: from that step on the column is NaN, or it
is stuck at its last value. The episodes are those of the run's environment, with the same seeds in every row. An episode that ends by an error
counts with the rewards until then.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mopo_pl.environments.by_id import make_environment
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy

Fails = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""What the sensors show [D], of what is there [D] and what was there in the last step before the fault [D]."""


@dataclass(frozen=True)
class Played:
    """What came of one episode."""

    total: float
    steps: int
    invalid: int
    """Observations that the guards took for invalid."""
    outside: int
    """Steps in which a column lay beyond the log's range."""
    error: bool


def shows_nan(column: int) -> Fails:
    """A sensor that shows NaN.

    >>> shows_nan(1)(np.array([1.0, 2.0]), np.array([3.0, 4.0])).tolist()
    [1.0, nan]
    """
    return lambda there, before: np.where(np.arange(len(there)) == column, np.nan, there)


def is_stuck(column: int) -> Fails:
    """A sensor that shows what it last showed.

    >>> is_stuck(1)(np.array([1.0, 2.0]), np.array([3.0, 4.0])).tolist()
    [1.0, 4.0]
    """
    return lambda there, before: np.where(np.arange(len(there)) == column, before, there)


def play(policy: Any, environment: Any, *, seed: int, fails: Fails | None, from_step: int) -> Played:
    """One episode. `policy`: called with observations [D], reset before the episode; its ValueError ends it."""
    policy.reset()
    invalid, outside = policy.invalid, 0
    there, _ = environment.reset(seed=seed)
    before, total, steps, over = there, 0.0, 0, False
    while not over:
        before = there if steps < from_step else before
        shown = there if fails is None or steps < from_step else fails(there, before)
        try:
            action = policy(shown)
        except ValueError:
            return Played(total, steps, policy.invalid - invalid, outside, True)
        outside += bool(policy.outside_now)
        there, reward, terminal, truncated, _ = environment.step(action)
        total, steps, over = total + float(reward), steps + 1, terminal or truncated
    return Played(total, steps, policy.invalid - invalid, outside, False)


def row(fault: str, guard: str, played: list[Played]) -> str:
    """A line of the table.

    >>> row("none", "any", [Played(-100.0, 200, 0, 3, False), Played(-102.0, 200, 0, 5, False)])
    '| none | any | 200 | 0 | 4 | -101 ± 1 |'
    """
    totals = [one.total for one in played]
    steps, invalid, outside = (
        round(float(np.mean([getattr(one, what) for one in played]))) for what in ("steps", "invalid", "outside")
    )
    ended = ", then an error" if all(one.error for one in played) else ""
    return (
        f"| {fault} | {guard} | {steps}{ended} | {invalid} | {outside} | {np.mean(totals):.0f} ± {np.std(totals):.0f} |"
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("--column", help="name of the column (default: the last one)")
    parser.add_argument("--from-step", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=20, help="(default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    policy = Policy.load(options.run)
    names, env_id = policy.observations.names, policy.meta.get("env_id")
    if env_id is None or (options.column is not None and options.column not in names):
        raise InputError(f"{options.run} needs an environment, and --column one of {', '.join(names)}")
    column = len(names) - 1 if options.column is None else names.index(options.column)
    environment = make_environment(env_id, policy.meta.get("env_kwargs", {}))
    middle = ((policy.action_low + policy.action_high) / 2).tolist()
    guards: dict[str, Mapping[str, Any]] = {
        "`error`": {},
        "`last`": {"on_invalid": "last", "safe_action": middle},
        "`safe_action`": {"on_invalid": "safe_action", "safe_action": middle},
    }

    def line(fault: str, guard: str, how: Mapping[str, Any], fails: Fails | None) -> None:
        policy.guard(**how)
        seeds = range(options.episodes)
        played = [play(policy, environment, seed=s, fails=fails, from_step=options.from_step) for s in seeds]
        print(row(fault, guard, played), flush=True)

    print("| sensor | `on_invalid` | steps | invalid | beyond the log | return |\n|---|---|---|---|---|---|")
    line("sound", "any", {}, None)
    for guard, how in guards.items():
        line(f"NaN from step {options.from_step}", guard, how, shows_nan(column))
    line(f"stuck from step {options.from_step}", "any", {}, is_stuck(column))


if __name__ == "__main__":
    main()
