#!/usr/bin/env python3
"""Print one table row per finished run, and write the learning curves to a file.

python benchmarks/curves.py runs/dmsd_s0 runs/dmsd_s1 --at 60 100 --json benchmarks/results/dmsd.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mopo_pl.run.files.folder import RunFolder

SETTINGS = (
    "penalty.name",
    "penalty.coef",
    "penalty.value_coef",
    "penalty.halt_widths",
    "rollout.horizon",
    "rollout.starts",
    "rollout.real_ratio",
    "trainer.max_epochs",
    "evaluation.episodes",
    "compile",
    "threads",
)
"""Configuration keys that are stored with each curve."""


def read_run(path: Path) -> dict[str, Any]:
    """Return settings, result and curve of a finished run.

    A curve is a list of [updates, mean return, standard deviation].
    """
    folder = RunFolder(path)
    config = OmegaConf.load(folder.config)
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    curve = [
        [row["update"], round(row["evaluation/return"], 1), round(row["evaluation/return_std"], 1)]
        for row in rows
        if row.get("evaluation/return") is not None
    ]
    result = json.loads(folder.result.read_text())
    kept = ("final_return", "final_return_std", "last10_return", "final_score", "last10_score", "behaviour_return")
    return {
        "dataset": Path(result["dataset"]["name"]).name,
        "dataset_hash": result["dataset"]["hash"],
        "seed": result["seed"],
        "settings": {key: _plain(OmegaConf.select(config, key)) for key in SETTINGS},
        "result": {key: result[key] for key in kept},
        "seconds": result["seconds"],
        "versions": result["versions"],
        "curve": curve,
    }


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def row(run: dict[str, Any], at: list[int]) -> str:
    """Format one row of a Markdown table; `at`: columns in thousands of updates."""
    settings, result, curve = run["settings"], run["result"], run["curve"]
    points = {updates // 1000: mean for updates, mean, _ in curve}
    best = max(mean for _, mean, _ in curve)
    cells = [
        run["dataset"],
        "real data only"
        if settings["rollout.real_ratio"] == 1
        else f"{settings['penalty.name']} {settings['penalty.coef']:g}, {settings['rollout.horizon']}",
        str(run["seed"]),
        *(f"{points[thousand]:.0f}" if thousand in points else "–" for thousand in at),
        f"{result['final_return']:.0f} ± {result['final_return_std']:.0f}",
        f"{result['last10_return']:.0f}",
        f"{best:.0f}",
        " + ".join(f"{seconds:.0f}" for seconds in run["seconds"].values() if seconds is not None),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="finished run folders")
    parser.add_argument("--at", nargs="*", type=int, default=[], help="columns at these thousands of updates")
    parser.add_argument("--json", type=Path, help="file to write the curves to")
    options = parser.parse_args()
    runs = [read_run(path) for path in options.runs]
    heads = ["log", "u λ, h", "seed", *(f"at {n}k" for n in options.at), "final", "last ten", "best", "seconds"]
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for run in runs:
        print(row(run, options.at))
    if options.json:
        options.json.write_text(json.dumps(runs, separators=(",", ":")).replace('{"dataset"', '\n{"dataset"') + "\n")


if __name__ == "__main__":
    main()
