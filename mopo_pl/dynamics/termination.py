"""When imagined episodes end: the rules of the environments, as pure functions of tensors, and limits of columns."""

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
"""From s [B, D], a [B, A] in the log's units, s' [B, D] to whether the task ended in s' [B] bool. NaN counts as ended."""


def never(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """Only the time limit ends an episode."""
    return torch.zeros(next_observations.shape[:-1], dtype=torch.bool, device=next_observations.device)


def hopper(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """Ends unless z > 0.7, |angle| < 0.2 and every coordinate but the positions x and z lies within ±100.

    Gymnasium tests state[2:] of (x, z, angle, …); observations leave out x, so that is s'[1:]. Each coordinate is
    compared by its absolute value: a rule that takes the absolute value of the comparison never tests the lower bound.
    """
    height, angle = next_observations[..., 0], next_observations[..., 1]
    bounded = (next_observations[..., 1:].abs() < 100).all(-1)
    return ~(bounded & (height > 0.7) & (angle.abs() < 0.2))


def walker2d(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """Ends unless 0.8 < z < 2 and |angle| < 1."""
    height, angle = next_observations[..., 0], next_observations[..., 1]
    return ~((height > 0.8) & (height < 2.0) & (angle.abs() < 1.0))


def ant(observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
    """Ends unless every coordinate is finite and 0.2 <= z <= 1."""
    height = next_observations[..., 0]
    return ~(next_observations.isfinite().all(-1) & (height >= 0.2) & (height <= 1.0))


def within(limit: float, rule: Rule) -> Rule:
    """The rule that also ends an episode where a coordinate of s' is not within ±`limit`."""

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
    # As OfflineRL-Kit has them.
    "halfcheetah-within-100": within(100, never),
    "walker2d-within-100": within(100, walker2d),
}


class StateBox(nn.Module):
    """The rule that an episode ends where a coordinate of s' leaves its limits; on a limit it goes on."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        """`low`, `high`: limits of each coordinate [D], infinite where there is none."""
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    @classmethod
    def of_columns(cls, bounds: Mapping[Any, Sequence[float | None]], columns: Sequence[str]) -> "StateBox":
        """The limits by the names of columns, or patterns of names such as `joint_*`; None stands for no limit.

        Where several entries take a column, each holds. Raises InputError for entries that take none.

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
        """Whether s' [B, D] is outside [B] bool; NaN is."""
        return ~((next_observations >= self.low) & (next_observations <= self.high)).all(-1)


def rule_for(env_id: str) -> str | None:
    """The rule known for an environment: `Hopper-v5` and `mopo_pl/DMSD-v0` to `hopper` and `dmsd`."""
    name = family(env_id)
    return name if name in RULES else None


def termination_rule(given: Any, env_id: str | None, columns: Sequence[str] = ()) -> Rule:
    """The rule that `termination` gives, else the one of `env_id`.

    Args:
        given: A name of the registry, an environment's id, `module:function`, or {"bounds": {column: [low, high]}}.
        env_id: The environment of the log.
        columns: Names of the observation columns, for bounds.

    Raises InputError where none is given and none is known.

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
