"""`python -m mopo_pl inspect`: what a log holds, and what the checks say of it."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import LEVELS, Finding, worst
from mopo_pl.data.readers.names import shown


def as_text(dataset: OfflineDataset | None, findings: Sequence[Finding]) -> str:
    """The description, the checks that found nothing on one line, and a line for each finding, the worst last."""
    lines = [] if dataset is None else [describe(dataset), ""]
    passed = [finding.name for finding in findings if finding.level == "OK"]
    if passed:
        lines.append(f"OK    {len(passed)} checks: {', '.join(passed)}")
    for finding in sorted(findings, key=lambda finding: LEVELS.index(finding.level)):
        if finding.level != "OK":
            lines.append(f"{finding.level:<5} {finding.name}: {finding.text}")
            lines += [f"      fix: {finding.fix}"] if finding.fix else []
    return "\n".join(lines)


def as_json(name: str, dataset: OfflineDataset | None, findings: Sequence[Finding]) -> str:
    """The same as one JSON object; `log` is null where the arrays could not be packed."""
    return json.dumps(
        {
            "dataset": name,
            "level": worst(findings),
            "log": None if dataset is None else _numbers(dataset),
            "findings": [vars(finding) for finding in findings],
        },
        indent=2,
        ensure_ascii=False,
    )


def _numbers(dataset: OfflineDataset) -> dict[str, Any]:
    lengths, returns = dataset.episode_lengths(), dataset.episode_returns()
    return {
        "hash": dataset.hash,
        "env_id": dataset.env_id,
        "rows": len(dataset),
        "episodes": len(lengths),
        "terminals": int(dataset.transitions.terminals.sum()),
        "unknown_next_states": int((~dataset.next_known).sum()),
        "mean_return": float(returns.mean()),
        "observations": [dataset.names.observation(i) for i in range(dataset.transitions.newest_dim)],
        "actions": [dataset.names.action(i) for i in range(dataset.action_dim)],
    }


def describe(dataset: OfflineDataset) -> str:
    """Rows, episodes, returns, shapes, ranges, ends."""
    lengths, returns = dataset.episode_lengths().double(), dataset.episode_returns()
    log = dataset.transitions
    terminals = int(log.terminals.sum())
    limits = int(dataset.finished.sum()) - terminals
    lines = [
        f"dataset   {dataset.name}",
        f"hash      {dataset.hash}",
        f"env       {dataset.env_id or 'none named'}",
        f"rows      {len(dataset)}, of which {int((~dataset.next_known).sum())} without a true next state",
        f"episodes  {len(lengths)}; length min {lengths.min():.0f}, median {lengths.median():.0f}, max {lengths.max():.0f}",
        f"ends      {terminals} terminal, {limits} by a time limit, {int((~dataset.finished).sum())} cut by the file's end",
        f"returns   mean {returns.mean():.2f} ± {_spread(returns):.2f}, min {returns.min():.2f}, max {returns.max():.2f}",
        f"shapes    {dataset.transitions.newest_dim} observations, {dataset.action_dim} actions",
        "",
        f"{'column':<12}{'min':>12}{'mean':>12}{'max':>12}{'spread':>12}",
    ]
    lines += [_range(dataset.names.observation(i), log.observations[:, i]) for i in range(log.newest_dim)]
    low, high = torch.as_tensor(dataset.action_low), torch.as_tensor(dataset.action_high)
    actions = low + (log.actions + 1) / 2 * (high - low)
    lines += [_range(dataset.names.action(i), actions[:, i]) for i in range(dataset.action_dim)]
    lines.append(_range("reward", log.rewards))
    lines.append(f"actions are bounded by {dataset.action_low.tolist()} and {dataset.action_high.tolist()}")
    return "\n".join(lines)


def _spread(values: Tensor) -> float:
    return float(values.std(correction=0))


def _range(name: str, column: Tensor) -> str:
    values = column.double()
    return (
        f"{shown(name, 11):<12}{values.min():>12.4g}{values.mean():>12.4g}{values.max():>12.4g}{_spread(values):>12.4g}"
    )
