"""Where a log's states end: `StateLimits`, beyond which rollouts are dropped, and `Halt`, where imagined episodes end."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

TIES, NEAR = 10, 0.01
"""What tells a sensor's limit from the largest of measured values: rows, and a share of the range."""
STEEPEST_RISE, STEEPEST_FALL = 4.0, 0.9
"""Largest and smallest factor by which C changes in a refresh: a policy that leaves the log is held at once, and let go slowly."""


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

    @classmethod
    def unless_saturated(cls, states: Tensor, widths: float) -> "StateLimits":
        """As `around`, but without a limit on a side where the log ends at a sensor's own limit, or at a flag's value.

        Values beyond it are the model's noise alone. Such a side has at least `TIES` rows of exactly the last value, and no more in
        the `NEAR` widths before it.
        """
        low, high = states.amin(0), states.amax(0)
        near, limits = NEAR * (high - low), cls.around(states, widths)
        at_low, at_high = (states == low).sum(0), (states == high).sum(0)
        by_low, by_high = (states <= low + near).sum(0) - at_low, (states >= high - near).sum(0) - at_high
        return cls(
            torch.where((at_low >= TIES) & (at_low >= by_low), -torch.inf, limits.low),
            torch.where((at_high >= TIES) & (at_high >= by_high), torch.inf, limits.high),
        )

    def hold(self, states: Tensor) -> Tensor:
        """Whether each of the states [B, D] lies within the limits [B]; NaN does not."""
        return ((states >= self.low) & (states <= self.high)).all(-1)

    def to(self, device: torch.device | str) -> "StateLimits":
        """The same limits on another device."""
        return StateLimits(self.low.to(device), self.high.to(device))


@dataclass(frozen=True)
class Halt:
    """Ends imagined episodes at states that the log says nothing of, after HALT in Kidambi et al. 2020 (MOReL).

    A step from s to a state outside of `known` is terminal and worth V(s) - C. C is what Lagrange's multiplier is to a
    constraint: it rises while more than `share` of the steps lead there, and falls otherwise.
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

    def takes(self, states: Tensor) -> Tensor:
        """Whether each of the states [B, D] is outside the known ones [B]; one that is not finite is no state, and is not."""
        return states.isfinite().all(-1) & ~self.known.hold(states)

    def follow(self, halted: float) -> None:
        """C ← C·halted/ε, within its limits and those of a single change; `halted`: share of a refresh's steps."""
        factor = min(STEEPEST_RISE, max(STEEPEST_FALL, halted / self.share))
        self.cost.copy_((self.cost * factor).clamp(self.least, self.most))

    def begin(self) -> None:
        """Set C to its smallest value, as before training."""
        self.cost.fill_(self.least)

    def to(self, device: torch.device | str) -> "Halt":
        """The same on another device."""
        return replace(self, known=self.known.to(device), cost=self.cost.to(device))
