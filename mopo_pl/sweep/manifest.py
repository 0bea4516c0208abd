"""`sweep.json`: what a sweep's folder is for, so that the same command continues it and another one is refused."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mopo_pl.errors import InputError
from mopo_pl.run.result import git_commit, versions
from mopo_pl.storage.atomic_write import atomic_write

FILE = "sweep.json"


@dataclass(frozen=True)
class Manifest:
    """What is swept."""

    command: str
    """The command that began it."""
    settings: dict[str, list[str]]
    """Values of each key, as text; of a search, its range."""
    search: dict[str, str] | None
    """`objective` and `storage` of a search; None for a grid."""
    runs: list[str]
    """Names of the runs that train policies; empty for a search, whose runs are those of `trials`."""
    ensembles: dict[str, str]
    """The folder of each ensemble that `dynamics_from` named when the sweep began: a link may point elsewhere later."""

    def claim(self, folder: Path) -> None:
        """Write `sweep.json` where there is none; raise InputError where the folder is that of another sweep."""
        before = read(folder)
        if before is not None:
            if (before.settings, before.search) != (self.settings, self.search):
                raise InputError(
                    f"{folder} holds another sweep ({self._difference(before)}): give another --folder, or the same settings, which "
                    "continue it"
                )
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--folder {folder} cannot be made ({error.strerror})") from error
        facts = {"git_commit": git_commit(), "versions": versions(), "created": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
        with atomic_write(folder / FILE) as aside:
            aside.write_text(json.dumps({**asdict(self), **facts}, indent=2) + "\n")

    def _difference(self, other: "Manifest") -> str:
        """The first setting in which another sweep differs."""
        ours = {**self.settings, "--search": [str(self.search)]}
        theirs = {**other.settings, "--search": [str(other.search)]}
        key = next(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
        here, there = (",".join(settings[key]) if key in settings else "not given" for settings in (ours, theirs))
        return f"{key} is {there} there, and {here} here"


def read(folder: Path) -> Manifest | None:
    """The manifest of a sweep's folder, None where there is none; raises InputError where it is damaged."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content: Mapping[str, Any] = json.loads(path.read_text())
        found = Manifest(**{name: content[name] for name in Manifest.__dataclass_fields__})
        if isinstance(found.settings, dict) and all(isinstance(name, str) for name in found.runs):
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{path} is damaged: restore it, or begin the sweep in another --folder")
