"""`TransitionModel`: a trained ensemble with its elites, and its files `dynamics.safetensors` and `dynamics.json`."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Generator, Tensor

from mopo_pl.dynamics.ensemble import ENSEMBLE_ARGUMENTS, GaussianEnsemble
from mopo_pl.errors import InputError
from mopo_pl.nn.hparams import plain_arguments
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.nn.stored_weights import read_weights, refuse_larger
from mopo_pl.storage.atomic_write import atomic_write
from mopo_pl.storage.stored_json import read_json


class TransitionModel:
    """The learned transitions T̂: each simulated step is sampled from one elite member, drawn uniformly for each row and step."""

    def __init__(self, *, ensemble: GaussianEnsemble, elites: Tensor) -> None:
        """Create the model. `ensemble` is frozen in place. `elites` are the indices of the elite members [K], best first."""
        self.ensemble = ensemble.eval().requires_grad_(False)
        self.elites = elites

    def to(self, device: torch.device | str) -> "TransitionModel":
        """Move weights and elites to a device; return this model."""
        self.ensemble.to(device)
        self.elites = self.elites.to(device)
        return self

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map (s, a) [B, D + A] to every member's mean and standard deviation of (r, Δs) [E, B, 1 + D], in the log's units."""
        mean, log_var = self.ensemble.in_raw_units(inputs)
        return mean, torch.exp(0.5 * log_var)

    def draw(self, observations: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw the elite of each row [B] and ε ~ N(0, I) [B, 1 + D] for states [B, D]."""
        (rows, dim), device = observations.shape, observations.device
        member = self.elites[torch.randint(len(self.elites), (rows,), generator=generator, device=device)]
        return member, torch.randn(rows, 1 + dim, generator=generator, device=device, dtype=observations.dtype)

    def sample(
        self, observations: Tensor, mean: Tensor, std: Tensor, member: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return s' [B, D] and r [B], computed as μ + σε of each row's member from the results of `draw`.

        Both are sampled, as in the original code of Yu et al. 2020.
        """
        row = torch.arange(len(observations), device=observations.device)
        outcome = mean[member, row] + std[member, row] * noise
        return observations + outcome[:, 1:], outcome[:, 0]

    def hash(self) -> str:
        """Return the SHA-256 of weights, normalisers and elites."""
        digest = hashlib.sha256(self.elites.cpu().numpy().tobytes())
        for name, tensor in sorted(self.ensemble.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


REPAIR = "remove dynamics.safetensors and dynamics.json there, and resume that run, which fits it again"
"""Advice in the error message for a model that cannot be read."""


def save_model(model: TransitionModel, folder: Path, facts: dict[str, Any]) -> str:
    """Write the model's two files atomically and return its hash. `facts` are added to `dynamics.json`."""
    ensemble = model.ensemble
    shape = plain_arguments(ensemble, ENSEMBLE_ARGUMENTS)
    if shape["newest_dim"] is None:  # left out, so that earlier versions can read the file
        del shape["newest_dim"]
    digest = model.hash()
    description = {"shape": shape, "elites": model.elites.tolist(), "hash": digest, **facts}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in ensemble.state_dict().items()}
    with atomic_write(folder / "dynamics.safetensors") as aside:
        aside.write_bytes(save(weights))
    with atomic_write(folder / "dynamics.json") as aside:
        aside.write_text(json.dumps(description, indent=2) + "\n")
    return digest


def load_model(folder: Path | str) -> TransitionModel:
    """Read a model that `save_model` wrote, such as the ensemble in a run's folder.

    Raises InputError if a file is missing or damaged, if the described network does not match the weights, if a weight is not
    finite, if an elite is not the index of a member, or if the hash differs.
    """
    folder = Path(folder).expanduser()
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


def untrained(
    *, obs_dim: int, action_dim: int, members: int, hidden_sizes: Sequence[int], newest_dim: int | None = None
) -> GaussianEnsemble:
    """Return an ensemble whose weights and normalisers are loaded later."""
    return GaussianEnsemble(
        obs_dim=obs_dim,
        action_dim=action_dim,
        members=members,
        hidden_sizes=hidden_sizes,
        normaliser=Normaliser.identity(obs_dim + action_dim),
        target_normaliser=Normaliser.identity(1 + (newest_dim or obs_dim)),
        generator=generator_for(0, "overwritten"),
        newest_dim=newest_dim,
    )


def _read(folder: Path) -> TransitionModel:
    description = read_json(folder / "dynamics.json")
    weights = read_weights(folder / "dynamics.safetensors")
    shape, elites = description["shape"], description["elites"]
    newest = shape.get("newest_dim")
    states = shape["obs_dim"] if newest is None else newest
    sizes = [shape["obs_dim"] + shape["action_dim"], *shape["hidden_sizes"], 2 * (1 + states)]
    refuse_larger(shape, sizes, weights, copies=shape["members"])
    if states > shape["obs_dim"]:
        raise ValueError(f"newest_dim={states} is more than obs_dim={shape['obs_dim']}")
    known = isinstance(elites, list) and all(type(elite) is int and 0 <= elite < shape["members"] for elite in elites)
    if not known or not elites or len(set(elites)) < len(elites):
        raise ValueError(f"elites={elites} are not numbers of different members, 0 to {shape['members'] - 1}")
    ensemble = untrained(**shape)
    ensemble.load_state_dict(weights)
    model = TransitionModel(ensemble=ensemble, elites=torch.tensor(elites))
    if model.hash() != description["hash"]:
        raise InputError(f"{folder / 'dynamics.safetensors'} does not fit dynamics.json: the hash differs: {REPAIR}")
    return model
