"""Read and write `sweep.json`, which describes a sweep, so that the same command continues it and another one is refused."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mopo_pl.errors import InputError
from mopo_pl.run.files.result import git_commit, versions
from mopo_pl.storage.atomic_write import atomic_write, make_target, refuse_unwritable
from mopo_pl.storage.stored_json import read_json

FILE = "sweep.json"


@dataclass(frozen=True)
class Manifest:
    """The description of a sweep."""

    command: str
    """The command that began the sweep."""
    settings: dict[str, list[str]]
    """Values of each key as text, including the ranges of a search."""
    search: dict[str, str] | None
    """`objective` and `storage` of a search; None for a grid."""
    runs: list[str]
    """Names of the runs that train policies; empty for a search, whose runs are in the folder `trials`."""
    ensembles: dict[str, str]
    """Folder of each ensemble by the text given as `dynamics_from`, resolved when the sweep began, as a link may change later."""

    def claim(self, folder: Path) -> None:
        """Write `sweep.json` if there is none; raise InputError if the folder belongs to another sweep."""
        refuse_unwritable(folder, "--folder")
        before = read(folder)
        if before is not None:
            if (before.settings, before.search) != (self.settings, self.search):
                raise InputError(
                    f"{folder} holds another sweep ({self._difference(before)}): give another --folder, or the same settings, which "
                    "continue it"
                )
            return
        make_target(folder, "--folder")
        facts = {"git_commit": git_commit(), "versions": versions(), "created": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
        with atomic_write(folder / FILE) as aside:
            aside.write_text(json.dumps({**asdict(self), **facts}, indent=2) + "\n")

    def _difference(self, other: "Manifest") -> str:
        """Return the text about the first setting in which another sweep differs."""
        ours = {**self.settings, "--search": [str(self.search)]}
        theirs = {**other.settings, "--search": [str(other.search)]}
        key = next(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
        here, there = (",".join(settings[key]) if key in settings else "not given" for settings in (ours, theirs))
        return f"{key} is {there} there, and {here} here"


def read(folder: Path) -> Manifest | None:
    """Return the manifest in a sweep's folder, None if there is none.

    Raises InputError if it is damaged, or names a run outside the folder, because it may come from someone else.
    """
    path = folder / FILE
    try:
        content = read_json(path)
        values = {name: content[name] for name in Manifest.__dataclass_fields__}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path) from error
    if not all(holds(values[name]) for name, holds in _TYPES.items()):
        raise _damaged(path)
    outside = [name for name in values["runs"] if not _inside(name, folder)]
    if outside:
        raise InputError(
            f"{path} names the run {outside[0][:NAME]!r}, which does not lie in its folder: remove it there"
        )
    return Manifest(**values)


NAME = 255
"""Largest number of characters of a name in an error message."""


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged: restore it, or begin the sweep in another --folder")


def _inside(name: str, folder: Path) -> bool:
    """Return whether the name of a run is a path inside the folder of the sweep, and not a link to the outside."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name:
        return False
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            (folder / name).lstat()
        return (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # the name is too long for a file, or a link to itself
        return False


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _map_of_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


_TYPES: dict[str, Callable[[Any], bool]] = {
    "command": lambda value: isinstance(value, str),
    "settings": lambda value: isinstance(value, dict) and all(map(_texts, value.values())),
    "search": lambda value: value is None or _map_of_texts(value),
    "runs": _texts,
    "ensembles": _map_of_texts,
}
"""Functions that return whether a field has the type that a sweep writes, by field."""
