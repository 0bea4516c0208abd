"""Error of the model several steps ahead: its states under the logged actions, compared with the logged states."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.window import Window
from mopo_pl.diagnostics.one_step import CHUNK
from mopo_pl.dynamics.model import TransitionModel

BANDS = (0.1, 0.5, 0.9)
"""Quantiles, over starts and elites, by which errors are summarised."""


@dataclass(frozen=True, kw_only=True)
class OpenLoop:
    """Errors of states predicted h = 1 … H steps ahead with the logged actions, measured against the logged states."""

    starts: list[int]
    """Number of starts from which h steps can be compared with the log [H]."""
    low: list[float]
    """10 % quantile of the error over starts and elites [H]. The error is the root mean square over columns, in standard deviations of the log."""
    median: list[float]
    high: list[float]
    """90 % quantile of the same error [H]."""
    elites: list[list[float]]
    """Median error of each elite [K, H]."""
    standing: list[float]
    """Median error of predicting the start state at every step [H]."""
    columns: dict[str, list[float]]
    """Median |error| over starts and elites by column, in the column's unit [H]."""


@torch.no_grad()
def open_loop(
    model: TransitionModel, dataset: OfflineDataset, starts: Tensor, horizon: int, names: Sequence[str]
) -> OpenLoop:
    """Replay logged actions through the mean of each elite, from logged states, and compare the states with the log.

    Args:
        model: The ensemble.
        dataset: The log.
        starts: Row indices of the starts [n]. Step h uses only starts that are followed by h rows with a known next state.
        horizon: H, reduced to the longest stretch that any start has.
        names: Names of the D newest observation columns.

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
        # torch's quantile between two infinite errors is NaN; it counts as infinite.
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
    """Return the mean Δs of each member [E, B, D] for that member's (s, a) [E, B, D + A]."""
    return torch.cat([model.ensemble.in_raw_units(part)[0][..., 1:] for part in inputs.split(CHUNK, 1)], 1)


def _relative(error: Tensor, spread: Tensor, varying: Tensor) -> Tensor:
    """Return the root mean square of |error| [..., D] over the columns that vary, in standard deviations of each column [...]."""
    return (error[..., varying] / spread[varying]).square().mean(-1).sqrt()


def known_stretch(dataset: OfflineDataset) -> Tensor:
    """Return, for each row, the number of consecutive rows of its episode from there on whose next state is known [N]."""
    rows = torch.arange(len(dataset))
    end = dataset.episode_ends[torch.searchsorted(dataset.episode_ends, rows, right=True)]
    # Index of the first row, from each row on, whose next state is unknown.
    unknown = torch.where(dataset.next_known, len(dataset), rows).flip(0).cummin(0).values.flip(0)
    return torch.minimum(end, unknown) - rows
