"""`LogStatistics`: what penalties and termination rules of the user's own may need to know of a log."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset


@dataclass(frozen=True, kw_only=True)
class LogStatistics:
    """Statistics of all transitions of a log, in the log's units."""

    observation_mean: Tensor
    """[D]."""
    observation_std: Tensor
    """[D]; 1 for a constant coordinate."""
    observation_low: Tensor
    """Smallest value of each coordinate [D]."""
    observation_high: Tensor
    """Largest value of each coordinate [D]."""
    action_low: Tensor
    """Lower bound of the actions [A]."""
    action_high: Tensor
    """Upper bound of the actions [A]."""
    reward_low: Tensor
    """Smallest reward []."""
    reward_high: Tensor
    """Largest reward []."""

    @classmethod
    def of(cls, dataset: OfflineDataset) -> "LogStatistics":
        """Compute the statistics of a log."""
        observations, rewards = dataset.transitions.observations, dataset.transitions.rewards
        std, mean = torch.std_mean(observations.double(), 0, correction=0)
        return cls(
            observation_mean=mean.to(observations.dtype),
            observation_std=torch.where(std > 0, std, 1.0).to(observations.dtype),
            observation_low=observations.amin(0),
            observation_high=observations.amax(0),
            action_low=torch.as_tensor(dataset.action_low),
            action_high=torch.as_tensor(dataset.action_high),
            reward_low=rewards.amin(),
            reward_high=rewards.amax(),
        )

    def to(self, device: torch.device | str) -> "LogStatistics":
        """Return the same statistics on another device."""
        return LogStatistics(**{entry.name: getattr(self, entry.name).to(device) for entry in fields(self)})

    def in_log_units(self, actions: Tensor) -> Tensor:
        """Scale actions [..., A] from [-1, 1] to the bounds."""
        low, high = self.action_low.to(actions.dtype), self.action_high.to(actions.dtype)
        return ((high - low) / 2 * actions + (high + low) / 2).clamp(low, high)
