"""Create environments by their Gymnasium id."""

import difflib
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

import mopo_pl.environments  # noqa: F401  registers the environments of the package
from mopo_pl.config.registry import add_current_folder
from mopo_pl.distributed.console import print_once
from mopo_pl.errors import InputError


def family(env_id: str) -> str:
    """Return an environment's lower-case name without namespace and version.

    >>> family("mopo_pl/DMSD-v0")
    'dmsd'
    """
    return re.sub(r"-v\d+$", "", env_id.rsplit("/", 1)[-1]).lower()


_printed: set[str] = set()
"""Warnings of Gymnasium that this process has already printed."""


@contextmanager
def _warnings_said_once() -> Iterator[None]:
    """Print each warning raised in the block as one line, unless it was printed before.

    A run creates its environment many times, and would print the same warnings each time.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        text = re.sub(r"\x1b\[\d*m", "", str(warning.message)).removeprefix("WARN: ").replace("\n", " ")
        if text not in _printed:
            _printed.add(text)
            print_once(f"warning: {text}")


def make_environment(env_id: str, env_kwargs: Mapping[str, Any]) -> gymnasium.Env:
    """Create an environment by `gymnasium.make(env_id, **env_kwargs)`.

    Raises InputError if the id is unknown, a package is missing, the environment does not accept `env_kwargs`, or its constructor
    raises an exception.
    """
    if ":" in env_id:
        add_current_folder()
    try:
        with _warnings_said_once():
            return gymnasium.make(env_id, **env_kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        extra = "; pip install -c constraints.txt -e '.[mujoco]'" if "mujoco" in str(error).lower() else ""
        raise InputError(f"env_id={env_id} needs a package that is not installed: {error}{extra}") from error
    except (gymnasium.error.Error, ImportError) as error:
        near = difflib.get_close_matches(env_id, list(gymnasium.registry), 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"env_id={env_id} cannot be created: {error}{hint}") from error
    except TypeError as error:
        raise InputError(f"env_kwargs={dict(env_kwargs)} are not accepted by {env_id}: {error}") from error
    except (Exception, SystemExit) as error:  # an environment may raise anything
        with_arguments = f" with env_kwargs={dict(env_kwargs)}" if env_kwargs else ""
        raise InputError(f"env_id={env_id} cannot be created{with_arguments}: {_in_brief(error)}") from error


def tried_environment(env_id: str, env_kwargs: Mapping[str, Any]) -> gymnasium.Env:
    """Create an environment as `make_environment` does, and call `reset` and `step` once, with the action nearest to 0.

    Raises InputError as `make_environment` does, and if one of the calls raises an exception or returns values that are not finite
    or not of the expected shapes. The caller must close the environment.
    """
    environment = make_environment(env_id, env_kwargs)
    what = "reset"
    try:
        with _warnings_said_once():
            _refuse_values(environment.reset(seed=0), ("observation",), environment, f"reset of env_id={env_id}")
            what = "step"
            space = environment.action_space
            if isinstance(space, gymnasium.spaces.Box):
                action = np.zeros(space.shape, space.dtype).clip(space.low, space.high)
                made = environment.step(action)
                fields = ("observation", "reward", "terminated", "truncated")
                _refuse_values(made, fields, environment, f"step of env_id={env_id}")
    except InputError:
        environment.close()
        raise
    except (Exception, SystemExit) as error:  # an environment may raise anything
        environment.close()
        raise InputError(
            f"env_id={env_id} fails when its {what} is tried: {_in_brief(error)}; mend it or its env_kwargs, or set env_id=none"
        ) from error
    return environment


def _in_brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _refuse_values(made: Any, fields: tuple[str, ...], environment: gymnasium.Env, where: str) -> None:
    """Raise InputError unless `made` is a tuple of these fields and an info dict, with the right shapes and finite values."""
    if not isinstance(made, tuple) or len(made) != len(fields) + 1:
        raise InputError(
            f"{where} must give {', '.join(fields)} and info, as in Gymnasium; it gave "
            + (f"{len(made)} values" if isinstance(made, tuple) else f"a {type(made).__name__}")
        )
    for field, value in zip(fields, made, strict=False):
        shape = environment.observation_space.shape or () if field == "observation" else ()
        numbers = np.asarray(value, np.float64)
        if numbers.shape != shape:
            raise InputError(f"{where} gave {field} of shape {list(numbers.shape)}, not {list(shape)}")
        if not np.isfinite(numbers).all():
            raise InputError(f"{where} gave {field} with NaN or inf: mend the environment, or choose another")
