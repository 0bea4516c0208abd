"""Read and write the two files of a policy: the weights, and a description in JSON."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import save

from mopo_pl.errors import InputError
from mopo_pl.nn.hparams import CLASS, class_name, plain_arguments
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.nn.stored_weights import read_weights, refuse_larger
from mopo_pl.sac.actor import ACTOR_ARGUMENTS, TanhGaussianActor
from mopo_pl.storage.atomic_write import atomic_write, sha256_of
from mopo_pl.storage.hub import downloaded, is_hub
from mopo_pl.storage.stored_json import read_json

FORMAT = 3
"""Format number of a policy with a window of observations; 2 with a user's actor class; else 1, which older versions read."""
MakeActor = Callable[..., TanhGaussianActor]


class StoredPolicy(NamedTuple):
    """The content of the two files, which are the arguments of `Policy`."""

    actor: TanhGaussianActor
    action_low: np.ndarray
    """Lower bounds of the actions, [A] float32, in the environment's units."""
    action_high: np.ndarray
    """Upper bounds of the actions, [A] float32, in the environment's units."""
    meta: Mapping[str, Any]
    history: int
    """Number of observations in a state."""


def write_policy(folder: Path, stored: StoredPolicy) -> None:
    """Write `policy.safetensors` and `policy.json`, each to a temporary file that is then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    actor, history = stored.actor, stored.history
    own = {} if type(actor) is TanhGaussianActor else {CLASS: class_name(type(actor))}
    description = {
        "format": FORMAT if history > 1 else 2 if own else 1,
        **({"history": history} if history > 1 else {}),
        "actor": {**plain_arguments(actor, ACTOR_ARGUMENTS), **own},
        "action_low": stored.action_low.tolist(),
        "action_high": stored.action_high.tolist(),
        "normaliser": {"mean": actor.normaliser.mean.tolist(), "std": actor.normaliser.divisor.tolist()},
        **stored.meta,
    }
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in actor.state_dict().items()})
    description["sha256"] = hashlib.sha256(weights).hexdigest()
    with atomic_write(folder / "policy.safetensors") as aside:
        aside.write_bytes(weights)
    with atomic_write(folder / "policy.json") as aside:
        aside.write_text(json.dumps(description, indent=2) + "\n")


@contextmanager
def damage_told(folder: Path) -> Iterator[None]:
    """Raise an InputError that names the folder for any error while the two files in it are read."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} holds no policy: policy.json and policy.safetensors must be there, which a run writes at its end "
            "(runs/latest is the newest that was begun)"
        ) from error
    except InputError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{folder} holds a damaged policy ({error}); copy it again, or resume its run") from error


def read_policy(folder: Path, make: MakeActor | None) -> StoredPolicy:
    """Read the two files of a policy. `make`: the class of a user's actor; None: `TanhGaussianActor`.

    Raises InputError if a newer version wrote the files, or if the policy has a user's actor class and `make` is None. Damaged files raise
    further errors, which `damage_told` turns into an InputError.
    """
    description = read_json(folder / "policy.json")
    weights = read_weights(folder / "policy.safetensors")
    if description.pop("format") > FORMAT:
        raise InputError(f"{folder} was written by a newer version of mopo_pl: upgrade to read it")
    # Files of earlier versions hold no SHA-256.
    if description.pop("sha256", None) not in (None, sha256_of(folder / "policy.safetensors")):
        raise ValueError("policy.safetensors has another SHA-256 than policy.json names")
    shape, history = description.pop("actor"), description.pop("history", 1)
    saved = shape.pop(CLASS, None)
    if saved is not None and make is None:
        name = saved.rpartition(":")[2]
        raise InputError(
            f"the actor of {folder} is a {saved}: give its class, Policy.load({str(folder)!r}, actor={name}), or "
            f"--actor {saved} to evaluate"
        )
    description.pop("normaliser")
    with np.errstate(over="ignore"):  # values that overflow to inf are refused below
        low, high = (np.array(description.pop(key), np.float32) for key in ("action_low", "action_high"))
    if low.shape != (shape["action_dim"],) or high.shape != low.shape or not np.isfinite([low, high]).all():
        raise ValueError("the bounds of its actions are not finite, or not one for each")
    if not (low < high).all():
        raise ValueError("a lower bound of its actions is not below the higher one")
    _refuse_values(shape, history, description)
    kind = TanhGaussianActor if saved is None or make is None else make
    hidden = shape["hidden_sizes"] if kind is TanhGaussianActor else []
    refuse_larger(shape, [shape["obs_dim"], *hidden, 2 * shape["action_dim"] if hidden else 1], weights)
    identity = Normaliser.identity(shape["obs_dim"])
    actor = kind(**shape, normaliser=identity, generator=generator_for(0, "overwritten"))
    actor.load_state_dict(weights)
    return StoredPolicy(actor, low, high, description, history)


def folder_of(place: Path | str) -> Path:
    """Return the folder that contains the two files of a policy. `place`: any path or name that `Policy.load` accepts."""
    if is_hub(place):
        return downloaded(str(place))
    try:
        folder = Path(place).expanduser()
        folder = folder.parent if folder.name in ("policy.json", "policy.safetensors") else folder
        return folder / "policy" if (folder / "policy").is_dir() else folder
    except (RuntimeError, OSError) as error:  # no such user after ~; a name that is too long
        why = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise InputError(f"{place} is no folder ({why}): give that of a run, or of its policy") from error


def _refuse_values(shape: Mapping[str, Any], history: Any, meta: Mapping[str, Any]) -> None:
    """Raise ValueError if the description of a policy holds invalid dimensions, bounds of log σ, environment or dataset."""
    widths = shape["obs_dim"], shape["action_dim"], history
    if not all(type(width) is int and width >= 1 for width in widths):
        raise ValueError("obs_dim, action_dim and history must be whole numbers from 1 on")
    if (shape["obs_dim"] + shape["action_dim"]) % history:
        raise ValueError(f"obs_dim={shape['obs_dim']} is no window of {history} observations")
    if not isinstance(meta.get("env_id"), str | None) or not isinstance(meta.get("env_kwargs", {}), dict):
        raise ValueError("env_id must be a text or null, and env_kwargs an object")
    if not isinstance(meta.get("dataset", {}), dict):
        raise ValueError("dataset must be an object")
    if not -math.inf < shape["log_std_min"] < shape["log_std_max"] < math.inf:
        raise ValueError("log_std_min and log_std_max must be finite and ascending")
