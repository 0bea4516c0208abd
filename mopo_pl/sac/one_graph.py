"""The whole update of SAC as one function to be compiled: gradients, Adam's steps, the slow critics' average.

For a single process: several devices must average each group of gradients before its step.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from mopo_pl.data.transitions import Transitions
from mopo_pl.nn.compilation import compiled_for_itself
from mopo_pl.nn.functional_adam import AdamState, JointAdam
from mopo_pl.nn.layers import Params, parameters_of
from mopo_pl.sac.losses import polyak_, temperature
from mopo_pl.sac.updates import SACUpdates


class SACGraph:
    """Makes updates of networks and temperature on their optimisers' state, each by one call.

    Gradients live and end in the graph: no parameter's `.grad` is filled.
    """

    def __init__(
        self,
        updates: SACUpdates,
        *,
        moved: Sequence[dict[str, nn.Parameter]],
        slow_critic: nn.Module,
        optimizers: Sequence[Optimizer],
        tau: float,
        gradient_clip_norm: float | None,
        compiled: bool,
    ) -> None:
        """`moved`: parameters of the critics, of the actor, and log α alone, by name; `optimizers`: theirs, as `JointAdam.fit`
        asks.
        """
        self.updates, self.tau, self.gradient_clip_norm = updates, tau, gradient_clip_norm
        self.compiled = compiled
        self.slow = parameters_of(slow_critic)
        self.adams = JointAdam(optimizers, moved)
        self._shape: tuple[torch.Size, torch.dtype] | None = None
        device = next(slow_critic.parameters()).device
        self._update: Callable[..., Tensor] = (
            compiled_for_itself(self.update, device, "the SAC update") if compiled else self.update
        )

    def takes(self, batches: Transitions) -> bool:
        """Whether batches [K, B, W] are shaped as the first ones: compiled code is for one B alone."""
        self._shape = self._shape or (batches.rows.shape[1:], batches.rows.dtype)
        return self._shape == (batches.rows.shape[1:], batches.rows.dtype)

    def run(self, batches: Transitions, noise: Tensor, eager: bool = False) -> Tensor:
        """One update after another from batches [K, B, W] and noise [K, 2, B, A]; their reports [K, 7].

        `eager`: without compiled code, where it would have to be compiled for a few updates.
        """
        update: Callable[..., Tensor] = self.update if eager else self._update
        step_sizes, corrections = self.adams.step_sizes_and_corrections(len(batches), batches.rows.dtype)
        reports = [
            update(*self.adams.states, self.slow, batches[k], noise[k], step_sizes[k], corrections[k])
            for k in range(len(batches))
        ]
        self.adams.count(len(batches))
        return torch.stack(reports)

    def update(
        self,
        critic: AdamState,
        actor: AdamState,
        alpha: AdamState,
        slow_critic: Params,
        batch: Transitions,
        noise: Tensor,
        step_sizes: Tensor,
        corrections: Tensor,
        lift: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function,
    ) -> Tensor:
        """One update in place, in the order of `SACModule`; its report [7], named by `sac.module.MEANS`.

        `lift` makes functions of one seed's tensors functions of several seeds' stacked ones, for which every argument has
        a leading dimension S; the report is [S, 7] then.
        """
        log_alpha, updates, limited = alpha.parameters["log_alpha"], self.updates, lift(self._limited)
        first_noise, second_noise = noise.unbind(-3)
        step_sizes_of, corrections_of = step_sizes.unbind(-1), corrections.unbind(-1)
        gradients, critic_loss, q = lift(updates.critic_update)(
            critic.parameters, slow_critic, actor.parameters, log_alpha, batch, first_noise
        )
        critic.step_(limited(gradients), step_sizes_of[0], corrections_of[0])
        gradients, actor_loss, log_prob = lift(updates.actor_update)(
            actor.parameters, critic.parameters, log_alpha, batch, second_noise
        )
        actor.step_(limited(gradients), step_sizes_of[1], corrections_of[1])
        gradient, alpha_loss = lift(updates.temperature_update)(log_alpha, log_prob)
        alpha.step_({"log_alpha": gradient}, step_sizes_of[2], corrections_of[2])
        polyak_(slow_critic.values(), critic.parameters.values(), self.tau)
        used = temperature(log_alpha, updates.alpha_max).squeeze(-1)
        return torch.stack([critic_loss, actor_loss, alpha_loss, *q.unbind(-1), used, -log_prob.mean(-1)], -1)

    def constants(self) -> dict[str, object]:
        """All that its code takes for given, by name, networks and weights apart."""
        equations = {entry.name: getattr(self.updates, entry.name) for entry in fields(self.updates)}
        adam = [(state.betas, state.eps, state.decays) for state in self.adams.states]
        return {
            **{name: value for name, value in equations.items() if not isinstance(value, nn.Module)},
            "tau": self.tau,
            "gradient_clip_norm": self.gradient_clip_norm,
            "compiled": self.compiled,
            "betas, eps or weight decay": adam,
        }

    def _limited(self, gradients: Params) -> Params:
        """As `torch.nn.utils.clip_grad_norm_` would leave them."""
        if self.gradient_clip_norm is None:
            return gradients
        scale = (self.gradient_clip_norm / (get_total_norm(gradients.values(), foreach=False) + 1e-6)).clamp(max=1.0)
        return {name: gradient * scale for name, gradient in gradients.items()}
