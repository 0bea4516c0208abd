"""Rewards that are known: functions of a user's own, which stand in for the reward that the ensemble learned."""

from collections.abc import Callable

from torch import Tensor

from mopo_pl.config.registry import lookup
from mopo_pl.errors import InputError

Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
"""r(s, a, s') [B] of s [B, D], a [B, A] in the log's units, s' [B, D]."""


def known_reward(name: str | None) -> Reward | None:
    """The function that `module:function` names; None for None. Raises InputError where it cannot be found."""
    if name is None:
        return None
    try:
        return lookup("reward", name, {})
    except ValueError as error:
        raise InputError(f"reward={name}: {error}") from error
