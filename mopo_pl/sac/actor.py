"""The policy π(a|s): a Gaussian squashed by tanh."""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils import skip_init

from mopo_pl.nn.layers import Linear, Normaliser, in_full_precision, uniform_

ACTOR_ARGUMENTS = ("obs_dim", "action_dim", "hidden_sizes", "log_std_min", "log_std_max")
"""Arguments of an actor's constructor that are plain values, which it holds as attributes."""
ACTOR_METHODS = ("forward", "mean_action", "act", "sample")
"""Methods of an actor that training and the exported policy use."""


class TanhGaussianActor(nn.Module):
    """Policy a = tanh(μ(s) + σ(s)ε), ε ~ N(0, I), with μ and log σ from a ReLU network; log σ is clamped."""

    def __init__(
        self,
        *,
        obs_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int],
        log_std_min: float,
        log_std_max: float,
        normaliser: Normaliser,
        generator: Generator,
    ) -> None:
        """Create the network with initial weights drawn from `generator`.

        Args:
            obs_dim: Number of columns of s, D.
            action_dim: Number of columns of a, A.
            hidden_sizes: Widths of the hidden layers.
            log_std_min: Lower limit of log σ, before tanh.
            log_std_max: Upper limit of log σ, before tanh.
            normaliser: Scaling of the observations, which becomes part of the network.
            generator: Generator of the initial weights.

        """
        super().__init__()
        self.obs_dim, self.action_dim, self.hidden_sizes = obs_dim, action_dim, tuple(hidden_sizes)
        self.log_std_min, self.log_std_max = log_std_min, log_std_max
        self.normaliser = normaliser
        sizes = [obs_dim, *hidden_sizes, 2 * action_dim]
        self.layers = nn.ModuleList(skip_init(Linear, i, o) for i, o in itertools.pairwise(sizes))
        for layer in self.layers:
            uniform_(layer, generator)

    def distribution(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return μ and log σ [..., A] of the Gaussian before tanh."""
        hidden = self.normaliser(observations)
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        mean, log_std = in_full_precision(self.layers[-1], hidden).chunk(2, -1)
        return mean, log_std.clamp(self.log_std_min, self.log_std_max)

    def forward(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action [..., A] in (-1, 1) and log π(a|s) [...] for s [..., D] and ε [..., A].

        log π = Σ log N(u; μ, σ²) - log(1 - tanh² u). The last term is computed as 2(log 2 - u - softplus(-2u)), which does not
        overflow (Haarnoja et al. 2018, appendix C).
        """
        mean, log_std = self.distribution(observations)
        u = mean + log_std.exp() * noise
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        squash = 2 * (math.log(2) - u - softplus(-2 * u))
        return torch.tanh(u), (gaussian - squash).sum(-1)

    def mean_action(self, observations: Tensor) -> Tensor:
        """Return the mean action tanh μ(s) [..., A], with which the policy is evaluated."""
        return torch.tanh(self.distribution(observations)[0])

    def act(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Return a = tanh(μ(s) + σ(s)ε) [..., A] for s [..., D] and ε [..., A], as `forward` does, without log π."""
        mean, log_std = self.distribution(observations)
        return torch.tanh(mean + log_std.exp() * noise)

    def sample(self, observations: Tensor, generator: Generator) -> Tensor:
        """Draw a ~ π(s) [..., A]."""
        shape = (*observations.shape[:-1], self.action_dim)
        noise = torch.randn(shape, generator=generator, device=observations.device, dtype=observations.dtype)
        return self.act(observations, noise)


ACTORS: dict[str, Callable[..., TanhGaussianActor]] = {"tanh_gaussian": TanhGaussianActor}
"""Built-in actor classes by their names in the option `sac.actor`."""
