"""Environments by their Gymnasium id, the project's own among them."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

import gymnasium

import mopo_pl.environments  # noqa: F401  registers the project's own
from mopo_pl.errors import InputError


def family(env_id: str) -> str:
    """What an environment is called whatever its namespace and version: `mopo_pl/DMSD-v0` to `dmsd`."""
    return re.sub(r"-v\d+$", "", env_id.rsplit("/", 1)[-1]).lower()


def make_environment(env_id: str, env_kwargs: Mapping[str, Any]) -> gymnasium.Env:
    """`gymnasium.make`; raises InputError that says what is missing."""
    try:
        return gymnasium.make(env_id, **env_kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        extra = "; pip install -c constraints.txt -e '.[mujoco]'" if "mujoco" in str(error).lower() else ""
        raise InputError(f"env_id={env_id} needs a package that is not installed: {error}{extra}") from error
    except (gymnasium.error.Error, ImportError) as error:
        near = difflib.get_close_matches(env_id, list(gymnasium.registry), 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"env_id={env_id} cannot be made: {error}{hint}") from error
    except TypeError as error:
        raise InputError(f"env_kwargs={dict(env_kwargs)} do not fit {env_id}: {error}") from error
