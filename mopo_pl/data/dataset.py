"""`OfflineDataset`: a log, opened and checked."""

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
    """What a log calls its columns; none where it numbers them."""

    observations: tuple[str, ...] = ()
    """One for each observation column [D], or none."""
    actions: tuple[str, ...] = ()
    """One for each action column [A], or none."""

    def observation(self, column: int) -> str:
        """Name of an observation column, or `obs 3`."""
        return self.observations[column] if self.observations else f"obs {column}"

    def of_observations(self, columns: int) -> tuple[str, ...]:
        """Name of each of the D observation columns; their numbers where the log does not name them."""
        return self.observations or tuple(map(str, range(columns)))

    def action(self, column: int) -> str:
        """Name of an action column, or `action 1`."""
        return self.actions[column] if self.actions else f"action {column}"


@dataclass(frozen=True)
class OfflineDataset:
    """N logged transitions in their order of collection, and what is known of where they come from."""

    name: str
    """As the user called it."""
    hash: str
    """SHA-256 over the packed rows and the episode bounds."""
    transitions: Transitions
    """[N, W] float32 on the CPU, actions scaled to [-1, 1]."""
    episode_ends: Tensor
    """Row after the last of each episode, ascending [K] int64; the last one is N."""
    finished: Tensor
    """Whether the episode is whole: it begins where the log has its first row, and ended by itself or by a time limit [K] bool."""
    next_known: Tensor
    """Rows whose next observation is true; the others train the critic (terminal) but not the model [N] bool."""
    action_low: np.ndarray
    """Bounds that -1 stands for [A] float32."""
    action_high: np.ndarray
    """Bounds that +1 stands for [A] float32."""
    env_id: str | None = None
    """Environment of evaluation, spaces and termination rule: the user's choice, else the one the file names, if any."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Its arguments."""
    names: ColumnNames = field(default_factory=ColumnNames)
    """Of the columns of observations and actions."""
    findings: tuple[Finding, ...] = ()
    """What the checks of the log said (`mopo_pl.data.doctor`)."""

    def __len__(self) -> int:
        return len(self.transitions)

    @property
    def obs_dim(self) -> int:
        """D."""
        return self.transitions.obs_dim

    @property
    def action_dim(self) -> int:
        """A."""
        return self.transitions.action_dim

    @property
    def window(self) -> Window | None:
        """Layout of the states where they hold several observations, else None."""
        log = self.transitions
        return None if log.history == 1 else Window(log.newest_dim, log.action_dim, log.history)

    def episode_lengths(self) -> Tensor:
        """Steps of each episode [K]."""
        return self.episode_ends.diff(prepend=torch.zeros(1, dtype=torch.int64))

    def episode_returns(self) -> Tensor:
        """Undiscounted return of each finished episode, float64; of all episodes where none is finished."""
        # Sums by segments: an episode's return is the difference of the running sum at its two ends.
        total = torch.cat([torch.zeros(1, dtype=torch.float64), self.transitions.rewards.double().cumsum(0)])
        returns = total[self.episode_ends].diff(prepend=total[:1])
        return returns[self.finished] if self.finished.any() else returns
