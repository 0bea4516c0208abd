"""What the log itself earned, over the same starts and steps as an estimate: the return that a policy must beat."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import returns_to_go

MOST_STEPS = 1000
"""Episodes up to this length are estimated whole [steps]."""
SEGMENT_STEPS = 200
"""Steps that are estimated from logged states where episodes are longer, or have no end in the log."""


@dataclass(frozen=True, kw_only=True)
class LoggedReturns:
    """Where estimates start, how many steps they take, and what the log earned there."""

    rows: Tensor
    """Rows of the log that an estimate may start from [n] int64."""
    steps: int
    """T: steps of an estimate."""
    discount: float
    """γ."""
    whole_episodes: bool
    """Whether these are first rows of episodes; else any rows that `steps` steps follow."""
    returns: Tensor
    """Σ r over the T steps from each start, or up to the episode's end, float64 [n]."""
    discounted: Tensor
    """Σ γᵗ r of the same steps, float64 [n]."""
    forever: Tensor
    """As `discounted`, with γᵀ·mean r/(1 - γ) for what follows where nothing terminal ended it, float64 [n]."""

    def drawn(self, size: int, generator: Generator) -> Tensor:
        """Which of the starts to take [size]: all of them in a random order, again and again where there are fewer."""
        order = torch.randperm(len(self.rows), generator=generator)
        return order.repeat(-(-size // len(order)))[:size]

    def summary(self) -> dict[str, Any]:
        """As it stands in `estimates.json`."""
        return {
            "starts": len(self.rows),
            "return": float(self.returns.mean()),
            "std": float(self.returns.std(unbiased=False)),
            "discounted": float(self.discounted.mean()),
            "forever": float(self.forever.mean()),
            "forever_std": float(self.forever.std(unbiased=False)),
        }


def logged_returns(dataset: OfflineDataset, discount: float) -> LoggedReturns:
    """Whole episodes where the log has finished ones of at most `MOST_STEPS` steps, else segments of `SEGMENT_STEPS` steps.

    Windows start at every row that is followed by a whole window of its episode, or by a terminal row; where no episode is that
    long, they are as long as the longest.
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
    # What the rest of the episode earns is 0 where the window ends with it.
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
