"""Create environments by their Gymnasium id."""

import difflib
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium

import mopo_pl.environments  # noqa: F401  registers the package's own
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
"""Warnings of Gymnasium that this process has printed."""


@contextmanager
def _warnings_said_once() -> Iterator[None]:
    """Print each warning of the block as one line, unless it was printed before: a run makes its environment many times."""
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

    Raises InputError if the id is unknown, a package is missing, or the environment does not accept `env_kwargs`.
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
