"""Critics Q_1, …, Q_N as one batched network."""

import itertools
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from mopo_pl.nn.layers import BatchedLinear, Normaliser, in_full_precision, uniform_

CRITIC_ARGUMENTS = ("members", "obs_dim", "action_dim", "hidden_sizes", "layer_norm")
"""Arguments of the critic's constructor that are plain values, which it holds as attributes."""


class Critics(nn.Module):
    """Q_k(s, a) for k = 1, …, N: ReLU networks, initialised as `torch.nn.Linear` would be."""

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
        """Draw the initial weights from `generator`.

        `members`: N. `obs_dim`, `action_dim`: D and A. `hidden_sizes`: widths of the hidden layers. `layer_norm`: normalise each
        hidden layer before its ReLU, without learned scale and shift. `normaliser`: scaling of the observations.
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
        """Add a value to every Q, by the biases of the output layer.

        Adam moves a bias by its learning rate in an update, so that from 0 a value of 500 takes thousands of updates; until then every
        state looks poor beside one whose worth is known.
        """
        output = self.layers[-1]
        assert isinstance(output, BatchedLinear)
        output.bias.add_(value)
