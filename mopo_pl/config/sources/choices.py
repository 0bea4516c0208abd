"""The choices of `dataset`, `preset`, `trainer` and `logger`: files in conf/, some of which list the published λ and h."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mopo_pl.config.sources.mapping import is_mapping

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("dataset", "preset", "trainer", "logger")
PUBLISHED_KEYS = {"coef": "penalty.coef", "horizon": "rollout.horizon", "termination": "termination"}
"""Entries that a dataset's file may have under `published`, and the configuration key that each sets."""
MALFORMED = "published must hold {coef: λ, horizon: h} for each preset"
PRESETS_OF_PUBLISHED = ("d4rl-v2", "paper")
"""Presets that take λ and h from the values published for the dataset. They have no default values of λ and h."""


def choices(group: str) -> dict[str, Path]:
    """Return the file of each choice of a group ("dataset", "preset", "trainer" or "logger"), by name."""
    return {path.stem: path for path in sorted((CONF / group).glob("*.yaml"))}


def file_of(group: str, choice: str) -> Path | None:
    """Return the file in conf/ of a choice, None if there is none. An HDF5 file gets the file of the D4RL dataset with its name.

    >>> file_of("dataset", "logs/hopper_medium-v2.hdf5").stem
    'hopper-medium-v2'
    """
    path = Path(choice)
    if group == "dataset" and path.suffix in (".hdf5", ".h5"):
        choice = path.stem.replace("_", "-")
    return choices(group).get(choice)


def names_data(choice: str) -> bool:
    """Return whether a value of `dataset` looks like a file, a folder or an id rather than a misspelt choice."""
    return bool(re.search(r"[/.\\]|-v\d+$", choice)) or Path(choice).is_dir()


def load(path: Path) -> DictConfig:
    """Return the map in a YAML file, which must be trusted; an empty map if the file holds none."""
    loaded = OmegaConf.load(path)
    return loaded if isinstance(loaded, DictConfig) else OmegaConf.create({})


def published(selected: dict[str, str]) -> dict[str, Any]:
    """Return the values that the dataset's file lists as published for the preset, by the names in `PUBLISHED_KEYS`."""
    choice = selected["dataset"]
    path = Path(choice).expanduser() if is_mapping(choice) else file_of("dataset", choice)
    published = load(path).get("published", {}) if path is not None and path.is_file() else {}
    return dict(published.get(selected["preset"], {})) if is_published(published) else {}


def is_published(numbers: Any) -> bool:
    """Return whether the value of `published` is a map from presets to maps with keys of `PUBLISHED_KEYS` only."""
    if not isinstance(numbers, DictConfig | dict):
        return False
    entries = [entry for entry in numbers.values() if isinstance(entry, DictConfig | dict)]
    return len(entries) == len(numbers) and all(set(entry) <= PUBLISHED_KEYS.keys() for entry in entries)


def unpublished(config: DictConfig, selected: dict[str, str], pairs: list[tuple[str, str]]) -> Iterable[str]:
    """Yield a problem if the preset needs published λ and h, none are published for the dataset, and the user gives none."""
    uses_model = config.stage != "dynamics" and config.algorithm == "sac" and config.rollout.real_ratio < 1
    if selected["preset"] not in PRESETS_OF_PUBLISHED or not uses_model:
        return
    known, given = published(selected), {key for key, _ in pairs}
    missing = [key for name in ("coef", "horizon") if (key := PUBLISHED_KEYS[name]) not in given and name not in known]
    if missing:
        yield (
            f"preset={selected['preset']}: no λ and h are published for dataset={selected['dataset']}: "
            f"give {' and '.join(f'{key}=' for key in missing)}"
        )
