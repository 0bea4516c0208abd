"""Statistics of a log: `LogStatistics`, for penalties and rules that the user defines, and discounted returns of the logged states."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset


@dataclass(frozen=True, kw_only=True)
class LogStatistics:
    """Statistics of all transitions of a log, in the log's units."""

    observation_mean: Tensor
    """Mean of each coordinate, [D]."""
    observation_std: Tensor
    """Standard deviation of each coordinate, [D]; 1 for a constant coordinate."""
    observation_low: Tensor
    """Smallest value of each coordinate, [D]."""
    observation_high: Tensor
    """Largest value of each coordinate, [D]."""
    action_low: Tensor
    """Lower bound of each action, [A]."""
    action_high: Tensor
    """Upper bound of each action, [A]."""
    reward_low: Tensor
    """Smallest reward, []."""
    reward_high: Tensor
    """Largest reward, []."""

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


ROWS = 50_000
"""Largest number of rows passed to a function of (s, a, s') at once."""


def over_rows(function: Callable[[Tensor, Tensor, Tensor], Tensor], dataset: OfflineDataset) -> Tensor:
    """Evaluate a function of (s, a, s') on each logged row and return the values, [N]. Actions are passed in the log's units."""
    rows, scaled = dataset.transitions, LogStatistics.of(dataset).in_log_units
    with torch.no_grad():
        parts = [rows[i : i + ROWS] for i in range(0, len(rows), ROWS)]
        made = [
            function(part.newest_observations, scaled(part.actions), part.newest_next_observations) for part in parts
        ]
    return torch.cat(made)


NEGLIGIBLE = 1e-9
"""Discount factor γ^k below which later rewards are left out of a sum."""


def returns_to_go(dataset: OfflineDataset, discount: float, rewards: Tensor | None = None) -> Tensor:
    """Return Σ_k γ^k r_{t+k} from each row t to the end of its episode, [N] float64. `rewards` [N] replace the logged rewards.

    A sum over 2m steps is the sum over m steps plus γ^m times the sum over the next m steps. The number of passes over the rows is therefore
    the log₂ of the longest episode length.

    >>> from types import SimpleNamespace
    >>> rows = SimpleNamespace(rewards=torch.tensor([1.0, 2.0, 4.0]))
    >>> lengths = lambda: torch.tensor([2, 1])
    >>> log = SimpleNamespace(transitions=rows, episode_ends=torch.tensor([2, 3]), episode_lengths=lengths)
    >>> returns_to_go(log, 0.5).tolist()
    [2.0, 2.0, 4.0]
    """
    total, remaining = (dataset.transitions.rewards if rewards is None else rewards).double(), steps_to_go(dataset)
    span, longest = 1, int(remaining.max())
    while span < longest and discount**span > NEGLIGIBLE:
        following = torch.cat([total[span:], total.new_zeros(span)])[: len(total)]
        total = total + discount**span * torch.where(remaining > span, following, 0.0)
        span *= 2
    return total


def steps_to_go(dataset: OfflineDataset) -> Tensor:
    """Return the number of rows from each row to the last one of its episode, both included, [N] int64."""
    ends = dataset.episode_ends.repeat_interleave(dataset.episode_lengths())
    return ends - torch.arange(len(ends))


def logged_values(dataset: OfflineDataset, discount: float, rewards: Tensor | None = None) -> Tensor:
    """Return the discounted returns that followed logged states, [n] float64. `rewards` [N] replace the logged rewards.

    An episode that did not end in a terminal state would have continued. Its sum over the remaining L steps is therefore divided by 1 - γ^L,
    which assumes that the rewards would have continued alike. Of such episodes, only states with L >= 1/(1 - γ) are used. If no such episode
    has one, their first states are used instead.
    """
    total, steps = returns_to_go(dataset, discount, rewards), steps_to_go(dataset)
    lengths = dataset.episode_lengths()
    ended = (dataset.transitions.terminals[dataset.episode_ends - 1] > 0).repeat_interleave(lengths)
    least = math.ceil(1 / (1 - discount) - 1e-9)  # 10 at γ = 0.9, though 1/(1 - γ) rounds to more than 10
    long = ~ended & (steps >= least)
    if not long.any():
        long = ~ended & (steps == lengths.repeat_interleave(lengths))
    known = ended | long
    shares = torch.where(ended, 1.0, 1 - discount ** steps.double())
    return (total / shares)[known]
