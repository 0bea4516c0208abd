"""The whole update of SAC as one function to be compiled: gradients, Adam's steps, the slow critics' average.

For a single process: several devices must average each group of gradients before its step. It works on the optimisers'
own state, so that either form can go on where the other stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Adam, Optimizer

from mopo_pl.compilation import compiled_for_itself
from mopo_pl.data.transitions import Transitions
from mopo_pl.sac.losses import polyak_, temperature
from mopo_pl.sac.updates import Params, SACUpdates


@dataclass(frozen=True, kw_only=True)
class AdamGroup:
    """What an optimiser moves: parameters, and Adam's running means of their gradients and of the gradients' squares."""

    parameters: Params
    means: list[Tensor]
    squares: list[Tensor]
    betas: tuple[float, float]
    eps: float

    def step_(self, gradients: Params, pace: Tensor, root: Tensor) -> None:
        """m, v ← means of g, g²; θ ← θ - pace · m/(√v/root + ε), in place (Kingma & Ba 2015, algorithm 1).

        `pace` is lr/(1 - β₁ᵗ) and `root` √(1 - β₂ᵗ), of no dimension: as tensors they need no new graph at each t.
        """
        first, second = self.betas
        for (name, parameter), m, v in zip(self.parameters.items(), self.means, self.squares, strict=True):
            gradient = gradients[name]
            m.lerp_(gradient, 1 - first)
            v.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            parameter.sub_(pace * m / (v.sqrt() / root + self.eps))


class OneGraph:
    """Makes updates of networks and temperature on their optimisers' state, each by one call.

    Step sizes may move; what else the optimisers are set to, betas, ε, parameters, is taken once. Gradients live and end in
    the graph: no parameter's `.grad` is filled.
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
        """`moved`: parameters of the critics, of the actor, and log α alone, by name; `optimizers`: theirs, as `fits` asks."""
        self.updates, self.tau, self.gradient_clip_norm = updates, tau, gradient_clip_norm
        self._slow = parameters_of(slow_critic)
        self._optimizers = list(optimizers)
        self._groups = [_group(optimizer, parameters) for optimizer, parameters in zip(optimizers, moved, strict=True)]
        self._steps = [
            [optimizer.state[parameter]["step"] for parameter in parameters.values()]
            for optimizer, parameters in zip(optimizers, moved, strict=True)
        ]
        self._shape: tuple[torch.Size, torch.dtype] | None = None
        for optimizer in optimizers:  # as `step` does, or a schedule would warn that none was made
            optimizer._opt_called = True  # type: ignore[attr-defined]
        device = next(slow_critic.parameters()).device
        self._betas = torch.tensor([group.betas for group in self._groups], dtype=torch.float64).to(device)
        self._rates: tuple[float, ...] = ()
        self._update: Callable[..., Tensor] = compiled_for_itself(self.update, device) if compiled else self.update

    @staticmethod
    def fits(optimizers: Sequence[Optimizer], moved: Sequence[dict[str, nn.Parameter]]) -> bool:
        """Whether all are the Adam of `AdamGroup`, no variant of it, and on just these parameters."""
        variations = ("weight_decay", "amsgrad", "maximize")
        return len(optimizers) == len(moved) and all(
            type(optimizer) is Adam
            and len(optimizer.param_groups) == 1
            and not any(optimizer.param_groups[0][name] for name in variations)
            # Without either, Adam keeps its count of steps on the host.
            and (optimizer.param_groups[0]["fused"] or optimizer.param_groups[0]["capturable"])
            and set(optimizer.param_groups[0]["params"]) == set(parameters.values())
            for optimizer, parameters in zip(optimizers, moved, strict=True)
        )

    def takes(self, batches: Transitions) -> bool:
        """Whether batches [K, B, W] are shaped as the first ones: compiled code is for one B alone."""
        self._shape = self._shape or (batches.rows.shape[1:], batches.rows.dtype)
        return self._shape == (batches.rows.shape[1:], batches.rows.dtype)

    def run(self, batches: Transitions, noise: Tensor) -> Tensor:
        """One update after another from batches [K, B, W] and noise [K, 2, B, A]; their reports [K, 7]."""
        paces, roots = self._corrections(len(batches), batches.rows.dtype)
        reports = [
            self._update(*self._groups, self._slow, batches[k], noise[k], paces[k], roots[k])
            for k in range(len(batches))
        ]
        for steps in self._steps:
            torch._foreach_add_(steps, len(batches))  # pyright: ignore[reportPrivateImportUsage]
        return torch.stack(reports)

    def _corrections(self, updates: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """lr/(1 - β₁ᵗ) and √(1 - β₂ᵗ) of each optimiser for its next so many t [updates, 3]."""
        rates = tuple(float(optimizer.param_groups[0]["lr"]) for optimizer in self._optimizers)
        if rates != self._rates:  # only a step size that moved is sent to the device
            self._rates, self._pace = rates, torch.tensor(rates, dtype=torch.float64).to(self._betas.device)
        ahead = torch.arange(1, updates + 1, dtype=torch.float64, device=self._betas.device)
        t = torch.stack([steps[0] for steps in self._steps]) + ahead.unsqueeze(-1)
        first, second = self._betas.unbind(-1)
        return (self._pace / (1 - first**t)).to(dtype), (1 - second**t).sqrt().to(dtype)

    def update(
        self,
        critic: AdamGroup,
        actor: AdamGroup,
        alpha: AdamGroup,
        slow_critic: Params,
        batch: Transitions,
        noise: Tensor,
        paces: Tensor,
        roots: Tensor,
    ) -> Tensor:
        """One update in place, in the order of `SACModule`; its report [7], named by `sac.module.MEANS`."""
        log_alpha, updates = alpha.parameters["log_alpha"], self.updates
        gradients, critic_loss, q = updates.critic_update(
            critic.parameters, slow_critic, actor.parameters, log_alpha, batch, noise[0]
        )
        critic.step_(self._limited(gradients), paces[0], roots[0])
        gradients, actor_loss, log_prob = updates.actor_update(
            actor.parameters, critic.parameters, log_alpha, batch, noise[1]
        )
        actor.step_(self._limited(gradients), paces[1], roots[1])
        gradient, alpha_loss = updates.temperature_update(log_alpha, log_prob)
        alpha.step_({"log_alpha": gradient}, paces[2], roots[2])
        polyak_(slow_critic.values(), critic.parameters.values(), self.tau)
        used = temperature(log_alpha, updates.alpha_max)
        return torch.stack([critic_loss, actor_loss, alpha_loss, *q, used.squeeze(), -log_prob.mean()])

    def _limited(self, gradients: Params) -> Params:
        """As `torch.nn.utils.clip_grad_norm_` would leave them."""
        if self.gradient_clip_norm is None:
            return gradients
        scale = (self.gradient_clip_norm / (get_total_norm(gradients.values()) + 1e-6)).clamp(max=1.0)
        return {name: gradient * scale for name, gradient in gradients.items()}


def parameters_of(module: nn.Module) -> Params:
    """A module's own parameters, seen without autograd; what changes them in place changes the module."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def _group(optimizer: Optimizer, parameters: dict[str, nn.Parameter]) -> AdamGroup:
    """The optimiser's state, opened as Adam itself would at its first step."""
    for parameter in parameters.values():
        if not optimizer.state[parameter]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
    states = [optimizer.state[parameter] for parameter in parameters.values()]
    return AdamGroup(
        parameters={name: _of_one_dimension(parameter.detach()) for name, parameter in parameters.items()},
        means=[_of_one_dimension(state["exp_avg"]) for state in states],
        squares=[_of_one_dimension(state["exp_avg_sq"]) for state in states],
        betas=optimizer.param_groups[0]["betas"],
        eps=optimizer.param_groups[0]["eps"],
    )


def _of_one_dimension(tensor: Tensor) -> Tensor:
    """A view of a number as [1]: torch.compile loses what is written into a float64 tensor of no dimension (torch 2.13)."""
    return tensor.view(1) if tensor.dim() == 0 else tensor
