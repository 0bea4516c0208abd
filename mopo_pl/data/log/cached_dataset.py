"""Cache of packed logs, with keys made of the content of the files and of the settings with which they were read."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

import mopo_pl
from mopo_pl.data.dataset import ColumnNames, OfflineDataset
from mopo_pl.data.findings import Finding
from mopo_pl.data.transitions import Transitions
from mopo_pl.storage import content_cache

SMALLEST = 20_000_000
"""Smallest size of a log that is cached, in bytes; smaller logs are read fast enough without a cache."""
FOLDER = "logs"
"""Name of the folder of cached logs in the cache folder of mopo_pl."""


def key_of(files: Sequence[Path], how: Mapping[str, Any]) -> str | None:
    """Return the cache key of a log, or None if the log is small, or a file cannot be read or is mostly holes (a sparse file).

    Args:
        files: All files of the log, in their order.
        how: All settings that affect the packed log, as values that JSON can hold.

    """
    try:
        states = [path.stat() for path in files]
        if not files or sum(state.st_size for state in states) < SMALLEST or any(map(_is_mostly_holes, states)):
            return None
        digest = hashlib.sha256(json.dumps([how, _code()], sort_keys=True).encode())
        for path in files:
            with path.open("rb") as file:
                digest.update(f"\0{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
        return digest.hexdigest()
    except (OSError, TypeError):
        return None


def _is_mostly_holes(state: os.stat_result) -> bool:
    """Return whether a file of more than 1 GiB takes less than half its size on disk.

    Hashing a sparse file of 10 GB would take half a minute. On a file system with compression, such a log is not cached and is read each time.
    """
    return state.st_size > 2**30 and getattr(state, "st_blocks", state.st_size) * 512 < state.st_size // 2


@cache
def _code() -> str:
    """Return a digest of the version of mopo_pl and of the code of the readers and checks, as another version may read a log differently."""
    digest = hashlib.sha256(mopo_pl.__version__.encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def load_dataset(key: str) -> tuple[OfflineDataset, str] | None:
    """Return a cached log with its findings, and the digest of the environment's spaces that it was checked with; None if it is not cached."""
    found = content_cache.load(content_cache.cache_folder(FOLDER), key)
    if found is None:
        return None
    tensors, values = found
    dataset = OfflineDataset(
        name=values["name"],
        hash=values["hash"],
        transitions=Transitions(tensors["rows"], values["obs_dim"], values["action_dim"]),
        episode_ends=tensors["episode_ends"],
        finished=tensors["finished"],
        next_known=tensors["next_known"],
        action_low=tensors["action_low"].numpy(),
        action_high=tensors["action_high"].numpy(),
        env_id=values["env_id"],
        env_kwargs=values["env_kwargs"],
        names=ColumnNames(*map(tuple, values["names"])),
        findings=tuple(Finding(*finding) for finding in values["findings"]),
    )
    return dataset, values["spaces"]


def store_dataset(key: str, dataset: OfflineDataset, spaces: str) -> None:
    """Store a log with its findings in the cache. `spaces` is the digest of the spaces of its environment."""
    values = {
        "name": dataset.name,
        "hash": dataset.hash,
        "obs_dim": dataset.obs_dim,
        "action_dim": dataset.action_dim,
        "env_id": dataset.env_id,
        "env_kwargs": dict(dataset.env_kwargs),
        "names": [dataset.names.observations, dataset.names.actions],
        "findings": [(finding.level, finding.name, finding.text, finding.fix) for finding in dataset.findings],
        "spaces": spaces,
    }
    tensors = {
        "rows": dataset.transitions.rows,
        "episode_ends": dataset.episode_ends,
        "finished": dataset.finished,
        "next_known": dataset.next_known,
        "action_low": torch.as_tensor(dataset.action_low),
        "action_high": torch.as_tensor(dataset.action_high),
    }
    try:
        content_cache.store(content_cache.cache_folder(FOLDER), key, tensors, values)
    except (TypeError, ValueError):
        return  # some arguments of the environment cannot be stored as JSON
