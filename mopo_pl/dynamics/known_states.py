"""Where a log's states end: `StateLimits`, beyond which rollouts are dropped, and `Halt`, where imagined episodes end."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

END = 0.01
"""Share of a column's range at its end. Where as large a share of the rows lies in it, the log does not thin out there."""
STEEPEST_RISE, FALL, FALLS_BELOW = 4.0, 0.9, 0.25
"""Largest factor by which C rises in a refresh; the factor by which it falls, and below which share of ε it does. It rises faster
than it falls: one step too far may cost a lot.
"""


@dataclass(frozen=True)
class StateLimits:
    """A box around the states of a log; rollouts that leave it are dropped."""

    low: Tensor
    """Lower limit of each coordinate [D]."""
    high: Tensor
    """Upper limit of each coordinate [D]."""

    @classmethod
    def around(cls, states: Tensor, widths: float) -> "StateLimits":
        """The range of states [N, D], extended by `widths` times its width on either side.

        A constant coordinate has no width, and therefore no limit.
        """
        low, high = states.amin(0), states.amax(0)
        room = torch.where(high > low, widths * (high - low), torch.inf)
        return cls(low - room, high + room)

    def where_thin(self, reached: Tensor) -> "StateLimits":
        """Keep the limit of those sides alone towards which the states that steps reached [N, D] thin out.

        Many states at an end are held there by the system: a wall, a sensor's own limit, a flag, the cosine of an angle. Values beyond
        are the model's noise. Few states at an end say that nobody went further.
        """
        low, high, many = self.low.clone(), self.high.clone(), END * len(reached)
        # One column at a time: comparisons of all take as much memory again.
        for column, values in enumerate(reached.unbind(1)):
            least, largest = values.amin(), values.amax()
            end = END * (largest - least)
            if (values <= least + end).count_nonzero() >= many:
                low[column] = -torch.inf
            if (values >= largest - end).count_nonzero() >= many:
                high[column] = torch.inf
        return StateLimits(low, high)

    def hold(self, states: Tensor) -> Tensor:
        """Whether each of the states [B, D] lies within the limits [B]; NaN does not."""
        return ((states >= self.low) & (states <= self.high)).all(-1)

    def exclude(self, states: Tensor) -> Tensor:
        """Whether each of the states [B, D] lies outside [B]; one that is not finite is no state, and does not."""
        return states.isfinite().all(-1) & ~self.hold(states)

    def to(self, device: torch.device | str) -> "StateLimits":
        """The same limits on another device."""
        return StateLimits(self.low.to(device), self.high.to(device))


@dataclass(frozen=True, kw_only=True)
class Halt:
    """Ends imagined episodes at states that the log says nothing of, after HALT in Kidambi et al. 2020 (MOReL).

    A step from s to a state outside of `known` is terminal and worth V(s) - C, but no less than `lowest`. C is what Lagrange's multiplier is to a
    constraint: it rises while more than `share` of the steps lead there, and falls where far fewer do.
    """

    known: StateLimits
    cost: Tensor
    """C [discounted return] []; changed in place, so that compiled code knows it."""
    share: float
    """ε: share of imagined steps that may lead to unknown states."""
    least: float
    """Smallest C."""
    most: float
    """Largest C."""
    lowest: float
    """What a step is worth at least [discounted return]."""

    def worth(self, value: Tensor) -> Tensor:
        """max(V - C, `lowest`) of values of the states before [B]."""
        return (value - self.cost).clamp(min=self.lowest)

    def follow(self, halted: float) -> None:
        """Change C after a refresh, from `least` to `most`; `halted`: p, the share of its steps that led to unknown states.

        C ← C·p/ε, at most fourfold, where p is above ε; 0.9·C where p is below ε/4.
        """
        ratio = halted / self.share
        factor = min(STEEPEST_RISE, ratio) if ratio > 1 else FALL if ratio < FALLS_BELOW else 1.0
        self.cost.copy_((self.cost * factor).clamp(self.least, self.most))

    def begin(self) -> None:
        """Set C to its smallest value, as before training."""
        self.cost.fill_(self.least)

    def to(self, device: torch.device | str) -> "Halt":
        """The same on another device."""
        return replace(self, known=self.known.to(device), cost=self.cost.to(device))
