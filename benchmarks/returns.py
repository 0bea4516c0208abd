#!/usr/bin/env python3
r"""Trains declared variants on declared logs with several seeds, and prints the table of docs/results.md.

python benchmarks/returns.py --data ~/logs --logs hopper-mix dmsd --variants default bc --seeds 0 1 2
python benchmarks/returns.py --table --figure docs/figures/returns.svg

Every run trains an ensemble of its own. A run that was stopped is resumed by the same command; a finished one is kept as a
small JSON file in benchmarks/results/returns/. `--at-once` runs train beside each other, one thread each. `--table` prints
what is there, without training, and `--figure` draws the learning curves. The code must not change meanwhile: start it in a worktree of a commit.

Logs: `pendulum` is made by the program. `dmsd` and `safety` are NeoRL-2's files. The mixes are HDF5 files with the keys of D4RL:
50 000 steps each of random actions and of policies, by their mean returns: Hopper 756, 2476; Walker2d 562, 2257; HalfCheetah 2962, 4062,
5602; HalfCheetah with SAC 1696, 5390, 8903. halfcheetah-jump is the log of docs/data.md, of 300 000 steps. What was trained on a file with other rows is not kept.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from curves import read_run
from learning_curve import POLICY, STYLE, TEXT, draw_log
from matplotlib import rc_context
from matplotlib.figure import Figure

from mopo_pl.storage.atomic_write import atomic_write

KEPT = Path(__file__).parent / "results" / "returns"
COLUMNS = 3
"""Panels beside each other in a picture."""
COLOURS = (POLICY, "#16a34a", "#db2777", "#7c3aed", "#0891b2", "#a16207")
"""Of variants; readable on a light and on a dark page."""


class Log(NamedTuple):
    """A log: its file in `--data`, None where the program makes it; its keys; epochs of a run; the hash of its rows begins so."""

    file: str | None
    keys: tuple[str, ...]
    epochs: int
    hash: str


LOGS = {
    "pendulum": Log(None, ("dataset=pendulum",), 15, "2f381f53e4f5f8fe"),
    "dmsd": Log("DMSD-high-100000-train.npz", ("env_id=mopo_pl/DMSD-v0",), 60, "3f6743430ce30979"),
    "safety": Log(
        "SafetyHalfCheetah-high-100000-train.npz", ("env_id=mopo_pl/SafetyHalfCheetah-v0",), 60, "2041e08d086f6ad1"
    ),
    "hopper-mix": Log("hopper-mix.hdf5", ("env_id=Hopper-v5",), 60, "a4ad48af43b71546"),
    "walker2d-mix": Log("walker2d-mix.hdf5", ("env_id=Walker2d-v5",), 60, "8747a599c05d665b"),
    "halfcheetah-mix": Log("halfcheetah-mix.hdf5", ("env_id=HalfCheetah-v5",), 60, "8e45bce8c17dfc58"),
    "halfcheetah-sac-mix": Log("halfcheetah-sac-mix.hdf5", ("env_id=HalfCheetah-v5",), 60, "7e1083525f6f4e51"),
    "halfcheetah-jump": Log("jump.hdf5", (), 20, "b9632ad1d8e400a6"),
}

VARIANTS: dict[str, tuple[str, ...]] = {
    "default": (),
    "bc": ("preset=bc",),
    "mbpo": ("preset=mbpo",),
    "offline-sac": ("preset=offline-sac",),
    "d4rl-v2": ("preset=d4rl-v2", "penalty.coef=2.5", "rollout.horizon=5"),
    # Each without one mechanism of the default.
    "no value penalty": ("penalty.value_coef=0",),
    "value penalty 1": ("penalty.value_coef=1",),
    "value penalty 1, no end where the log ends": ("penalty.value_coef=1", "penalty.halt_widths=null"),
    "all of u costs": ("penalty.free_quantile=null",),
    "5 % logged rows": ("rollout.real_ratio=0.05",),
    "starts from the log alone": ("rollout.continue_share=0",),
    "no average of the actor": ("sac.actor_average=null",),
    "LayerNorm in critics": ("sac.critic_layer_norm=true",),
    "unbounded targets": ("sac.bound_targets=false",),
    "critics from 0": ("sac.start_at_log_value=false",),
    "plain likelihood of residuals": ("dynamics.huber_delta=null",),
    "raw observations": ("sac.normalise_observations=false",),
    "steps of 5": ("rollout.horizon=5", "rollout.starts=10000"),
    "no end where the log ends": ("penalty.halt_widths=null",),
    "30 000 updates": ("trainer.max_epochs=30",),
    "300 000 updates": ("trainer.max_epochs=300",),
}


class Cell(NamedTuple):
    """One run."""

    log: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """As a file is called."""
        name = f"{self.log}_{self.variant}_s{self.seed}"
        return name.replace(",", "").replace(" ", "-").replace("%", "percent")

    @property
    def kept(self) -> Path:
        """Where its result is."""
        return KEPT / f"{self.name}.json"


def command(cell: Cell, options: argparse.Namespace) -> list[str]:
    """The arguments of a new run."""
    log = LOGS[cell.log]
    if log.file is not None and not (options.data / log.file).exists():
        raise SystemExit(f"{options.data / log.file}: there is no such file; --data names the folder of the logs")
    dataset = [] if log.file is None else [f"dataset={options.data / log.file}"]
    given = VARIANTS[cell.variant]
    length = [] if any(key.startswith("trainer.max_epochs=") for key in given) else [options.epochs or log.epochs]
    common = ["threads=1", "evaluation.every_n_epochs=2", "logger=none", f"seed={cell.seed}"]
    return [*given, *dataset, *log.keys, *(f"trainer.max_epochs={epochs}" for epochs in length), *common]


def train(cell: Cell, options: argparse.Namespace) -> None:
    """Begin the run, or go on with it; keep its result. Prints what failed, so that the other runs go on."""
    folder = options.runs / cell.name
    if not (folder / "result.json").exists():
        begun = (folder / "config.yaml").exists()
        arguments = [f"resume={folder}"] if begun else [*command(cell, options), f"run_dir={folder}"]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".log").open("a") as output:
            done = subprocess.run(
                [sys.executable, "-m", "mopo_pl", "train", *arguments], stdout=output, stderr=subprocess.STDOUT
            )
        if done.returncode:
            print(f"{cell.name}: exit code {done.returncode}, see {folder.with_suffix('.log')}", file=sys.stderr)
            return
    run = {"log": cell.log, "variant": cell.variant, **read_run(folder)}
    if not run["dataset_hash"].startswith(LOGS[cell.log].hash):
        print(f"{cell.name}: not kept, its rows are not those of {cell.log}", file=sys.stderr)
        return
    KEPT.mkdir(parents=True, exist_ok=True)
    with atomic_write(cell.kept) as aside:
        aside.write_text(json.dumps(run, separators=(",", ":")) + "\n")
    print(f"{cell.name}: last ten {run['result']['last10_return']:.0f}", file=sys.stderr)


def kept_runs() -> Iterator[dict[str, Any]]:
    """The results in benchmarks/results/returns/, in the order of `LOGS` and `VARIANTS`."""
    order = {(log, variant): (i, j) for i, log in enumerate(LOGS) for j, variant in enumerate(VARIANTS)}
    runs = [json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))]
    yield from sorted(runs, key=lambda run: (*order[run["log"], run["variant"]], run["seed"]))


def averaged(run: dict[str, Any]) -> int:
    """How many of a run's last evaluations its mean is of."""
    return min(10, len(run["curve"]) // 2)


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: one row a log and variant, a figure a seed.

    *Last evaluations*: mean of the last ten, or of the second half where there are fewer than twenty. *Between them*: their standard
    deviation. *Final*: the last weights over 20 other episodes.
    """
    lines = [
        "| log | mean of the log | variant | updates | evaluations | mean of the last evaluations, by seed | their std | final policy | seconds of a run |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for log, variant in dict.fromkeys((run["log"], run["variant"]) for run in runs):
        own = [run for run in runs if (run["log"], run["variant"]) == (log, variant)]
        last = [[mean for _, mean, _ in run["curve"][-averaged(run) :]] for run in own]
        seconds = statistics.median(sum(filter(None, run["seconds"].values())) for run in own)
        cells = [
            log,
            f"{own[0]['result']['behaviour_return']:.0f}",
            variant,
            str(own[0]["curve"][-1][0]),
            str(averaged(own[0])),
            ", ".join(f"{statistics.mean(means):.0f}" for means in last),
            ", ".join(f"{statistics.pstdev(means):.0f}" for means in last),
            ", ".join(f"{run['result']['final_return']:.0f}" for run in own),
            f"{seconds:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(runs: list[dict[str, Any]], out: Path) -> None:
    """Write a picture with a panel for each log: a colour for each variant, a line for each seed, the log's mean dashed."""
    logs = list(dict.fromkeys(run["log"] for run in runs))
    variants = [name for name in VARIANTS if name in {run["variant"] for run in runs}]
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 2.8 * -(-len(logs) // COLUMNS)), layout="constrained")
        panels = figure.subplots(-(-len(logs) // COLUMNS), COLUMNS, squeeze=False).flatten()
        for axes, log in itertools.zip_longest(panels, logs):
            if log is None:
                axes.remove()
                continue
            own = [run for run in runs if run["log"] == log]
            for run in own:
                updates, means, _ = zip(*run["curve"], strict=True)
                colour = COLOURS[variants.index(run["variant"]) % len(COLOURS)]
                axes.plot(np.array(updates) / 1000, means, color=colour, linewidth=1.2, label=run["variant"])
            draw_log(axes, own)
            axes.set(title=log, xlabel="thousand updates of the policy", ylabel="return of an episode")
            # Cut at -(highest return): a run that diverged would flatten the others.
            low, high = (
                pick(run["curve"][i][1] for run in own for i in range(len(run["curve"]))) for pick in (min, max)
            )
            axes.set_ylim(bottom=max(low, -high) if high > 0 else None)
        named = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, frameon=False, labelcolor=TEXT)
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, transparent=True, metadata={"Date": None} if out.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(), help="folder of the logs (default: the current one)")
    parser.add_argument("--logs", nargs="*", choices=LOGS, default=list(LOGS), help="(default: all)")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=["default"], help="(default: default)")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--epochs", type=int, help="epochs of 1000 updates (default: 60; pendulum 15, halfcheetah-jump 20)"
    )
    parser.add_argument("--at-once", type=int, default=1, help="runs beside each other (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/returns"), help="folder of the runs (%(default)s)")
    parser.add_argument("--table", action="store_true", help="print the table of what is kept, without training")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw what is kept; SVG, PNG or PDF by its suffix")
    options = parser.parse_args()
    if not options.table:
        cells = [
            Cell(*of) for of in ((log, v, s) for s in options.seeds for log in options.logs for v in options.variants)
        ]
        left = [cell for cell in cells if not cell.kept.exists()]
        for cell in left:
            command(cell, options)  # what is missing is said before anything is trained
        with ThreadPoolExecutor(options.at_once) as pool:
            list(pool.map(lambda cell: train(cell, options), left))
    runs = list(kept_runs())
    if options.figure:
        draw(runs, options.figure)
    print(table(runs))


if __name__ == "__main__":
    main()
