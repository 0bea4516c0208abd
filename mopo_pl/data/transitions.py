"""`Transitions`: packed rows of (s, a, s', r, terminal), the common format of logged, imagined and mixed data.

Shape letters used throughout the project: N rows of a log, B rows of a batch, E members of the ensemble, D observation dimensions,
A action dimensions, W = 2D + A + 2 columns of a packed row. `...` stands for any leading shape.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Transitions:
    """Transitions (s, a, s', r, terminal) packed into rows, so that one gather makes a batch. The fields are views.

    Columns: observation D | action A (in [-1, 1]) | next observation D | reward 1 | terminal 1 (0 or 1).
    """

    rows: Tensor
    """Packed rows, [..., W] floating point."""
    obs_dim: int
    """Number of observation columns D."""
    action_dim: int
    """Number of action columns A."""
    history: int = 1
    """Number of observations in each s, the newest first (`data.window.Window`)."""

    @classmethod
    def pack(
        cls, observations: Tensor, actions: Tensor, next_observations: Tensor, rewards: Tensor, terminals: Tensor
    ) -> "Transitions":
        """Pack fields of shape [..., D], [..., A], [..., D], [...] and [...] (bool or 0/1) into rows of the observations' dtype."""
        dtype = observations.dtype
        columns = [observations, actions.to(dtype), next_observations.to(dtype)]
        columns += [rewards.to(dtype).unsqueeze(-1), terminals.to(dtype).unsqueeze(-1)]
        return cls(torch.cat(columns, -1), observations.shape[-1], actions.shape[-1])

    @staticmethod
    def width(obs_dim: int, action_dim: int) -> int:
        """Return W, the number of columns of a packed row."""
        return 2 * obs_dim + action_dim + 2

    def __post_init__(self) -> None:
        if self.rows.shape[-1] != self.width(self.obs_dim, self.action_dim):
            raise ValueError(
                f"rows have {self.rows.shape[-1]} columns; obs_dim {self.obs_dim} and action_dim {self.action_dim} "
                f"need {self.width(self.obs_dim, self.action_dim)}"
            )

    def __len__(self) -> int:
        return self.rows.shape[0]

    def __getitem__(self, index: Tensor | slice | int) -> "Transitions":
        return replace(self, rows=self.rows[index])

    def to(self, *args, **kwargs) -> "Transitions":
        """Return the transitions on another device or in another dtype. The arguments are those of `Tensor.to`."""
        return replace(self, rows=self.rows.to(*args, **kwargs))

    def with_next_observations(self, next_observations: Tensor) -> "Transitions":
        """Return the same rows with other next observations s' [..., D]."""
        return replace(self, rows=torch.cat([self.inputs, next_observations, self.rows[..., -2:]], -1))

    @property
    def observations(self) -> Tensor:
        """Observations s, [..., D]."""
        return self.rows[..., : self.obs_dim]

    @property
    def newest_dim(self) -> int:
        """Number of columns of one observation; D if s holds one observation."""
        return (self.obs_dim + self.action_dim) // self.history - self.action_dim

    @property
    def newest_observations(self) -> Tensor:
        """Newest observation in s, [..., newest_dim]."""
        return self.observations[..., : self.newest_dim]

    @property
    def newest_next_observations(self) -> Tensor:
        """Newest observation in s', [..., newest_dim]."""
        return self.next_observations[..., : self.newest_dim]

    @property
    def actions(self) -> Tensor:
        """Actions a in [-1, 1], [..., A]."""
        return self.rows[..., self.obs_dim : self.obs_dim + self.action_dim]

    @property
    def inputs(self) -> Tensor:
        """Inputs (s, a) of a dynamics model, [..., D + A]."""
        return self.rows[..., : self.obs_dim + self.action_dim]

    @property
    def next_observations(self) -> Tensor:
        """Next observations s', [..., D]."""
        return self.rows[..., self.obs_dim + self.action_dim : -2]

    @property
    def rewards(self) -> Tensor:
        """Rewards r, [...]."""
        return self.rows[..., -2]

    @property
    def terminals(self) -> Tensor:
        """Terminal flags, [...]: 1 where the task ended in s', so that no value follows, else 0. A time limit is not terminal."""
        return self.rows[..., -1]
