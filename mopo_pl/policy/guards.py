"""`Guards`: checks between the sensors and the policy, and limits between the policy and the actuators."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from mopo_pl.data.signals import Signals

OnInvalid = Literal["error", "last", "safe_action"]
"""Reaction to an observation with NaN or inf: a ValueError, the last action, or a given safe action."""


class Guards(nn.Module):
    """Checks of observations, counts of values outside the log's range, fallback actions and rate limits of actions.

    Programs made by `torch.compile`, `torch.export` and `torch.onnx` do not contain the guards, because no value is known while torch
    traces.
    """

    seen_low: Tensor | None
    seen_high: Tensor | None
    _low: Tensor
    _high: Tensor

    def __init__(self, observations: Signals, actions: Signals, action_low: Tensor, action_high: Tensor) -> None:
        """Create guards that raise errors for invalid observations and limit no action; `configure` changes that.

        Args:
            observations: The columns of an observation: names and, if known, ranges in the log.
            actions: The columns of an action.
            action_low: Lower bounds [A], between which a safe action must lie.
            action_high: Upper bounds [A].

        """
        super().__init__()
        self.names, self.action_names = observations.names, actions.names
        # Not persistent: the JSON file of the policy describes its signals.
        for name, values in (("seen_low", observations.low), ("seen_high", observations.high)):
            self.register_buffer(name, None if values is None else torch.as_tensor(values), persistent=False)
        self.register_buffer("_low", action_low.clone(), persistent=False)
        self.register_buffer("_high", action_high.clone(), persistent=False)
        self.counts = torch.zeros(len(self.names), dtype=torch.int64)
        """Number of observations outside the log's range, for each column, [D] int64."""
        self.invalid = 0
        """Number of observations that were not finite, or at which the network overflowed."""
        self.outside_now: tuple[str, ...] = ()
        self.on_invalid: OnInvalid = "error"
        self._safe: Tensor | None = None
        self._limits: Tensor | None = None
        self.last: Tensor | None = None
        """Last action [..., A], if a fallback or a rate limit needs it."""

    def configure(
        self, on_invalid: OnInvalid, safe_action: Sequence[float] | None, rate_limits: Mapping[str, float]
    ) -> None:
        """Set the reaction to invalid observations and the rate limits. See `Policy.guard` for the arguments and errors."""
        if on_invalid not in get_args(OnInvalid):
            raise ValueError(f"on_invalid={on_invalid!r} is none of {', '.join(get_args(OnInvalid))}")
        if on_invalid == "safe_action" and safe_action is None:
            raise ValueError("on_invalid='safe_action' needs safe_action=[...], one number for each action column")
        safe = None if safe_action is None else self._within_bounds(safe_action)
        self._limits = self._limits_of(rate_limits) if rate_limits else None
        self._safe = safe
        self.on_invalid, self.last = on_invalid, None

    def _within_bounds(self, action: Any) -> Tensor:
        given = _numbers(action)
        found = None if given is None else given.to(self._low)
        if found is None or found.shape != self._low.shape or not ((found >= self._low) & (found <= self._high)).all():
            low, high = self._low.tolist(), self._high.tolist()
            told = action.tolist() if hasattr(action, "tolist") else action
            raise ValueError(f"safe_action={told!r} is no action within the bounds {low} to {high}")
        return found

    def _limits_of(self, rate_limits: Mapping[str, float]) -> Tensor:
        limits = torch.full_like(self._low, torch.inf)
        for entry, limit in rate_limits.items():
            taken = [name == entry or fnmatchcase(name, str(entry)) for name in self.action_names]
            number = _numbers(limit)
            if (
                not any(taken) or number is None or number.dim() or not number.to(limits) > 0
            ):  # compared in the policy's precision
                wrong = "is not above 0" if any(taken) else f"is of no action column: {', '.join(self.action_names)}"
                raise ValueError(f"rate_limits: {entry}={limit} {wrong}")
            limits[torch.tensor(taken)] = number.to(limits)
        return limits

    def valid(self, observations: Tensor) -> Tensor | None:
        """Return which observations [..., D] are finite, [...] bool; None if all are. Count the values outside the log's range.

        Raises ValueError if an observation is not finite and no fallback is set.
        """
        if torch.compiler.is_compiling():
            return None
        self.outside_now = ()
        if self.seen_low is None or self.seen_high is None:
            finite = observations.isfinite()
        else:
            inside = (observations >= self.seen_low) & (observations <= self.seen_high)  # false for NaN
            if inside.all():
                return None
            finite = observations.isfinite()
            self._count(finite & ~inside)
        if finite.all():
            return None
        valid = finite.all(-1)
        self.invalid += int((~valid).sum())
        if self.on_invalid == "error":
            raise ValueError(
                "the observation is not finite: it holds NaN, inf, or a number too large for the policy's precision, in "
                + self._named(~finite)
            )
        return valid

    def overflowed(self, chosen: Tensor, valid: Tensor | None) -> Tensor | None:
        """Return which of the network's actions [..., A] are not finite, [...] bool; None if all are finite.

        A finite observation can be so large that numbers inside the network overflow. Such observations are added to `invalid`; those
        that `valid` [...] marks as not finite were counted before.
        """
        if torch.compiler.is_compiling():
            return None
        finite = chosen.isfinite().all(-1)
        if finite.all():
            return None
        self.invalid += int((~finite if valid is None else valid & ~finite).sum())
        return ~finite

    def _count(self, outside: Tensor) -> None:
        rows = outside.reshape(-1, len(self.names)).sum(0).cpu()
        self.counts += rows
        self.outside_now = tuple(name for name, count in zip(self.names, rows.tolist(), strict=True) if count)

    def _named(self, which: Tensor) -> str:
        """Return the names of the columns in which `which` [..., D] is true for any observation, as text for a message."""
        columns = which.reshape(-1, len(self.names)).any(0).tolist()
        names = [name for name, wrong in zip(self.names, columns, strict=True) if wrong]
        return f"column{'s' if len(names) > 1 else ''} {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"

    def acted(self, action: Tensor, valid: Tensor | None) -> Tensor:
        """Return the action to take [..., A]: the fallback action where `valid` [...] is false, limited by the rate limits.

        Returns the object `action` itself if no guard applies. Raises ValueError if the last action has another shape, or if the
        fallback is the last action and there is none.
        """
        remembers = self.on_invalid == "last" or self._limits is not None
        if (valid is None and not remembers) or torch.compiler.is_compiling():
            return action
        if self.last is not None and self.last.shape != action.shape:
            raise ValueError(
                f"the last actions were {list(self.last.shape)}, these are {list(action.shape)}: call policy.reset() before "
                "another episode"
            )
        taken = action if valid is None else torch.where(valid.unsqueeze(-1), action, self._fallback(action))
        if self._limits is not None and self.last is not None:
            last, limits = self.last.to(taken), self._limits.to(taken)  # the policy may be on another device since then
            taken = taken.clamp(last - limits, last + limits)  # stays within the bounds, as both actions do
        self.last = taken if remembers else None
        return taken

    def _fallback(self, action: Tensor) -> Tensor:
        known = self._safe if self.on_invalid == "safe_action" or self.last is None else self.last
        if known is None:
            raise ValueError(
                "the observation is not finite, and on_invalid='last' has no last action yet: give safe_action=[...] for the "
                "first step"
            )
        return known.to(action).expand_as(action)


def _numbers(given: Any) -> Tensor | None:
    """Return real numbers as a tensor, None for any other value."""
    if isinstance(given, Tensor):
        return None if given.is_complex() else given
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different lengths
        return None
    return torch.from_numpy(array.astype(np.float64)) if array.dtype.kind in "biuf" else None
