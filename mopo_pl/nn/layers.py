"""Layers of the ensemble, the actor and the critics, and their initialisation."""

import math

import torch
from torch import Generator, Tensor, nn


class BatchedLinear(nn.Module):
    """E linear maps from x [E, B, in] to x W + b [E, B, out]; with `member`, one of them from x [B, in] to [B, out].

    >>> layer = BatchedLinear(members=7, inputs=4, outputs=3)
    >>> layer(torch.zeros(7, 5, 4)).shape, layer(torch.zeros(5, 4), member=2).shape
    (torch.Size([7, 5, 3]), torch.Size([5, 3]))
    """

    def __init__(self, *, members: int, inputs: int, outputs: int) -> None:
        """Create E = `members` maps from `inputs` to `outputs` columns. Weights and biases are 0 until initialised."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor, member: int | None = None) -> Tensor:
        """Apply all maps, or the one with index `member`."""
        weight, bias = (self.weight, self.bias) if member is None else (self.weight[member], self.bias[member])
        if torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type):
            # The compiler fuses the addition with later operations; baddbmm copies the bias, and rounds differently in bf16.
            return x @ weight + bias
        return (torch.baddbmm if member is None else torch.addmm)(bias, x, weight)


class Linear(nn.Linear):
    """Linear map from x [..., in] to x Wᵀ + b [..., out].

    The bias is added separately under the same conditions as in `BatchedLinear`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return input Wᵀ + b."""
        if torch.compiler.is_compiling() or torch.is_autocast_enabled(input.device.type):
            return input @ self.weight.mT + self.bias
        return super().forward(input)


def in_full_precision(layer: nn.Module, x: Tensor, *member: int | None) -> Tensor:
    """Apply a network's last layer outside autocast.

    bf16 represents a value of 200 only to within 1/2, and the last layer gains no speed from it. `member`: see
    `BatchedLinear`.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return layer(x, *member)
    assert isinstance(layer.weight, Tensor)
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(layer.weight.dtype), *member)


@torch.no_grad()
def uniform_(layer: nn.Module, generator: Generator) -> None:
    """Draw weights and biases in place from U(±1/√fan_in), the distribution of `torch.nn.Linear`."""
    assert isinstance(layer, BatchedLinear | nn.Linear)
    fan_in = layer.weight.shape[-2] if isinstance(layer, BatchedLinear) else layer.weight.shape[-1]
    bound = 1 / math.sqrt(fan_in)
    layer.weight.uniform_(-bound, bound, generator=generator)
    layer.bias.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def truncated_normal_(layer: nn.Module, generator: Generator) -> None:
    """Draw weights in place with standard deviation 1/(2√fan_in), truncated at two standard deviations; set biases to 0.

    This is the initialisation of MOPO's original code.
    """
    assert isinstance(layer, BatchedLinear)
    std = 1 / (2 * math.sqrt(layer.weight.shape[-2]))
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
    layer.bias.zero_()


@torch.no_grad()
def normal_(layer: nn.Module, generator: Generator) -> None:
    """Draw weights in place with standard deviation 1/(2√fan_in), without truncation; set biases to 0.

    OfflineRL-Kit truncates at weights of ±2, which is eight standard deviations for four inputs and more for more inputs.
    """
    assert isinstance(layer, BatchedLinear)
    layer.weight.normal_(0.0, 1 / (2 * math.sqrt(layer.weight.shape[-2])), generator=generator)
    layer.bias.zero_()


class Normaliser(nn.Module):
    """Standardisation of the last dimension with fixed statistics: (x - mean)/std.

    >>> normaliser = Normaliser.fit(torch.tensor([[0.0, 5.0], [4.0, 5.0]]))
    >>> normaliser(torch.tensor([4.0, 6.0]))
    tensor([1., 1.])
    >>> normaliser.invert(torch.tensor([1.0, 9.0]))
    tensor([4., 5.])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        """Store `mean` and `std` [D]. A std below 1e-12 marks a constant column."""
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", torch.where(std < 1e-12, torch.zeros_like(std), std))

    @classmethod
    def fit(cls, rows: Tensor) -> "Normaliser":
        """Return the normaliser with the mean and population standard deviation of `rows` [N, D], computed in float64."""
        std, mean = torch.std_mean(rows.double(), 0, correction=0)
        return cls(mean.to(rows.dtype), std.to(rows.dtype))

    @classmethod
    def identity(cls, dim: int) -> "Normaliser":
        """Return a normaliser with mean 0 and std 1, which leaves inputs [..., `dim`] unchanged."""
        return cls(torch.zeros(dim), torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return (x - mean)/std, and x - mean in constant columns."""
        return (x - self.mean) / self.divisor

    @property
    def divisor(self) -> Tensor:
        """std, with 1 in constant columns [D]."""
        return torch.where(self.std > 0, self.std, 1.0)

    def invert(self, z: Tensor) -> Tensor:
        """Return mean + std·z; in constant columns this is the constant for any z."""
        return self.mean + self.std * z


Params = dict[str, Tensor]
"""Tensors by parameter name."""


def parameters_of(module: nn.Module) -> Params:
    """Return a module's parameters by name, detached from autograd; they share memory with the module."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}
