"""The policy beside the log: what it does on logged states, how uncertain the model is there, and where it leads in the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import LogStatistics
from mopo_pl.diagnostics.calibration import percentiles
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.rollouts import PINNED, Act, branch

AT = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles that distributions are told by."""
BINS = 30
"""Of the histograms of actions, equally wide between the bounds."""
CHUNK = 5000
"""Rows that are computed at once."""


@dataclass(frozen=True, kw_only=True)
class ActionColumn:
    """One action column of the log and of the policy's mean actions on the same states, in the log's unit."""

    name: str
    low: float
    """Lower bound."""
    high: float
    """Upper bound."""
    logged: list[float]
    """Quantiles `AT`."""
    chosen: list[float]
    distance: float
    """Mean |π(s) - a|, in half the range."""
    logged_pinned: float
    """Share of logged actions at a bound."""
    chosen_pinned: float
    logged_histogram: list[float]
    """Shares of the rows in `BINS` bins between the bounds."""
    chosen_histogram: list[float]


@dataclass(frozen=True, kw_only=True)
class UncertaintyOnLog:
    """The run's own u on logged states: of the logged action and of the policy's."""

    name: str
    logged: list[float]
    """Quantiles `AT` of u(s, a)."""
    chosen: list[float]
    """Quantiles `AT` of u(s, π(s))."""
    ratio: float | None
    """mean u(s, π(s)) / mean u(s, a)."""
    beyond: float
    """Share of the states on which u(s, π(s)) is above the 95 % quantile of u(s, a)."""


@dataclass(frozen=True, kw_only=True)
class VisitedColumn:
    """One observation column in the log and in imagined rollouts of the policy."""

    name: str
    logged: list[float]
    """Quantiles `AT`."""
    imagined: list[float]
    outside: float
    """Share of imagined values below the log's 0.5 % or above its 99.5 % quantile; 0.01 for states as in the log."""


@dataclass(frozen=True, kw_only=True)
class Visited:
    """States of imagined rollouts from logged states."""

    starts: int
    horizon: int
    steps: int
    """Imagined states that are counted: those before an episode's end."""
    columns: list[VisitedColumn]


def beside_the_log(
    mean_action: Callable[[Tensor], Tensor], dataset: OfflineDataset, rows: Tensor
) -> list[ActionColumn]:
    """Compare logged actions with the policy's mean actions on the same states.

    Args:
        mean_action: From s [B, D] to a [B, A] in [-1, 1].
        dataset: The log.
        rows: Indices of the rows that are compared [n].

    """
    logged, chosen = dataset.transitions[rows].actions.double(), chosen_actions(mean_action, dataset, rows).double()
    log = LogStatistics.of(dataset)
    logged_units, chosen_units = log.in_log_units(logged), log.in_log_units(chosen)
    return [
        ActionColumn(
            name=dataset.names.action(i),
            low=float(dataset.action_low[i]),
            high=float(dataset.action_high[i]),
            logged=percentiles(logged_units[:, i], AT),
            chosen=percentiles(chosen_units[:, i], AT),
            distance=float((chosen - logged)[:, i].abs().mean()),
            logged_pinned=_share(logged[:, i].abs() > PINNED),
            chosen_pinned=_share(chosen[:, i].abs() > PINNED),
            logged_histogram=_histogram(logged[:, i]),
            chosen_histogram=_histogram(chosen[:, i]),
        )
        for i in range(dataset.action_dim)
    ]


@torch.no_grad()
def chosen_actions(mean_action: Callable[[Tensor], Tensor], dataset: OfflineDataset, rows: Tensor) -> Tensor:
    """π(s) [n, A] in [-1, 1] on logged states."""
    return torch.cat([mean_action(dataset.transitions[chunk].observations) for chunk in rows.split(CHUNK)])


@torch.no_grad()
def uncertainty_on_log(
    model: PenalisedModel, name: str, mean_action: Callable[[Tensor], Tensor], dataset: OfflineDataset, rows: Tensor
) -> UncertaintyOnLog:
    """Compare u(s, π(s)) with u(s, a) on logged states; `name`: of the penalty."""
    logged, chosen = [], []
    for chunk in rows.split(CHUNK):
        part = dataset.transitions[chunk]
        logged.append(model.uncertainty(part.observations, part.actions))
        chosen.append(model.uncertainty(part.observations, mean_action(part.observations)))
    u_logged, u_chosen = torch.cat(logged).double(), torch.cat(chosen).double()
    mean = float(u_logged.mean())
    return UncertaintyOnLog(
        name=name,
        logged=percentiles(u_logged, AT),
        chosen=percentiles(u_chosen, AT),
        ratio=float(u_chosen.mean()) / mean if mean > 0 else None,
        beyond=_share(u_chosen > u_logged.quantile(0.95)),
    )


def visited(
    model: PenalisedModel,
    policy: Act,
    dataset: OfflineDataset,
    rows: Tensor,
    *,
    starts: int,
    horizon: int,
    names: Sequence[str],
    limits: StateLimits,
    generator: Generator,
) -> Visited:
    """Roll the policy out in the model, as training does, and compare the states with those of the log.

    Args:
        model: Its costs do not matter here.
        policy: π, stochastic as in training.
        dataset: The log.
        rows: Indices of the rows that stand for the log [n].
        starts: Rollouts, from the first so many of them.
        horizon: Steps.
        names: Of the newest observation columns.
        limits: Rollouts end where they leave them.
        generator: Of all random numbers.

    """
    begun = dataset.transitions[rows[:starts]].observations
    rollout = branch(model, policy, begun, horizon, limits, generator)
    reached = rollout.transitions.newest_next_observations[rollout.valid].double()
    logged = dataset.transitions[rows].newest_observations.double()
    columns = [] if not len(reached) else [_compared(name, logged[:, i], reached[:, i]) for i, name in enumerate(names)]
    return Visited(starts=len(begun), horizon=horizon, steps=len(reached), columns=columns)


def _compared(name: str, logged: Tensor, imagined: Tensor) -> VisitedColumn:
    low, high = percentiles(logged, (0.005, 0.995))
    return VisitedColumn(
        name=name,
        logged=percentiles(logged, AT),
        imagined=percentiles(imagined, AT),
        outside=_share((imagined < low) | (imagined > high)),
    )


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())


def _histogram(actions: Tensor) -> list[float]:
    return (torch.histc(actions, BINS, -1.0, 1.0) / max(len(actions), 1)).tolist()
