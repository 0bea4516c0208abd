"""`Window`: the layout of a state that holds several observations."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """The columns of a state that holds the last k observations and the k - 1 actions between them, each newest first.

    A state is (o_t, o_{t-1}, …, o_{t-k+1}, a_{t-1}, …, a_{t-k+1}), with actions scaled to [-1, 1]. At the beginning of an episode, missing
    observations are replaced by the first one, and missing actions by 0, the middle of the bounds.
    """

    obs_dim: int
    """Number of columns of one observation, D."""
    action_dim: int
    """Number of action columns A."""
    steps: int
    """Number of observations in a state, k."""

    @property
    def width(self) -> int:
        """Number of columns of a state."""
        return self.steps * self.obs_dim + (self.steps - 1) * self.action_dim

    def newest(self, states: Tensor) -> Tensor:
        """Return the newest observations o_t [..., D] of states [..., width]."""
        return states[..., : self.obs_dim]

    def first(self, observations: Tensor) -> Tensor:
        """Return the first states [..., width] of episodes that begin with observations [..., D]."""
        actions = observations.new_zeros(*observations.shape[:-1], (self.steps - 1) * self.action_dim)
        return torch.cat([*[observations] * self.steps, actions], -1)

    def following(self, states: Tensor, actions: Tensor, observations: Tensor) -> Tensor:
        """Return the states [..., width] that follow `states` after actions a_t [..., A] in [-1, 1] led to observations o_{t+1} [..., D].

        The oldest observation and the oldest action of each state are dropped.

        >>> window = Window(obs_dim=1, action_dim=1, steps=3)
        >>> state = window.first(torch.tensor([5.0]))
        >>> state = window.following(state, torch.tensor([0.5]), torch.tensor([6.0]))
        >>> window.following(state, torch.tensor([-0.5]), torch.tensor([7.0])).tolist()
        [7.0, 6.0, 5.0, -0.5, 0.5]
        """
        if self.steps == 1:
            return observations
        seen, done = states.split([self.steps * self.obs_dim, (self.steps - 1) * self.action_dim], -1)
        kept = seen[..., : -self.obs_dim], done[..., : -self.action_dim]
        return torch.cat([observations, kept[0], actions.to(states.dtype), kept[1]], -1)
