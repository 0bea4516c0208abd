"""Output of `python -m mopo_pl inspect`: a description of a log, and the findings of its checks."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import LEVELS, Finding, worst
from mopo_pl.data.log.action_bounds import NAME as BEYOND_BOUNDS
from mopo_pl.data.readers.names import shown
from mopo_pl.data.signals import signals_of

WIDEST = 32
"""Width of the first column of the table (name and unit) for lines of 80 characters."""


def as_text(dataset: OfflineDataset | None, findings: Sequence[Finding], units: Mapping[str, str] | None = None) -> str:
    """Return a report as text: the description, one line of the checks that found nothing, and one line for each finding, the worst last."""
    lines = [] if dataset is None else [describe(dataset, units), ""]
    if dataset is not None and any(finding.name == BEYOND_BOUNDS and finding.level != "OK" for finding in findings):
        lines[-1:] = ["actions beyond their bounds are counted at them here", ""]
    passed = [finding.name for finding in findings if finding.level == "OK"]
    if passed:
        lines.append(f"OK    {len(passed)} checks: {', '.join(passed)}")
    for finding in sorted(findings, key=lambda finding: LEVELS.index(finding.level)):
        if finding.level != "OK":
            lines.append(f"{finding.level:<5} {finding.name}: {finding.text}")
            lines += [f"      fix: {finding.fix}"] if finding.fix else []
    return "\n".join(lines)


def as_json(name: str, dataset: OfflineDataset | None, findings: Sequence[Finding]) -> str:
    """Return the report as a JSON object, in which `log` is null if the arrays could not be packed."""
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


def describe(dataset: OfflineDataset, units: Mapping[str, str] | None = None) -> str:
    """Return a description of a log as text: rows, episodes, ends, returns, shapes, and ranges of the columns.

    `units` are the units of columns, as in `data.units`. Raises InputError for a unit that matches no column.
    """
    lengths, returns = dataset.episode_lengths().double(), dataset.episode_returns()
    log = dataset.transitions
    terminals = int(log.terminals.sum())
    limits = int((dataset.finished & (log.terminals[dataset.episode_ends - 1] == 0)).sum())
    parts = int((~dataset.finished).sum())
    lines = [
        f"dataset   {dataset.name}",
        f"hash      {dataset.hash}",
        f"env       {dataset.env_id or 'none named'}",
        f"rows      {len(dataset)}, of which {int((~dataset.next_known).sum())} without a true next state",
        f"episodes  {len(lengths)}; length min {lengths.min():.0f}, median {lengths.median():.0f}, max {lengths.max():.0f}",
        f"ends      {terminals} terminal, {limits} by a time limit, {parts} episodes in part, beside a gap or the file's end",
        f"returns   {f'of {len(returns)} whole episodes: ' if parts and len(returns) < len(lengths) else ''}mean {returns.mean():.2f} ± {_spread(returns):.2f}, min {returns.min():.2f}, max {returns.max():.2f}",
        f"shapes    {dataset.transitions.newest_dim} observations, {dataset.action_dim} actions",
        "",
    ]
    low, high = torch.as_tensor(dataset.action_low), torch.as_tensor(dataset.action_high)
    actions = low + (log.actions + 1) / 2 * (high - low)
    observed, acted = signals_of(dataset, units or {})
    named = [(dataset.names.observation(i), unit, log.observations[:, i]) for i, unit in enumerate(observed.units)]
    named += [(dataset.names.action(i), unit, actions[:, i]) for i, unit in enumerate(acted.units)]
    titles = [
        shown(f"{name} [{unit}]" if unit else name, WIDEST - 3) for name, unit, _ in [*named, ("reward", "", None)]
    ]
    width = max(12, 2 + max(map(len, titles)))
    lines.append(f"{'column':<{width}}{'min':>12}{'mean':>12}{'max':>12}{'spread':>12}")
    columns = [*(values for _, _, values in named), log.rewards]
    lines += [_range(title, width, values) for title, values in zip(titles, columns, strict=True)]
    lines.append(f"actions are bounded by {dataset.action_low.tolist()} and {dataset.action_high.tolist()}")
    return "\n".join(lines)


def _spread(values: Tensor) -> float:
    return float(values.std(correction=0))


def _range(title: str, width: int, column: Tensor) -> str:
    values = column.double()
    return f"{title:<{width}}{values.min():>12.4g}{values.mean():>12.4g}{values.max():>12.4g}{_spread(values):>12.4g}"
