"""Read mapping files, with which users describe their logs, such as `dataset=my_plant.yaml`. Their keys are those of conf/dataset.

A mapping may come from someone else, so it is read as `mopo_pl.config.foreign` describes.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mopo_pl.config.foreign import is_repeated, reaches_out, read_yaml, refusal, refuse_unfilled, texts_of
from mopo_pl.errors import InputError

SUFFIXES = (".yaml", ".yml")
NOT_OF_A_LOG = ("callbacks", "dataset", "dynamics_from", "logger", "preset", "resume", "run_dir")
"""Keys that a mapping may not set, because they choose output files and further code and do not describe the log."""
NO_CODE = ("data.columns.", "data.units.", "data.source", "data.d4rl_folder", "trainer.max_time")
"""Keys whose values may contain a colon and never name code."""


def is_mapping(dataset: str) -> bool:
    """Return whether `dataset` names a mapping file.

    >>> is_mapping("plants/my_plant.yaml"), is_mapping("log.npz")
    (True, False)
    """
    return Path(dataset).suffix.lower() in SUFFIXES


def read_mapping(path: Path, given: Collection[str], problems: list[str], *, trust: bool = False) -> DictConfig:
    """Return the values of a mapping file, with `data.source` resolved relative to the folder of the file.

    Args:
        path: The file.
        given: Keys of the command line, which override those of the mapping.
        problems: One message is appended for each key that a mapping may not set, and for each that names code and is
            not in `given`.
        trust: Whether the command line allows all code that the mapping names.

    Raises InputError if the file is missing, or `read_yaml` or `refuse_unfilled` does not accept it.

    """
    if not path.is_file():
        raise InputError(f"dataset={path}: there is no such file")
    values = read_yaml(path)
    for key in [key for key in map(str, values) if key in NOT_OF_A_LOG]:
        problems.append(f"{path}: {key} cannot be set in a mapping file; give it on the command line")
        del values[key]
    refuse_unfilled(values, path)
    for key, text in texts_of(OmegaConf.to_container(values, resolve=False), ""):
        if _must_be_repeated(key, text) and not trust and not is_repeated(key, given):
            problems.append(refusal(path, key, text, f"give {key}={text} on the command line too, or trust=true"))
    data = values.get("data")
    if isinstance(data, DictConfig) and isinstance(data.get("source"), str):
        data.source = _seen_from(path.parent, data.source)
    return values


def _must_be_repeated(key: str, text: str) -> bool:
    """Return whether a value names code, or a file or address that an environment would read."""
    if key.startswith("env_kwargs"):
        return reaches_out(text)
    return ":" in text and not key.startswith(NO_CODE)


def _seen_from(folder: Path, source: str) -> str:
    """Return the absolute path of a file or folder; return other sources (`collect:…`, ids) unchanged."""
    path = folder / Path(source).expanduser()
    if source.startswith("collect:") or (re.search(r"-v\d+$", source) and not path.exists()):
        return source
    return os.path.abspath(path)  # removes "..", and does not resolve links
