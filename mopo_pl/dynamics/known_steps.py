"""Where a log ends: `StateLimits`, beyond which rollouts are dropped; `KnownSteps`, and `Halt`, which ends imagined episodes there."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset

END = 0.01
"""Share of a column's usual range at its end. Where as large a share of the rows lies in it, the log does not thin out there."""
TAIL = 0.001
"""Share of the rows on either side that the usual range leaves out: a single spike must not make it so wide that all rows lie at its end."""
STEEPEST_RISE = 4.0
"""Largest factor by which C rises in a refresh. It rises faster than it falls: one step too far may cost a lot."""
FALL = 0.9
"""Factor by which C falls in a refresh."""
FALLS_BELOW = 0.25
"""Share of ε below which C falls."""


@dataclass(frozen=True)
class StateLimits:
    """Lower and upper limit of each column of states, or of changes of states."""

    low: Tensor
    """Lower limit of each coordinate [D]."""
    high: Tensor
    """Upper limit of each coordinate [D]."""

    @classmethod
    def of(cls, dataset: OfflineDataset, widths: float) -> "StateLimits":
        """The range of a log's states, the last of each episode included, extended by `widths` times itself on either side."""
        rows = dataset.transitions
        return cls.around(torch.cat([rows.observations, rows.next_observations]), widths)

    @classmethod
    def around(cls, states: Tensor, widths: float) -> "StateLimits":
        """The range of states [N, D], extended by `widths` times its width on either side.

        A constant coordinate has no width, and therefore no limit.
        """
        low, high = states.amin(0), states.amax(0)
        room = torch.where(high > low, widths * (high - low), torch.inf)
        return cls(low - room, high + room)

    def where_thin(self, reached: Tensor) -> "StateLimits":
        """Keep the limit of those sides alone towards which the states that steps reached [N, D] thin out; changes of states likewise.

        Many states at an end are held there by the system: a wall, a sensor's own limit, a flag, the cosine of an angle. Values beyond
        are the model's noise. Few states at an end say that nobody went further.
        """
        low, high, many = self.low.clone(), self.high.clone(), END * len(reached)
        # One column at a time: comparisons of all take as much memory again.
        for column, values in enumerate(reached.unbind(1)):
            least, largest = values.amin(), values.amax()
            out = int(TAIL * len(values))
            usual = values.kthvalue(len(values) - out).values - values.kthvalue(1 + out).values
            end = END * usual
            if (values <= least + end).count_nonzero() >= many:
                low[column] = -torch.inf
            if (values >= largest - end).count_nonzero() >= many:
                high[column] = torch.inf
        return StateLimits(low, high)

    def nearest(self, states: Tensor) -> Tensor:
        """The nearest states within the limits [B, D]."""
        return states.clamp(self.low, self.high)

    @property
    def count(self) -> int:
        """Sides that have a limit, of 2·D."""
        return int(self.low.isfinite().sum() + self.high.isfinite().sum())

    def hold(self, states: Tensor) -> Tensor:
        """Whether each of the states [B, D] lies within the limits [B]; NaN does not."""
        return ((states >= self.low) & (states <= self.high)).all(-1)

    def to(self, device: torch.device | str) -> "StateLimits":
        """The same limits on another device."""
        return StateLimits(self.low.to(device), self.high.to(device))


@dataclass(frozen=True, kw_only=True)
class KnownSteps:
    """How far the steps of a log went: a box around s', and one around s' - s, which a box of states does not see (a speed)."""

    states: StateLimits
    """Of s', the first states of episodes included."""
    changes: StateLimits
    """Of s' - s."""

    @classmethod
    def of(cls, states: Tensor, reached: Tensor, widths: float) -> "KnownSteps":
        """The ranges of logged steps from states to those they reached [N, D], extended by `widths` times their widths.

        Only sides have a limit towards which the log thins out (`StateLimits.where_thin`).
        """
        changes = reached - states
        return cls(
            states=StateLimits.around(torch.cat([states, reached]), widths).where_thin(reached),
            changes=StateLimits.around(changes, widths).where_thin(changes),
        )

    @property
    def count(self) -> int:
        """Sides that have a limit, of 4·D: two of each column of s', and of s' - s."""
        return self.states.count + self.changes.count

    def exclude(self, states: Tensor, reached: Tensor) -> Tensor:
        """Whether each step from s to s' [B, D] goes further [B]; false where s' is not finite, which rollouts drop."""
        return reached.isfinite().all(-1) & ~(self.states.hold(reached) & self.changes.hold(reached - states))

    def to(self, device: torch.device | str) -> "KnownSteps":
        """The same on another device."""
        return KnownSteps(states=self.states.to(device), changes=self.changes.to(device))


@dataclass(frozen=True, kw_only=True)
class Halt:
    """Ends imagined episodes with steps that the log says nothing of, after HALT in Kidambi et al. 2020 (MOReL).

    A step from s outside of `known` is terminal and worth V(s) less a price: C, but no more than V(s) - `lowest`, and no less than
    `least`. C is what Lagrange's multiplier is to a constraint: it rises while more than `share` of the steps are such, and falls
    where far fewer are.
    """

    known: KnownSteps
    price_limit: Tensor
    """C [discounted return] []; changed in place, so that compiled code knows it."""
    share: float
    """ε: share of imagined steps that may be unknown."""
    least: float
    """Smallest C, and the smallest price [discounted return]; 0 where every reward is 0."""
    most: float
    """Largest C."""
    lowest: float
    """G_min, the lowest discounted return that followed a logged state; `worth` is at least G_min where V is at least G_min + `least`."""

    def worth(self, value: Tensor) -> Tensor:
        """V - min(C, max(V - `lowest`, `least`)) of values V of the states before [B]; never more than V, so that no such step pays."""
        return value - torch.minimum((value - self.lowest).clamp(min=self.least), self.price_limit)

    def follow(self, halted: float) -> None:
        """Change C after a refresh, from `least` to `most`; `halted`: p, the share of its steps that were unknown.

        C ← C·p/ε, at most fourfold, where p is above ε; 0.9·C where p is below ε/4.
        """
        ratio = halted / self.share
        factor = min(STEEPEST_RISE, ratio) if ratio > 1 else FALL if ratio < FALLS_BELOW else 1.0
        self.price_limit.copy_((self.price_limit * factor).clamp(self.least, self.most))

    def begin(self) -> None:
        """Set C to its smallest value, as before training."""
        self.price_limit.fill_(self.least)

    def to(self, device: torch.device | str) -> "Halt":
        """The same on another device."""
        return replace(self, known=self.known.to(device), price_limit=self.price_limit.to(device))
