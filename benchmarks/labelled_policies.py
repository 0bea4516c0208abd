#!/usr/bin/env python3
r"""Policies whose true return is known, with their estimates: what the verdict of `python -m mopo_pl estimate` is judged on.

python benchmarks/labelled_policies.py --ensembles pendulum=runs/a dmsd=runs/b hopper-mix=runs/c walker2d-mix=runs/d
python benchmarks/labelled_policies.py --reuse RUN…
python benchmarks/labelled_policies.py --judge --tuned pendulum

Trains a declared set in ensembles that are given: λ in {0, 1, 10}, h in {5, 20}, observations z-scored or raw, each stopped early and
late. Everything else is the default. A folder of `--ensembles` is a finished run whose config.yaml says which log it is of, and with
which environment. `--reuse` labels the policy of each finished run, `--checkpoints` those of its checkpoints too. Each policy leaves one small JSON
file in benchmarks/results/policies/; the same command goes on where it was stopped.

`--judge` trains nothing. It prints how well each estimate ranks the policies of each log, and the verdicts on the last policy of each
run of the logs that are not `--tuned`, and writes these to mopo_pl/diagnostics/estimates/hit_rates.json, which every verdict shows.
"""

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from neorl_rules import judged

from mopo_pl.assembly import as_policy, evaluation_seed
from mopo_pl.config.compose import config_from_file
from mopo_pl.data.findings import Finding, worst
from mopo_pl.diagnostics.estimates.hit_rates import STORED, HitRates, Label
from mopo_pl.diagnostics.estimates.verdict import DEPLOY, VERDICTS, Evidence, verdict
from mopo_pl.environments.episodes import evaluate
from mopo_pl.policy import Policy
from mopo_pl.run.finished.estimate_command import configuration_of
from mopo_pl.run.finished.estimates import estimates_of
from mopo_pl.run.preparation.inputs import open_inputs
from mopo_pl.sac.module import SACModule
from mopo_pl.storage.atomic_write import atomic_write

KEPT = Path(__file__).parent / "results" / "policies"
COEFS = (1.0, 0.0, 10.0)
HORIZONS = (20, 5)
SCALES = {"z": [], "raw": ["sac.normalise_observations=false"]}
LENGTHS = {"pendulum": (2, 6)}
"""Epochs of 1000 updates at the early and at the late snapshot."""
OTHER_LENGTHS = (3, 12)
"""Of the logs that are not named there."""
EPISODES = 50
"""Of the true return."""


class Cell(NamedTuple):
    """One run, of which two policies are labelled."""

    log: str
    scale: str
    coef: float
    horizon: int
    seed: int

    @property
    def name(self) -> str:
        """As its folder is called."""
        return f"{self.log}_{self.scale}_l{self.coef:g}_h{self.horizon}_s{self.seed}"


def cells(logs: Iterable[str], seeds: Iterable[int]) -> list[Cell]:
    """All runs; logs take turns, so that every part of the list is of all of them."""
    return [
        Cell(log, scale, coef, horizon, seed)
        for seed, scale, coef, horizon, log in itertools.product(seeds, SCALES, COEFS, HORIZONS, logs)
    ]


def trained(cell: Cell, ensemble: Path, folder: Path, epochs: int, last: int) -> None:
    """Train the run of a cell to this number of epochs, or resume it."""
    size = [f"trainer.max_epochs={epochs}"]
    if (folder / "result.json").exists():
        done = config_from_file(folder / "config.yaml").trainer.max_epochs
        if done >= epochs:
            return
    if (folder / "config.yaml").exists():
        arguments = [f"resume={folder}", *size]
    else:
        arguments = [
            *("stage=policy", f"dynamics_from={ensemble}", f"run_dir={folder}", *size, *SCALES[cell.scale]),
            *(f"penalty.coef={cell.coef:g}", f"rollout.horizon={cell.horizon}", f"seed={cell.seed}"),
            *(f"rollout.starts={50_000 // cell.horizon}", f"sac.schedule_epochs={last}", "threads=1", "logger=none"),
            *(f"evaluation.every_n_epochs={last}", "evaluation.episodes=1", f"evaluation.final_episodes={EPISODES}"),
            *("estimate=false", "compile=false", "trainer.accelerator=cpu"),
        ]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("a") as log:
        command = [sys.executable, "-m", "mopo_pl", "train", *arguments]
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)


def label(name: str, log: str, run: Path, about: dict[str, Any], policy: Policy | None = None) -> None:
    """Write the JSON of one policy: that of the run, or a given one, whose true return is measured first."""
    target, began = KEPT / f"{name}.json", time.time()
    config = configuration_of(run, [])
    inputs, result = open_inputs(config), json.loads((run / "result.json").read_text())
    if inputs.dataset.env_id is None:
        raise SystemExit(f"{run} has no environment, so that no true return is known")
    if policy is None:
        policy, true = Policy.load(run), result["final_return"]
    else:
        played = evaluate(
            policy,
            env_id=inputs.dataset.env_id,
            env_kwargs=inputs.dataset.env_kwargs,
            numbers=range(EPISODES),
            seed=evaluation_seed(0),
        )
        true = float(played.returns.mean())
    # A verdict that knew the true return would be no verdict: it stands beside the estimates, and what it makes of health is left out.
    health = blind_health(result.get("health"))
    found = estimates_of(config, inputs, policy, seed=0, true_return=true, health=health)
    behaviour = float(inputs.dataset.episode_returns().mean())
    facts = {
        "log": log,
        "run": run.name,
        **about,
        "hash": inputs.dataset.hash,
        "coef": config.penalty.coef,
        "horizon": config.rollout.horizon,
        "true_return": true,
        "log_return": behaviour,
        "beat_log": bool(true > behaviour),
    }
    kept = {key: value for key, value in found.items() if key not in ("verdict", "format", "seconds")}
    KEPT.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as aside:
        aside.write_text(json.dumps({**facts, "estimates": rounded(kept)}, ensure_ascii=False) + "\n")
    said = found["verdict"]["says"]
    print(f"{name}: true return {true:.1f}, log {behaviour:.1f}; {said} ({time.time() - began:.0f} s)", flush=True)


def blind_health(health: Any) -> dict[str, Any] | None:
    """A run's health without the findings that are made of returns in the environment.

    >>> blind_health({"findings": [{"level": "WARN", "name": "below_log", "text": "", "fix": ""}]})
    {'level': 'OK', 'findings': []}
    """
    if not isinstance(health, dict):
        return None
    seen = [found for found in health["findings"] if found["name"] not in ("below_log", "not_finite")]
    return {"level": worst([Finding(**found) for found in seen]), "findings": seen}


def rounded(value: Any) -> Any:
    """Numbers to six digits."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def label_declared(options: argparse.Namespace) -> None:
    """Train and label all runs of the declared set."""
    ensembles = dict(pair.split("=", 1) for pair in options.ensembles)
    for cell in cells(ensembles, options.seeds):
        early, late = LENGTHS.get(cell.log, OTHER_LENGTHS)
        folder = options.folder / cell.name
        for which, epochs in {"early": early, "late": late}.items():
            name = f"{cell.name}_{which}"
            if (KEPT / f"{name}.json").exists():
                continue
            trained(cell, Path(ensembles[cell.log]), folder, epochs, late)
            about = {"scale": cell.scale, "seed": cell.seed, "updates": 1000 * epochs, "snapshot": which}
            label(name, cell.log, folder, about)
        if folder.exists() and not options.keep:
            shutil.rmtree(folder)


def label_finished(runs: list[Path], *, checkpoints: bool) -> None:
    """Label finished runs, and afterwards the policies of their checkpoints."""
    abouts = {}
    for run in runs:
        config = config_from_file(run / "config.yaml")
        abouts[run] = {"scale": "z" if config.sac.normalise_observations else "raw", "seed": config.seed}
        if not (KEPT / f"{run.name}.json").exists():
            label(run.name, config.dataset_label, run, {**abouts[run], "updates": None, "snapshot": "final"})
    for run in runs if checkpoints else []:
        for checkpoint in sorted((run / "checkpoints").glob("policy-*.ckpt"))[:-1]:
            name = f"{run.name}_{checkpoint.stem}"
            if not (KEPT / f"{name}.json").exists():
                module = SACModule.load_from_checkpoint(checkpoint, map_location="cpu")
                config = configuration_of(run, [])
                policy = as_policy(module, open_inputs(config).dataset, {}).eval().requires_grad_(False)
                about = {**abouts[run], "updates": module.updates, "snapshot": "checkpoint"}
                label(name, config.dataset_label, run, about, policy)


RULES: dict[str, Callable[[dict[str, Any]], float]] = {
    "model, mean of elites": lambda found: found["model"]["policy"]["return"]["mean"],
    "model, lowest elite": lambda found: min(found["model"]["policy"]["return"]["elites"]),
    "model, mean − 2 std between elites": lambda found: (
        found["model"]["policy"]["return"]["mean"] - 2 * found["model"]["policy"]["return"]["between"]
    ),
    "model, penalised": lambda found: found["model"]["policy"]["penalised"]["mean"],
    "model, bound": lambda found: found["bound"]["lower"],
    "fitted Q, mean": lambda found: found["fqe"]["policy"]["mean"],
    "fitted Q, min": lambda found: found["fqe"]["policy"]["min"],
    "fitted Q, mean − 2 sd": lambda found: found["fqe"]["policy"]["lower"],
    "fitted Q, −sd": lambda found: -found["fqe"]["policy"]["std"],
    "−u of the policy": lambda found: -found["model"]["policy"]["epsilon_u"],
}
"""Scores by which the policies of a log are ranked."""


def read_labels() -> list[dict[str, Any]]:
    """All labelled policies, those of a run by their updates; the final one, of which none are noted, last."""
    labels = [json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))]
    return sorted(labels, key=lambda each: float("inf") if each["updates"] is None else each["updates"])


def ranking(labels: list[dict[str, Any]]) -> str:
    """Spearman and regret of each rule in each log, as Markdown."""
    logs = sorted({each["log"] for each in labels})
    logs = [log for log in logs if sum(each["log"] == log for each in labels) > 2]
    head = " | ".join(f"{log} ({sum(each['log'] == log for each in labels)})" for log in logs)
    lines = [f"| estimate | {head} |", "|---|" + "---|" * len(logs)]
    for name, rule in RULES.items():
        row = []
        for log in logs:
            mine = [each for each in labels if each["log"] == log]
            scores = np.array([rule(each["estimates"]) for each in mine])
            found = judged(scores, np.array([each["true_return"] for each in mine]))
            row.append(f"{found['spearman']:.2f}, {found['regret']:.2f}")
        lines.append(f"| {name} | {' | '.join(row)} |")
    return "\n".join(lines)


def by_coef(labels: list[dict[str, Any]]) -> str:
    """True return beside the returns in the model, penalised and with all of u penalised, by log and λ, as Markdown."""
    lines = [
        "| log | λ | policies | true return | in the model | penalised | all of u penalised | penalised at most true |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for log, coef in sorted({(each["log"], each["coef"]) for each in labels}):
        mine = [each for each in labels if (each["log"], each["coef"]) == (log, coef)]
        true = np.array([each["true_return"] for each in mine])
        model = [each["estimates"]["model"]["policy"] for each in mine]
        returns, penalised, bound = (
            np.array([each[name]["mean"] for each in model]) for name in ("return", "penalised", "bound")
        )
        means = " | ".join(f"{values.mean():.0f}" for values in (true, returns, penalised, bound))
        lines.append(f"| {log} | {coef:g} | {len(mine)} | {means} | {int((penalised <= true).sum())} of {len(mine)} |")
    return "\n".join(lines)


def judge(tuned: list[str]) -> None:
    """Print the tables, and store the hit rates of held-out logs."""
    labels = read_labels()
    empty = HitRates.of([], VERDICTS)
    said = [verdict(Evidence.of(each["estimates"]), empty).says for each in labels]
    print(f"{len(labels)} policies; in each cell Spearman with the true return, then regret of the pick\n")
    print(ranking(labels), "\n")
    print("means over the policies of a log and a λ, in its own setting of penalty.relative\n")
    print(by_coef(labels), "\n")
    held = {True: "held out", False: "tuned on"}
    for out in (False, True):
        rows = [
            Label(each["log"], each["run"], says, each["beat_log"])
            for each, says in zip(labels, said, strict=True)
            if (each["log"] not in tuned) == out
        ]
        rates = HitRates.of(rows, VERDICTS)
        print(
            f"{held[out]}: {', '.join(rates.logs) or 'no log'}; the last policy of each run\n\n"
            "| verdict | runs | beat their log |\n|---|---|---|"
        )
        for each in VERDICTS:
            print(f"| {each} | {rates.given[each]} | {rates.beat[each]} |")
        print(f"| all | {rates.labels} | {rates.beat_log} |\n")
        if out:
            with atomic_write(STORED) as aside:
                aside.write_text(json.dumps(rates.as_json(), indent=1) + "\n")
            print(f"p = {rates.chance(DEPLOY):.3g}; certified: {rates.certifies(DEPLOY)}; written to {STORED}")
    bounds = [holds for each in labels if (holds := each["estimates"]["bound"]["holds"]) is not None]
    print(f"the bound holds for {sum(bounds)} of {len(bounds)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ensembles", nargs="+", default=[], metavar="LOG=RUN", help="runs whose ensembles are used")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="(default: 0)")
    parser.add_argument("--folder", type=Path, default=Path("runs/labelled"), help="of the runs (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep run folders that are labelled")
    parser.add_argument("--reuse", nargs="+", type=Path, default=[], metavar="RUN", help="finished runs")
    parser.add_argument("--checkpoints", action="store_true", help="label the checkpoints of finished runs too")
    parser.add_argument("--judge", action="store_true", help="judge the labels that are there")
    parser.add_argument("--tuned", nargs="*", default=["pendulum"], help="logs on which thresholds were chosen")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not (options.ensembles or options.reuse or options.judge):
        parser.error("give --ensembles, --reuse or --judge")
    label_finished(options.reuse, checkpoints=options.checkpoints)
    if options.ensembles:
        label_declared(options)
    if options.judge:
        judge(options.tuned)


if __name__ == "__main__":
    main()
