"""Termination rules of imagined episodes: those of known environments, as pure functions of tensors, and limits of columns."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from mopo_pl.config.keys import suggestion_for
from mopo_pl.config.registry import lookup
from mopo_pl.data.readers.names import shown
from mopo_pl.environments.by_id import family
from mopo_pl.errors import InputError

Rule = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function that maps s [B, D], a [B, A] in the log's units and s' [B, D] to whether s' is terminal [B] bool; NaN is terminal."""


def never(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """Return false: only the time limit ends an episode."""
    return torch.zeros(next_observations.shape[:-1], dtype=torch.bool, device=next_observations.device)


def hopper(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """Return true unless z > 0.7, |angle| < 0.2 and every coordinate except the positions x and z lies within ±100.

    Gymnasium tests state[2:] of (x, z, angle, …). Observations leave out x, so that this is s'[1:]. Both bounds are tested here;
    an implementation that takes the absolute value of the comparison instead of the coordinate never tests the lower one.
    """
    height, angle = next_observations[..., 0], next_observations[..., 1]
    bounded = (next_observations[..., 1:].abs() < 100).all(-1)
    return ~(bounded & (height > 0.7) & (angle.abs() < 0.2))


def walker2d(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """Return true unless 0.8 < z < 2 and |angle| < 1."""
    height, angle = next_observations[..., 0], next_observations[..., 1]
    return ~((height > 0.8) & (height < 2.0) & (angle.abs() < 1.0))


def ant(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """Return true unless every coordinate is finite and 0.2 <= z <= 1."""
    height = next_observations[..., 0]
    return ~(next_observations.isfinite().all(-1) & (height >= 0.2) & (height <= 1.0))


def within(limit: float, rule: Rule) -> Rule:
    """Return a rule that ends an episode where `rule` does, and where a coordinate of s' is not within ±`limit`."""

    def bounded(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
        outside = ~(next_observations.abs() < limit).all(-1)
        return outside | rule(observations, actions, next_observations)

    return bounded


RULES: dict[str, Rule] = {
    "never": never,
    "halfcheetah": never,
    "safetyhalfcheetah": never,
    "swimmer": never,
    "halfcheetahjump": never,
    "pendulum": never,
    "dmsd": never,
    "hopper": hopper,
    "walker2d": walker2d,
    "ant": ant,
    "antangle": ant,
    # The rules of OfflineRL-Kit for these environments.
    "halfcheetah-within-100": within(100, never),
    "walker2d-within-100": within(100, walker2d),
}


class StateBox(nn.Module):
    """Rule that ends an episode where a coordinate of s' is outside of its limits. A value equal to a limit is within."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        """Create the rule. `low` and `high` are the limits of each coordinate [D]; an infinite value means no limit."""
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    @classmethod
    def of_columns(cls, bounds: Mapping[Any, Sequence[float | None]], columns: Sequence[str]) -> "StateBox":
        """Return the rule for limits by the names of columns, or by patterns such as `joint_*`. None means no limit.

        If several entries match a column, all of them apply. Raises InputError for an entry that matches no column.

        >>> rule = StateBox.of_columns({"temp": [0, 90], "joint_*": [None, 1]}, ["temp", "joint_a", "joint_b"])
        >>> rule.low.tolist(), rule.high.tolist()
        ([0.0, -inf, -inf], [90.0, 1.0, 1.0])
        """
        low, high = torch.full((len(columns),), -torch.inf), torch.full((len(columns),), torch.inf)
        problems = []
        for entry, (lower, upper) in bounds.items():
            name = str(entry)
            taken = [name == column for column in columns]
            taken = taken if any(taken) else [fnmatchcase(column, name) for column in columns]
            if not any(taken):
                hint = suggestion_for(name, map(shown, columns))
                problems.append(f"termination.bounds.{name}: there is no such observation column{hint}")
            which = torch.tensor(taken)
            low[which] = low[which].clamp(min=-torch.inf if lower is None else float(lower))
            high[which] = high[which].clamp(max=torch.inf if upper is None else float(upper))
        if problems:
            raise InputError(problems)
        return cls(low, high)

    def forward(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
        """Return whether s' [B, D] is outside of the limits [B] bool. NaN counts as outside."""
        return ~((next_observations >= self.low) & (next_observations <= self.high)).all(-1)


def rule_for(env_id: str) -> str | None:
    """Return the name of the built-in rule of an environment, such as `hopper` for `Hopper-v5`, or None if there is none."""
    name = family(env_id)
    return name if name in RULES else None


def termination_rule(given: Any, env_id: str | None, columns: Sequence[str] = ()) -> Rule:
    """Return the rule that the option `termination` selects, or the built-in rule of `env_id` if the option is not set.

    Args:
        given: A name in `RULES`, the id of an environment, `module:function`, or {"bounds": {column: [low, high]}}.
        env_id: The id of the log's environment.
        columns: Names of the observation columns, for bounds.

    Raises InputError if no rule is given and `env_id` has no built-in rule.

    """
    if isinstance(given, Mapping):
        return StateBox.of_columns(given["bounds"], columns)
    if given is not None:
        try:
            return lookup("termination rule", rule_for(given) or given, RULES)
        except ValueError as error:
            raise InputError(f"termination={given}: {error}") from error
    known = rule_for(env_id) if env_id is not None else None
    if known is None:
        where = (
            f"and there is no built-in rule for env_id={env_id}"
            if env_id is not None
            else "and without env_id no built-in rule applies"
        )
        raise InputError(
            f"no termination rule: termination is not set, {where}; set termination=never if only time limits end "
            "episodes, or termination=module:function with (s, a, s') to ended"
        )
    return RULES[known]
