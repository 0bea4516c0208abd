"""Construction of states that hold the last observations and actions, for systems with delay (`data.history`)."""

from dataclasses import replace

import torch

from mopo_pl.data.dataset import ColumnNames, OfflineDataset
from mopo_pl.data.findings import Finding
from mopo_pl.data.transitions import Transitions
from mopo_pl.data.window import Window


def with_history(dataset: OfflineDataset, steps: int) -> OfflineDataset:
    """Return the log with states that hold the last `steps` observations and the actions between them; unchanged for `steps` = 1.

    The hash does not change, as it identifies the log.
    """
    if steps == 1:
        return dataset
    log, window = dataset.transitions, Window(dataset.obs_dim, dataset.action_dim, steps)
    lengths = dataset.episode_lengths()
    row = torch.arange(len(log))
    age = row - (dataset.episode_ends - lengths).repeat_interleave(lengths)
    seen = [log.observations[row - age.clamp(max=lag)] for lag in range(steps)]
    done = [
        torch.where((age >= lag).unsqueeze(-1), log.actions[(row - lag).clamp(min=0)], 0.0) for lag in range(1, steps)
    ]
    states = torch.cat([*seen, *done], -1)
    after = window.following(states, log.actions, log.next_observations)
    rows = replace(Transitions.pack(states, log.actions, after, log.rewards, log.terminals), history=steps)
    return replace(dataset, transitions=rows, names=_names(dataset, steps))


def findings_of_history(dataset: OfflineDataset, steps: int) -> tuple[Finding, ...]:
    """Return a STOP finding if no row has enough rows before it in its episode to fill the window, and a WARN finding if most rows have not."""
    longest = int(dataset.episode_lengths().max())
    if steps > longest:
        text = f"data.history={steps} is more than the longest episode has rows, {longest}: no state would hold what was seen"
        return (Finding("STOP", "history-padded", text, "a smaller data.history"),)
    full = int((dataset.episode_lengths() - (steps - 1)).clamp(min=0).sum())
    if 2 * full >= len(dataset):
        return ()
    text = (
        f"{full} of {len(dataset)} rows have {steps - 1} rows before them in their episode; the windows of the others are filled with its "
        "first observation"
    )
    return (Finding("WARN", "history-padded", text, "a smaller data.history, or a log of longer episodes"),)


def _names(dataset: OfflineDataset, steps: int) -> ColumnNames:
    """Return the names of the state columns, such as `temp`, `temp 1 ago` and `valve 1 ago`. If the log has no names, neither has the result."""
    names, lags = dataset.names, range(1, steps)
    if not names.observations:
        return names
    older = [f"{name} {lag} ago" for lag in lags for name in names.observations]
    actions = [f"{name} {lag} ago" for lag in lags for name in map(names.action, range(dataset.action_dim))]
    return replace(names, observations=(*names.observations, *older, *actions))
