"""The Gaussian ensemble: E networks, trained as one batched product (Chua et al. 2018, PETS; MOPO's `BNN`)."""

import itertools
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

from mopo_pl.nn.layers import BatchedLinear, Normaliser, in_full_precision, truncated_normal_

ENSEMBLE_ARGUMENTS = ("obs_dim", "action_dim", "members", "hidden_sizes", "newest_dim")
"""Arguments of the ensemble's constructor that are plain values, which it holds as attributes."""
MAX_LOG_VAR = 0.5
MIN_LOG_VAR = -10.0


def soft_clamp(log_var: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Clamp log σ² smoothly between its learned bounds (PETS, appendix A.1)."""
    log_var = high - softplus(high - log_var)
    return low + softplus(log_var - low)


class GaussianEnsemble(nn.Module):
    """Networks p_i(r, Δs | s, a) = N(μ_i, diag σ_i²) for i < E, over T = 1 + D targets: the reward first, then Δs = s' - s.

    Every parameter has the members as its leading dimension, including the bounds of log σ², so that row i of all parameters is
    a complete copy of member i. Inputs are z-scored by `normaliser`. The outputs of the networks are in the units of
    `target_normaliser`; the identity stands for raw units, as in the original code.
    """

    def __init__(
        self,
        *,
        obs_dim: int,
        action_dim: int,
        members: int,
        hidden_sizes: Sequence[int],
        normaliser: Normaliser,
        target_normaliser: Normaliser,
        generator: Generator,
        newest_dim: int | None = None,
    ) -> None:
        """Create the networks with initial weights drawn from `generator`.

        Args:
            obs_dim: Number of columns of s, D.
            action_dim: Number of columns of a, A.
            members: Number of networks, E.
            hidden_sizes: Widths of the hidden layers.
            normaliser: Mean and standard deviation of (s, a) [D + A].
            target_normaliser: Mean and standard deviation of (r, Δs) [1 + D].
            generator: Generator of the initial weights.
            newest_dim: Number of leading columns of s whose change is predicted, if s also holds older observations. None: all.

        """
        super().__init__()
        self.obs_dim, self.action_dim, self.members = obs_dim, action_dim, members
        self.hidden_sizes = tuple(hidden_sizes)
        self.normaliser, self.target_normaliser = normaliser, target_normaliser
        self.newest_dim = newest_dim
        targets = 1 + (obs_dim if newest_dim is None else newest_dim)
        sizes = [obs_dim + action_dim, *hidden_sizes, 2 * targets]
        self.layers = nn.ModuleList(
            BatchedLinear(members=members, inputs=i, outputs=o) for i, o in itertools.pairwise(sizes)
        )
        for layer in self.layers:
            truncated_normal_(layer, generator)
        self.max_log_var = nn.Parameter(torch.full((members, 1, targets), MAX_LOG_VAR))
        self.min_log_var = nn.Parameter(torch.full((members, 1, targets), MIN_LOG_VAR))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map (s, a) [E, B, D + A], or [B, D + A] if it is the same for all members, to μ and log σ² [E, B, 1 + D].

        Both are in the units of `target_normaliser`, in which the loss is computed.
        """
        x = self.normaliser(inputs)
        if x.dim() == 3:
            outputs = self._network(x)
        elif x.device.type == "cpu":  # one member at a time fits into the cache, and all threads share its products
            outputs = torch.stack([self._network(x, member) for member in range(self.members)])
        else:
            outputs = self._network(x.expand(self.members, *x.shape))
        mean, log_var = outputs.chunk(2, -1)
        return mean, soft_clamp(log_var, self.min_log_var, self.max_log_var)

    def _network(self, x: Tensor, member: int | None = None) -> Tensor:
        """Return μ and unclamped log σ², concatenated, of all members or of one."""
        for layer in self.layers[:-1]:
            x = nn.functional.silu(layer(x, member))
        return in_full_precision(self.layers[-1], x, member)

    def in_raw_units(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return μ and log σ² as `forward` does, in the units of the log.

        A target that is constant in the log has log σ² = -∞.
        """
        mean, log_var = self(inputs)
        return self.target_normaliser.invert(mean), log_var + 2 * self.target_normaliser.std.log()
