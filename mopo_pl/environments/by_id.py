"""Create environments by their Gymnasium id."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

import gymnasium

import mopo_pl.environments  # noqa: F401  registers mopo_pl/DMSD-v0
from mopo_pl.errors import InputError


def family(env_id: str) -> str:
    """Return an environment's lower-case name without namespace and version.

    >>> family("mopo_pl/DMSD-v0")
    'dmsd'
    """
    return re.sub(r"-v\d+$", "", env_id.rsplit("/", 1)[-1]).lower()


def make_environment(env_id: str, env_kwargs: Mapping[str, Any]) -> gymnasium.Env:
    """Create an environment by `gymnasium.make(env_id, **env_kwargs)`.

    Raises InputError if the id is unknown, a package is missing, or the environment does not accept `env_kwargs`.
    """
    try:
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
