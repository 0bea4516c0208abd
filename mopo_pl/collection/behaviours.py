"""The behaviours, which choose the actions while a log is collected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mopo_pl.config.registry import lookup
from mopo_pl.environments.stepping import SteppedEnvironment
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy

Behaviour = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""A function from an observation [D] and a generator to an action [A] in the environment's units. It has no state but the generator's."""


def uniform(environment: SteppedEnvironment) -> Behaviour:
    """Return a behaviour that draws actions uniformly between their bounds, as in D4RL's `random` datasets."""
    low, high = environment.action_low, environment.action_high
    return lambda observation, rng: rng.uniform(low, high).astype(np.float32)


def named(name: str, environment: SteppedEnvironment) -> Behaviour:
    """Return the behaviour of a name: `random`, a `module:function` of the observation [D], or a run folder.

    The policy in a run folder acts with its mean action. Raises InputError if the name cannot be found, or the behaviour does not give
    valid actions in this environment.
    """
    if name == "random":
        return uniform(environment)
    if Path(name).expanduser().exists():
        return _acting(Policy.load(name), name, environment)
    if ":" not in name:
        raise InputError(f"--policy {name} is neither random, nor sac, nor module:function, nor a run folder")
    try:
        function = lookup("policy", name, {})
    except ValueError as error:
        raise InputError(f"--policy {name}: {error}") from error
    return _acting(function, name, environment)


def drawn_from(policy: Policy) -> Behaviour:
    """Return a behaviour that draws actions from π(a|s), as in D4RL's `medium` and `expert` datasets."""
    dim = policy.actor.action_dim
    return lambda observation, rng: policy.with_noise(observation, torch.from_numpy(rng.standard_normal(dim)).float())


def noisy(behaviour: Behaviour, environment: SteppedEnvironment, noise: float) -> Behaviour:
    """Return a behaviour with added noise ε ~ N(0, `noise`²), in units of half the actions' range, clipped to the bounds."""
    low, high = environment.action_low, environment.action_high
    half = (high - low) / 2

    def act(observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        action = behaviour(observation, rng) + noise * half * rng.standard_normal(len(low))
        return np.clip(action, low, high).astype(np.float32)

    return act if noise else behaviour


def _acting(act: Callable[[np.ndarray], Any], name: str, environment: SteppedEnvironment) -> Behaviour:
    """Return a function as a behaviour; raise InputError if it gives no action [A] within the bounds for the first observation."""
    low, high = environment.action_low, environment.action_high
    try:
        action = np.asarray(act(environment.observation.copy()), np.float32)
    except Exception as error:
        raise InputError(f"--policy {name} fails when it is called: {type(error).__name__}: {error}") from error
    if action.shape != low.shape or not ((action >= low) & (action <= high)).all():
        raise InputError(
            f"--policy {name} must give an action {list(low.shape)} between {low.tolist()} and {high.tolist()}; "
            f"it gave {action.tolist()}"
        )
    return lambda observation, rng: np.asarray(act(observation), np.float32)
