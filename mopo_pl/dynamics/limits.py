"""How far imagined states may go before they count as a model that has run away."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StateLimits:
    """A box around the states of a log."""

    low: Tensor
    """[D]."""
    high: Tensor
    """[D]."""

    @classmethod
    def around(cls, states: Tensor, widths: float) -> "StateLimits":
        """The range of states [N, D], widened by `widths` times its width on either side.

        A coordinate that never changes has no width to measure by, and no limit.
        """
        low, high = states.amin(0), states.amax(0)
        room = torch.where(high > low, widths * (high - low), torch.inf)
        return cls(low - room, high + room)

    def hold(self, states: Tensor) -> Tensor:
        """Which of the states [B, D] lie within [B]; one with a NaN does not."""
        return ((states >= self.low) & (states <= self.high)).all(-1)

    def to(self, device: torch.device | str) -> "StateLimits":
        """The same on another device."""
        return StateLimits(self.low.to(device), self.high.to(device))
