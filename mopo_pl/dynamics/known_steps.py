"""The range of a log: `StateLimits`, outside of which rollouts are dropped, `KnownSteps`, and `Halt`, which ends rollouts at unknown steps."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset

END = 0.01
"""Width of the end of a column's range, as a share of its usual range, and share of the rows.

If at least this share of the rows lies within this distance of the smallest or largest value, the rows do not thin out there.
"""
TAIL = 0.001
"""Share of the rows that the usual range leaves out on either side.

Without it, a single outlier could make the range so wide that all other rows lie at one end of it.
"""
STEEPEST_RISE = 4.0
"""Largest factor by which C rises in a refresh. C rises faster than it falls, because one step too far may cost a lot."""
FALL = 0.9
"""Factor by which C falls in a refresh."""
FALLS_BELOW = 0.25
"""C falls when the share of unknown steps is below this fraction of ε."""


@dataclass(frozen=True)
class StateLimits:
    """Lower and upper limits of each column of states, or of changes of states."""

    low: Tensor
    """Lower limit of each coordinate [D]."""
    high: Tensor
    """Upper limit of each coordinate [D]."""

    @classmethod
    def of(cls, dataset: OfflineDataset, widths: float) -> "StateLimits":
        """Return the range of a log's states, extended by `widths` times its width on either side.

        The last state of each episode is included.
        """
        rows = dataset.transitions
        return cls.around(torch.cat([rows.observations, rows.next_observations]), widths)

    @classmethod
    def around(cls, states: Tensor, widths: float) -> "StateLimits":
        """Return the range of states [N, D], extended by `widths` times its width on either side.

        A constant coordinate has no width, and is therefore given no limit.
        """
        low, high = states.amin(0), states.amax(0)
        room = torch.where(high > low, widths * (high - low), torch.inf)
        return cls(low - room, high + room)

    def where_thin(self, reached: Tensor) -> "StateLimits":
        """Return these limits without those of the sides towards which the values [N, D] do not thin out.

        `reached` holds the states that logged steps led to, or the changes of states for limits of changes. Many values at one
        end of the range mean that the system bounds them there: a wall, the limit of a sensor, a flag, the cosine of an angle.
        Predictions beyond such an end are noise of the model. Few values at an end mean that the log only happens not to go
        further, so that this limit is kept.
        """
        low, high, many = self.low.clone(), self.high.clone(), END * len(reached)
        # One column at a time, because comparing all columns at once would need as much memory again.
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
        """Return the nearest states within the limits [B, D]."""
        return states.clamp(self.low, self.high)

    @property
    def count(self) -> int:
        """Number of sides that have a limit, at most 2·D."""
        return int(self.low.isfinite().sum() + self.high.isfinite().sum())

    def hold(self, states: Tensor) -> Tensor:
        """Return whether each of the states [B, D] lies within the limits [B] bool. NaN does not."""
        return ((states >= self.low) & (states <= self.high)).all(-1)

    def to(self, device: torch.device | str) -> "StateLimits":
        """Return the same limits on another device."""
        return StateLimits(self.low.to(device), self.high.to(device))


@dataclass(frozen=True, kw_only=True)
class KnownSteps:
    """Range of the steps of a log: one box around s' and one around s' - s.

    The second box also excludes changes that are too large although both states are within the first, such as too high a speed.
    """

    states: StateLimits
    """Limits of s'; their range includes the first states of episodes."""
    changes: StateLimits
    """Limits of s' - s."""

    @classmethod
    def of(cls, states: Tensor, reached: Tensor, widths: float) -> "KnownSteps":
        """Return the ranges of logged steps from `states` to `reached` [N, D], extended by `widths` times their widths.

        Only sides towards which the log thins out have a limit (`StateLimits.where_thin`).
        """
        changes = reached - states
        return cls(
            states=StateLimits.around(torch.cat([states, reached]), widths).where_thin(reached),
            changes=StateLimits.around(changes, widths).where_thin(changes),
        )

    @property
    def count(self) -> int:
        """Number of sides that have a limit, at most 4·D: two for each column of s' and of s' - s."""
        return self.states.count + self.changes.count

    def exclude(self, states: Tensor, reached: Tensor) -> Tensor:
        """Return whether each step from s to s' [B, D] lies outside of the limits [B] bool.

        The result is false where s' is not finite; rollouts drop such steps anyway.
        """
        return reached.isfinite().all(-1) & ~(self.states.hold(reached) & self.changes.hold(reached - states))

    def to(self, device: torch.device | str) -> "KnownSteps":
        """Return the same limits on another device."""
        return KnownSteps(states=self.states.to(device), changes=self.changes.to(device))


@dataclass(frozen=True, kw_only=True)
class Halt:
    """Rule that ends imagined episodes at steps outside of the range of the log, like the state HALT in Kidambi et al. 2020 (MOReL).

    A step from s outside of `known` is terminal, and its reward is V(s) minus a price. The price is C, but at most
    max(V(s) - `lowest`, `least`). C is adapted like the Lagrange multiplier of a constraint: it rises while more than `share` of
    the steps are unknown, and falls when far fewer are.
    """

    known: KnownSteps
    """Limits of the steps that are known."""
    price_limit: Tensor
    """C [discounted return] []. It is changed in place, so that compiled code reads the new value."""
    share: float
    """ε: share of imagined steps that may be unknown."""
    least: float
    """Smallest C, and the smallest price [discounted return]; 0 if every reward is 0."""
    most: float
    """Largest C [discounted return]."""
    lowest: float
    """G_min, the lowest discounted return that followed a logged state.

    `worth` is at least G_min where V is at least G_min + `least`.
    """

    def worth(self, value: Tensor) -> Tensor:
        """Return V - min(C, max(V - `lowest`, `least`)) [B] for the values V [B] of the states before the step.

        It is never more than V, so that an unknown step is never an advantage.
        """
        return value - torch.minimum((value - self.lowest).clamp(min=self.least), self.price_limit)

    def follow(self, halted: float) -> None:
        """Update C after a refresh, within `least` and `most`. `halted` is p, the share of the steps that were unknown.

        C is multiplied by p/ε, but at most by 4, if p is above ε, and by 0.9 if p is below ε/4.
        """
        ratio = halted / self.share
        factor = min(STEEPEST_RISE, ratio) if ratio > 1 else FALL if ratio < FALLS_BELOW else 1.0
        self.price_limit.copy_((self.price_limit * factor).clamp(self.least, self.most))

    def begin(self) -> None:
        """Set C to its smallest value, with which training starts."""
        self.price_limit.fill_(self.least)

    def to(self, device: torch.device | str) -> "Halt":
        """Return the same object on another device."""
        return replace(self, known=self.known.to(device), price_limit=self.price_limit.to(device))
