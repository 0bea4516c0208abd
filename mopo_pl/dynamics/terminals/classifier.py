"""The classifier of terminals p(terminal | s, a, s')."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from mopo_pl.nn.layers import Linear, Normaliser, in_full_precision, uniform_

CLASSIFIER_ARGUMENTS = ("obs_dim", "action_dim", "hidden_sizes", "share")
"""Arguments of the classifier's constructor that are plain values, which it holds as attributes."""


class TerminalClassifier(nn.Module):
    """Network for the log odds that s' is terminal, given (s, a, s'), of which each column is z-scored.

    The network is trained on equal numbers of terminal and other rows. For rows of the log, of which only `share` are terminal,
    the log odds are lower by log((1 - share)/share).
    """

    def __init__(
        self,
        *,
        obs_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int],
        share: float,
        normaliser: Normaliser,
        generator: Generator,
    ) -> None:
        """Create the network with initial weights drawn from `generator`.

        Args:
            obs_dim: Number of columns of s, D.
            action_dim: Number of columns of a, A.
            hidden_sizes: Widths of the hidden layers.
            share: Share of the rows of the log that are terminal.
            normaliser: Mean and standard deviation of (s, a, s') [2D + A].
            generator: Generator of the initial weights.

        """
        super().__init__()
        self.obs_dim, self.action_dim, self.share = obs_dim, action_dim, share
        self.hidden_sizes, self.normaliser = tuple(hidden_sizes), normaliser
        sizes = [2 * obs_dim + action_dim, *hidden_sizes, 1]
        self.layers = nn.ModuleList(Linear(i, o) for i, o in itertools.pairwise(sizes))
        for layer in self.layers:
            uniform_(layer, generator)

    def balanced(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
        """Return the log odds [B] if half of all rows were terminal, from s [B, D], a [B, A] in the log's units and s' [B, D]."""
        x = torch.cat([observations, actions, next_observations], -1)
        x = self.normaliser(x.to(self.normaliser.mean.dtype))
        for layer in self.layers[:-1]:
            x = nn.functional.silu(layer(x))
        return in_full_precision(self.layers[-1], x).squeeze(-1)

    def forward(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
        """Return the log odds [B] for the share of terminal rows in the log, from the same arguments as `balanced`."""
        return self.balanced(observations, actions, next_observations) - math.log((1 - self.share) / self.share)


def unfitted(*, obs_dim: int, action_dim: int, hidden_sizes: Sequence[int], share: float) -> TerminalClassifier:
    """Return a classifier whose weights and statistics are loaded later."""
    return TerminalClassifier(
        obs_dim=obs_dim,
        action_dim=action_dim,
        hidden_sizes=hidden_sizes,
        share=share,
        normaliser=Normaliser.identity(2 * obs_dim + action_dim),
        generator=torch.Generator(),
    )
