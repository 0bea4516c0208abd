"""Write a collected log as a file or a Minari dataset, with metadata about its origin."""

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

from mopo_pl.config.schema import DataConfig
from mopo_pl.data.findings import of_level
from mopo_pl.data.log.opening import examine
from mopo_pl.data.readers.arrays import INFOS
from mopo_pl.data.readers.minari import store
from mopo_pl.data.readers.minari_store import written_aside
from mopo_pl.environments.by_id import make_environment
from mopo_pl.errors import InputError
from mopo_pl.storage.atomic_write import atomic_write, make_target, refuse_unwritable

FILES = (".hdf5", ".npz")
Arrays = Mapping[str, np.ndarray]


def refuse_target(out: str) -> None:
    """Raise InputError if a name is neither a file name nor a Minari id, exists already, or its folder cannot be written."""
    if Path(out).suffix in FILES:
        taken = Path(out).expanduser().exists()
    elif re.fullmatch(r"([\w.-]+/)*[\w.-]+-v\d+", out):
        taken = (store() / out).exists()
    else:
        raise InputError(
            f"{out} is neither a file ending in {' or '.join(FILES)}, nor a Minari id, which ends in -v0, -v1, …"
        )
    if taken:
        raise InputError(f"{out} is there already: remove it, or choose another name")
    if Path(out).suffix in FILES:
        refuse_unwritable(Path(out).expanduser().parent)


def write_log(out: str, fields: Arrays, infos: Arrays, metadata: dict[str, Any]) -> str:
    """Write a log; return the hash of the dataset that `dataset=` reads from it.

    If the last episode did not end, its last row is marked as a time limit in a Minari dataset, and is not marked in a file.

    Args:
        out: File or Minari id, which `refuse_target` has accepted.
        fields: Arrays of the log, by field.
        infos: Infos of each step, by name.
        metadata: Metadata of the log. The hash is added to it as `sha256`.

    """
    if Path(out).suffix not in FILES:
        return _write_minari(out, fields, infos, metadata)
    path = Path(out).expanduser()
    make_target(path.parent)
    # The draft has the suffix of the file, because the suffix chooses the reader.
    with atomic_write(path) as aside:
        draft = aside.with_name(f".draft-{path.name}")
        try:
            _write_file(draft, fields, infos, metadata)
            metadata["sha256"] = _hash(str(draft), metadata)
            _write_file(draft, fields, infos, metadata)
            draft.replace(aside)
        finally:
            draft.unlink(missing_ok=True)
    return metadata["sha256"]


def _hash(name: str, metadata: Mapping[str, Any]) -> str:
    """Return the hash of the rows as a run reads them. Findings of the checks are ignored, because `inspect` reports them.

    Raises InputError if the log cannot be opened.
    """
    env_id, env_kwargs = metadata["env_id"], metadata["env_kwargs"]
    dataset, findings = examine(name=name, data=DataConfig(), env_id=env_id, env_kwargs=env_kwargs)
    if dataset is None:
        raise InputError(list(of_level("STOP", findings)))
    return dataset.hash


def _write_file(path: Path, fields: Arrays, infos: Arrays, metadata: Mapping[str, Any]) -> None:
    arrays = {**fields, **{f"{INFOS}{name}": values for name, values in infos.items()}}
    text = json.dumps(metadata)
    if path.suffix == ".npz":
        with path.open("wb") as file:
            origin = {"env_id": metadata["env_id"], "env_kwargs": json.dumps(metadata["env_kwargs"]), "metadata": text}
            texts = {name: np.array(value) for name, value in origin.items()}
            np.savez_compressed(file, **texts, **arrays)  # type: ignore[arg-type]  # the type checker matches the arrays with allow_pickle
        return
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="gzip", compression_opts=1)
        file.attrs["env_id"], file.attrs["env_kwargs"] = metadata["env_id"], json.dumps(metadata["env_kwargs"])
        file.attrs["metadata"] = text


def _write_minari(name: str, fields: Arrays, infos: Arrays, metadata: dict[str, Any]) -> str:
    environment = make_environment(metadata["env_id"], metadata["env_kwargs"])
    low, high = metadata["reference_returns"] or (None, None)
    with written_aside(name), warnings.catch_warnings():
        # Minari warns that no author and no link to the code are given.
        warnings.simplefilter("ignore", UserWarning)
        dataset = minari.create_dataset_from_buffers(
            name,
            buffer=_episodes(fields, infos, environment),
            env=environment,
            algorithm_name=metadata["policy"],
            description=f"Collected by mopo_pl: {metadata['command']}",
            ref_min_score=low,
            ref_max_score=high,
        )
        metadata["sha256"] = _hash(name, metadata)
        dataset.storage.update_metadata({"mopo_pl": json.dumps(metadata)})
    environment.close()
    return metadata["sha256"]


def _episodes(fields: Arrays, infos: Arrays, environment: gymnasium.Env) -> list[EpisodeBuffer]:
    """Return the episodes as Minari buffers, each with one observation more than steps, and NaN as the infos of its first observation."""
    rows = len(fields["rewards"])
    ends = np.append(np.flatnonzero(fields["terminals"] | fields["timeouts"]) + 1, rows)
    episodes = []
    for first, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        if first == end:
            continue
        part = slice(first, end)
        truncations = fields["timeouts"][part].copy()
        truncations[-1] |= not fields["terminals"][end - 1]
        shape = environment.observation_space.shape
        observations = np.concatenate([fields["observations"][part], fields["next_observations"][end - 1 : end]])
        episodes.append(
            EpisodeBuffer(
                id=len(episodes),
                observations=list(observations.reshape(-1, *(shape or ()))),
                actions=list(fields["actions"][part].reshape(-1, *(environment.action_space.shape or ()))),
                rewards=fields["rewards"][part].tolist(),
                terminations=fields["terminals"][part].tolist(),
                truncations=truncations.tolist(),
                infos={name: np.append(np.float32(np.nan), values[part]) for name, values in infos.items()},
            )
        )
    return episodes
