"""Reader of Minari datasets, from the local store or downloaded from the hub."""

import logging
import os
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from minari.dataset.minari_dataset import MinariDataset
from minari.storage.datasets_root_dir import get_dataset_path

from mopo_pl.data.readers.hdf5 import refuse_outside
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.data.readers.sizes import brief
from mopo_pl.errors import InputError
from mopo_pl.storage.stored_json import read_json


def read_minari(name: str) -> RawLog:
    """Read a dataset and concatenate its episodes. All next states are known, as Minari stores T + 1 observations per episode.

    Raises InputError if the dataset is neither in the store nor downloadable, is damaged, or has spaces that are not boxes.
    """
    dataset = _load(name)
    for kind, space in (("observations", dataset.observation_space), ("actions", dataset.action_space)):
        if not isinstance(space, gymnasium.spaces.Box):
            raise InputError(f"Minari dataset {name}: {kind} are a {type(space).__name__} space; MOPO needs a Box")
        if space.dtype == np.uint8 and len(space.shape) > 1:
            raise InputError(f"Minari dataset {name}: {kind} are images {list(space.shape)}; MOPO needs [N, D] numbers")
    episodes = _episodes(dataset, name)
    if not episodes:
        raise InputError(f"Minari dataset {name} has no episodes of at least one step")
    action_space: Any = dataset.action_space
    return RawLog(
        source=f"Minari dataset {name}",
        observations=np.concatenate([_flat(episode.observations[:-1]) for episode in episodes]),
        next_observations=np.concatenate([_flat(episode.observations[1:]) for episode in episodes]),
        actions=np.concatenate([_flat(episode.actions) for episode in episodes]),
        rewards=np.concatenate([episode.rewards for episode in episodes]),
        terminals=np.concatenate([episode.terminations for episode in episodes]),
        timeouts=np.concatenate([_last_is_limit(episode) for episode in episodes]),
        bounds=(action_space.low.ravel(), action_space.high.ravel()),
        infos=_infos(episodes),
        **_environment(dataset),
    )


def minari_files(name: str) -> list[Path]:
    """Return the files of a dataset in the local store; empty if it must be downloaded first."""
    folder = store() / name / "data"
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _episodes(dataset: MinariDataset, name: str) -> list[Any]:
    """Return the episodes that have steps. Raises InputError if the dataset is damaged."""
    try:
        return [episode for episode in dataset.iterate_episodes() if len(episode.rewards)]
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(
            f"Minari dataset {name} is damaged ({brief(error)}); delete it and download it again"
        ) from error


def _infos(episodes: list[Any]) -> dict[str, np.ndarray]:
    """Return the infos that hold one number per step, by name, [N]. Minari stores T + 1 values, the first of which belongs to the reset."""
    columns: dict[str, list[np.ndarray]] = {}
    for episode in episodes:
        for name, values in (episode.infos or {}).items():
            if np.shape(values) == (len(episode.rewards) + 1,):
                columns.setdefault(name, []).append(np.asarray(values)[1:])
    return {name: np.concatenate(parts) for name, parts in columns.items() if len(parts) == len(episodes)}


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def _last_is_limit(episode: Any) -> np.ndarray:
    """Return the truncation flags of an episode, [T] bool. An episode that ends without a flag was cut, which counts as a time limit."""
    timeouts = np.array(episode.truncations, bool)
    timeouts[-1] |= not episode.terminations[-1]
    return timeouts


def _environment(dataset: MinariDataset) -> dict[str, Any]:
    spec = dataset.env_spec
    return {} if spec is None else {"env_id": spec.id, "env_kwargs": dict(spec.kwargs)}


def store() -> Path:
    """Return Minari's folder of datasets; raise InputError if it is not an absolute path or cannot be created."""
    given = os.environ.get("MINARI_DATASETS_PATH")
    if given is not None and not Path(given).is_absolute():
        raise InputError(f"MINARI_DATASETS_PATH={given!r} must be the full path of a folder")
    try:
        return Path(get_dataset_path(""))
    except OSError as error:
        raise InputError(f"Minari's folder {error.filename} cannot be made ({error.strerror})") from error


def _load(name: str) -> MinariDataset:
    logging.getLogger("minari").setLevel(logging.ERROR)
    folder = store()
    path = folder / name / "data"
    try:
        if path.is_dir():
            _refuse_without_spaces(path, name)
            _refuse_outside(path)
            return minari.load_dataset(name)
        return minari.load_dataset(name, download=True)
    except InputError:
        raise
    except Exception as error:
        if path.is_dir():
            raise InputError(
                f"Minari dataset {name} is damaged, or no dataset ({type(error).__name__}: {brief(error)}); delete {path.parent}"
            ) from error
        raise InputError(
            f"{name} is neither a file, nor in the local Minari store ({folder}), nor could it be downloaded "
            f"({type(error).__name__}: {brief(error)}); give a file, or download it where the hub can be reached"
        ) from error


def _refuse_without_spaces(path: Path, name: str) -> None:
    """Raise InputError if the dataset does not store its spaces: Minari would then make its environment, which may import any module."""
    metadata = read_json(path / "metadata.json")
    if not {"observation_space", "action_space"} <= set(metadata):
        raise InputError(f"Minari dataset {name} does not store its spaces; it is not read, as that would run its code")


def _refuse_outside(path: Path) -> None:
    """Raise InputError if data are stored outside the dataset, or declare larger sizes than they have. Minari does not check this."""
    for file in sorted(path.rglob("*")):
        if not file.is_file() and not file.is_dir():
            raise InputError(f"{file} is a pipe, a device or a link to nothing: it is no dataset of Minari")
        if file.suffix == ".hdf5":
            refuse_outside(file)
