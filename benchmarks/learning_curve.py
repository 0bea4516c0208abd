#!/usr/bin/env python3
"""Draws the evaluation return of finished runs by update, beside the mean return of their log.

python benchmarks/learning_curve.py runs/latest --out learning_curve.svg
python benchmarks/learning_curve.py benchmarks/results/first_command.json --out docs/figures/learning_curve.svg

RUN is a run folder, or a file that `benchmarks/curves.py --json` wrote: then all its runs are drawn, one line each. A single run has a
band of one standard deviation over episodes. Colours are readable on a light and on a dark page.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from curves import read_run
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

POLICY, LOG, TEXT = "#3b82f6", "#d97706", "#808080"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: a small file, in the reader's font
    "svg.hashsalt": "learning_curve",  # the same bytes each time
    "font.family": "sans-serif",
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def read_runs(path: Path) -> list[dict[str, Any]]:
    """The runs of a folder or a file; raises ValueError where a run was never evaluated."""
    runs = json.loads(path.read_text()) if path.is_file() else [read_run(path)]
    for run in runs:
        if not run["curve"]:
            raise ValueError(f"{path}: no evaluation in it: did the run have an env_id?")
    return runs


def draw(runs: list[dict[str, Any]], out: Path) -> None:
    """Writes the picture; its format is that of the file's suffix."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        for number, run in enumerate(runs):
            updates, means, spreads = zip(*run["curve"], strict=True)
            name = "policy" if len(runs) == 1 else f"policy, seed {run['seed']}"
            shade = 1.0 - 0.6 * number / len(runs)
            axes.plot(updates, means, color=POLICY, alpha=shade, linewidth=1.5, label=name)
            if len(runs) == 1:
                low, high = ([m + s * d for m, d in zip(means, spreads, strict=True)] for s in (-1, 1))
                axes.fill_between(updates, low, high, color=POLICY, alpha=0.2, linewidth=0)
        draw_log(axes, runs)
        axes.set(xlabel="updates of the policy", ylabel="return of an episode")
        axes.legend(frameon=False, labelcolor=TEXT)
        figure.savefig(out, transparent=True, metadata={"Date": None} if out.suffix == ".svg" else None)


def draw_log(axes: Axes, runs: list[dict[str, Any]]) -> None:
    """The mean return of the log, a dashed line; runs of one log have one mean."""
    for behaviour in sorted({run["result"]["behaviour_return"] for run in runs}):
        axes.axhline(behaviour, color=LOG, linestyle="--", linewidth=1.5, label="mean of the log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run, or a file of curves")
    parser.add_argument("--out", type=Path, default=Path("learning_curve.svg"), help="(%(default)s)")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(read_runs(options.run), options.out)
    print(options.out)


if __name__ == "__main__":
    main()
