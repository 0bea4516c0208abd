"""`result.json` and the summary at the end of a run."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import Finding, of_level, worst
from mopo_pl.diagnostics.health.judging import health_of_ensemble, health_of_policy
from mopo_pl.diagnostics.health.run_facts import RunFacts
from mopo_pl.environments.episodes import Episodes
from mopo_pl.environments.scores import normalised_score
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.files.metrics_file import MetricsFile

PACKAGES = ("mopo_pl", "torch", "lightning", "torchmetrics", "numpy", "omegaconf", "minari", "gymnasium", "mujoco")


def build_result(
    *,
    dataset: OfflineDataset,
    seed: int,
    updates: int,
    seconds: dict[str, float | None],
    curve: list[list[float]],
    final: Episodes | None,
) -> dict[str, Any]:
    """Results of a run; returns are null where there is no environment.

    `final_returns`: of each final episode, null where the policy gave no numbers; then the mean is null too. `last10`: mean of
    the last ten evaluations.
    """
    last10 = _finite(np.mean([mean for _, mean in curve[-10:]])) if curve else None
    final_return = None if final is None else _finite(final.returns.mean())
    return {
        "behaviour_return": float(dataset.episode_returns().mean()),
        "final_return": final_return,
        "final_return_std": None if final is None else _finite(final.returns.std()),
        "final_episodes": 0 if final is None else len(final.returns),
        "final_returns": [] if final is None else [_finite(value) for value in final.returns],
        "last10_return": last10,
        "final_score": _score(dataset.env_id, final_return),
        "last10_score": _score(dataset.env_id, last10),
        "updates": updates,
        "seconds": seconds,
        "dataset": {"name": dataset.name, "hash": dataset.hash},
        "env_id": dataset.env_id,
        "versions": versions(),
        "git_commit": git_commit(),
        "seed": seed,
    }


def _finite(value: float | np.floating) -> float | None:
    """A number, or None for what JSON has no word for."""
    return float(value) if isfinite(value) else None


def health_of(
    folder: RunFolder, facts: RunFacts | None, *, after: int, elites: int, criterion: str, final: Episodes | None
) -> dict[str, Any]:
    """The health of a run, from its metrics.jsonl and its final episodes: level, and findings.

    `facts`: None where no policy was trained. `after`: `health.after`. `elites`, `criterion`: of the ensemble.
    """
    rows = MetricsFile(folder.metrics, stage="dynamics").rows()
    findings = health_of_ensemble(rows, elites=elites, criterion=criterion)
    if facts is not None:
        rows = MetricsFile(folder.metrics, stage="policy").rows()
        episodes = (
            None if final is None else (float(final.returns.mean()), float(final.returns.std()), len(final.returns))
        )
        findings += health_of_policy(rows, facts, after=after, final=episodes)
    return {"level": worst(findings), "findings": [vars(finding) for finding in findings]}


def _score(env_id: str | None, value: float | None) -> float | None:
    return None if env_id is None or value is None else normalised_score(env_id, value)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the checkout that the code runs from; None where it is installed from a wheel."""
    checkout = Path(__file__).resolve().parents[3]
    if not (checkout / ".git").exists():
        # Git would look further up: a wheel in a venv inside somebody's project is not that project's commit.
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def save_result(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write `result.json`, which also marks the run as finished."""
    folder.write(folder.result, json.dumps(result, indent=2, allow_nan=False) + "\n")


def summary(folder: RunFolder, result: dict[str, Any], *, again: str, estimated: str = "") -> str:
    """The summary printed at the end of a run.

    `again`: the command that scores its policy. `estimated`: lines about estimates, where there are any.
    """
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in result["seconds"].items() if value is not None)
    lines = ["", f"log      mean return {result['behaviour_return']:.1f}"]
    if "termination" in result:
        lines.append(f"ends     {_ends(result['termination'])}")
    if result["final_return"] is not None:
        spread = f"{result['final_return']:.1f} ± {result['final_return_std']:.1f}"
        lines.append(f"policy   mean return {spread} over {result['final_episodes']} deterministic episodes")
        if result["final_score"] is not None:
            lines.append(f"score    {result['final_score']:.1f} of 100 (docs/data.md says between which references)")
    elif result["final_returns"]:
        bad = result["final_returns"].count(None)
        lines.append(f"policy   no mean return: {bad} of {result['final_episodes']} episodes returned no finite number")
    elif result["updates"]:
        lines.append("policy   not scored: no env_id was given")
    if estimated:
        lines.append(estimated)
    lines += _health(result.get("health", {"level": "OK", "findings": []}))
    lines.append(f"run      {folder.path}  ({result['updates']} updates; {seconds})")
    if result["final_return"] is not None:
        lines.append(f"again    {again}")
    return "\n".join(lines)


def _health(health: dict[str, Any]) -> list[str]:
    """The lines of a run's health, the worst findings first."""
    findings = [Finding(**entry) for entry in health["findings"]]
    lines = [f"{level}: {text}" for level in ("STOP", "WARN", "OK") for text in of_level(level, findings)]
    if health["level"] == "STOP":
        lines.insert(0, "STOP: do not use this policy")
    first, *others = lines or ["OK"]
    return [f"health   {first}", *(f"         {line}" for line in others)]


def _ends(learned: dict[str, Any]) -> str:
    """How good the learned rule of termination is."""
    holdout = learned["holdout"]
    others = holdout["rows"] - holdout["terminal"]
    return (
        f"learned: held-out AUC {holdout['auc']:.4f}, calibration error {holdout['calibration_error']:.4f}; from a probability "
        f"of {learned['threshold']:.2f} on, {holdout['found']} of {holdout['terminal']} terminal rows and {holdout['false']} of "
        f"{others} others"
    )
