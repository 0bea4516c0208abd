"""Comparison of the policy with the log: its actions on logged states, the model's uncertainty there, and the states it reaches in the model."""

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
"""Probabilities of the quantiles by which distributions are summarised."""
BINS = 30
"""Number of bins of the action histograms, equally wide between the bounds."""
CHUNK = 5000
"""Number of rows that are computed at once."""


@dataclass(frozen=True, kw_only=True)
class ActionColumn:
    """One action column of the log and of the policy's mean actions on the same states, in the log's unit."""

    name: str
    low: float
    """Lower bound."""
    high: float
    """Upper bound."""
    logged: list[float]
    """Quantiles `AT` of the logged actions."""
    chosen: list[float]
    distance: float
    """Mean |π(s) - a|, in units of half the range of the action."""
    logged_pinned: float
    """Share of logged actions that lie at a bound."""
    chosen_pinned: float
    logged_histogram: list[float]
    """Share of the rows in each of `BINS` bins between the bounds."""
    chosen_histogram: list[float]


@dataclass(frozen=True, kw_only=True)
class UncertaintyOnLog:
    """Uncertainty u of the run's penalty on logged states, for the logged actions and for those of the policy."""

    name: str
    logged: list[float]
    """Quantiles `AT` of u(s, a)."""
    chosen: list[float]
    """Quantiles `AT` of u(s, π(s))."""
    ratio: float | None
    """mean u(s, π(s)) / mean u(s, a); None where the latter is 0."""
    beyond: float
    """Share of the states on which u(s, π(s)) is above the 95 % quantile of u(s, a)."""


@dataclass(frozen=True, kw_only=True)
class VisitedColumn:
    """One observation column in the log and in imagined rollouts of the policy."""

    name: str
    logged: list[float]
    """Quantiles `AT` of the logged values."""
    imagined: list[float]
    outside: float
    """Share of imagined values below the log's 0.5 % or above its 99.5 % quantile; about 0.01 for states distributed as in the log."""


@dataclass(frozen=True, kw_only=True)
class Visited:
    """Summary of the states of imagined rollouts that start from logged states."""

    starts: int
    horizon: int
    steps: int
    """Number of valid imagined steps, which excludes those after the end of an episode."""
    columns: list[VisitedColumn]


def beside_the_log(
    mean_action: Callable[[Tensor], Tensor], dataset: OfflineDataset, rows: Tensor
) -> list[ActionColumn]:
    """Compare logged actions with the policy's mean actions on the same states.

    Args:
        mean_action: Function from s [B, D] to a [B, A] in [-1, 1].
        dataset: The log.
        rows: Indices of the compared rows [n].

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
    """Return the policy's mean actions π(s) on logged states, [n, A] in [-1, 1]."""
    return torch.cat([mean_action(dataset.transitions[chunk].observations) for chunk in rows.split(CHUNK)])


@torch.no_grad()
def uncertainty_on_log(
    model: PenalisedModel, name: str, mean_action: Callable[[Tensor], Tensor], dataset: OfflineDataset, rows: Tensor
) -> UncertaintyOnLog:
    """Compare u(s, π(s)) with u(s, a) on logged states; `name` is the name of the penalty."""
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
    """Roll the policy out in the model and compare the states that it reaches with those of the log.

    Args:
        model: Penalised model; its costs have no effect here.
        policy: π, stochastic as in training.
        dataset: The log.
        rows: Indices of the rows that represent the log [n].
        starts: Number of rollouts; they start from the first rows of `rows`.
        horizon: Number of steps of a rollout.
        names: Names of the newest observation columns.
        limits: Limits beyond which a rollout ends.
        generator: Source of all random numbers.

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
