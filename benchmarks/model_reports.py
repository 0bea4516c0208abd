#!/usr/bin/env python3
"""What the reports of finished runs say of their ensembles, side by side: the tables of docs/diagnostics.md.

`python benchmarks/model_reports.py RUN…`, or RUN=NAME for another name in the tables than that of the log. It trains nothing, and takes
seconds a run. All figures are those of `python -m mopo_pl report RUN --json`, measured on the rows that the ensemble held out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mopo_pl.report.run.measured.model import MeasuredModel
from mopo_pl.report.run.overview import gather
from mopo_pl.report.run.run_files import EVERYTHING

LEVEL = 0.9
"""Of the central intervals in the table."""
STEPS = (1, 10, 20)
"""Of the open-loop errors in the table."""


def rankings(models: dict[str, MeasuredModel]) -> str:
    """How each penalty orders held-out rows by their error: Spearman, AUROC of the worst tenth; the best in bold."""
    lines = [f"| penalty | {' | '.join(models)} |", "|---|" + "---|" * len(models)]
    found = {name: {each.name: each for each in model.one_step.rankings} for name, model in models.items()}
    best = {
        name: max(rows.values(), key=lambda row: row.standardised_spearman or 0.0).name for name, rows in found.items()
    }
    for penalty in dict.fromkeys(penalty for rows in found.values() for penalty in rows):
        cells = []
        for name, rows in found.items():
            row = rows.get(penalty)
            if row is None or row.standardised_spearman is None or row.standardised_auroc is None:
                cells.append("–")
                continue
            cell = f"{row.standardised_spearman:.2f}, {row.standardised_auroc:.2f}"
            cells.append(f"**{cell}**" if penalty == best[name] else cell)
        if set(cells) == {"–"}:  # `none`: u = 0
            continue
        lines.append(f"| `{penalty}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def honesty(models: dict[str, MeasuredModel]) -> str:
    """Calibration before and after the z-scale, and open-loop errors."""
    lines = [f"| | {' | '.join(models)} |", "|---|" + "---|" * len(models)]

    def row(name: str, cells: Sequence[str]) -> None:
        lines.append(f"| {name} | {' | '.join(cells)} |")

    steps = [model.one_step for model in models.values()]
    row("held-out rows", [str(step.rows) for step in steps])
    row(
        "error of a column, of its spread: median",
        [f"{_median([c.relative for c in step.columns]):.3f}" for step in steps],
    )
    worst = [max(step.columns, key=lambda column: column.relative) for step in steps]
    row("the worst column", [f"{column.relative:.3f} ({column.name})" for column in worst])
    row(f"errors within the {LEVEL:.0%} interval", [f"{_at(step.levels, step.coverage):.2f}" for step in steps])
    row("the same after the z-scale", [f"{_at(step.levels, step.scaled_coverage):.2f}" for step in steps])
    row("log-likelihood of a row [nats]", [f"{step.log_likelihood:.1f}" for step in steps])
    row("the same after the z-scale", [f"{step.scaled_log_likelihood:.1f}" for step in steps])
    loops = [model.open_loop for model in models.values()]
    for h in STEPS:
        cells = [
            f"{loop.median[h - 1]:.2f} ({loop.standing[h - 1]:.2f})" if h <= len(loop.median) else "–" for loop in loops
        ]
        row(f"open loop, h = {h}: error [std of the log] (if nothing changed)", cells)
    return "\n".join(lines)


def _at(levels: Sequence[float], values: Sequence[float]) -> float:
    return values[min(range(len(levels)), key=lambda i: abs(levels[i] - LEVEL))]


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a finished run, or RUN=NAME")
    options = parser.parse_args()
    models: dict[str, MeasuredModel] = {}
    for run in options.runs:
        folder, _, name = run.partition("=")
        overview = gather(Path(folder), dataset=None, trust=EVERYTHING)
        if overview.model is None:
            raise SystemExit(f"{folder}: its ensemble cannot be judged: {'; '.join(overview.notes)}")
        if not overview.model.held_out:
            print(
                f"warning: {folder}: which rows its ensemble held out is not known; a sample is used", file=sys.stderr
            )
        models[name or Path(overview.dataset).stem] = overview.model
    print(rankings(models), "\n")
    print(honesty(models))


if __name__ == "__main__":
    main()
