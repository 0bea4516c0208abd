"""Page of a report: the headline, cards and sections that the template lays out."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from mopo_pl.data.readers.names import shown
from mopo_pl.pages.templates import filled
from mopo_pl.report.run.overview import RunOverview
from mopo_pl.report.run.sections.layout import LONGEST, Section, number
from mopo_pl.report.run.sections.log import log_section
from mopo_pl.report.run.sections.model import model_section
from mopo_pl.report.run.sections.policy import policy_section
from mopo_pl.report.run.sections.training import training_section
from mopo_pl.report.video import Video

TEMPLATE = "run/page.html.j2"


def render(overview: RunOverview, video: Video | None = None) -> str:
    """Return the page as self-contained HTML. All text from files is escaped."""
    return filled(
        "mopo_pl.report",
        TEMPLATE,
        overview=overview,
        video=video,
        headline=headline(overview),
        no_verdict=no_verdict(overview),
        cards=list(_cards(overview)),
        estimated=list(_estimated(overview.estimates)),
        sections=[section for section in _sections(overview) if section is not None],
        config=yaml.safe_dump(overview.config, sort_keys=False, allow_unicode=True),
    )


LOG_FROM_SAME_STARTS = ("log", "return")
POLICY_IN_MODEL = ("model", "policy", "return", "mean")
ESTIMATED = (
    ("the log, from the same starts", LOG_FROM_SAME_STARTS, ("log", "std")),
    ("the policy, in the model", POLICY_IN_MODEL, ("model", "policy", "return", "between")),
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
"""Rows of the table of estimates: title, path of the value in `estimates.json`, path of its spread (for the log between episodes, else elites)."""


def _estimated(estimates: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and spread of each available estimate."""
    for name, path, spread in ESTIMATED:
        value = _at(estimates, path)
        if value is not None:
            yield name, number(value, 4), "" if spread is None else f"± {number(_at(estimates, spread))}"


def _at(values: Any, path: Sequence[str]) -> float | None:
    """Return the number at a path of keys; None where there is none."""
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values if isinstance(values, int | float) else None


def headline(overview: RunOverview) -> str:
    """Return one sentence with the outcome of the run."""
    result, logged = overview.result or {}, overview.log.numbers["mean_return"]
    if not overview.finished:
        made = f"{overview.updates} of {overview.planned_updates} updates of the policy are made"
        return f"This run is not finished: {made if overview.planned_updates else 'its ensemble is not trained yet'}."
    if overview.config["stage"] == "dynamics":
        return "This run trained an ensemble, and no policy."
    if result.get("final_return") is not None:
        spread, episodes = result["final_return_std"], result["final_episodes"]
        return (
            f"The policy {_beside(result['final_return'] - logged, spread / max(episodes, 1) ** 0.5)} in "
            f"{shown(str(result['env_id']), LONGEST)}: it returned {number(result['final_return'], 4)} ± {number(spread, 4)} over "
            f"{episodes} episodes; the log's episodes returned {number(logged, 4)} on average."
        )
    verdict = (overview.verdict or {}).get("says")
    imagined, same = _at(overview.estimates, POLICY_IN_MODEL), _at(overview.estimates, LOG_FROM_SAME_STARTS)
    if imagined is None or same is None:
        return f"The policy was not scored: the run has no environment. The log's episodes returned {number(logged, 4)} on average."
    return (
        f"The policy was not scored: the run has no environment. In the learned model it returns {number(imagined, 4)}, where the log returned "
        f"{number(same, 4)} from the same starts.{f' The verdict on that: {verdict}.' if verdict else ''}"
    )


def _beside(gain: float, error: float) -> str:
    """Describe in words a policy's mean return minus the log's, given the standard error of this difference.

    >>> _beside(3.0, 1.0), _beside(-3.0, 1.0), _beside(1.9, 1.0), _beside(9.0, 0.0)
    ('did better than the log', 'did worse than the log', 'did as well as the log, within two standard errors,', 'was scored')
    """
    if error == 0:  # a single episode, or a policy and an environment without noise
        return "was scored"
    if abs(gain) <= 2 * error:
        return "did as well as the log, within two standard errors,"
    return f"did {'better' if gain > 0 else 'worse'} than the log"


def no_verdict(overview: RunOverview) -> str:
    """Return why the page has no verdict, with the command that makes one; empty where it has one, or there is no trained policy."""
    config = overview.config
    if overview.verdict or not overview.finished or config["stage"] == "dynamics":
        return ""
    if config["algorithm"] != "sac" or config["rollout"]["real_ratio"] >= 1:
        return "The policy was trained without an ensemble, in which it could be estimated."
    why = "The verdict is on policies that no environment scored; this one was scored."
    if (overview.result or {}).get("final_return") is None:
        why = "The policy was not estimated."
    command = shlex.join(["python", "-m", "mopo_pl", "estimate", overview.run])
    return f"{why} {command} gives the verdict that the log and the ensemble alone allow, and the next report shows it."


def _cards(overview: RunOverview) -> Iterator[tuple[str, str]]:
    """Yield name and value of each number at the top of the page."""
    result, numbers = overview.result or {}, overview.log.numbers
    if result.get("final_return") is not None:
        yield "return of the policy", number(result["final_return"], 4)
        yield "mean of the last evaluations (up to ten)", number(result.get("last10_return"), 4)
    yield "return of the log", number(numbers["mean_return"], 4)
    if result.get("final_score") is not None:
        yield "score of 100", number(result["final_score"], 3)
    yield "rows of the log", f"{numbers['rows']:,}".replace(",", " ")
    yield "updates", f"{overview.updates:,}".replace(",", " ")
    for stage, seconds in overview.seconds.items():
        if stage != "report":
            yield f"seconds, {stage}", f"{seconds:.0f}"


def _sections(overview: RunOverview) -> Iterator[Section | None]:
    yield training_section(overview)
    yield None if overview.policy is None else policy_section(overview.policy)
    yield None if overview.model is None else model_section(overview.model, overview.config)
    yield log_section(overview)
