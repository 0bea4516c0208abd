"""One update of soft actor-critic: its three gradients as pure functions, and the order in which they are applied.

Nothing in this file holds state or calls an optimiser, so that the same code runs in one process, on several devices and compiled.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value
from torch.linalg import vector_norm

from mopo_pl.data.transitions import Transitions
from mopo_pl.nn.compilation import CompiledOrEager
from mopo_pl.nn.functional_adam import AdamState
from mopo_pl.nn.fused_update import ParameterStep
from mopo_pl.nn.layers import Params
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.critic import Critics
from mopo_pl.sac.losses import (
    actor_loss,
    critic_loss,
    critic_target,
    lower_estimate,
    polyak_,
    temperature,
    temperature_loss,
)

UPDATE_METRICS = ("critic_loss", "actor_loss", "alpha_loss", "q1", "q2", "alpha", "entropy")
"""Metrics of an update, in this order: three losses, the mean Q of the first two critics, α, and the mean of -log π [nats]."""

LOGGED_METRICS = ("logged_q", "logged_bellman_error", "logged_entropy")
"""Metrics of logged transitions: the `lower_estimate` of Q_k(s, a), Σ_k (Q_k(s, a) - y)², and -log π of an action drawn at s [nats]."""


class Weights(NamedTuple):
    """The parameters that an update reads and changes in place."""

    critic: Params
    target_critic: Params
    actor: Params
    log_alpha: Tensor
    """log α, of shape [] or [1]."""
    average_actor: Params
    """Running average of the actor's parameters; empty if no average is kept."""


class ParameterSteps(NamedTuple):
    """Functions that apply gradients to each group of parameters: the step of a torch optimiser, or of Adam in compiled code."""

    mean_over_ranks: Callable[[Params], Params]
    """Averages the gradients over all processes; the identity if there is only one."""
    critic: ParameterStep
    actor: ParameterStep
    temperature: ParameterStep


@dataclass(frozen=True, kw_only=True)
class SACGradients:
    """The three gradients of soft actor-critic for given networks and constants; the weights are passed with each call."""

    actor: TanhGaussianActor
    critic: Critics
    discount: float
    """γ."""
    target_entropy: float
    """H̄ [nats]."""
    alpha_max: float | None
    """Upper limit of α in the equations; None: no limit."""
    soft_backup: bool
    """Whether the critic's target has the entropy term."""
    pessimism: float | None
    """κ of `lower_estimate`; None: the minimum over the critics."""
    target_bounds: tuple[float, float] | None
    """Range to which the critics' targets are clipped; None: they are not clipped."""

    def of_critic(
        self, critic: Params, target_critic: Params, actor: Params, log_alpha: Tensor, batch: Transitions, noise: Tensor
    ) -> tuple[Params, Tensor, Tensor]:
        """Return the gradients of the critics, their loss, and the mean Q of the first two critics [2].

        `noise` [B, A] is ε of the next action a' ~ π(s').
        """
        target = self._target(target_critic, actor, log_alpha, batch, noise)

        def loss(critic: Params) -> tuple[Tensor, Tensor]:
            q = self._value(critic, batch.observations, batch.actions)
            return critic_loss(q, target), q[:2].mean(-1)

        return _gradients(loss, critic)

    def of_actor(
        self, actor: Params, critic: Params, log_alpha: Tensor, batch: Transitions, noise: Tensor
    ) -> tuple[Params, Tensor, Tensor]:
        """Return the gradients of the actor, its loss, and log π [B] of the drawn actions.

        `noise` [B, A] is ε of the action a ~ π(s).
        """

        def loss(actor: Params) -> tuple[Tensor, Tensor]:
            action, log_prob = self._act(actor, batch.observations, noise)
            value = lower_estimate(self._value(critic, batch.observations, action), self.pessimism)
            return actor_loss(value, log_prob, temperature(log_alpha, self.alpha_max)), log_prob

        return _gradients(loss, actor)

    def of_temperature(self, log_alpha: Tensor, log_prob: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of log α and the loss of the temperature."""
        return grad_and_value(temperature_loss)(log_alpha, log_prob, self.target_entropy)

    @torch.no_grad()
    def of_rows(self, weights: Weights, batch: Transitions, noise: Tensor) -> Tensor:
        """Return the `LOGGED_METRICS` [B, 3] of each row of a batch [B, W], without gradients. `noise` is ε [2, B, A]."""
        critic, target_critic, actor, log_alpha, _ = weights
        target = self._target(target_critic, actor, log_alpha, batch, noise[0])
        q = self._value(critic, batch.observations, batch.actions)
        _, log_prob = self._act(actor, batch.observations, noise[1])
        return torch.stack([lower_estimate(q, self.pessimism), (q - target).square().sum(0), -log_prob], -1)

    @torch.no_grad()
    def _target(
        self, target_critic: Params, actor: Params, log_alpha: Tensor, batch: Transitions, noise: Tensor
    ) -> Tensor:
        """Return the target y [B] of the critics' loss. `noise` [B, A] is ε of the next action a' ~ π(s')."""
        action, log_prob = self._act(actor, batch.next_observations, noise)
        next_q = self._value(target_critic, batch.next_observations, action)
        return critic_target(
            batch.rewards,
            batch.terminals,
            lower_estimate(next_q, self.pessimism),
            log_prob,
            temperature(log_alpha, self.alpha_max),
            discount=self.discount,
            soft=self.soft_backup,
            bounds=self.target_bounds,
        )

    def _act(self, params: Params, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return functional_call(self.actor, params, (observations, noise))

    def _value(self, params: Params, observations: Tensor, actions: Tensor) -> Tensor:
        return functional_call(self.critic, params, (observations, actions))


class CompiledGradients:
    """The three gradients of `SACGradients`, each compiled separately, because several devices average them in between."""

    def __init__(self, gradients: SACGradients) -> None:
        self.alpha_max = gradients.alpha_max
        self.of_critic = _compiled(gradients.of_critic, "the critics' gradient")
        self.of_actor = _compiled(gradients.of_actor, "the actor's gradient")
        self.of_temperature = _compiled(gradients.of_temperature, "the temperature's gradient")


@dataclass(frozen=True, kw_only=True)
class SACUpdate:
    """One update of critics, actor, temperature and target critics (Haarnoja et al. 2018, algorithm 1), and of the actor's average."""

    gradients: SACGradients | CompiledGradients
    tau: float
    """τ: weight of the critics in the update of the target critics."""
    gradient_clip_norm: float | None
    """Upper limit of the norms of the critics' gradient and of the actor's gradient; None: no limit."""

    def __call__(
        self, weights: Weights, batch: Transitions, noise: Tensor, average_rate: Tensor, steps: ParameterSteps
    ) -> Tensor:
        """Make one update from a batch [B, W] and ε [2, B, A], in place; return its `UPDATE_METRICS` [7].

        `average_rate` [] is the weight of the actor in the update of its running average.
        """
        critic, target_critic, actor, log_alpha, average_actor = weights
        gradients, critic_loss, q = self.gradients.of_critic(critic, target_critic, actor, log_alpha, batch, noise[0])
        steps.critic(self.limited(steps.mean_over_ranks(gradients)))
        gradients, actor_loss, log_prob = self.gradients.of_actor(actor, critic, log_alpha, batch, noise[1])
        steps.actor(self.limited(steps.mean_over_ranks(gradients)))
        gradient, alpha_loss = self.gradients.of_temperature(log_alpha, log_prob)
        steps.temperature(steps.mean_over_ranks({"log_alpha": gradient}))
        polyak_(target_critic.values(), critic.values(), self.tau)
        for name, average in average_actor.items():
            average.lerp_(actor[name], average_rate)
        alpha = temperature(log_alpha, self.gradients.alpha_max).squeeze()
        return torch.stack([critic_loss, actor_loss, alpha_loss, *q, alpha, -log_prob.mean()])

    def fused(
        self,
        states: Sequence[AdamState],
        averages: Sequence[Params],
        steps: Sequence[ParameterStep],
        batch: Transitions,
        noise: Tensor,
        average_rate: Tensor,
    ) -> Tensor:
        """Make one update with the arguments of `FusedUpdate`; return its `UPDATE_METRICS` [7].

        `averages` are the weights of the target critics and of the average actor.
        """
        (critic, actor, alpha), (target_critic, average_actor) = states, averages
        log_alpha = alpha.parameters["log_alpha"]
        weights = Weights(critic.parameters, target_critic, actor.parameters, log_alpha, average_actor)
        return self(weights, batch, noise, average_rate, ParameterSteps(_unchanged, *steps))

    def with_compiled_gradients(self) -> "SACUpdate":
        """Return the same update with each of its gradients compiled separately."""
        assert isinstance(self.gradients, SACGradients)
        return replace(self, gradients=CompiledGradients(self.gradients))

    def limited(self, gradients: Params) -> Params:
        """Return the gradients, scaled so that their joint norm is at most `gradient_clip_norm`."""
        if self.gradient_clip_norm is None:
            return gradients
        scale = (self.gradient_clip_norm / (_norm(gradients.values()) + 1e-6)).clamp(max=1.0)
        return {name: gradient * scale for name, gradient in gradients.items()}


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the same as torch's `get_total_norm`, which torch 2.8 cannot compile."""
    return vector_norm(torch.stack([vector_norm(tensor) for tensor in tensors]))


def _compiled(function: Callable[..., Any], name: str) -> CompiledOrEager:
    return CompiledOrEager(function, torch.compile(function), name)


def _unchanged(gradients: Params) -> Params:
    return gradients


def _gradients(loss: Callable[[Params], tuple[Tensor, Tensor]], params: Params) -> tuple[Params, Tensor, Tensor]:
    gradients, (value, report) = grad_and_value(loss, has_aux=True)(params)
    return gradients, value, report
