"""Branched rollouts in the penalised model M̃ (Yu et al. 2020, algorithm 2)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from mopo_pl.data.statistics import LogStatistics
from mopo_pl.data.transitions import Transitions
from mopo_pl.data.window import Window
from mopo_pl.distributed.collectives import sum_over_ranks
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalties import Penalty, extras_of
from mopo_pl.dynamics.rewards import Reward
from mopo_pl.dynamics.termination import Rule
from mopo_pl.nn.compilation import compile_with_guards

Act = Callable[[Tensor, Tensor], Tensor]
"""π: from s [B, D] and ε ~ N(0, I) [B, A] to a [B, A]."""
Value = Callable[[Tensor], Tensor]
"""V: from s [B, D] to what the policy is believed to earn from there [B]."""


@dataclass(frozen=True)
class StateLimits:
    """A box around the states of a log; rollouts that leave it are dropped."""

    low: Tensor
    """Lower limit of each coordinate [D]."""
    high: Tensor
    """Upper limit of each coordinate [D]."""

    @classmethod
    def around(cls, states: Tensor, widths: float) -> "StateLimits":
        """The range of states [N, D], extended by `widths` times its width on either side.

        A constant coordinate has no width, and therefore no limit.
        """
        low, high = states.amin(0), states.amax(0)
        room = torch.where(high > low, widths * (high - low), torch.inf)
        return cls(low - room, high + room)

    def hold(self, states: Tensor) -> Tensor:
        """Whether each of the states [B, D] lies within the limits [B]; NaN does not."""
        return ((states >= self.low) & (states <= self.high)).all(-1)

    def to(self, device: torch.device | str) -> "StateLimits":
        """The same limits on another device."""
        return StateLimits(self.low.to(device), self.high.to(device))


@dataclass(frozen=True)
class Halt:
    """The absorbing state for all states that the log says nothing of, as HALT in Kidambi et al. 2020 (MOReL)."""

    known: StateLimits
    """The states outside of it."""
    worth: float
    """What a step into HALT earns, once [discounted return]; of a log `data.statistics.lowest_return`."""

    def takes(self, states: Tensor) -> Tensor:
        """Whether each of the states [B, D] is outside the known ones [B]; one that is not finite is no state, and is not."""
        return states.isfinite().all(-1) & ~self.known.hold(states)

    def to(self, device: torch.device | str) -> "Halt":
        """The same on another device."""
        return replace(self, known=self.known.to(device))


class Draws(NamedTuple):
    """All random numbers of a step of B rollouts."""

    policy: Tensor
    """ε of the policy [B, A]."""
    member: Tensor
    """The elite that each row's next state and reward are sampled from [B]."""
    outcome: Tensor
    """ε of reward and state change [B, 1 + D]."""


@dataclass(frozen=True, kw_only=True)
class PenalisedModel:
    """M̃ = (T̂, r̂ - cost), and the termination rule of its episodes; r stands for r̂ where it is known.

    cost = λ·max(0, u - u_free) + λ_V·std_i [r_i + γ(1 - d_i)·V(s'_i)] over the elites i, whose means are r_i and s'_i: how far
    they differ about what the step is worth. λ_V = 0 is MOPO; the second term penalises transitions as Sun et al. 2023 (MOBILE)
    penalise the critics' targets.

    With `halt`, a step to a state outside of `halt.known` is terminal and earns `halt.worth`: its cost is r̂ - `halt.worth`.
    """

    transition: TransitionModel
    penalty: Penalty
    """u."""
    coef: float
    """λ."""
    termination: Rule
    free: float = 0.0
    """u_free: u up to here costs nothing."""
    value_coef: float = 0.0
    """λ_V, of no dimension; above 0, `value` must be given."""
    value: Value | None = None
    """V of the present policy."""
    discount: float = 0.0
    """γ of V."""
    halt: Halt | None = None
    """What ends rollouts that leave the known states; None: nothing does."""
    reward: Reward | None = None
    """r(s, a, s'); None: the learned one, r̂."""
    window: Window | None = None
    """Where s holds several observations: the rule and r see the newest, and the model predicts its change."""
    log: LogStatistics | None = None
    """Statistics that the penalty may ask for, and the bounds of the actions that it, the rule and r see; None: [-1, 1]."""
    extras: tuple[str, ...] = field(init=False)
    """What the penalty asks for (`penalties.EXTRAS`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "extras", extras_of(self.penalty))
        if "log" in self.extras and self.log is None:
            raise ValueError("the penalty asks for log: give PenalisedModel(log=LogStatistics.of(dataset))")

    def to(self, device: torch.device | str) -> "PenalisedModel":
        """Move the transition model and a rule with tensors; return the model with its statistics on the device."""
        self.transition.to(device)
        if isinstance(self.termination, nn.Module):
            self.termination.to(device)
        log, halt = (part if part is None else part.to(device) for part in (self.log, self.halt))
        return replace(self, log=log, halt=halt)

    def draw(self, observations: Tensor, generator: Generator) -> Draws:
        """Draw the random numbers of one step from states [B, D]."""
        shape = (len(observations), self.transition.ensemble.action_dim)
        noise = torch.randn(shape, generator=generator, device=observations.device, dtype=observations.dtype)
        return Draws(noise, *self.transition.draw(self._newest(observations), generator))

    def _newest(self, states: Tensor) -> Tensor:
        return states if self.window is None else self.window.newest(states)

    def uncertainty(self, observations: Tensor, actions: Tensor) -> Tensor:
        """u(s, a) [B] of s [B, D] and a [B, A] in [-1, 1]."""
        mean, std = self.transition.predict(torch.cat([observations, actions], -1))
        return self._penalised(observations, self._in_log_units(actions), mean, std)

    def _in_log_units(self, actions: Tensor) -> Tensor:
        return actions if self.log is None else self.log.in_log_units(actions)

    def _penalised(self, observations: Tensor, seen: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """u of states and of actions in the log's units."""
        known = {"observations": observations, "actions": seen, "log": self.log}
        return self.penalty(mean, std, **{name: known[name] for name in self.extras})

    def step(self, observations: Tensor, actions: Tensor, draws: Draws) -> tuple[Transitions, Tensor]:
        """Simulate one step from s, a [B, …]: the transitions with the penalised reward, and its cost [B].

        Raises ValueError where a value is needed and was not given.
        """
        mean, std = self.transition.predict(torch.cat([observations, actions], -1))
        with torch.autocast(
            observations.device.type, enabled=False
        ):  # networks alone may round, not a user's functions
            seen = self._in_log_units(actions)
            u = self._penalised(observations, seen, mean, std)
            cost = self.coef * ((u - self.free).clamp(min=0) if self.free else u)
            if self.value_coef:
                cost = cost + self.value_coef * self._value_spread(observations, actions, seen, mean)
            newest = self._newest(observations)
            after, reward = self.transition.sample(newest, mean, std, draws.member, draws.outcome)
            if self.reward is not None:
                reward = self.reward(newest, seen, after)
            terminal = self.termination(newest, seen, after)
            next_observations = self._state_after(observations, actions, after)
            if self.halt is not None:
                left = self.halt.takes(next_observations)
                cost = torch.where(left, reward - self.halt.worth, cost)
                terminal = terminal | left
        packed = Transitions.pack(observations, actions, next_observations, reward - cost, terminal)
        return replace(packed, history=self.history), cost

    def _value_spread(self, observations: Tensor, actions: Tensor, seen: Tensor, mean: Tensor) -> Tensor:
        """std_i [r_i + γ(1 - d_i)·V(s'_i)] [B] of the elites' means [E, B, 1 + D]; `seen`: the actions in the log's units."""
        if self.value is None:
            raise ValueError("value_coef needs a value: give PenalisedModel(value=..., discount=...)")
        means = mean[self.transition.elites]
        rows, members = len(observations), len(means)
        states, acted = observations.repeat(members, 1), seen.repeat(members, 1)
        before = self._newest(states)
        after = before + means[..., 1:].flatten(0, 1)
        reward = means[..., 0].flatten() if self.reward is None else self.reward(before, acted, after)
        ended = self.termination(before, acted, after)
        following = self._state_after(states, actions.repeat(members, 1), after)
        worth = reward + self.discount * torch.where(ended, 0.0, self.value(following))
        return worth.view(members, rows).std(0, unbiased=False)

    def _state_after(self, states: Tensor, actions: Tensor, newest: Tensor) -> Tensor:
        """s' [B, D], of the newest observation in it, s and a in [-1, 1]."""
        return newest if self.window is None else self.window.following(states, actions, newest)

    @property
    def history(self) -> int:
        """Observations that a state holds."""
        return 1 if self.window is None else self.window.steps


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
    """Valid rows that lead into HALT [h, B] bool; their cost is what HALT's worth takes from the reward, no penalty."""
    ends: Tensor
    """State that each rollout reached after h steps [B, D]; meaningless where it has ended."""
    running: Tensor
    """Whether each rollout is still running after h steps [B] bool."""


class Step(NamedTuple):
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


Stepper = Callable[[PenalisedModel, Act, StateLimits, Tensor, Tensor, Tensor, Draws], Step]
"""`one_step`, or its compiled form."""


def one_step(
    model: PenalisedModel,
    policy: Act,
    limits: StateLimits,
    starts: Tensor,
    observations: Tensor,
    alive: Tensor,
    draws: Draws,
) -> Step:
    """One step of the policy in the model from states [B, D], as a function of tensors.

    A row that is not `alive` any more continues from its start and is not valid.
    """
    imagined, cost = model.step(observations, policy(observations, draws.policy), draws)
    finite = imagined.rows.isfinite().all(-1)
    sound = finite & limits.hold(imagined.next_observations)
    valid = alive & sound
    halted = torch.zeros_like(valid) if model.halt is None else valid & model.halt.takes(imagined.next_observations)
    goes_on = alive & sound & (imagined.terminals == 0)
    return Step(
        rows=imagined.rows,
        costs=cost,
        valid=valid,
        non_finite=alive & ~finite,
        out_of_range=alive & finite & ~sound,
        halted=halted,
        observations=torch.where(goes_on.unsqueeze(-1), imagined.next_observations, starts),
        alive=goes_on,
    )


def compiled_step(rows: int, device: torch.device) -> Stepper:
    """`one_step`, compiled for this number of rows. For other numbers, and where compiling fails, it runs eagerly.

    Unlike an update's, its code checks at each call that model, policy and limits are those it was built for, and is built
    anew for others: a step is long enough, and a penalty or a rule of one's own may depend on anything.
    """
    whole = compile_with_guards(one_step, device, "the rollouts' step")

    def step(model: PenalisedModel, policy: Act, limits: StateLimits, starts: Tensor, *rest: Any) -> Step:
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
        paid = valid & ~rollout.halted  # a step into HALT has neither the model's reward nor a penalty
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
        """Whether a coordinate of the states [..., D] lies outside the range of the log's observations [...]."""
        if self.log is None:
            return torch.zeros(states.shape[:-1], dtype=torch.bool, device=states.device)
        return ((states < self.log.observation_low) | (states > self.log.observation_high)).any(-1)

    def summary(self) -> dict[str, float]:
        """Means over the refreshes of all ranks. Synchronises with the device once.

        `terminated`, `halted`: share of rollouts that ended by the rule of termination, and in HALT; steps into HALT count neither
        for `reward` nor for the penalties. `pinned`: share of the entries of actions at their bound. `penalty_first`, `penalty_last`: mean cost of the first and of
        the h-th steps; 0 where no rollout came there. `beyond_log`: share of transitions to a state outside the log's range.
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
