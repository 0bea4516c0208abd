"""Penalties: functions for the model's uncertainty u(s, a), in the targets' raw units (reward, then state change)."""

import inspect
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from mopo_pl.data.statistics import LogStatistics

Penalty = Callable[..., Tensor]
"""Function that maps the means and standard deviations [E, B, 1 + D] of all E members to u [B] >= 0.

A penalty may have further parameters with names in `EXTRAS`, and is given these arguments by name.
"""

EXTRAS = ("observations", "actions", "log")
"""Names of further arguments of a penalty: s [B, D], a [B, A] in the log's units, and the log's `LogStatistics`."""


def extras_of(penalty: Penalty) -> tuple[str, ...]:
    """Return the names in `EXTRAS` that a penalty has as parameters after its first two.

    Raises ValueError if it requires a parameter with another name.

    >>> extras_of(lambda mean, std, actions: std.amax((0, 2)))
    ('actions',)
    >>> extras_of(max_aleatoric)
    ()
    """
    try:
        parameters = list(inspect.signature(penalty).parameters.values())[2:]
    except (TypeError, ValueError):  # a function that is not written in Python may have no signature
        return ()
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    unknown = [each.name for each in named if each.default is each.empty and each.name not in EXTRAS]
    if unknown:
        raise ValueError(f"it asks for {', '.join(unknown)}; beside mean and std it can be given {', '.join(EXTRAS)}")
    return tuple(each.name for each in named if each.name in EXTRAS)


def evaluate(
    penalty: Penalty,
    mean: Tensor,
    std: Tensor,
    extras: Iterable[str],
    *,
    observations: Tensor,
    actions: Tensor,
    log: LogStatistics | None,
) -> Tensor:
    """Return u [B] for the members' means and standard deviations [E, B, 1 + D].

    `extras` are the names in `EXTRAS` of the further arguments that the penalty takes.
    """
    given = {"observations": observations, "actions": actions, "log": log}
    return penalty(mean, std, **{name: given[name] for name in extras})


def max_aleatoric(mean: Tensor, std: Tensor) -> Tensor:
    """Return u = max_i ‖σ_i‖₂ [B] over all members, reward included (Yu et al. 2020, section 4.3).

    >>> mean = torch.zeros(2, 1, 2)  # E = 2 members, B = 1, reward and D = 1 state dimension
    >>> std = torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]])
    >>> max_aleatoric(mean, std)
    tensor([5.])
    """
    return torch.linalg.vector_norm(std, dim=-1).amax(0)


def ensemble_std(mean: Tensor, std: Tensor) -> Tensor:
    """Return u = ‖sqrt(mean_i σ_i² + var_i μ_i)‖₂ [B], the total standard deviation of the mixture (Lu et al. 2022).

    >>> mean = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
    >>> ensemble_std(mean, torch.full((2, 1, 2), 2.0))
    tensor([3.])
    """
    return (std.square().mean(0) + mean.var(0, unbiased=False)).sum(-1).sqrt()


def disagreement(mean: Tensor, std: Tensor) -> Tensor:
    """Return u = max_i ‖μ_i - mean_j μ_j‖₂ [B], the largest deviation of a member from the ensemble's mean.

    >>> mean = torch.tensor([[[3.0, 4.0]], [[-3.0, -4.0]]])
    >>> disagreement(mean, torch.ones(2, 1, 2))
    tensor([5.])
    """
    return torch.linalg.vector_norm(mean - mean.mean(0), dim=-1).amax(0)


def none(mean: Tensor, std: Tensor) -> Tensor:
    """Return u = 0 [B], with which MOPO becomes MBPO.

    >>> none(torch.zeros(7, 3, 4), torch.ones(7, 3, 4))
    tensor([0., 0., 0.])
    """
    return mean.new_zeros(mean.shape[1])


PENALTIES: dict[str, Penalty] = {
    "max_aleatoric": max_aleatoric,
    "ensemble_std": ensemble_std,
    "disagreement": disagreement,
    "none": none,
}


def relative_unit(u: Tensor, rewards: Tensor) -> float:
    """Return std r / mean u over logged rows [N], or 1 if u is 0 everywhere.

    If λ is given in this unit, the mean of λu over the log is λ times the standard deviation of its rewards. The standard deviation
    is used because a constant added to all rewards does not change which of two steps is better.
    """
    mean = float(u.double().mean())
    return reward_spread(rewards) / mean if mean > 0 else 1.0


def reward_spread(rewards: Tensor) -> float:
    """Return std r over logged rows [N], or mean |r| if all rewards are equal."""
    spread = float(rewards.double().std(correction=0))
    return spread if spread > 0 else float(rewards.double().abs().mean())
