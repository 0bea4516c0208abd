"""Build `result.json` and the summary that is printed at the end of a run."""

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
    """Return the content of `result.json`. Returns are null if there is no environment.

    In the result, `final_returns` holds the return of each final episode, null if the policy gave actions that are not finite; then the
    mean is null too. `last10_return` is the mean of the last ten evaluations.

    Args:
        dataset: The log.
        seed: Seed of the run.
        updates: Number of updates of the policy.
        seconds: Training time of each stage [s].
        curve: [updates, mean return] of each evaluation.
        final: Episodes of the final evaluation; None without an environment.

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
    """Return a number, or None for NaN and infinities, which JSON does not have."""
    return float(value) if isfinite(value) else None


def health_of(
    folder: RunFolder, facts: RunFacts | None, *, after: int, elites: int, criterion: str, final: Episodes | None
) -> dict[str, Any]:
    """Return the health of a run, its level and findings, judged from its metrics.jsonl and its final episodes.

    Args:
        folder: Folder of the run.
        facts: Facts about the run that the checks of the policy use; None if no policy was trained.
        after: Number of updates before which the policy is not judged, `health.after`.
        elites: Number of elites of the ensemble.
        criterion: Holdout criterion of the ensemble, `dynamics.criterion`.
        final: Episodes of the final evaluation; None without an environment.

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
    """Return the versions of Python and of the packages that a result depends on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the git commit of the checkout that the code runs from; None if it is installed from a wheel, or git fails."""
    checkout = Path(__file__).resolve().parents[3]
    if not (checkout / ".git").exists():
        # Git would search the parent folders and find the commit of a project whose venv contains the wheel.
        return None
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def save_result(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write `result.json`. The file also marks the run as finished."""
    folder.write(folder.result, json.dumps(result, indent=2, allow_nan=False) + "\n")


def summary(folder: RunFolder, result: dict[str, Any], *, again: str, estimated: str = "") -> str:
    """Return the summary that is printed at the end of a run.

    `again`: the command that scores the policy. `estimated`: lines about the estimates, "" without estimates.
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
    """Return the lines of the summary about the health of a run, the worst findings first."""
    findings = [Finding(**entry) for entry in health["findings"]]
    lines = [f"{level}: {text}" for level in ("STOP", "WARN", "OK") for text in of_level(level, findings)]
    if health["level"] == "STOP":
        lines.insert(0, "STOP: do not use this policy")
    first, *others = lines or ["OK"]
    return [f"health   {first}", *(f"         {line}" for line in others)]


def _ends(learned: dict[str, Any]) -> str:
    """Return the text of the summary about the quality of a learned termination rule on held-out rows."""
    holdout = learned["holdout"]
    others = holdout["rows"] - holdout["terminal"]
    return (
        f"learned: held-out AUC {holdout['auc']:.4f}, calibration error {holdout['calibration_error']:.4f}; from a probability "
        f"of {learned['threshold']:.2f} on, {holdout['found']} of {holdout['terminal']} terminal rows and {holdout['false']} of "
        f"{others} others"
    )
