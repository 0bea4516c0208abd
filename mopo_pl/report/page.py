"""The page of a report: what `Evidence` holds as sections of sentences, figures and tables, for the template to lay out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from mopo_pl.data.readers.names import shown
from mopo_pl.pages.templates import filled
from mopo_pl.report import figures
from mopo_pl.report.evidence import Evidence
from mopo_pl.report.measurements import VALUE_SPREAD, ModelEvidence, PolicyEvidence

TEMPLATE = "page.html.j2"
SMALL_MULTIPLES = 8
"""Action columns that have a figure; the table holds all."""
LONGEST = 60
"""Letters of a name on the page."""


@dataclass(frozen=True)
class Figure:
    """A figure and how to read it."""

    name: str
    title: str
    svg: str
    """Texts in it are escaped by matplotlib."""
    how: str


@dataclass(frozen=True)
class Table:
    """Rows of texts under a heading each."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    how: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    sentences: Sequence[str] = ()
    figures: Sequence[Figure] = field(default_factory=list)
    tables: Sequence[Table] = field(default_factory=list)


def render(evidence: Evidence) -> str:
    """The page as HTML that needs nothing beside itself. Every text of a file is escaped."""
    return filled(
        "mopo_pl.report",
        TEMPLATE,
        evidence=evidence,
        headline=headline(evidence),
        cards=list(_cards(evidence)),
        estimated=list(_estimated(evidence.estimates)),
        sections=[section for section in _sections(evidence) if section is not None],
        config=yaml.safe_dump(evidence.config, sort_keys=False, allow_unicode=True),
    )


ESTIMATED = (
    ("the log, from the same starts", ("log", "return"), ("log", "std")),
    ("the policy, in the model", ("model", "policy", "return", "mean"), ("model", "policy", "return", "between")),
    (
        "the policy, in the model, less the penalty",
        ("model", "policy", "penalised", "mean"),
        ("model", "policy", "penalised", "between"),
    ),
    ("error of the model's estimate on the log's own policy", ("model", "bias"), None),
    ("lower bound, where λu bounds the model's error", ("bound", "lower"), None),
    ("the log, discounted, for ever", ("log", "forever"), ("log", "forever_std")),
    ("fitted Q: lower bound, discounted, for ever", ("fqe", "policy", "lower"), None),
    ("error of fitted Q on the log's own policy", ("fqe", "bias"), None),
)
"""Rows of the table of estimates: where `estimates.json` has the value, and its spread (of the log between episodes, else between elites)."""


def _estimated(estimates: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, value and spread of each estimate that is there."""
    for name, path, spread in ESTIMATED:
        value = _at(estimates, path)
        if value is not None:
            yield name, number(value, 4), "" if spread is None else f"± {number(_at(estimates, spread))}"


def _at(values: Any, path: Sequence[str]) -> float | None:
    """The number at a path of keys; None where there is none."""
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, int | float) else None


def number(value: float | None, digits: int = 3) -> str:
    """A number as the page shows it.

    >>> number(0.000123456), number(-849.83, 4), number(None)
    ('0.000123', '-849.8', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def share(value: float | None) -> str:
    """A share in percent.

    >>> share(0.894), share(None)
    ('89.4 %', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def headline(evidence: Evidence) -> str:
    """One sentence: what came out."""
    result, logged = evidence.result or {}, evidence.log.numbers["mean_return"]
    if not evidence.finished:
        made = f"{evidence.updates} of {evidence.planned_updates} updates of the policy are made"
        return f"This run is not finished: {made if evidence.planned_updates else 'its ensemble is not trained yet'}."
    if evidence.config["stage"] == "dynamics":
        return "This run trained an ensemble, and no policy."
    if result.get("final_return") is not None:
        spread, episodes = number(result["final_return_std"], 4), result["final_episodes"]
        return (
            f"The policy returned {number(result['final_return'], 4)} ± {spread} over {episodes} episodes in "
            f"{shown(str(result['env_id']), LONGEST)}; the log's episodes returned {number(logged, 4)} on average."
        )
    return f"The policy was not scored: the run has no environment. The log's episodes returned {number(logged, 4)} on average."


def _cards(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Name and value of each number at the top."""
    result, numbers = evidence.result or {}, evidence.log.numbers
    if result.get("final_return") is not None:
        yield "return of the policy", number(result["final_return"], 4)
        yield "last ten evaluations", number(result.get("last10_return"), 4)
    yield "return of the log", number(numbers["mean_return"], 4)
    if result.get("final_score") is not None:
        yield "score of 100", number(result["final_score"], 3)
    yield "rows of the log", f"{numbers['rows']:,}".replace(",", " ")
    yield "updates", f"{evidence.updates:,}".replace(",", " ")
    for stage, seconds in evidence.seconds.items():
        if stage != "report":
            yield f"seconds, {stage}", f"{seconds:.0f}"


def _sections(evidence: Evidence) -> Iterator[Section | None]:
    yield _training(evidence)
    yield None if evidence.policy is None else _policy(evidence.policy)
    yield None if evidence.model is None else _model(evidence.model, evidence.config)
    yield _log(evidence)


# How training went


def _training(evidence: Evidence) -> Section | None:
    drawn = list(_curves(evidence))
    return Section("Training", figures=drawn) if drawn else None


def _curves(evidence: Evidence) -> Iterator[Figure]:
    curves = evidence.curves

    def of(**names: str) -> dict[str, Any]:
        found = {title.replace("_", " "): curves[name] for title, name in names.items() if name in curves}
        return {title: points for title, points in found.items() if any(value is not None for _, value in points)}

    if scored := of(policy="evaluation/return"):
        levels = {"mean of the log": evidence.log.numbers["mean_return"]}
        bands = {"policy": curves.get("evaluation/return_std", [])}
        yield Figure(
            "return",
            "Return while it learned",
            figures.curve("return", scored, label="return", levels=levels, bands=bands),
            "A point is the mean over the episodes of one evaluation, the band one standard deviation between episodes; a policy "
            "worth having stays above the dashed line.",
        )
    if values := of(critic_1="policy/q1", critic_2="policy/q2"):
        yield Figure(
            "value",
            "Value of the critics",
            figures.curve("value", values, label="mean Q of the batches"),
            "It should level off; values above the best return that the log's rewards allow, or that grow without end, are wrong.",
        )
    if losses := of(critics="policy/critic_loss"):
        yield Figure(
            "critic_loss",
            "Loss of the critics",
            figures.curve("critic_loss", losses, label="squared error", logarithmic=True),
            "It may rise while returns change; a rise that goes on to the end means that the critics diverge.",
        )
    if entropy := of(entropy="policy/entropy"):
        target = evidence.config["sac"]["target_entropy"]
        target = -float(len(evidence.log.numbers["actions"])) if target is None else target
        yield Figure(
            "entropy",
            "Entropy of the policy",
            figures.curve("entropy", entropy, label="entropy [nats]", levels={"target": target}),
            "It should end near the dashed line; far above it, the reward hardly matters to the policy.",
        )
    if cloning := of(policy="policy/cloning_error"):
        yield Figure(
            "cloning",
            "Error of the cloned actions",
            figures.curve("cloning", cloning, label="squared error", logarithmic=True),
            "It falls as far as the log's actions follow from its states.",
        )
    if imagined := of(reward="rollout/reward", penalty="rollout/penalty"):
        yield Figure(
            "imagined",
            "Imagined reward and penalty",
            figures.curve("imagined", imagined, label="mean of a step"),
            "Where the penalty is as large as the reward, the policy is taught to stay near the log more than to earn; where it is "
            "near 0, nothing keeps it there.",
        )
    members = {f"member_{i}": f"dynamics/holdout_mse_{i}" for i in range(len(figures.COLOURS))}
    if errors := of(**members):
        yield Figure(
            "ensemble",
            "Held-out error of the ensemble",
            figures.curve("ensemble", errors, label="squared error, standardised", logarithmic=True),
            "By the ensemble's own updates, the first five members; it should have stopped falling by the end.",
        )


def _first_of(columns: int, most: int) -> str:
    """A further sentence where a figure does not hold all columns."""
    return f" The first {most} of {columns} columns; the table has all." if columns > most else ""


# The policy


def _policy(found: PolicyEvidence) -> Section:
    drawn = [
        Figure(
            f"action{i}",
            shown(column.name, LONGEST),
            figures.actions(f"action{i}", column),
            "Grey: what was done in the log; line: what the policy does on the same states. A line where there is no grey is an "
            "action without data.",
        )
        for i, column in enumerate(found.actions[:SMALL_MULTIPLES])
    ]
    table = Table(
        "Actions",
        ("column", "median, log", "median, policy", "mean distance", "at a bound, log", "at a bound, policy"),
        [
            (
                shown(column.name, LONGEST),
                number(column.logged[2]),
                number(column.chosen[2]),
                number(column.distance),
                share(column.logged_pinned),
                share(column.chosen_pinned),
            )
            for column in found.actions
        ],
        "Distances are in half an action's range. A policy that is pinned to its bounds where the log is not often exploits "
        "an error of the model.",
    )
    sentences = [
        f"On {found.rows} logged states the policy's action is {number(found.distance)} away from the logged one; a constant "
        f"action would be {number(found.spread)} away (both in half an action's range)."
    ]
    tables = [table]
    if found.uncertainty is not None:
        there = found.uncertainty
        sentences.append(
            f"The model is {number(there.ratio, 2)} times as uncertain about the policy's actions as about logged ones, and on "
            f"{share(there.beyond)} of the states more uncertain than on 95 % of the log."
            if there.ratio is not None
            else "The run's penalty u is 0 on the log."
        )
        drawn.append(
            Figure(
                "uncertainty",
                "Uncertainty of the policy's actions",
                figures.uncertainty("uncertainty", there),
                "Thin lines reach from the 5 % to the 95 % quantile, thick ones from 25 to 75 %, dots are medians; the further "
                "the policy lies to the right of the log, the less the model's word counts.",
            )
        )
    if found.visited is not None and found.visited.columns:
        seen = found.visited
        drawn.append(
            Figure(
                "states",
                "States that the policy visits in the model",
                figures.states("states", seen),
                f"{seen.steps} states of {seen.starts} imagined rollouts of {seen.horizon} steps (coloured) beside the log "
                "(grey), read as the figure before; 0 is the log's median."
                + _first_of(len(seen.columns), figures.MOST_COLUMNS),
            )
        )
        tables.append(
            Table(
                "States in the model",
                ("column", "5 to 95 %, log", "5 to 95 %, model", "outside the log"),
                [
                    (
                        shown(column.name, LONGEST),
                        f"{number(column.logged[0])} to {number(column.logged[4])}",
                        f"{number(column.imagined[0])} to {number(column.imagined[4])}",
                        share(column.outside),
                    )
                    for column in seen.columns
                ],
                "The last column counts imagined states beyond 99 % of the log: about 1 % where the policy stays within it.",
            )
        )
    return Section("The policy beside the log", sentences, drawn, tables)


# The model


def _model(found: ModelEvidence, config: dict[str, Any]) -> Section:
    step, loop = found.one_step, found.open_loop
    rows = (
        f"{step.rows} transitions that the ensemble held out from its training"
        if found.held_out
        else f"{step.rows} transitions of sampled episodes, on which the ensemble was trained: its errors elsewhere are larger"
    )
    sentences = [
        f"All errors here are those of the mean of the {len(found.elites)} elites on {rows}.",
        f"σ is scaled on one half of them and judged on the other: log-likelihood {number(step.log_likelihood)} nats a row "
        f"before, {number(step.scaled_log_likelihood)} after.",
    ]
    if step.constant:
        sentences.append(
            f"Left out, because they never vary: {', '.join(shown(name, LONGEST) for name in step.constant)}."
        )
    steps = [h for h in (1, 5, 10, 20, 50, 100) if h <= len(loop.median)]
    drawn = [
        Figure(
            "errors",
            "One-step error by column",
            figures.column_errors("errors", step),
            "0 is perfect; at the dashed line the model knows no more than the mean."
            + _first_of(len(step.columns), figures.MOST_COLUMNS),
        ),
        Figure(
            "calibration",
            "Calibration of σ",
            figures.calibration("calibration", step),
            "Above the dashed line σ is larger than the errors, below it smaller.",
        ),
        Figure(
            "ranking",
            "True error by the model's uncertainty",
            figures.ranking("ranking", step),
            "A useful penalty rises from left to right; a flat line charges the wrong steps.",
        ),
        Figure(
            "horizon",
            "Open-loop error",
            figures.horizon("horizon", loop),
            f"From {loop.starts[0]} logged states the logged actions are replayed in each elite; beyond the h at which the "
            "error reaches the dashed line, imagined states are worth nothing.",
        ),
    ]
    tables = [
        Table(
            "One-step error",
            ("target", "RMSE", "relative", "z-scale", "90 %: σ", "scaled", "conformal", "± conformal"),
            [
                (
                    shown(column.name, LONGEST),
                    number(column.rmse),
                    number(column.relative),
                    number(column.factor),
                    share(column.coverage),
                    share(column.scaled_coverage),
                    share(column.conformal_coverage),
                    number(column.conformal_width),
                )
                for column in step.columns
            ],
            "RMSE and the conformal half width are in the column's unit; Δ is the change in a step. A z-scale above 1 says that σ "
            "is too small. The three shares are how often a 90 % interval held what happened.",
        ),
        Table(
            "Which penalty knows where the model is wrong",
            ("penalty", "Spearman", "AUROC", "Spearman, standardised", "AUROC, standardised"),
            [
                (
                    _penalty_name(each.name, config),
                    number(each.spearman),
                    number(each.auroc),
                    number(each.standardised_spearman),
                    number(each.standardised_auroc),
                )
                for each in step.rankings
            ],
            "Spearman: rank correlation of u with the true error; AUROC: how often u is larger on one of the worst 10 % than on "
            "another row (0.5 is chance). Standardised: every column counts alike, instead of in its unit.",
        ),
        Table(
            "Open-loop error by column",
            ("column", *(f"h = {h}" for h in steps)),
            [(shown(name, LONGEST), *(number(values[h - 1]) for h in steps)) for name, values in loop.columns.items()],
            "Median absolute error after h steps, in the column's unit. The ensemble holds out single rows: a replay starts at "
            "one of them, and its later rows may have been trained on."
            if found.held_out
            else "Median absolute error after h steps, in the column's unit.",
        ),
    ]
    return Section("How honest the model is", sentences, drawn, tables)


def _penalty_name(name: str, config: dict[str, Any]) -> str:
    if name == VALUE_SPREAD:
        return f"{name} (λ_V)"
    return f"{shown(name, LONGEST)}{' (this run)' if name == config['penalty']['name'] else ''}"


# The log


def _log(evidence: Evidence) -> Section:
    log = evidence.log
    findings = Table(
        "Checks",
        ("level", "check", "found", "what to do"),
        [(each["level"], each["name"], each["text"], each["fix"]) for each in log.findings],
    )
    said = f"{len(log.passed)} checks found nothing wrong."
    return Section("The log", [said], tables=[findings] if log.findings else [])
