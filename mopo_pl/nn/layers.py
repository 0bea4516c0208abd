"""Layers that ensembles and twin critics are made of, and their initial weights."""

import math

import torch
from torch import Generator, Tensor, nn


class BatchedLinear(nn.Module):
    """E linear maps: x [E, B, in] to x W + b [E, B, out], or one of them alone: x [B, in] to [B, out]."""

    def __init__(self, *, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor, member: int | None = None) -> Tensor:
        """Of all members, or of one."""
        weight, bias = (self.weight, self.bias) if member is None else (self.weight[member], self.bias[member])
        if torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type):
            # The compiler fuses the bias with what follows; baddbmm would copy it first, and round otherwise in bf16.
            return x @ weight + bias
        return (torch.baddbmm if member is None else torch.addmm)(bias, x, weight)


class Linear(nn.Linear):
    """x [..., in] to x Wᵀ + b [..., out], with the bias apart where `BatchedLinear` has it so."""

    def forward(self, input: Tensor) -> Tensor:
        """Product."""
        if torch.compiler.is_compiling() or torch.is_autocast_enabled(input.device.type):
            return input @ self.weight.mT + self.bias
        return super().forward(input)


def in_full_precision(layer: nn.Module, x: Tensor, *member: int | None) -> Tensor:
    """A network's last layer, outside autocast: bf16 would know a value of 200 to within 1/2 only, and gains nothing here."""
    if not torch.is_autocast_enabled(x.device.type):
        return layer(x, *member)
    assert isinstance(layer.weight, Tensor)
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(layer.weight.dtype), *member)


@torch.no_grad()
def uniform_(layer: nn.Module, generator: Generator) -> None:
    """U(±1/√fan_in) for weights and biases: the law of `torch.nn.Linear`, drawn from a stream of our own."""
    assert isinstance(layer, BatchedLinear | nn.Linear)
    fan_in = layer.weight.shape[-2] if isinstance(layer, BatchedLinear) else layer.weight.shape[-1]
    bound = 1 / math.sqrt(fan_in)
    layer.weight.uniform_(-bound, bound, generator=generator)
    layer.bias.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def truncated_normal_(layer: nn.Module, generator: Generator) -> None:
    """Weights of standard deviation 1/(2√fan_in) cut at two of them, biases 0: the ensemble of MOPO's code."""
    assert isinstance(layer, BatchedLinear)
    std = 1 / (2 * math.sqrt(layer.weight.shape[-2]))
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    layer.bias.zero_()


class Normaliser(nn.Module):
    """z-scores the last dimension by statistics that never change: (x - mean)/std."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        """`mean`, `std` [D]; a std below 1e-12 is that of a constant column."""
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", torch.where(std < 1e-12, torch.zeros_like(std), std))

    @classmethod
    def fit(cls, rows: Tensor) -> "Normaliser":
        """Mean and population standard deviation of rows [N, D], summed in float64."""
        std, mean = torch.std_mean(rows.double(), 0, correction=0)
        return cls(mean.to(rows.dtype), std.to(rows.dtype))

    @classmethod
    def identity(cls, dim: int) -> "Normaliser":
        """Leaves its input as it is."""
        return cls(torch.zeros(dim), torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(x - mean)/std; x - mean in a constant column."""
        return (x - self.mean) / self.divisor

    @property
    def divisor(self) -> Tensor:
        """std, and 1 for a constant column [D]."""
        return torch.where(self.std > 0, self.std, 1.0)

    def invert(self, z: Tensor) -> Tensor:
        """mean + std·z; the constant itself in a constant column, whatever z is."""
        return self.mean + self.std * z


Params = dict[str, Tensor]


def parameters_of(module: nn.Module) -> Params:
    """A module's own parameters, seen without autograd; what changes them in place changes the module."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}
