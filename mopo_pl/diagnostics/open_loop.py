"""The model's error several steps ahead: its states under the logged actions, beside the logged states."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.window import Window
from mopo_pl.diagnostics.one_step import CHUNK
from mopo_pl.dynamics.model import TransitionModel

BANDS = (0.1, 0.5, 0.9)
"""Quantiles over starts that errors are told by."""


@dataclass(frozen=True, kw_only=True)
class OpenLoop:
    """Errors of states predicted h = 1 … H steps ahead, with the logged actions, beside the logged states."""

    starts: list[int]
    """Logged states that have h more rows in their episode [H]."""
    low: list[float]
    """10 % quantile over starts and elites of the error: the root mean square over columns, in standard deviations of the log [H]."""
    median: list[float]
    high: list[float]
    """90 % quantile [H]."""
    elites: list[list[float]]
    """Median of each elite [K, H]."""
    standing: list[float]
    """Median error of the prediction that nothing changes [H]."""
    columns: dict[str, list[float]]
    """Median |error| by column, in its unit [H]."""


@torch.no_grad()
def open_loop(
    model: TransitionModel, dataset: OfflineDataset, starts: Tensor, horizon: int, names: Sequence[str]
) -> OpenLoop:
    """Replay logged actions through each elite's mean, from logged states, and compare with the log.

    Args:
        model: The ensemble.
        dataset: The log.
        starts: Indices of rows [n]; those whose episode goes on for fewer than h rows with a known next state count for fewer h.
        horizon: H, cut to the longest stretch that a start has.
        names: Of the D newest observation columns.

    Raises ValueError where no start has a known next state.

    """
    log, elites = dataset.transitions, model.elites.to("cpu")
    window = dataset.window or Window(log.obs_dim, log.action_dim, 1)
    left = known_stretch(dataset)[starts].clamp(max=horizon)
    horizon = int(left.max()) if len(left) else 0
    if horizon < 1:
        raise ValueError("no start has a known next state")
    spread = log.newest_observations.double().std(0, correction=0)
    varying = spread > 0
    members = model.ensemble.members
    states = log[starts].observations.expand(members, -1, -1)
    first = log[starts].newest_observations.double()
    quantiles, medians, standing, columns = [], [], [], []
    for h in range(horizon):
        going = left > h
        rows = log[(starts + h).clamp(max=len(log) - 1)]
        actions = rows.actions.expand(members, -1, -1)
        newest = window.newest(states) + _changes(model, torch.cat([states, actions], -1))
        states = window.following(states, actions, newest)
        reached = rows.newest_next_observations.double()[going]
        error = (newest[elites][:, going].double() - reached).nan_to_num(torch.inf, torch.inf, torch.inf).abs()
        size = _relative(error, spread, varying)
        # Between two infinite errors, a quantile is not a number.
        quantiles.append(size.flatten().quantile(torch.tensor(BANDS).double()).nan_to_num(torch.inf).tolist())
        medians.append(size.median(1).values.tolist())
        standing.append(float(_relative((first[going] - reached).abs(), spread, varying).median()))
        columns.append(error.flatten(0, 1).median(0).values.tolist())
    low, median, high = map(list, zip(*quantiles, strict=True))
    by_column = zip(*columns, strict=True)
    return OpenLoop(
        starts=[int((left > h).sum()) for h in range(horizon)],
        low=low,
        median=median,
        high=high,
        elites=[list(values) for values in zip(*medians, strict=True)],
        standing=standing,
        columns={name: list(values) for name, values in zip(names, by_column, strict=True)},
    )


def _changes(model: TransitionModel, inputs: Tensor) -> Tensor:
    """Each member's mean Δs [E, B, D] for its own (s, a) [E, B, D + A]."""
    return torch.cat([model.ensemble.in_raw_units(part)[0][..., 1:] for part in inputs.split(CHUNK, 1)], 1)


def _relative(error: Tensor, spread: Tensor, varying: Tensor) -> Tensor:
    """Root mean square over the columns that vary, in their standard deviations [...], of |error| [..., D]."""
    return (error[..., varying] / spread[varying]).square().mean(-1).sqrt()


def known_stretch(dataset: OfflineDataset) -> Tensor:
    """Rows from each row on, itself included, that follow one another in its episode and whose next state is known [N]."""
    rows = torch.arange(len(dataset))
    end = dataset.episode_ends[torch.searchsorted(dataset.episode_ends, rows, right=True)]
    # First row from here on whose next state is unknown.
    unknown = torch.where(dataset.next_known, len(dataset), rows).flip(0).cummin(0).values.flip(0)
    return torch.minimum(end, unknown) - rows
