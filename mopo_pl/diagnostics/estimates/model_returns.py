"""Returns of a policy in each elite of the model; their spread between elites indicates how reliable the model is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.rollouts import Act, one_step

RETURNS = ("return", "penalised", "bound", "discounted", "discounted_penalised", "discounted_bound")
"""Sums over a rollout: r; r - λ·max(0, u - u_free), as in training; r - λu, as in the theory; then each of the three with factors γᵗ."""


@dataclass(frozen=True, kw_only=True)
class ModelReturns:
    """Returns of rollouts of one policy, B rollouts in each of K elites.

    A rollout is dropped where its state is not finite or beyond the limits. For each remaining step it then receives the log's lowest reward,
    as in the pessimistic MDP of Kidambi et al. 2020 (MOReL). Without this rule, leaving the limits would count like an early end.
    """

    sums: Mapping[str, Tensor]
    """Sums by the names of `RETURNS`, float64 [K, B]."""
    uncertainty: Tensor
    """Σ γᵗ u / Σ γᵗ over the valid steps of all rollouts of each elite, float64 [K]."""
    discounted_uncertainty: Tensor
    """Σ γᵗ u of each rollout, float64 [K, B]."""
    lengths: Tensor
    """Number of valid steps of each rollout [K, B]."""
    ended: Tensor
    """Whether the termination rule ended the rollout, [K, B] bool."""
    non_finite: Tensor
    """Whether the rollout was dropped because of a value that is not finite, [K, B] bool."""
    out_of_range: Tensor
    """Whether the rollout was dropped because its state left the limits, [K, B] bool."""

    @property
    def dropped_share(self) -> float:
        """Return the share of all rollouts that were dropped."""
        return float((self.non_finite | self.out_of_range).double().mean())

    def summary(self) -> dict[str, Any]:
        """Return the entry of `estimates.json`: mean, elites and spreads for each of `RETURNS`, then ε_u, lengths and counts."""
        rollouts = self.ended.numel()
        return {
            **{name: spreads(values) for name, values in self.sums.items()},
            "epsilon_u": float(self.uncertainty.mean()),
            "discounted_u": float(self.discounted_uncertainty.mean()),
            "length": float(self.lengths.double().mean()),
            "rollouts": rollouts,
            "ended": int(self.ended.sum()),
            "non_finite": int(self.non_finite.sum()),
            "out_of_range": int(self.out_of_range.sum()),
            "dropped_share": self.dropped_share,
        }


def spreads(values: Tensor) -> dict[str, Any]:
    """Summarise values [K, B] by their mean, mean of each elite, its standard deviation, and the mean deviation within an elite.

    >>> spreads(torch.tensor([[1.0, 3.0], [5.0, 7.0]]))
    {'mean': 4.0, 'elites': [2.0, 6.0], 'between': 2.0, 'within': 1.0}
    """
    elites = values.mean(1)
    return {
        "mean": float(elites.mean()),
        "elites": elites.tolist(),
        "between": float(elites.std(unbiased=False)),
        "within": float(values.std(1, unbiased=False).mean()),
    }


@torch.no_grad()
def returns_in_elites(
    model: PenalisedModel,
    *,
    policy: Act,
    starts: Tensor,
    steps: int,
    discount: float,
    limits: StateLimits,
    lowest_reward: float,
    generator: Generator,
) -> ModelReturns:
    """Roll out `policy` for `steps` steps from the same starts [B, D] in each elite.

    Within a rollout, one elite also draws the random outcomes. The elites' disagreement about value (`value_coef`) is left out of the penalty,
    because a policy alone has no value function. The end of episodes beyond the log (`halt`) is left out too, because the return of the steps
    themselves is estimated.
    """
    elites, rows = model.transition.elites, len(starts)
    member = elites.repeat_interleave(rows)
    # With λ = 1 and no free part, the cost of a step is u; the reward is the penalised reward plus this cost.
    plain = replace(model, coef=1.0, free=0.0, value_coef=0.0, value=None, halt=None)
    begin = starts.repeat(len(elites), 1)
    observations, alive = begin.clone(), torch.ones(len(begin), dtype=torch.bool, device=starts.device)
    sums = {name: torch.zeros(len(begin), dtype=torch.float64, device=starts.device) for name in RETURNS}
    weights, uncertainty = torch.zeros_like(sums["return"]), torch.zeros_like(sums["return"])
    lengths = torch.zeros(len(begin), dtype=torch.int64, device=starts.device)
    ended, non_finite, out_of_range, dropped = (torch.zeros_like(alive) for _ in range(4))
    for step in range(steps):
        if not (alive | dropped).any():
            break
        draws = model.draw(observations, generator)._replace(member=member)
        made = one_step(plain, policy, limits, begin, observations, alive, draws)
        u = torch.where(made.valid, made.costs, 0.0).double()
        reward = torch.where(made.valid, made.rows[:, -2] + made.costs, 0.0).double()
        ended |= made.valid & (made.rows[:, -1] != 0)
        non_finite |= made.non_finite
        out_of_range |= made.out_of_range
        dropped = non_finite | out_of_range
        reward = torch.where(dropped, lowest_reward, reward)
        earned = {
            "return": reward,
            "penalised": reward - model.coef * (u - model.free).clamp(min=0),
            "bound": reward - model.coef * u,
        }
        factor = discount**step
        for name, values in earned.items():
            sums[name] += values
            sums["discounted" if name == "return" else f"discounted_{name}"] += factor * values
        uncertainty += factor * u
        weights += factor * made.valid
        lengths += made.valid
        observations, alive = made.observations, made.alive
    shape = (len(elites), rows)
    return ModelReturns(
        sums={name: values.view(shape) for name, values in sums.items()},
        uncertainty=uncertainty.view(shape).sum(1) / weights.view(shape).sum(1).clamp(min=1e-12),
        discounted_uncertainty=uncertainty.view(shape),
        lengths=lengths.view(shape),
        ended=ended.view(shape),
        non_finite=non_finite.view(shape),
        out_of_range=out_of_range.view(shape),
    )
