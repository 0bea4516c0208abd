#!/usr/bin/env python3
r"""Judges rules that need fitted Q evaluation alone on policies whose true return is known.

python benchmarks/neorl_rules.py --data raw_results.json --json benchmarks/results/neorl_rules.json

`--data`: benchmark/results/raw_results.json of github.com/polixir/NeoRL (Apache-2.0): for each task and algorithm, trained policies
with the true return (`online`) and three values of fitted Q evaluation. A rule gives each policy a score from the three. It is judged
in each task by itself: Spearman's correlation of score and return; the policy with the highest score (its percentile, and its regret
as a share of the range of returns); and, of the policies with a higher score than the cloned behaviour has on average, the share
that truly beat the mean return of the clones. The table shows medians over tasks, and that share over all policies.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mopo_pl.storage.atomic_write import atomic_write

RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda values: values.mean(1),
    "min of 3": lambda values: values.min(1),
    "mean − 2 sd": lambda values: values.mean(1) - 2 * values.std(1, ddof=1),
    "mean − 5 sd": lambda values: values.mean(1) - 5 * values.std(1, ddof=1),
    "−sd alone": lambda values: -values.std(1, ddof=1),
}
"""From the fitted values of n policies [n, 3] to their scores [n]."""
REFERENCE = "bc"
"""The algorithm that stands for the behaviour."""


def policies(entries: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """True returns [n] and fitted values [n, 3] of an algorithm's policies; those without three finite values are left out."""
    runs = [run for entry in entries for run in entry["result"].values()]
    rows = [(run["online"], *run["fqe"].values()) for run in runs if len(run["fqe"]) == 3]
    table = np.array(rows, float).reshape(-1, 4)
    table = table[np.isfinite(table).all(1)]
    return table[:, 0], table[:, 1:]


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties by their mean."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[group]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of ranks; 0 where either is constant."""
    a, b = ranks(first), ranks(second)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def judged(score: np.ndarray, returns: np.ndarray) -> dict[str, float]:
    """How well scores rank policies of one task, and what picking the highest comes to."""
    pick, span = returns[score.argmax()], np.ptp(returns)
    return {
        "spearman": spearman(score, returns),
        "percentile": 100
        * float(((returns < pick).sum() + ((returns == pick).sum() - 1) / 2) / max(len(returns) - 1, 1)),
        "regret": float((returns.max() - pick) / span) if span > 0 else 0.0,
    }


def of_tasks(data: dict[str, Any], algorithms: list[str] | None, rule: Callable) -> Iterator[dict[str, float]]:
    """Each task's figures of a rule over the policies of these algorithms; None: all."""
    for task in data.values():
        chosen = [name for name in task if algorithms is None or name in algorithms]
        found = [policies(task[name]) for name in chosen]
        returns, values = (np.concatenate([pair[i] for pair in found]) for i in (0, 1))
        clones, cloned = policies(task[REFERENCE])
        if len(returns) < 2 or not len(clones):
            continue
        score = rule(values)
        deployed, beats = score > rule(cloned).mean(), returns > clones.mean()
        counts = {"deployed": deployed.sum(), "right": (deployed & beats).sum(), "policies": len(returns)}
        yield {**judged(score, returns), **{name: int(n) for name, n in counts.items()}, "beat": int(beats.sum())}


def summary(tasks: list[dict[str, float]]) -> dict[str, float]:
    """Medians over tasks; counts over all policies."""
    medians = {name: float(np.median([task[name] for task in tasks])) for name in ("spearman", "percentile", "regret")}
    sums = {name: int(sum(task[name] for task in tasks)) for name in ("policies", "beat", "deployed", "right")}
    return {"tasks": len(tasks), **medians, **sums}


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """As Markdown."""
    lines = [
        "| policies | rule | Spearman | percentile of the pick | regret | beat the clones, of those said to |",
        "|---|---|---|---|---|---|",
    ]
    for which, rules in results.items():
        for rule, found in rules.items():
            share = found["right"] / max(found["deployed"], 1)
            base = found["beat"] / found["policies"]
            lines.append(
                f"| {which} ({found['policies']:.0f}, {found['tasks']:.0f} tasks) | {rule} | {found['spearman']:.2f} "
                f"| {found['percentile']:.0f} | {found['regret']:.2f} | {share:.0%} (of all {base:.0%}) |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="NeoRL's raw_results.json")
    parser.add_argument("--json", type=Path, help="file of the results")
    options = parser.parse_args()
    data = json.loads(options.data.read_text())
    chosen: dict[str, list[str] | None] = {"MOPO": ["mopo"], "all algorithms": None}
    results = {
        which: {name: summary(list(of_tasks(data, algorithms, rule))) for name, rule in RULES.items()}
        for which, algorithms in chosen.items()
    }
    if options.json is not None:
        with atomic_write(options.json) as aside:
            aside.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
