"""All checks of a log, by the name of their findings."""

from collections.abc import Iterator

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor import actions, alignment, columns, ends, names, next_states, rows, units
from mopo_pl.data.doctor.evidence import Check, Evidence
from mopo_pl.data.findings import Finding
from mopo_pl.data.log.action_bounds import NAME as BEYOND_BOUNDS
from mopo_pl.data.log.action_bounds import Bounds
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.distributed.console import progress

CONSTANT_REWARDS = "rewards-constant"
CHECKS: dict[str, Check] = {
    "unused-arrays": names.unused_arrays,
    "reading": names.reading,
    "next-states-copied": next_states.copied,
    "next-states-shifted": next_states.shifted,
    "next-states-break": next_states.breaks,
    "next-states-across-episodes": next_states.across_borders,
    "next-states-at-ends": next_states.at_ends,
    "rows-shuffled": next_states.shuffled,
    "rows-jump": next_states.jumps,
    "actions-shifted": alignment.actions_shifted,
    "rewards-shifted": alignment.rewards_shifted,
    "both-flags": ends.both_flags,
    "terminals-wrong": ends.terminals_wrong,
    "terminal-time-limits": ends.terminal_limits,
    "no-ends": ends.no_ends,
    "episodes-short": ends.short,
    "episodes-merged": ends.merged,
    "time-limit-beside-marks": ends.limit_beside_marks,
    "columns-constant": columns.constant,
    "columns-scales": columns.scales,
    "columns-stuck": columns.stuck,
    "columns-count": columns.counters,
    "columns-rounded": columns.rounded,
    "columns-interpolated": columns.interpolated,
    "columns-units": units.other_units,
    "columns-beyond-environment": columns.beyond_environment,
    "values-isolated": columns.isolated,
    CONSTANT_REWARDS: columns.constant_rewards,
    "rewards": columns.rewards,
    BEYOND_BOUNDS: actions.beyond,
    "actions-saturated": actions.saturated,
    "actions-narrow": actions.narrow,
    "actions-one-sided": actions.one_sided,
    "actions-scaled": actions.scaled_to_one,
    "actions-without-exploration": actions.without_exploration,
    "actions-whole-numbers": actions.whole_numbers,
    "episodes-copied": rows.copied_episodes,
    "rows-copied": rows.copied_rows,
}


def findings_of(
    raw: RawLog, dataset: OfflineDataset, *, bounds: Bounds, clip: bool, state_bounds: Bounds | None = None
) -> Iterator[Finding]:
    """Run all checks and yield their findings; a check that finds nothing yields a finding of level OK.

    Args:
        raw: The log as the file holds it.
        dataset: The packed log.
        bounds: Lower and upper bounds of the actions.
        clip: Whether actions beyond the bounds are clipped (`data.clip_actions`).
        state_bounds: Lower and upper bounds of the environment's states, or None without an environment.

    """
    log = Evidence(raw, dataset, bounds, clip, state_bounds)
    with progress(f"checking {raw.source}", len(CHECKS)) as show:
        for number, (name, check) in enumerate(CHECKS.items()):
            show(number)
            found = [Finding(verdict.level, name, verdict.text, verdict.fix) for verdict in check(log)]
            yield from found or [Finding("OK", name, "")]
