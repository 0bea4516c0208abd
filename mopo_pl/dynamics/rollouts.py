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
"""π: from s [B, D] and ε ~ N(0, I) [B, A] to a [B, A]."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """h steps from B starts. Rows after an episode's end, and rows that are not finite or leave the limits, are not `valid`."""

    transitions: Transitions
    """[h, B, W]."""
    costs: Tensor
    """What was subtracted from the predicted rewards [h, B]."""
    valid: Tensor
    """[h, B] bool."""
    non_finite: Tensor
    """Rows of running episodes that are not finite [h, B] bool."""
    out_of_range: Tensor
    """Finite rows of running episodes whose next state is beyond the limits [h, B] bool."""
    halted: Tensor
    """Valid rows whose step goes beyond the log [h, B] bool: their reward is `Halt.worth`, and their cost r̂ less that, no penalty."""
    ends: Tensor
    """State that each rollout reached after h steps [B, D]; meaningless where it has ended."""
    running: Tensor
    """Whether each rollout is still running after h steps [B] bool."""


class RolloutStep(NamedTuple):
    """One step of B rollouts: its entries of `Rollout`, then the next states and whether each episode continues."""

    rows: Tensor
    costs: Tensor
    valid: Tensor
    non_finite: Tensor
    out_of_range: Tensor
    halted: Tensor
    observations: Tensor
    """[B, D]."""
    alive: Tensor
    """[B] bool."""


Stepper = Callable[[PenalisedModel, Act, StateLimits, Tensor, Tensor, Tensor, Draws], RolloutStep]
"""`one_step`, or its compiled form."""


def one_step(
    model: PenalisedModel,
    policy: Act,
    limits: StateLimits,
    starts: Tensor,
    observations: Tensor,
    alive: Tensor,
    draws: Draws,
) -> RolloutStep:
    """One step of the policy in the model from states [B, D], as a function of tensors.

    A row that is not `alive` any more continues from its start and is not valid. A step beyond the log is valid however far it
    leads, as its episode ends there: s', which nothing reads, is then moved to the limits.
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
    """`one_step`, compiled for this number of rows. For other numbers, and where compiling fails, it runs eagerly.

    Unlike an update's, its code checks at each call that model, policy and limits are those it was built for, and is built
    anew for others: a step is long enough, and a penalty or a rule of one's own may depend on anything.
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

    Shapes are static: an ended row is carried along at its start and left out by `valid`, so that no step waits for the
    device. A row that becomes non-finite, or leads beyond the limits, ends there and is counted.
    """
    # A copy: to a compiler the same tensor twice is another case than two of them.
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
"""How far beyond the log's range a state still counts as within [widths of the range]: one at its edge, such as a cosine of 1, is predicted
on either side of it."""
PINNED = 0.99
"""|a| from which an action in [-1, 1] counts as at its bound."""


class RolloutStatistics:
    """Statistics of a refresh: sums over its chunks, kept on the device."""

    def __init__(self, device: torch.device | str, log: LogStatistics | None = None) -> None:
        """`log`: whose range of observations imagined ones are compared with; None: they are not."""
        self.log = log
        self.sums = torch.zeros(16, dtype=torch.float64, device=device)

    def add(self, rollout: Rollout) -> None:
        """Add one chunk of rollouts."""
        valid, rewards = rollout.valid, rollout.transitions.rewards
        paid = valid & ~rollout.halted  # a step beyond the log has neither the model's reward nor a penalty
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
        """Whether a coordinate of the states [..., D] lies outside the range of the log's observations, by more than `EDGE` [...]."""
        if self.log is None:
            return torch.zeros(states.shape[:-1], dtype=torch.bool, device=states.device)
        low, high = self.log.observation_low, self.log.observation_high
        edge = EDGE * (high - low)
        return ((states < low - edge) | (states > high + edge)).any(-1)

    def summary(self) -> dict[str, float]:
        """Means over the refreshes of all ranks. Synchronises with the device once.

        `terminated`, `halted`: share of rollouts that ended by the rule of termination, and with a step beyond the log; the latter steps
        count neither for `reward` nor for the penalties. `pinned`: share of the entries of actions at their bound. `penalty_first`, `penalty_last`: mean cost of the first and of
        the h-th steps; 0 where no rollout came there. `beyond_log`: share of transitions to a state outside the log's range, by more than `EDGE`.
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
