"""`OfflineDataset`: a log that has been read, checked and packed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mopo_pl.data.findings import Finding
from mopo_pl.data.transitions import Transitions
from mopo_pl.data.window import Window


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns of a log; empty where the log does not name its columns."""

    observations: tuple[str, ...] = ()
    """Name of each observation column, [D], or empty."""
    actions: tuple[str, ...] = ()
    """Name of each action column, [A], or empty."""

    def observation(self, column: int) -> str:
        """Return the name of an observation column, or its number such as `obs 3` where the log does not name its columns."""
        return self.observations[column] if self.observations else f"obs {column}"

    def of_observations(self, columns: int) -> tuple[str, ...]:
        """Return the name of each of the D observation columns, or their numbers as text where the log does not name them."""
        return self.observations or tuple(map(str, range(columns)))

    def action(self, column: int) -> str:
        """Return the name of an action column, or its number such as `action 1` where the log does not name its columns."""
        return self.actions[column] if self.actions else f"action {column}"


@dataclass(frozen=True)
class OfflineDataset:
    """N logged transitions in their order of collection, with their episodes, action bounds and environment."""

    name: str
    """Name of the dataset as the user gave it."""
    hash: str
    """SHA-256 of the packed rows and the episode ends."""
    transitions: Transitions
    """Packed rows, [N, W] float32 on the CPU, with actions scaled to [-1, 1]."""
    episode_ends: Tensor
    """Index after the last row of each episode, ascending, [K] int64; the last one is N."""
    finished: Tensor
    """Whether each episode is complete, [K] bool: its first step is in the log, and it ended in a terminal state or at a time limit."""
    next_known: Tensor
    """Whether the next observation of each row is a logged one, [N] bool. Other rows do not train the dynamics model, and train the critic only if
    they are terminal."""
    action_low: np.ndarray
    """Lower action bounds, which are scaled to -1, [A] float32."""
    action_high: np.ndarray
    """Upper action bounds, which are scaled to +1, [A] float32."""
    env_id: str | None = None
    """Id of the environment used for evaluation, spaces and the termination rule: the user's choice, else the one named in the file, if any."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    names: ColumnNames = field(default_factory=ColumnNames)
    """Names of the observation and action columns."""
    findings: tuple[Finding, ...] = ()
    """Results of the checks of the log (`mopo_pl.data.doctor`)."""

    def __len__(self) -> int:
        return len(self.transitions)

    @property
    def obs_dim(self) -> int:
        """Number of observation columns D."""
        return self.transitions.obs_dim

    @property
    def action_dim(self) -> int:
        """Number of action columns A."""
        return self.transitions.action_dim

    @property
    def window(self) -> Window | None:
        """Layout of the states if each holds several observations, else None."""
        log = self.transitions
        return None if log.history == 1 else Window(log.newest_dim, log.action_dim, log.history)

    def episode_lengths(self) -> Tensor:
        """Return the number of steps of each episode, [K] int64."""
        return self.episode_ends.diff(prepend=torch.zeros(1, dtype=torch.int64))

    def episode_returns(self) -> Tensor:
        """Return the undiscounted return of each finished episode, float64, or of all episodes if none is finished."""
        # The return of an episode is the difference of the cumulative reward at its two ends.
        total = torch.cat([torch.zeros(1, dtype=torch.float64), self.transitions.rewards.double().cumsum(0)])
        returns = total[self.episode_ends].diff(prepend=total[:1])
        return returns[self.finished] if self.finished.any() else returns
