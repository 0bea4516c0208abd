"""Pages of a comparison: the same numbers as Markdown, CSV, JSON and HTML."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from mopo_pl.comparison.finished_run import Found
from mopo_pl.comparison.groups import Block, Overall, Setting, Spread, blocks_of, over_all_logs
from mopo_pl.comparison.statistics import METHOD
from mopo_pl.environments.scores import normalised_score
from mopo_pl.pages.templates import filled

MOST_PAIRS = 12
"""Largest number of settings for which the pages show every pair; the JSON contains all."""
COLUMNS = ("", "setting", "seeds", "last", "last ten", "best", "IQM of last [95 %]", "score", "wall time")


@dataclass(frozen=True)
class Comparison:
    """Runs that were found, grouped by log, environment and setting."""

    found: Found
    blocks: tuple[Block, ...]
    overall: tuple[Overall, ...]

    @classmethod
    def of(cls, found: Found) -> "Comparison":
        """Group the runs that were found."""
        blocks = blocks_of(found.runs)
        return cls(found, tuple(blocks), tuple(over_all_logs(blocks)))

    @property
    def notes(self) -> list[str]:
        """Return remarks on how far the tables can be trusted."""
        return list(_notes(self))


def _notes(comparison: Comparison) -> Sequence[str]:
    found, blocks = comparison.found, comparison.blocks
    settings = [setting for block in blocks for setting in block.settings]
    most = max(len(block.settings) for block in blocks)
    left = f", {len(found.left_out)} left out" if found.left_out else ""
    counts = f"{_counted(found.tried, 'policy', 'policies')} tried, {_counted(len(settings), 'setting', 'settings')} compared"
    notes = [f"{counts}{left}."]
    if most > 1:
        notes.append(
            f"The best of {most} settings is optimistic: it was chosen by the returns that it is shown with. Train it again with new "
            "seeds before you report it; a choice by returns in the environment is not offline."
        )
    if len(blocks) > 1:
        notes.append(f"The runs are of {len(blocks)} logs or environments, which are compared apart.")
    if any(setting.shares_an_ensemble for setting in settings):
        notes.append(
            "Runs of one setting share an ensemble: their intervals leave out what another ensemble would change."
        )
    if any(len({run.seed for run in setting.runs}) < len(setting.runs) for setting in settings):
        notes.append("Some settings have several runs of one seed: these are not independent.")
    if any(len(setting.runs) < 3 for setting in settings):
        notes.append("Some settings have fewer than three runs: a difference between them may be chance.")
    return notes


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


# Cells


def number(value: float, beside: float | None = None) -> str:
    """Format a return: one decimal, or three digits where it, or the number `beside` it, is small.

    >>> number(-1140.72), number(0.01234), number(2.514, beside=-209.41)
    ('-1140.7', '0.0123', '2.5')
    """
    return f"{value:.1f}" if abs(value if beside is None else beside) >= 10 or value == 0 else f"{value:.3g}"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return number(spread.mean) if spread.std is None else f"{number(spread.mean)} ± {number(spread.std, spread.mean)}"


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return number(value) + ("" if interval is None else f" [{', '.join(number(end, value) for end in interval)}]")


def _share(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.2f}" + ("" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]")


def cells(order: int, setting: Setting) -> list[str]:
    """Return one row of a block's table."""
    seeds = ", ".join(str(run.seed) for run in setting.runs)
    score = setting.score
    return [
        str(order),
        setting.label,
        f"{len(setting.runs)} ({seeds})",
        *map(_spread, (setting.last, setting.last10, setting.best)),
        _with_interval(setting.iqm, setting.interval),
        "–" if score is None else number(score),
        f"{setting.seconds:.0f} s",
    ]


def pairs(block: Block) -> list[list[str]]:
    """Return the table of probabilities of improvement: row i, column j is P(i beats j)."""
    shown = range(min(len(block.settings), MOST_PAIRS))

    def cell(first: int, second: int) -> str:
        return "" if first == second else _share(*block.improvement(first, second))

    return [[str(first + 1), *(cell(first, second) for second in shown)] for first in shown]


# Pages


def markdown(comparison: Comparison) -> str:
    """Return the text of `compare.md`."""
    lines = ["# Comparison", "", *(f"- {note}" for note in comparison.notes)]
    for block in comparison.blocks:
        lines += ["", f"## {title(block)}", "", f"Mean return of the log: {number(block.of_the_log)}.", ""]
        lines += _table(COLUMNS, [cells(order, setting) for order, setting in enumerate(block.settings, 1)])
        if len(block.settings) > 1:
            rows = pairs(block)
            lines += ["", "Probability that a run of the row beats one of the column:", ""]
            lines += _table(("", *(row[0] for row in rows)), rows)
    if comparison.overall:
        lines += ["", "## Over all logs, by normalised score", ""]
        lines += _table(OVERALL, overall_cells(comparison))
    if comparison.found.left_out:
        lines += ["", "## Left out", ""]
        lines += [f"- {folder}: {reason}" for folder, reason in comparison.found.left_out.items()]
    return "\n".join([*lines, "", METHOD + ".", ""])


OVERALL = ("setting", "runs of each log", "IQM of scores [95 %]")


def overall_cells(comparison: Comparison) -> list[list[str]]:
    """Return the rows of the table over all logs."""
    return [
        [one.label, ", ".join(str(len(scores)) for scores in one.scores), _with_interval(one.iqm, one.interval)]
        for one in comparison.overall
    ]


def title(block: Block) -> str:
    """Return the title of a block: log and environment."""
    return f"{block.log[0]} ({block.log[1][:8]}) in {block.environment}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    marks = ["---"] * len(head)
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, marks, *rows)]


def csv_text(comparison: Comparison) -> str:
    """Return the text of `compare.csv`, with one row for each run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        (
            "log",
            "hash",
            "environment",
            "setting",
            "seed",
            "last",
            "last10",
            "best",
            "score",
            "log_return",
            "seconds",
            "run",
        )
    )
    for block in comparison.blocks:
        for setting in block.settings:
            for run in setting.runs:
                score = normalised_score(run.env_id, run.final)
                of_the_run = (run.seed, run.final, run.last10, run.best, score, run.of_the_log, run.seconds, run.path)
                writer.writerow((*run.log, run.environment, setting.label, *of_the_run))
    return text.getvalue()


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return all numbers as plain values."""
    return {
        "tried": comparison.found.tried,
        "notes": comparison.notes,
        "method": METHOD,
        "left_out": {str(folder): reason for folder, reason in comparison.found.left_out.items()},
        "blocks": [
            {
                "log": dict(zip(("name", "hash"), block.log, strict=True)),
                "environment": block.environment,
                "log_return": block.of_the_log,
                "settings": [_setting_json(setting) for setting in block.settings],
                "improvement": [
                    [None if i == j else block.improvement(i, j) for j in range(len(block.settings))]
                    for i in range(len(block.settings))
                ],
            }
            for block in comparison.blocks
        ],
        "over_all_logs": [
            {"label": one.label, "iqm_of_scores": one.iqm, "interval": one.interval} for one in comparison.overall
        ],
    }


def _setting_json(setting: Setting) -> dict[str, Any]:
    def spread(value: Spread | None) -> dict[str, float | None] | None:
        return None if value is None else {"mean": value.mean, "std": value.std}

    return {
        "label": setting.label,
        "seeds": [run.seed for run in setting.runs],
        "returns": setting.returns.tolist(),
        "last": spread(setting.last),
        "last10": spread(setting.last10),
        "best": spread(setting.best),
        "iqm": setting.iqm,
        "interval": setting.interval,
        "score": setting.score,
        "seconds": setting.seconds,
        "runs": [str(run.path) for run in setting.runs],
    }


def html(comparison: Comparison, figure: str) -> str:
    """Return the text of `compare.html`, which needs no other file and no network; `figure` is the SVG of the learning curves."""
    return filled(
        "mopo_pl.comparison",
        "compare.html.j2",
        notes=comparison.notes,
        figure=Markup(figure),
        blocks=[
            {
                "title": title(block),
                "of_the_log": number(block.of_the_log),
                "rows": [cells(order, setting) for order, setting in enumerate(block.settings, 1)],
                "pairs": pairs(block) if len(block.settings) > 1 else [],
            }
            for block in comparison.blocks
        ],
        columns=COLUMNS,
        overall=overall_cells(comparison),
        overall_columns=OVERALL,
        left_out=list(comparison.found.left_out.items()),
        method=METHOD,
    )
