"""What looks like a mistake in a log, though it can be read."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset

MANY = 1000
"""Rows from which a log without any marked end is suspicious."""
SEVERAL = 5
"""Terminal episodes of one length from which chance is no explanation."""


def warnings_about(dataset: OfflineDataset) -> Iterator[str]:
    """One sentence for each thing a user should look at; none of them stops a run."""
    log, lengths = dataset.transitions, dataset.episode_lengths()
    ended = lengths[log.terminals[dataset.episode_ends - 1].bool()]
    if len(ended) >= SEVERAL and len(ended.unique()) == 1 and ended[0] > 1:
        yield (
            f"all {len(ended)} terminal episodes last {int(ended[0])} steps: if that is a time limit, it belongs in "
            "`timeouts`, or the policy learns that time kills"
        )
    if len(lengths) == 1 and len(dataset) >= MANY:
        yield f"no end of an episode is marked in {len(dataset)} rows: are `timeouts` or data.time_limit missing?"
    constant = (log.observations == log.observations[0]).all(0).nonzero().flatten().tolist()
    if constant:
        yield f"observation columns {constant} never change"
    if bool((log.rewards == log.rewards[0]).all()):
        yield f"every reward is {float(log.rewards[0]):g}: nothing can be learned from them"


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
        f"shapes    {dataset.obs_dim} observations, {dataset.action_dim} actions",
        "",
        f"{'column':<12}{'min':>12}{'mean':>12}{'max':>12}{'spread':>12}",
    ]
    lines += [_range(f"obs {i}", log.observations[:, i]) for i in range(dataset.obs_dim)]
    low, high = torch.as_tensor(dataset.action_low), torch.as_tensor(dataset.action_high)
    actions = low + (log.actions + 1) / 2 * (high - low)
    lines += [_range(f"action {i}", actions[:, i]) for i in range(dataset.action_dim)]
    lines.append(_range("reward", log.rewards))
    lines.append(f"actions are bounded by {dataset.action_low.tolist()} and {dataset.action_high.tolist()}")
    lines += [f"warning: {warning}" for warning in warnings_about(dataset)]
    return "\n".join(lines)


def _spread(values: Tensor) -> float:
    return float(values.std(correction=0))


def _range(name: str, column: Tensor) -> str:
    values = column.double()
    return f"{name:<12}{values.min():>12.4g}{values.mean():>12.4g}{values.max():>12.4g}{_spread(values):>12.4g}"
