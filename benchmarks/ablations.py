#!/usr/bin/env python3
r"""Ablations of the former default (docs/earlier_results.md) on one dataset: final returns and training times of several seeds.

python benchmarks/ablations.py --log dataset=pendulum --json benchmarks/results/ablations_pendulum.json
python benchmarks/ablations.py --log dataset=DMSD-high-100000-train.npz env_id=mopo_pl/DMSD-v0 penalty.coef=0.5 \
    --json benchmarks/results/ablations_dmsd.json

Prints a table. Each finished run is saved at once, so that the same command continues where it was stopped. Variants
that only change rollouts use their seed's default ensemble; those that change the ensemble, or bf16, train another one.
`--only` selects variants.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from mopo_pl.storage.atomic_write import atomic_write

FORMER = [
    *("penalty.name=max_aleatoric", "penalty.relative=false", "penalty.free_quantile=null", "penalty.value_coef=0"),
    *("penalty.coef=2.5", "rollout.horizon=5", "rollout.real_ratio=0.05", "rollout.continue_share=0"),
    *("sac.actor_lr=1e-4", "sac.alpha_init=1", "sac.critic_layer_norm=false", "sac.bound_targets=false"),
    *("sac.actor_average=null", "sac.normalise_observations=false", "sac.start_at_log_value=false"),
    *("dynamics.beta=0.5", "dynamics.huber_delta=null"),
]
"""The default with which the kept figures were made; `--log` may change it."""

SETTINGS: dict[str, list[str]] = {
    "default": [],
    "20 000 starts": ["rollout.starts=20000"],
    "10 000 starts": ["rollout.starts=10000"],
    "5000 starts": ["rollout.starts=5000"],
    "a refresh every 5 epochs": ["rollout.every_n_epochs=5"],
    "patience 2, 10 000 starts": ["dynamics.patience=2", "rollout.starts=10000"],
    "holdout 200 rows, 10 000 starts": ["dynamics.holdout_max=200", "rollout.starts=10000"],
    "holdout 5000 rows, 10 000 starts": ["dynamics.holdout_max=5000", "rollout.starts=10000"],
    "bf16, 10 000 starts": ["trainer.precision=bf16-mixed", "rollout.starts=10000"],
}
"""Variants by name, as changes of the former default with 50 000 rollouts per refresh.

Each variant of the ensemble, and bf16, differs from "10 000 starts" in one setting.
"""


def of_the_ensemble(name: str) -> list[str]:
    """Return a variant's changes of the ensemble's training; if there are any, it trains a separate ensemble."""
    return [change for change in SETTINGS[name] if change.startswith(("dynamics.", "trainer.precision="))]


def folder_of(options: argparse.Namespace, part: str, name: str, seed: int) -> Path:
    """Return the run folder of a variant; `part` is "ensemble" or "policy"."""
    return options.folder / f"{part} {name} {seed}".replace(" ", "_").replace(",", "")


def train(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Train in `folder`, or resume there; return the content of its result.json."""
    if not (folder / "result.json").exists():
        begin = [f"resume={folder}"] if (folder / "config.yaml").exists() else [*arguments, f"run_dir={folder}"]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".log").open("a") as log:
            command = [sys.executable, "-m", "mopo_pl", "train", *begin]
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
    return json.loads((folder / "result.json").read_text())


def measure(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one policy of a variant on its ensemble; return the results."""
    common = [*FORMER, *options.log, f"seed={seed}", f"threads={options.threads}", "rollout.starts=50000"]
    changes = SETTINGS[name]
    ensemble_changes = of_the_ensemble(name)
    ensemble = folder_of(options, "ensemble", name if ensemble_changes else "default", seed)
    fitted = train([*common, *ensemble_changes, "stage=dynamics"], ensemble)
    steps = json.loads((ensemble / "metrics.jsonl").read_text().splitlines()[-1])["update"]
    policy = [f"trainer.max_epochs={options.epochs}", f"evaluation.final_episodes={options.episodes}"]
    rest = [*common, *changes, "stage=policy", f"dynamics_from={ensemble}", *policy]
    result = train(rest, folder_of(options, "policy", name, seed))
    return {
        "setting": name,
        "seed": seed,
        "final_return": result["final_return"],
        "final_return_std": result["final_return_std"],
        "last10_return": result["last10_return"],
        "updates": result["updates"],
        "ensemble_steps": steps,
        "seconds": {"dynamics": fitted["seconds"]["dynamics"], "policy": result["seconds"]["policy"]},
        "log": result["dataset"]["hash"],
        "versions": result["versions"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format means over seeds, ± their standard error, as a Markdown table."""
    lines = [
        "| setting | final return of each seed | mean | last ten | seconds, ensemble + policy |",
        "|---|---|---|---|---|",
    ]
    for name in SETTINGS:
        runs = [row for row in rows if row["setting"] == name]
        if not runs:
            continue
        finals, last = ([row[key] for row in runs] for key in ("final_return", "last10_return"))
        error = statistics.stdev(finals) / math.sqrt(len(finals)) if len(finals) > 1 else math.nan
        seconds = [statistics.median(row["seconds"][stage] for row in runs) for stage in ("dynamics", "policy")]
        lines.append(
            f"| {name} | {', '.join(f'{value:.0f}' for value in finals)} | {statistics.mean(finals):.0f} ± {error:.0f} "
            f"| {statistics.mean(last):.0f} | {seconds[0]:.0f} + {seconds[1]:.0f} |"
        )
    return "\n".join(lines)


def kept(options: argparse.Namespace) -> dict[str, Any]:
    """Return the results in the file, or empty ones; exit if the file holds results of other settings."""
    pairs = [argument.partition("=") for argument in options.log]
    given = {
        "log": [f"{key}={Path(value).name}" for key, _, value in pairs],
        "epochs": options.epochs,
        "episodes": options.episodes,
        "threads": options.threads,
    }
    found = json.loads(options.json.read_text()) if options.json.exists() else given | {"runs": []}
    if {name: found[name] for name in given} != given:
        raise SystemExit(f"{options.json} holds results of other settings than {given}: give another file")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", nargs="+", required=True, help="dataset=… and further key=value, as for train.py")
    parser.add_argument("--json", type=Path, required=True, help="file of the results; continued if it exists")
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS), help="variants (default: all)")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30, help="policy epochs of 1000 updates (default: %(default)s)")
    parser.add_argument(
        "--episodes", type=int, default=100, help="episodes of the final evaluation (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads per run (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="folder of the runs (default: runs/<name of the JSON file>)")
    options = parser.parse_args()
    found = kept(options)
    options.folder = options.folder or Path("runs") / options.json.stem
    done = {(run["setting"], run["seed"]) for run in found["runs"]}
    for seed in options.seeds:
        for name in options.only:
            if (name, seed) not in done:
                found["runs"].append(measure(name, seed, options))
                with atomic_write(options.json) as aside:
                    aside.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["runs"]))


if __name__ == "__main__":
    main()
