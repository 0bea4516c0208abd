"""Minari datasets: of the local store, or downloaded when the hub can be reached."""

import logging
from typing import Any

import gymnasium
import minari
import numpy as np
from minari.dataset.minari_dataset import MinariDataset
from minari.storage.datasets_root_dir import get_dataset_path

from mopo_pl.data.raw_log import RawLog
from mopo_pl.errors import InputError


def read_minari(name: str) -> RawLog:
    """Flattens the episodes of a dataset; all next states are known, as Minari stores T + 1 observations.

    Raises InputError where the dataset is neither in the store nor downloadable, or its spaces are not boxes.
    """
    dataset = _load(name)
    for kind, space in (("observations", dataset.observation_space), ("actions", dataset.action_space)):
        if not isinstance(space, gymnasium.spaces.Box):
            raise InputError(f"Minari dataset {name}: {kind} are a {type(space).__name__} space; MOPO needs a Box")
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
        **_environment(dataset),
    )


def _episodes(dataset: MinariDataset, name: str) -> list[Any]:
    """Those that have steps."""
    try:
        return [episode for episode in dataset.iterate_episodes() if len(episode.rewards)]
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(f"Minari dataset {name} is damaged ({error}); delete it and download it again") from error


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def _last_is_limit(episode: Any) -> np.ndarray:
    """An episode that merely stops was cut: for learning that is a time limit."""
    timeouts = np.array(episode.truncations, bool)
    timeouts[-1] |= not episode.terminations[-1]
    return timeouts


def _environment(dataset: MinariDataset) -> dict[str, Any]:
    spec = dataset.env_spec
    return {} if spec is None else {"env_id": spec.id, "env_kwargs": dict(spec.kwargs)}


def _load(name: str) -> MinariDataset:
    logging.getLogger("minari").setLevel(logging.ERROR)
    try:
        if name in minari.list_local_datasets():
            return minari.load_dataset(name)
        return minari.load_dataset(name, download=True)
    except Exception as error:
        store = get_dataset_path("")
        raise InputError(
            f"{name} is neither a file, nor in the local Minari store ({store}), nor could it be downloaded "
            f"({type(error).__name__}: {error}); give a file, or download it where the hub can be reached"
        ) from error
