"""Atomic writing of datasets to Minari's store."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mopo_pl.data.readers.minari import store
from mopo_pl.errors import InputError

ASIDE = ".collecting-"
"""Prefix of the name of a folder in which a log is collected, followed by the id of the process."""


def _publish(written: Path, place: Path) -> None:
    """Move a finished dataset to its final path, unless another process has already stored the same dataset there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(written, place)
    except OSError:
        if not place.is_dir():
            raise


@contextmanager
def written_aside(name: str) -> Iterator[None]:
    """Let Minari write to a temporary store, then move the finished dataset to Minari's store.

    If the process is killed, no partial dataset is left in the store.
    """
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
    """Remove the temporary folders of processes that were killed on this machine."""
    for left in folder.glob(f"{ASIDE}*"):
        process = left.name.removeprefix(ASIDE).partition("-")[0]
        if process.isdigit() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)
