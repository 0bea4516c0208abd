"""The trained model on disk: `dynamics.safetensors` and `dynamics.json`."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.layers import Normaliser
from mopo_pl.problems import InputError
from mopo_pl.streams import stream
from mopo_pl.whole_file import whole_file

REPAIR = "remove dynamics.safetensors and dynamics.json there, and resume that run, which fits it again"
"""What to do about a model that cannot be used."""


def save_model(model: TransitionModel, folder: Path, facts: dict[str, Any]) -> str:
    """Writes both files, each aside first and then renamed; returns the model's hash. `facts` go into the JSON."""
    ensemble = model.ensemble
    shape = {
        "obs_dim": ensemble.obs_dim,
        "action_dim": ensemble.action_dim,
        "members": ensemble.members,
        "hidden_sizes": list(ensemble.hidden_sizes),
    }
    digest = model.hash()
    description = {"shape": shape, "elites": model.elites.tolist(), "hash": digest, **facts}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in ensemble.state_dict().items()}
    with whole_file(folder / "dynamics.safetensors") as aside:
        aside.write_bytes(save(weights))
    with whole_file(folder / "dynamics.json") as aside:
        aside.write_text(json.dumps(description, indent=2) + "\n")
    return digest


def load_model(folder: Path) -> TransitionModel:
    """Reads what `save_model` wrote. Raises InputError where a file is missing, damaged, or not of the weights' hash."""
    try:
        return _read(folder)
    except InputError:
        raise
    except FileNotFoundError as error:
        # Not error.filename: safetensors leaves it empty.
        missing = [name for name in ("dynamics.json", "dynamics.safetensors") if not (folder / name).exists()]
        hint = f"; {REPAIR}" if len(missing) == 1 else ""
        raise InputError(f"{folder} holds no trained model: {' and '.join(missing)} missing{hint}") from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{folder} holds a damaged model ({error}): {REPAIR}") from error


def _read(folder: Path) -> TransitionModel:
    description = json.loads((folder / "dynamics.json").read_text())
    weights = load_file(folder / "dynamics.safetensors")
    shape = description["shape"]
    ensemble = GaussianEnsemble(
        **shape,
        normaliser=Normaliser.identity(shape["obs_dim"] + shape["action_dim"]),
        target_normaliser=Normaliser.identity(1 + shape["obs_dim"]),
        generator=stream(0, "overwritten"),
    )
    ensemble.load_state_dict(weights)
    model = TransitionModel(ensemble=ensemble, elites=torch.tensor(description["elites"]))
    if model.hash() != description["hash"]:
        raise InputError(f"{folder / 'dynamics.safetensors'} does not fit dynamics.json: the hash differs: {REPAIR}")
    return model
