"""Comparison of a run's policy with its log, and the states that it reaches in the ensemble."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mopo_pl.diagnostics.policy_actions import (
    ActionColumn,
    UncertaintyOnLog,
    Visited,
    beside_the_log,
    chosen_actions,
    uncertainty_on_log,
    visited,
)
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.report.run.measured.parts import Parts, uncharged_model

COMPARED = 5000
"""Largest number of logged states on which the policy is compared with the log."""
STARTS = 500
"""Largest number of starts of imagined rollouts."""


@dataclass(frozen=True, kw_only=True)
class MeasuredPolicy:
    """Comparison of the policy with the log."""

    rows: int
    """Number of logged states on which the policy was evaluated."""
    actions: list[ActionColumn]
    distance: float
    """Mean ‖π(s) - a‖₂, with each action in units of half its range."""
    spread: float
    """Mean ‖a - mean a‖₂ over the log in the same unit: the distance of a policy that does not depend on the state."""
    uncertainty: UncertaintyOnLog | None
    """Uncertainty for the actions; None where there is no model or no penalty."""
    visited: Visited | None


def of_policy(parts: Parts) -> MeasuredPolicy | None:
    """Compare the policy's actions with the log, and roll it out in the model; returns None where there is no policy."""
    policy, dataset = parts.policy, parts.dataset
    if policy is None:
        return None
    act: Callable[[Tensor], Tensor] = policy.actor.mean_action
    rows = torch.randperm(len(dataset), generator=generator_for(0, "compared states"))[:COMPARED]
    logged, chosen = dataset.transitions[rows].actions, chosen_actions(act, dataset, rows)
    there: UncertaintyOnLog | None = None
    seen: Visited | None = None
    if parts.model is not None:
        penalised = uncharged_model(parts, parts.model)
        if parts.penalty is not None and parts.config.penalty.name != "none":
            there = uncertainty_on_log(penalised, parts.config.penalty.name, act, dataset, rows)
        seen = _visited(parts, penalised, policy, rows)
    return MeasuredPolicy(
        rows=len(rows),
        actions=beside_the_log(act, dataset, rows),
        distance=float((chosen - logged).norm(dim=-1).mean()),
        spread=float((logged - logged.mean(0)).norm(dim=-1).mean()),
        uncertainty=there,
        visited=seen,
    )


def _visited(parts: Parts, model: PenalisedModel, policy: Policy, rows: Tensor) -> Visited:
    cloned = bool(policy.meta.get("cloned"))  # its σ is untrained
    return visited(
        model,
        (lambda s, noise: policy.actor.mean_action(s)) if cloned else policy.actor.act,
        parts.dataset,
        rows,
        starts=STARTS,
        horizon=parts.config.rollout.horizon,
        names=parts.names,
        limits=StateLimits.of(parts.dataset, parts.config.rollout.range_widths),
        generator=generator_for(0, "imagined states"),
    )
