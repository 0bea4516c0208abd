"""Mapping files: a log's description of the user's own, such as `dataset=my_plant.yaml`, with the keys of conf/dataset.

A mapping may come from someone else. Reading one imports nothing, reads no environment variable and follows no alias.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from mopo_pl.errors import InputError

SUFFIXES = (".yaml", ".yml")
LARGEST = 1_000_000
"""Size up to which a mapping is read [bytes]."""
DEEPEST = 20
"""Maps and lists inside each other."""
NOT_OF_A_LOG = ("callbacks", "dataset", "dynamics_from", "logger", "preset", "resume", "run_dir")
"""Keys that a mapping may not set: they say where files go and what else runs, not what the log is."""
NO_CODE = ("data.columns.", "data.units.", "data.source", "data.d4rl_folder", "trainer.max_time")
"""Keys whose values may hold a colon and never name code."""


def is_mapping(dataset: str) -> bool:
    """Return whether `dataset` names a mapping file.

    >>> is_mapping("plants/my_plant.yaml"), is_mapping("log.npz")
    (True, False)
    """
    return Path(dataset).suffix.lower() in SUFFIXES


def read_mapping(path: Path, given: Collection[str], problems: list[str]) -> DictConfig:
    """Return the values of a mapping, `data.source` seen from the folder of the mapping.

    Args:
        path: The file.
        given: Keys of the command line, which go before those of the mapping.
        problems: One message is appended for each key that a mapping may not set, and for each that names code and is
            not in `given`.

    Raises InputError if the file is missing, is no map of YAML, or is made to fill the memory.

    """
    values = _load(path)
    for key in [key for key in map(str, values) if key in NOT_OF_A_LOG]:
        problems.append(f"{path}: {key} cannot be set in a mapping file; give it on the command line")
        del values[key]
    plain = OmegaConf.to_container(values, resolve=False)
    for key, text in _texts(plain, ""):
        if "${" in text or text == "???":
            raise InputError(f"{path}: {key}: ${{…}} and ??? are not supported; write the value")
        if ":" in text and not key.startswith(NO_CODE) and not _repeated(key, given):
            problems.append(
                f"{path}: {key}={text} names Python code, which a mapping file must not run by itself: read that code, then "
                f"give {key}={text} on the command line too"
            )
    source = OmegaConf.select(values, "data.source")
    if isinstance(source, str):
        values.data.source = _seen_from(path.parent, source)
    return values


def _load(path: Path) -> DictConfig:
    if not path.is_file():
        raise InputError(f"dataset={path}: there is no such file")
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST} bytes: it is no mapping file")
        text = path.read_text(encoding="utf-8-sig")
        _refuse_bombs(text, path)
        loaded = OmegaConf.create(text) if text.strip() else OmegaConf.create({})
    except InputError:
        raise
    except Exception as error:  # of PyYAML, OmegaConf and codecs alike
        raise InputError(f"{path} is not valid YAML: {(str(error).splitlines() or ['?'])[0]}") from error
    if not isinstance(loaded, DictConfig):
        raise InputError(f"{path} must be a map of keys, such as `data: {{source: plant.csv}}`")
    return loaded


def _refuse_bombs(text: str, path: Path) -> None:
    """Aliases and depth let a small file fill the memory."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{path}: aliases (*{event.anchor}) are not supported; write the value")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path} has more than {DEEPEST} maps and lists inside each other")


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Each text with its dotted key; those of a list with the key of the list."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value


def _repeated(key: str, given: Collection[str]) -> bool:
    """Whether the command line sets the key, or a map that holds it, so that the mapping's value is not used."""
    return any(key == other or key.startswith(f"{other}.") for other in given)


def _seen_from(folder: Path, source: str) -> str:
    """The full path of a file or folder; other sources (`collect:…`, ids) as they are."""
    path = folder / Path(source).expanduser()
    if source.startswith("collect:") or (re.search(r"-v\d+$", source) and not path.exists()):
        return source
    return str(path.absolute())
