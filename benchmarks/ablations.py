#!/usr/bin/env python3
r"""Less work at the same returns? One setting changed at a time, a few seeds each, on one log.

python benchmarks/ablations.py --log dataset=pendulum --json benchmarks/results/ablations_pendulum.json
python benchmarks/ablations.py --log dataset=DMSD-high-100000-train.npz env_id=mopo_pl/DMSD-v0 penalty.coef=0.5 \
    --json benchmarks/results/ablations_dmsd.json

Prints a table. Every finished run is kept in the file at once, so that the same command goes on where it was stopped. Settings
of the rollouts share their seed's ensemble; those of the ensemble, and bf16, train their own. `--only` takes some of the settings.
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
"""What each changes of the default, whose 50 000 starts a refresh are given to every log alike. Those of the ensemble, and
bf16, differ from "10 000 starts" in one thing."""


def of_the_ensemble(name: str) -> list[str]:
    """What a setting changes of the ensemble's training, which then has to be its own."""
    return [change for change in SETTINGS[name] if change.startswith(("dynamics.", "trainer.precision="))]


def folder_of(options: argparse.Namespace, part: str, name: str, seed: int) -> Path:
    """Of a setting's ensemble or policy."""
    return options.folder / f"{part} {name} {seed}".replace(" ", "_").replace(",", "")


def train(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Runs, or goes on with, a training in `folder`; its result."""
    if not (folder / "result.json").exists():
        begin = [f"resume={folder}"] if (folder / "config.yaml").exists() else [*arguments, f"run_dir={folder}"]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".log").open("a") as log:
            command = [sys.executable, "-m", "mopo_pl", "train", *begin]
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
    return json.loads((folder / "result.json").read_text())


def measure(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One policy of one setting, on its ensemble."""
    common = [*options.log, f"seed={seed}", f"threads={options.threads}", "rollout.starts=50000"]
    changes = SETTINGS[name]
    own = of_the_ensemble(name)
    ensemble = folder_of(options, "ensemble", name if own else "default", seed)
    fitted = train([*common, *own, "stage=dynamics"], ensemble)
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
    """Means over seeds, ± the standard error between them."""
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
    """What the file holds, or an empty one; a file of other settings is refused."""
    pairs = [argument.partition("=") for argument in options.log]
    given = {
        "log": [f"{key}={Path(value).name}" for key, _, value in pairs],
        "epochs": options.epochs,
        "episodes": options.episodes,
        "threads": options.threads,
    }
    found = json.loads(options.json.read_text()) if options.json.exists() else given | {"runs": []}
    if {name: found[name] for name in given} != given:
        raise SystemExit(f"{options.json} holds runs of other settings than {given}: name another file")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", nargs="+", required=True, help="dataset=… and what belongs to it, as for train.py")
    parser.add_argument("--json", type=Path, required=True, help="file of the results, gone on with where it exists")
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS), help="settings (default: all)")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30, help="of the policy, 1000 updates each (%(default)s)")
    parser.add_argument("--episodes", type=int, default=100, help="of the final evaluation (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of a run (%(default)s)")
    parser.add_argument("--folder", type=Path, help="of the runs (default: runs/<name of the file>)")
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
