"""The penalised model M̃ (Yu et al. 2020, section 4): the learned transitions, a penalty on the reward, and a termination rule."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from mopo_pl.data.statistics import LogStatistics
from mopo_pl.data.transitions import Transitions
from mopo_pl.data.window import Window
from mopo_pl.dynamics.known_steps import Halt
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalties import Penalty, evaluate, extras_of
from mopo_pl.dynamics.termination import Rule

Value = Callable[[Tensor], Tensor]
"""Value function V: maps s [B, D] to the policy's estimated discounted return from s [B]."""


Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Reward function: maps s [B, D], a [B, A] in the log's units and s' [B, D] to r(s, a, s') [B]."""


class Imagined(NamedTuple):
    """One simulated step of B rollouts."""

    transitions: Transitions
    """Transitions with the penalised reward [B, W]."""
    cost: Tensor
    """Unpenalised reward minus the reward in `transitions` [B]."""
    halted: Tensor
    """Whether `PenalisedModel.halt` ended the episode because the step is outside of the log's range [B] bool; false without `halt`."""


class Draws(NamedTuple):
    """All random numbers of one step of B rollouts."""

    policy: Tensor
    """Noise ε of the policy [B, A]."""
    member: Tensor
    """Index of the elite from which each row's next state and reward are sampled [B]."""
    outcome: Tensor
    """Noise ε of reward and state change [B, 1 + D]."""


@dataclass(frozen=True, kw_only=True)
class PenalisedModel:
    """The model M̃ = (T̂, r̂ - cost) with the termination rule of its episodes. A known reward function r replaces r̂.

    cost = λ·max(0, u - u_free) + λ_V·std_i [r_i + γ(1 - d_i)·V(s'_i)] over the elites i, whose means are r_i and s'_i. The second
    term is the disagreement of the elites about the value of the step. λ_V = 0 is MOPO. The second term penalises transitions as
    Sun et al. 2023 (MOBILE) penalise the critics' targets.

    With `halt`, a step outside of `halt.known` is terminal and its reward is `halt.worth` of V(s). The cost of such a step, r̂
    minus this reward, may be negative.
    """

    transition: TransitionModel
    """The learned transitions, T̂ and r̂."""
    penalty: Penalty
    """Uncertainty function, u."""
    coef: float
    """Coefficient of the penalty, λ."""
    termination: Rule
    """Rule that determines whether an imagined step is terminal."""
    free: float = 0.0
    """Uncertainty up to which a step has no penalty, u_free."""
    value_coef: float = 0.0
    """Coefficient of the disagreement about the value, λ_V (dimensionless)."""
    value: Value | None = None
    """Value function V of the current policy; required if λ_V is not 0, and with `halt`."""
    discount: float = 0.0
    """Discount factor of V, γ."""
    halt: Halt | None = None
    """Ends rollouts at steps outside of the log's range; None: they are not ended."""
    reward: Reward | None = None
    """Known reward function r(s, a, s'); None: the learned reward r̂ is used."""
    window: Window | None = None
    """Layout of states that hold several observations; None: s is one observation.

    The termination rule and r are given the newest observation, and the model predicts its change.
    """
    log: LogStatistics | None = None
    """Statistics of the log, for penalties that take them, and the bounds to which actions are scaled.

    The penalty, the termination rule and r are given the scaled actions. None: they are given actions in [-1, 1].
    """
    extras: tuple[str, ...] = field(init=False)
    """Names of the further arguments that the penalty takes (`penalties.EXTRAS`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "extras", extras_of(self.penalty))
        if "log" in self.extras and self.log is None:
            raise ValueError("the penalty asks for log: give PenalisedModel(log=LogStatistics.of(dataset))")

    def to(self, device: torch.device | str) -> "PenalisedModel":
        """Move the transition model to a device in place; return the model with its statistics, rule and reward on the device.

        A rule or a reward that is a torch module is copied, because the user may also call the same object with tensors on the host.
        """
        self.transition.to(device)
        rule, reward = (
            deepcopy(function).to(device) if isinstance(function, nn.Module) else function
            for function in (self.termination, self.reward)
        )
        log, halt = (part if part is None else part.to(device) for part in (self.log, self.halt))
        return replace(self, termination=rule, reward=reward, log=log, halt=halt)

    def draw(self, observations: Tensor, generator: Generator) -> Draws:
        """Draw the random numbers of one step for states [B, D]."""
        shape = (len(observations), self.transition.ensemble.action_dim)
        noise = torch.randn(shape, generator=generator, device=observations.device, dtype=observations.dtype)
        return Draws(noise, *self.transition.draw(self._newest(observations), generator))

    def _newest(self, states: Tensor) -> Tensor:
        return states if self.window is None else self.window.newest(states)

    def uncertainty(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return u(s, a) [B] for s [B, D] and a [B, A] in [-1, 1]."""
        mean, std = self.transition.predict(torch.cat([observations, actions], -1))
        return self._penalised(observations, self._in_log_units(actions), mean, std)

    def _in_log_units(self, actions: Tensor) -> Tensor:
        return actions if self.log is None else self.log.in_log_units(actions)

    def _penalised(self, observations: Tensor, seen: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return u [B] for states [B, D], actions `seen` [B, A] in the log's units, and the members' predictions [E, B, 1 + D]."""
        return evaluate(self.penalty, mean, std, self.extras, observations=observations, actions=seen, log=self.log)

    def step(self, observations: Tensor, actions: Tensor, draws: Draws) -> Imagined:
        """Simulate one step from s [B, D] and a [B, A] in [-1, 1].

        Raises ValueError if the value function is needed and was not given.
        """
        mean, std = self.transition.predict(torch.cat([observations, actions], -1))
        with torch.autocast(
            observations.device.type, enabled=False
        ):  # reduced precision is for networks, not for functions that a user supplies
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
            paid, halted = reward - cost, torch.zeros_like(terminal)
            if self.halt is not None:
                halted = self.halt.known.exclude(newest, after)
                # This replaces any predicted reward of such steps, including NaN.
                paid = torch.where(halted, self.halt.worth(self._value(observations)), paid)
                cost, terminal = torch.where(halted, reward - paid, cost), terminal | halted
        packed = Transitions.pack(observations, actions, next_observations, paid, terminal)
        return Imagined(replace(packed, history=self.history), cost, halted)

    def _value_spread(self, observations: Tensor, actions: Tensor, seen: Tensor, mean: Tensor) -> Tensor:
        """Return std_i [r_i + γ(1 - d_i)·V(s'_i)] [B] over the elites.

        `mean` holds the means of all members [E, B, 1 + D]; `seen` holds the actions in the log's units.
        """
        means = mean[self.transition.elites]
        rows, members = len(observations), len(means)
        states, acted = observations.repeat(members, 1), seen.repeat(members, 1)
        before = self._newest(states)
        after = before + means[..., 1:].flatten(0, 1)
        reward = means[..., 0].flatten() if self.reward is None else self.reward(before, acted, after)
        ended = self.termination(before, acted, after)
        following = self._state_after(states, actions.repeat(members, 1), after)
        worth = reward + self.discount * torch.where(ended, 0.0, self._value(following))
        return worth.view(members, rows).std(0, unbiased=False)

    def _value(self, states: Tensor) -> Tensor:
        if self.value is None:
            raise ValueError("value_coef and halt need a value: give PenalisedModel(value=..., discount=...)")
        return self.value(states)

    @property
    def needs_value(self) -> bool:
        """Whether `step` evaluates V."""
        return self.value_coef != 0 or self.halt is not None

    def _state_after(self, states: Tensor, actions: Tensor, newest: Tensor) -> Tensor:
        """Return s' [B, D] from its newest observation, s, and a in [-1, 1]."""
        return newest if self.window is None else self.window.following(states, actions, newest)

    @property
    def history(self) -> int:
        """Number of observations that a state holds."""
        return 1 if self.window is None else self.window.steps
