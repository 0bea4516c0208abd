"""The critics Q_1, …, Q_N as one batched network."""

import itertools
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from mopo_pl.nn.layers import BatchedLinear, Normaliser, in_full_precision, uniform_

CRITIC_ARGUMENTS = ("members", "obs_dim", "action_dim", "hidden_sizes", "layer_norm")
"""Arguments of the critic's constructor that are plain values, which it holds as attributes."""


class Critics(nn.Module):
    """ReLU networks Q_k(s, a) for k = 1, …, N, with the initialisation of `torch.nn.Linear`."""

    def __init__(
        self,
        *,
        members: int,
        obs_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int],
        layer_norm: bool,
        normaliser: Normaliser,
        generator: Generator,
    ) -> None:
        """Create the networks with initial weights drawn from `generator`.

        Args:
            members: Number of critics, N.
            obs_dim: Number of columns of s, D.
            action_dim: Number of columns of a, A.
            hidden_sizes: Widths of the hidden layers.
            layer_norm: Whether each hidden layer is normalised before its ReLU, without learned scale and shift.
            normaliser: Scaling of the observations, which becomes part of the network.
            generator: Generator of the initial weights.

        """
        super().__init__()
        self.obs_dim, self.action_dim, self.hidden_sizes = obs_dim, action_dim, tuple(hidden_sizes)
        self.normaliser, self.members, self.layer_norm = normaliser, members, layer_norm
        sizes = [obs_dim + action_dim, *hidden_sizes, 1]
        self.layers = nn.ModuleList(
            BatchedLinear(members=members, inputs=i, outputs=o) for i, o in itertools.pairwise(sizes)
        )
        for layer in self.layers:
            uniform_(layer, generator)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Map s [B, D] and a [B, A] to Q [N, B]."""
        hidden = torch.cat([self.normaliser(observations), actions], -1)
        hidden = hidden.expand(self.members, *hidden.shape)
        for layer in self.layers[:-1]:
            hidden = layer(hidden)
            if self.layer_norm:
                hidden = nn.functional.layer_norm(hidden, hidden.shape[-1:])
            hidden = torch.relu(hidden)
        return in_full_precision(self.layers[-1], hidden).squeeze(-1)

    @torch.no_grad()
    def start_at(self, value: float) -> None:
        """Add a constant to every Q, through the biases of the output layer.

        Adam changes a bias by about its learning rate in an update, so that Q would take thousands of updates from 0 to a value of
        500. Until then the values of all states would be underestimated, compared with a step whose value is given.
        """
        output = self.layers[-1]
        assert isinstance(output, BatchedLinear)
        output.bias.add_(value)
