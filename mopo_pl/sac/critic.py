"""Twin critics Q_1, Q_2 as one batched network."""

import itertools
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from mopo_pl.nn.layers import BatchedLinear, Normaliser, in_full_precision, uniform_

CRITIC_ARGUMENTS = ("obs_dim", "action_dim", "hidden_sizes")
"""Arguments of the critic's constructor that are plain values, which it holds as attributes."""


class TwinCritic(nn.Module):
    """Q_k(s, a) for k = 1, 2: ReLU networks, initialised as `torch.nn.Linear` would be."""

    def __init__(
        self,
        *,
        obs_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int],
        normaliser: Normaliser,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.obs_dim, self.action_dim, self.hidden_sizes = obs_dim, action_dim, tuple(hidden_sizes)
        self.normaliser = normaliser
        sizes = [obs_dim + action_dim, *hidden_sizes, 1]
        self.layers = nn.ModuleList(BatchedLinear(members=2, inputs=i, outputs=o) for i, o in itertools.pairwise(sizes))
        for layer in self.layers:
            uniform_(layer, generator)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """s [B, D], a [B, A] to Q [2, B]."""
        hidden = torch.cat([self.normaliser(observations), actions], -1)
        hidden = hidden.expand(2, *hidden.shape)
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        return in_full_precision(self.layers[-1], hidden).squeeze(-1)
