"""Returns of the log over the same starts and steps as an estimate: the baseline that a policy must beat."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import returns_to_go

MOST_STEPS = 1000
"""Length up to which complete episodes are estimated [steps]."""
SEGMENT_STEPS = 200
"""Length of the segments that are estimated where episodes are longer, or have no end in the log [steps]."""


@dataclass(frozen=True, kw_only=True)
class LoggedReturns:
    """Starts and length of the estimates, and the returns of the log from these starts."""

    rows: Tensor
    """Rows of the log at which an estimate may start, [n] int64."""
    steps: int
    """T, the number of steps of an estimate."""
    discount: float
    """γ."""
    whole_episodes: bool
    """Whether the starts are first rows of episodes; otherwise they are any rows at which a segment can start."""
    returns: Tensor
    """Σ r over the T steps from each start, or until the end of the episode, float64 [n]."""
    discounted: Tensor
    """Σ γᵗ r over the same steps, float64 [n]."""
    forever: Tensor
    """`discounted` plus γᵀ·mean r/(1 - γ) for the steps after the window, unless it ends with a terminal row, float64 [n]."""

    def drawn(self, size: int, generator: Generator) -> Tensor:
        """Draw indices of starts [size]: all starts in a random order, repeated where `size` exceeds their number."""
        order = torch.randperm(len(self.rows), generator=generator)
        return order.repeat(-(-size // len(order)))[:size]

    def summary(self) -> dict[str, Any]:
        """Return the entry of `estimates.json`."""
        return {
            "starts": len(self.rows),
            "return": float(self.returns.mean()),
            "std": float(self.returns.std(unbiased=False)),
            "discounted": float(self.discounted.mean()),
            "forever": float(self.forever.mean()),
            "forever_std": float(self.forever.std(unbiased=False)),
        }


def logged_returns(dataset: OfflineDataset, discount: float) -> LoggedReturns:
    """Compute the returns of a log.

    Complete episodes are used where the log has finished ones and none of them exceeds `MOST_STEPS` steps. Otherwise segments of
    `SEGMENT_STEPS` steps are used, or of the length of the longest episode where that is shorter. A segment starts at every row
    that is followed by enough rows of its episode, or whose episode ends with a terminal row.
    """
    rows = dataset.transitions
    rewards, terminal = rows.rewards.double(), rows.terminals.bool()
    ends, lengths = dataset.episode_ends, dataset.episode_lengths()
    first = ends - lengths
    whole = bool(dataset.finished.any()) and int(lengths[dataset.finished].max()) <= MOST_STEPS
    if whole:
        chosen, steps = first[dataset.finished], int(lengths[dataset.finished].max())
    else:
        steps = min(SEGMENT_STEPS, int(lengths.max()))
        end = ends.repeat_interleave(lengths)
        chosen = ((torch.arange(len(rows)) + steps <= end) | terminal[end - 1]).nonzero().squeeze(1)
    episode = torch.searchsorted(ends, chosen, right=True)
    until = torch.minimum(chosen + steps, ends[episode])
    to_go, total = returns_to_go(dataset, discount), torch.cat([rewards.new_zeros(1), rewards.cumsum(0)])
    taken = (until - chosen).double()
    # The rest of the episode contributes 0 where the window ends with the episode.
    after = torch.where(until < ends[episode], torch.cat([to_go, to_go.new_zeros(1)])[until], 0.0)
    discounted = to_go[chosen] - discount**taken * after
    tail = torch.where(terminal[until - 1], 0.0, discount**taken * rewards.mean() / (1 - discount))
    return LoggedReturns(
        rows=chosen,
        steps=steps,
        discount=discount,
        whole_episodes=whole,
        returns=total[until] - total[chosen],
        discounted=discounted,
        forever=discounted + tail,
    )
