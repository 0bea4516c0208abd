"""Health of a run: the signs that persist in its metrics rows, and the comparison of its policy with the log."""

from collections.abc import Iterator
from math import isfinite, sqrt

from mopo_pl.data.findings import Finding
from mopo_pl.diagnostics.health.ensemble_signs import elite_churn, error_still_falls, holdout_errors
from mopo_pl.diagnostics.health.rows import Row, Rows
from mopo_pl.diagnostics.health.run_facts import RunFacts
from mopo_pl.diagnostics.health.signs import POLICY_SIGNS

PERSISTS = 3
"""Number of consecutive epochs that must show a sign: one epoch may be chance, and three are too few to ruin a run."""
STANDARD_ERRORS = 2.0
"""Number of standard errors by which the mean return must lie below the log, so that noise from few episodes raises no alarm."""

COLUMNS = tuple(dict.fromkeys(["update", "evaluation/return", *(name for sign in POLICY_SIGNS for name in sign.needs)]))
"""Columns of a row that the policy's signs read."""
USELESS = (
    "another penalty.coef or rollout.horizon (docs/guides/sweep.md); algorithm=bc shows what a clone of the log earns"
)

NOT_FINITE = (
    "sac.bound_targets=true, sac.critic_layer_norm=true, sac.normalise_observations=true or a lower sac.actor_lr"
)


def signs_in(rows: Rows, facts: RunFacts, *, after: int) -> list[Finding]:
    """Return the signs of stage 2 that each of the last `PERSISTS` rows shows, among rows beyond update `after`.

    For each sign, rows without a column that it needs are left out. Rollouts that are made every n epochs are therefore judged by
    the rows of those epochs.
    """
    judged = [row for row in rows if (row["update"] or 0) > after]
    return list(_persisting(judged, facts))


def _persisting(judged: Rows, facts: RunFacts) -> Iterator[Finding]:
    for sign in POLICY_SIGNS:
        known = [row for row in judged if all(row.get(name) is not None for name in sign.needs)]
        if len(known) < PERSISTS:
            continue
        texts = [sign.seen(known[: len(known) - back], facts) for back in range(PERSISTS)]
        if texts[0] is not None and None not in texts:
            yield Finding(sign.level, sign.name, texts[0], sign.fix)
    yield from _evaluations_below_log(judged, facts)


def _evaluations_below_log(judged: Rows, facts: RunFacts) -> Iterator[Finding]:
    """Yield a finding if each of the last evaluations returned less than the log."""
    returns = [value for row in judged if (value := row.get("evaluation/return")) is not None][-PERSISTS:]
    if len(returns) == PERSISTS and max(returns) < facts.behaviour_return:
        text = (
            f"the last {PERSISTS} evaluations returned at most {max(returns):.4g}, less than the log's episodes did on "
            f"average ({facts.behaviour_return:.4g})"
        )
        yield Finding("WARN", "below_log", text, USELESS)


def health_of_policy(
    rows: Rows, facts: RunFacts, *, after: int, final: tuple[float, float, int] | None = None
) -> list[Finding]:
    """Return the findings on the rows of stage 2 at its end.

    `final` contains the mean, standard deviation and number of the final episodes' returns. The standard deviation has n in its
    denominator. The final episodes replace the evaluations of the curve. A single episode has no standard error and is not compared with
    the log. Where the run is too short to be judged by its rows, the finding `too_short` of level WARN is added.
    """
    found = [finding for finding in signs_in(rows, facts, after=after) if final is None or finding.name != "below_log"]
    if final is not None:
        mean, std, episodes = final
        if not isfinite(mean):
            text = (
                "the policy's mean return over the final episodes is no finite number: its actions or rewards are none"
            )
            found.insert(0, Finding("STOP", "not_finite", text, NOT_FINITE))
        elif episodes > 1 and mean + STANDARD_ERRORS * std / sqrt(episodes - 1) < facts.behaviour_return:
            text = f"the policy returns {mean:.4g}, less than the log's episodes did on average ({facts.behaviour_return:.4g}): it is of no use"
            found.append(Finding("WARN", "below_log", text, USELESS))
    if sum((row["update"] or 0) > after for row in rows) < PERSISTS:
        text = f"there are fewer than {PERSISTS} epochs after update {after} to judge the training by: it is not judged"
        found.append(Finding("WARN", "too_short", text, "train longer, or with a lower health.after"))
    return found


def health_of_ensemble(rows: Rows, *, elites: int, criterion: str) -> list[Finding]:
    """Return the findings on the rows of stage 1 at its end; `elites` members are chosen by `criterion` (`dynamics.criterion`)."""
    errors = [epoch for row in rows if (epoch := holdout_errors(row, criterion))]
    if not errors:
        return []
    longer = "a larger dynamics.max_epochs"
    told = {"elite_churn": elite_churn(errors, elites), "error_still_falls": error_still_falls(errors)}
    return [Finding("WARN", name, text, longer) for name, text in told.items() if text is not None]


def judged_columns(row: Row) -> dict[str, float | None]:
    """Return the part of a row that the signs read."""
    return {name: row.get(name) for name in COLUMNS}
