"""The three updates of SAC as pure functions of tensors: parameters, batch and noise in; gradients and report out.

They own no state and call no optimiser, so that one process, several devices and a compiler can all run the same text.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value

from mopo_pl.data.transitions import Transitions
from mopo_pl.nn.layers import Params
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.critic import TwinCritic
from mopo_pl.sac.losses import actor_loss, critic_loss, critic_target, temperature, temperature_loss


@dataclass(frozen=True, kw_only=True)
class SACUpdates:
    """The networks' form and the constants of the equations; the weights come in with each call."""

    actor: TanhGaussianActor
    critic: TwinCritic
    discount: float
    """γ."""
    target_entropy: float
    """H̄ [nats]."""
    alpha_max: float | None
    soft_backup: bool

    def critic_update(
        self, critic: Params, slow_critic: Params, actor: Params, log_alpha: Tensor, batch: Transitions, noise: Tensor
    ) -> tuple[Params, Tensor, Tensor]:
        """Gradients of the critics, their loss, and the mean of each Q [2]. `noise` [B, A] draws a' ~ π(s')."""
        with torch.no_grad():
            action, log_prob = self._act(actor, batch.next_observations, noise)
            next_q = self._value(slow_critic, batch.next_observations, action)
            alpha = temperature(log_alpha, self.alpha_max)
            target = critic_target(
                batch.rewards, batch.terminals, next_q, log_prob, alpha, self.discount, self.soft_backup
            )

        def loss(critic: Params) -> tuple[Tensor, Tensor]:
            q = self._value(critic, batch.observations, batch.actions)
            return critic_loss(q, target), q.mean(-1)

        return _gradients(loss, critic)

    def actor_update(
        self, actor: Params, critic: Params, log_alpha: Tensor, batch: Transitions, noise: Tensor
    ) -> tuple[Params, Tensor, Tensor]:
        """Gradients of the actor, its loss, and log π of the drawn actions [B]. `noise` [B, A] draws a ~ π(s)."""

        def loss(actor: Params) -> tuple[Tensor, Tensor]:
            action, log_prob = self._act(actor, batch.observations, noise)
            q = self._value(critic, batch.observations, action)
            return actor_loss(q, log_prob, temperature(log_alpha, self.alpha_max)), log_prob

        return _gradients(loss, actor)

    def temperature_update(self, log_alpha: Tensor, log_prob: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of log α, and its loss."""
        return grad_and_value(temperature_loss)(log_alpha, log_prob, self.target_entropy)

    def _act(self, params: Params, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        return functional_call(self.actor, params, (observations, noise))

    def _value(self, params: Params, observations: Tensor, actions: Tensor) -> Tensor:
        return functional_call(self.critic, params, (observations, actions))


def _gradients(loss: Callable[[Params], tuple[Tensor, Tensor]], params: Params) -> tuple[Params, Tensor, Tensor]:
    gradients, (value, report) = grad_and_value(loss, has_aux=True)(params)
    return gradients, value, report
