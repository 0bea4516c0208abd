"""Datasets written into Minari's store whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mopo_pl.data.readers.minari import store
from mopo_pl.errors import InputError

ASIDE = ".collecting-"
"""Beginning of the name of a folder that a log is collected in; the number of its process follows."""


def _publish(written: Path, place: Path) -> None:
    """Moves a finished dataset over, unless another process was first: its log is the same."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(written, place)
    except OSError:
        if not place.is_dir():
            raise


@contextmanager
def written_aside(name: str) -> Iterator[None]:
    """Let Minari write into a store next to its own, then move the finished dataset over: a kill leaves nothing half."""
    folder = store()
    try:
        _remove_abandoned(folder)
        aside = Path(tempfile.mkdtemp(prefix=f"{ASIDE}{os.getpid()}-", dir=folder))
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); set MINARI_DATASETS_PATH") from error
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(aside)
    try:
        yield
        _publish(aside / name, folder / name)
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
        shutil.rmtree(aside, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what a collection that was killed on this machine left."""
    for left in folder.glob(f"{ASIDE}*"):
        process = left.name.removeprefix(ASIDE).partition("-")[0]
        if process.isdigit() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)
