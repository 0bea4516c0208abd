"""Branched rollouts in the penalised model M̃ (Yu et al. 2020, algorithm 2)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from mopo_pl.data.statistics import LogStatistics
from mopo_pl.data.transitions import Transitions
from mopo_pl.distributed.collectives import sum_over_ranks
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.penalised_model import Draws, PenalisedModel
from mopo_pl.nn.compilation import compile_with_guards

Act = Callable[[Tensor, Tensor], Tensor]
"""Policy π: maps s [B, D] and ε ~ N(0, I) [B, A] to a [B, A]."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """h steps of rollouts from B starts."""

    transitions: Transitions
    """Imagined transitions with penalised rewards [h, B, W]."""
    costs: Tensor
    """Unpenalised minus penalised rewards [h, B]."""
    valid: Tensor
    """Whether a row belongs to a running episode, is finite and within the limits [h, B] bool. Other rows are not used."""
    non_finite: Tensor
    """Whether a row of a running episode is not finite [h, B] bool."""
    out_of_range: Tensor
    """Whether a row of a running episode is finite, but its next state is outside of the limits [h, B] bool."""
    halted: Tensor
    """Whether a valid row ended its episode because its step is outside of the log's range [h, B] bool.

    The reward of such a row is `Halt.worth`. Its cost is r̂ minus this reward, not a penalty.
    """
    ends: Tensor
    """State that each rollout reached after h steps [B, D]; its start state if the rollout has ended."""
    running: Tensor
    """Whether each rollout is still running after h steps [B] bool."""


class RolloutStep(NamedTuple):
    """One step of B rollouts: its entries of `Rollout`, the next states, and whether each episode continues."""

    rows: Tensor
    costs: Tensor
    valid: Tensor
    non_finite: Tensor
    out_of_range: Tensor
    halted: Tensor
    observations: Tensor
    """States from which the next step starts [B, D]; the start state where the episode has ended."""
    alive: Tensor
    """Whether each episode continues [B] bool."""


Stepper = Callable[[PenalisedModel, Act, StateLimits, Tensor, Tensor, Tensor, Draws], RolloutStep]
"""Type of `one_step` and of its compiled form."""


def one_step(
    model: PenalisedModel,
    policy: Act,
    limits: StateLimits,
    starts: Tensor,
    observations: Tensor,
    alive: Tensor,
    draws: Draws,
) -> RolloutStep:
    """Make one step of the policy in the model from states [B, D].

    A row that is no longer `alive` continues from its start and is not valid. A step that `Halt` ends is valid even if its next
    state is outside of the limits, because its episode ends there. This next state, which training does not use, is moved to the
    nearest state within the limits.
    """
    made = model.step(observations, policy(observations, draws.policy), draws)
    reached = made.transitions.next_observations
    finite = made.transitions.rows.isfinite().all(-1)
    sound = finite & (limits.hold(reached) | made.halted)
    valid = alive & sound
    following = torch.where(made.halted.unsqueeze(-1), limits.nearest(reached), reached)
    goes_on = valid & (made.transitions.terminals == 0)
    return RolloutStep(
        rows=made.transitions.with_next_observations(following).rows,
        costs=made.cost,
        valid=valid,
        non_finite=alive & ~finite,
        out_of_range=alive & finite & ~sound,
        halted=valid & made.halted,
        observations=torch.where(goes_on.unsqueeze(-1), following, starts),
        alive=goes_on,
    )


def compiled_step(rows: int, device: torch.device) -> Stepper:
    """Return `one_step`, compiled for this number of rows. With other numbers of rows, or if compiling fails, it runs eagerly.

    Unlike a compiled update, it checks with guards at each call that model, policy and limits are those it was compiled for, and
    is compiled again for others. The time of these checks is small compared with a step, and they are needed because a penalty or
    a rule that a user supplies may depend on any state.
    """
    whole = compile_with_guards(one_step, device, "the rollouts' step")

    def step(model: PenalisedModel, policy: Act, limits: StateLimits, starts: Tensor, *rest: Any) -> RolloutStep:
        return (whole if len(starts) == rows else one_step)(model, policy, limits, starts, *rest)

    return step


@torch.no_grad()
def branch(
    model: PenalisedModel,
    policy: Act,
    starts: Tensor,
    horizon: int,
    limits: StateLimits,
    generator: Generator,
    step: Stepper = one_step,
) -> Rollout:
    """Roll out `policy` for `horizon` steps from `starts` [B, D].

    The shapes of all tensors are fixed: a rollout that has ended is simulated further from its start and marked as not `valid`,
    so that no step has to wait for results from the device. A rollout ends at a row that is not finite or leaves the limits;
    such rows are counted.
    """
    # A copy: torch.compile would compile once more for a call in which both arguments are the same tensor.
    observations, alive = starts.clone(), torch.ones(len(starts), dtype=torch.bool, device=starts.device)
    steps = []
    for _ in range(horizon):
        made = step(model, policy, limits, starts, observations, alive, model.draw(observations, generator))
        observations, alive = made.observations, made.alive
        steps.append(made)
    rows = torch.stack([made.rows for made in steps])
    return Rollout(
        transitions=Transitions(rows, starts.shape[-1], model.transition.ensemble.action_dim, model.history),
        costs=torch.stack([made.costs for made in steps]),
        valid=torch.stack([made.valid for made in steps]),
        non_finite=torch.stack([made.non_finite for made in steps]),
        out_of_range=torch.stack([made.out_of_range for made in steps]),
        halted=torch.stack([made.halted for made in steps]),
        ends=observations,
        running=alive,
    )


EDGE = 0.01
"""Distance outside of the log's range up to which a state counts as within it [widths of the range].

Predictions of a state at the edge of the range, such as a cosine of 1, lie on either side of the edge.
"""
PINNED = 0.99
"""|a| above which an entry of an action in [-1, 1] counts as being at its bound."""


class RolloutStatistics:
    """Statistics of all rollouts of a refresh, computed from sums over its chunks, which are kept on the device."""

    def __init__(self, device: torch.device | str, log: LogStatistics | None = None) -> None:
        """Start with no rollouts. `log` gives the range that imagined observations are compared with; None: no comparison."""
        self.log = log
        self.sums = torch.zeros(16, dtype=torch.float64, device=device)

    def add(self, rollout: Rollout) -> None:
        """Add one chunk of rollouts."""
        valid, rewards = rollout.valid, rollout.transitions.rewards
        paid = valid & ~rollout.halted  # a halted step has neither the model's reward nor a penalty
        penalty = torch.where(paid, rollout.costs, 0.0)
        predicted = torch.where(paid, rewards, 0.0) + penalty
        ended = (rollout.transitions.terminals * paid).sum()
        starts = torch.full_like(ended, valid.shape[1])
        counts = [valid.sum(), paid.sum(), ended, rollout.halted.sum()]
        counts += [rollout.non_finite.sum(), rollout.out_of_range.sum(), starts]
        pinned = ((rollout.transitions.actions.abs() > PINNED).double().mean(-1) * valid).sum()
        of_steps = [paid[0].sum(), penalty[0].sum(), paid[-1].sum(), penalty[-1].sum()]
        rewarded = [penalty.sum(), predicted.sum(), predicted.abs().sum()]
        beyond = (self._beyond_log(rollout.transitions.next_observations) & valid).sum()
        self.sums += torch.stack([s.double() for s in [*counts, *rewarded, pinned, *of_steps, beyond]])

    def _beyond_log(self, states: Tensor) -> Tensor:
        """Return whether a coordinate of the states [..., D] is outside of the log's range by more than `EDGE` [...] bool."""
        if self.log is None:
            return torch.zeros(states.shape[:-1], dtype=torch.bool, device=states.device)
        low, high = self.log.observation_low, self.log.observation_high
        edge = EDGE * (high - low)
        return ((states < low - edge) | (states > high + edge)).any(-1)

    def summary(self) -> dict[str, float]:
        """Return the statistics over the rollouts of all ranks. This synchronises with the device once.

        `terminated` and `halted` are the shares of rollouts that were ended by the termination rule and by `Halt`. Halted steps do not
        count for `reward` and the penalties. `pinned` is the share of the entries of actions that are at their bound. `penalty_first`
        and `penalty_last` are the mean costs of the first and of the h-th steps, or 0 if no rollout made that step. `beyond_log` is
        the share of transitions to a state outside of the log's range by more than `EDGE`.
        """
        sums = sum_over_ranks(self.sums.clone()).tolist()
        rows, paid, ended, halted, non_finite, out_of_range, starts, penalty, reward, size, pinned, *of_steps = sums
        first, penalty_first, last, penalty_last, beyond = of_steps
        divisor, paid = max(rows, 1.0), max(paid, 1.0)
        return {
            "transitions": rows,
            "length": rows / starts,
            "terminated": ended / starts,
            "halted": halted / starts,
            "non_finite": non_finite,
            "out_of_range": out_of_range,
            "dropped_share": (non_finite + out_of_range) / starts,
            "penalty": penalty / paid,
            "reward": reward / paid,
            "penalty_share": penalty / max(size, 1e-12),
            "pinned": pinned / divisor,
            "penalty_first": penalty_first / max(first, 1.0),
            "penalty_last": penalty_last / max(last, 1.0),
            **({} if self.log is None else {"beyond_log": beyond / divisor}),
        }
