"""Adam's update as a function of tensors, for compiled graphs that contain a complete training update.

It reads and writes the state of torch's optimiser, so that either implementation can continue from the other's state.
The learning rate may change between updates; the other settings of the optimiser are read once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from mopo_pl.nn.layers import Params

VARIANTS = ("amsgrad", "maximize", "differentiable", "decoupled_weight_decay")
"""Flags of torch's Adam that select another algorithm."""


@dataclass(frozen=True, kw_only=True)
class AdamState:
    """The parameters of one optimiser, and Adam's running means of their gradients and of the squared gradients."""

    parameters: Params
    means: list[Tensor]
    squares: list[Tensor]
    decays: list[float]
    """L2 coefficient of each parameter."""
    betas: tuple[float, float]
    eps: float

    def step_(self, gradients: Params, step_size: Tensor, correction: Tensor) -> None:
        """Make one step of Adam in place (Kingma & Ba 2015, algorithm 1).

        m, v ← running means of g, g²; θ ← θ - step_size · m/(√v/correction + ε). `step_size` is lr/(1 - β₁ᵗ) and `correction` is
        √(1 - β₂ᵗ). Both are tensors of shape [], because Python numbers would require a new graph at each t.
        """
        first, second = self.betas
        for (name, parameter), m, v, decay in zip(
            self.parameters.items(), self.means, self.squares, self.decays, strict=True
        ):
            gradient = gradients[name] + decay * parameter if decay else gradients[name]
            m.lerp_(gradient, 1 - first)
            v.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            parameter.sub_(step_size * m / (v.sqrt() / correction + self.eps))


class JointAdam:
    """Several Adam optimisers that make their updates together."""

    def __init__(self, optimizers: Sequence[Optimizer], parameters: Sequence[dict[str, nn.Parameter]]) -> None:
        """Read the states of the optimisers, instances of torch's Adam, and of their parameters by name.

        `supports` must be true for these arguments.
        """
        self._optimizers = list(optimizers)
        self.states = [_state(optimizer, named) for optimizer, named in zip(optimizers, parameters, strict=True)]
        self._steps = [
            [optimizer.state[parameter]["step"] for parameter in named.values()]
            for optimizer, named in zip(optimizers, parameters, strict=True)
        ]
        for optimizer in optimizers:  # set by `step`; a learning rate schedule warns without it
            optimizer._opt_called = True  # type: ignore[attr-defined]
        device = self._steps[0][0].device
        self._betas = torch.tensor([state.betas for state in self.states], dtype=torch.float64).to(device)
        self._rates: tuple[float, ...] = ()

    @staticmethod
    def supports(optimizers: Sequence[Optimizer], parameters: Sequence[dict[str, nn.Parameter]]) -> bool:
        """Return whether each optimiser is plain Adam on exactly these parameters, with one learning rate and no hooks."""
        return len(optimizers) == len(parameters) and all(map(_is_plain_adam, optimizers, parameters))

    def step_sizes_and_corrections(self, updates: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return lr/(1 - β₁ᵗ) and √(1 - β₂ᵗ) of each optimiser for its next `updates` values of t [updates, optimisers]."""
        rates = tuple(float(optimizer.param_groups[0]["lr"]) for optimizer in self._optimizers)
        if rates != self._rates:  # copied to the device only if one changed
            self._rates, self._pace = rates, torch.tensor(rates, dtype=torch.float64).to(self._betas.device)
        ahead = torch.arange(1, updates + 1, dtype=torch.float64, device=self._betas.device)
        t = torch.stack([steps[0] for steps in self._steps]) + ahead.unsqueeze(-1)
        first, second = self._betas.unbind(-1)
        return (self._pace / (1 - first**t)).to(dtype), (1 - second**t).sqrt().to(dtype)

    def count(self, updates: int) -> None:
        """Add `updates` to each optimiser's update counter t."""
        for steps in self._steps:
            torch._foreach_add_(steps, updates)  # pyright: ignore[reportPrivateImportUsage]


def _is_plain_adam(optimizer: Optimizer, parameters: dict[str, nn.Parameter]) -> bool:
    groups = optimizer.param_groups
    common = ("lr", "betas", "eps")
    return (
        type(optimizer) is Adam
        and not any(group[name] for group in groups for name in VARIANTS)
        and not (optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
        # Without either flag, Adam keeps its update counter t on the CPU.
        and all(group["fused"] or group["capturable"] for group in groups)
        and all(group[name] == groups[0][name] for group in groups for name in common)
        and {parameter for group in groups for parameter in group["params"]} == set(parameters.values())
    )


def _state(optimizer: Optimizer, parameters_by_name: dict[str, nn.Parameter]) -> AdamState:
    """Return views of an optimiser's state; create it first where Adam has made no update yet."""
    for parameter in parameters_by_name.values():
        if not optimizer.state[parameter]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
    states = [optimizer.state[parameter] for parameter in parameters_by_name.values()]
    decays = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    return AdamState(
        parameters={name: _of_one_dimension(parameter.detach()) for name, parameter in parameters_by_name.items()},
        means=[_of_one_dimension(state["exp_avg"]) for state in states],
        squares=[_of_one_dimension(state["exp_avg_sq"]) for state in states],
        decays=[decays[parameter] for parameter in parameters_by_name.values()],
        betas=optimizer.param_groups[0]["betas"],
        eps=optimizer.param_groups[0]["eps"],
    )


def _of_one_dimension(tensor: Tensor) -> Tensor:
    """View a scalar as [1]: torch.compile loses in-place writes to a float64 tensor of shape [] (torch 2.13)."""
    return tensor.view(1) if tensor.dim() == 0 else tensor
