"""The penalised model M̃ (Yu et al. 2020, section 4): the learned transitions, less a penalty, and what ends its episodes."""

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
"""V: from s [B, D] to what the policy is believed to earn from there [B]."""


Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""r(s, a, s') [B] of s [B, D], a [B, A] in the log's units, s' [B, D]."""


class Imagined(NamedTuple):
    """One simulated step of B rollouts."""

    transitions: Transitions
    """With the penalised reward [B, W]."""
    cost: Tensor
    """r̂ less the reward that is paid [B]."""
    halted: Tensor
    """Whether the step goes further than any in the log, which ended its episode; false without `halt` [B] bool."""


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

    With `halt`, a step outside of `halt.known` is terminal and earns `halt.worth` of V(s); what is called its cost, r̂ less
    that, may be below 0.
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
    """λ_V, of no dimension."""
    value: Value | None = None
    """V of the present policy; must be given where λ_V is above 0, and with `halt`."""
    discount: float = 0.0
    """γ of V."""
    halt: Halt | None = None
    """What ends rollouts that go further than the log; None: nothing does."""
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
        """Move the transition model; return the model with its statistics, rule and reward on the device.

        A rule or a reward that is a module is copied: it may be one object of the user's, which other parts give rows of the host.
        """
        self.transition.to(device)
        rule, reward = (
            deepcopy(function).to(device) if isinstance(function, nn.Module) else function
            for function in (self.termination, self.reward)
        )
        log, halt = (part if part is None else part.to(device) for part in (self.log, self.halt))
        return replace(self, termination=rule, reward=reward, log=log, halt=halt)

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
        return evaluate(self.penalty, mean, std, self.extras, observations=observations, actions=seen, log=self.log)

    def step(self, observations: Tensor, actions: Tensor, draws: Draws) -> Imagined:
        """Simulate one step from s, a [B, …].

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
            paid, halted = reward - cost, torch.zeros_like(terminal)
            if self.halt is not None:
                halted = self.halt.known.exclude(newest, after)
                # Whatever was predicted out there, also where it is no number.
                paid = torch.where(halted, self.halt.worth(self._value(observations)), paid)
                cost, terminal = torch.where(halted, reward - paid, cost), terminal | halted
        packed = Transitions.pack(observations, actions, next_observations, paid, terminal)
        return Imagined(replace(packed, history=self.history), cost, halted)

    def _value_spread(self, observations: Tensor, actions: Tensor, seen: Tensor, mean: Tensor) -> Tensor:
        """std_i [r_i + γ(1 - d_i)·V(s'_i)] [B] of the elites' means [E, B, 1 + D]; `seen`: the actions in the log's units."""
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
        """Whether a step asks for V."""
        return self.value_coef != 0 or self.halt is not None

    def _state_after(self, states: Tensor, actions: Tensor, newest: Tensor) -> Tensor:
        """s' [B, D], of the newest observation in it, s and a in [-1, 1]."""
        return newest if self.window is None else self.window.following(states, actions, newest)

    @property
    def history(self) -> int:
        """Observations that a state holds."""
        return 1 if self.window is None else self.window.steps
