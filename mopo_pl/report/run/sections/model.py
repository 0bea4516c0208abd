"""Section of the report about the errors of the model."""

from typing import Any

from mopo_pl.data.readers.names import shown
from mopo_pl.report import figures
from mopo_pl.report.run.measured.model import VALUE_SPREAD, MeasuredModel
from mopo_pl.report.run.sections.layout import LONGEST, Figure, Section, Table, first_of, number, share


def model_section(found: MeasuredModel, config: dict[str, Any]) -> Section:
    """Return the section on one-step and open-loop errors, calibration of σ, and penalties; `config` names the penalty of the run."""
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
            + first_of(len(step.columns), figures.MOST_COLUMNS),
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
