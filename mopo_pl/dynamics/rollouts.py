"""Branched rollouts in the penalised model: the M̃ of the paper, made of transitions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.limits import StateLimits
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalty import Penalty
from mopo_pl.dynamics.termination import Rule
from mopo_pl.ranks import summed


@dataclass(frozen=True, kw_only=True)
class PenalisedModel:
    """M̃ = (T̂, r̂ - λu), with the rule that ends its episodes."""

    transition: TransitionModel
    penalty: Penalty
    """u."""
    coef: float
    """λ."""
    termination: Rule

    def step(self, observations: Tensor, actions: Tensor, generator: Generator) -> tuple[Transitions, Tensor]:
        """One imagined step from s, a [B, …]: the transitions with r̃ = r̂ - λu(s, a), and u [B]."""
        mean, std = self.transition.predict(torch.cat([observations, actions], -1))
        u = self.penalty(mean, std)
        next_observations, reward = self.transition.sample(observations, mean, std, generator)
        terminal = self.termination(observations, actions, next_observations)
        return Transitions.pack(observations, actions, next_observations, reward - self.coef * u, terminal), u


@dataclass(frozen=True)
class Rollout:
    """h steps from B starts; rows after an episode's end, and rows that are no states, are not `valid`."""

    transitions: Transitions
    """[h, B, W]."""
    penalties: Tensor
    """u [h, B]."""
    valid: Tensor
    """[h, B] bool."""
    non_finite: Tensor
    """Rows that were reached alive but are not finite [h, B] bool."""
    out_of_range: Tensor
    """Rows that were reached alive and are finite, but lead beyond the limits [h, B] bool."""


@torch.no_grad()
def branch(
    model: PenalisedModel,
    policy: Callable[[Tensor], Tensor],
    starts: Tensor,
    horizon: int,
    limits: StateLimits,
    generator: Generator,
) -> Rollout:
    """Rolls `policy` (s [B, D] to a [B, A]) for `horizon` steps from `starts` [B, D].

    Shapes are static: an ended row is carried along at its start and left out by `valid`, so that no step waits for the
    device. A row that becomes non-finite, or leads beyond the limits, ends there and is counted.
    """
    observations, alive = starts, torch.ones(len(starts), dtype=torch.bool, device=starts.device)
    steps, penalties, valid, non_finite, out_of_range = [], [], [], [], []
    for _ in range(horizon):
        imagined, u = model.step(observations, policy(observations), generator)
        finite = imagined.rows.isfinite().all(-1)
        sound = finite & limits.hold(imagined.next_observations)
        steps.append(imagined.rows)
        penalties.append(u)
        valid.append(alive & sound)
        non_finite.append(alive & ~finite)
        out_of_range.append(alive & finite & ~sound)
        alive = alive & sound & (imagined.terminals == 0)
        observations = torch.where(alive.unsqueeze(-1), imagined.next_observations, starts)
    transitions = Transitions(torch.stack(steps), starts.shape[-1], model.transition.ensemble.action_dim)
    return Rollout(transitions, *map(torch.stack, (penalties, valid, non_finite, out_of_range)))


class RolloutStatistics:
    """Sums over the chunks of a refresh, kept on the device."""

    def __init__(self, device: torch.device | str) -> None:
        self.sums = torch.zeros(8, dtype=torch.float64, device=device)

    def add(self, rollout: Rollout, coef: float) -> None:
        """Counts one chunk; `coef` is the λ that was subtracted."""
        valid, rewards = rollout.valid, rollout.transitions.rewards
        penalty = torch.where(valid, coef * rollout.penalties, 0.0)
        predicted = torch.where(valid, rewards, 0.0) + penalty
        ended = (rollout.transitions.terminals * valid).sum()
        starts = torch.full_like(ended, valid.shape[1])
        counts = [valid.sum(), ended, rollout.non_finite.sum(), rollout.out_of_range.sum(), starts]
        self.sums += torch.stack([s.double() for s in [*counts, penalty.sum(), predicted.sum(), predicted.abs().sum()]])

    def summary(self) -> dict[str, float]:
        """Means over the refresh, of all ranks; one host synchronisation."""
        rows, ended, non_finite, out_of_range, starts, penalty, reward, size = summed(self.sums.clone()).tolist()
        divisor = max(rows, 1.0)
        return {
            "transitions": rows,
            "length": rows / starts,
            "terminated": ended / starts,
            "non_finite": non_finite,
            "out_of_range": out_of_range,
            "dropped_share": (non_finite + out_of_range) / starts,
            "penalty": penalty / divisor,
            "reward": reward / divisor,
            "penalty_share": penalty / max(size, 1e-12),
        }
