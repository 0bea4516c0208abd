"""The checkpoints of a run on disk.

Each checkpoint is written atomically. A JSON file with the same stem holds the SHA-256 of the checkpoint and of the
refresh files it refers to, so that the newest undamaged checkpoint can be found.
"""

import errno
import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.fabric.utilities.rank_zero import rank_zero_only

from mopo_pl.distributed.console import print_once
from mopo_pl.errors import InputError, Unwritable
from mopo_pl.storage.atomic_write import atomic_write, sha256_of
from mopo_pl.storage.stored_json import read_json

KEEP = 2
"""Number of newest checkpoints of a stage that `prune` keeps in addition to the best one."""
REFRESHES = "refreshes"
"""Subfolder of the checkpoint folder that holds the refreshes of the model buffer."""
REFRESH = r"\d{6,}-\d+-[0-9a-f]{16}\.rows"
"""Pattern of the names of refresh files. Other files in the folder do not belong to the run and are not removed."""


class ChecksummedCheckpointIO(TorchCheckpointIO):
    """A checkpoint writer for Lightning that writes each checkpoint atomically, then its checksum file.

    The checksum file holds the SHA-256 and the size of the checkpoint and of the refresh files it refers to, and the
    evaluation score. Lightning's default writer copies between file systems if TMPDIR is on another one; a process that dies
    during the copy leaves an incomplete checkpoint.
    """

    def __init__(self, beside: Path | None = None) -> None:
        """Create the writer. `beside`: a file that must exist for writing. If it is missing, the run folder was moved or deleted."""
        self.beside = beside

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path` and flush both files to disk.

        `storage_options`: None or `{"score": float}`; the checkpoint with the highest score is kept. Raises Unwritable
        if the disk is full, the folder is not writable, or `beside` is gone.
        """
        target = Path(path)
        if self.beside is not None and not self.beside.exists():
            raise Unwritable(self.beside, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Serialised in memory first: torch's file writer reports a full disk as an internal error.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_write(target) as aside:
            aside.write_bytes(content.getbuffer())
        digest = hashlib.sha256(content.getbuffer()).hexdigest()
        refreshes = list(_refreshes_in(checkpoint))
        checksums = {
            "sha256": digest,
            "refreshes": {name: digest for name, digest, _ in refreshes},
            "bytes": {target.name: content.getbuffer().nbytes} | {name: size for name, _, size in refreshes},
            **(storage_options or {}),
        }
        with atomic_write(_checksum_file(target)) as aside:
            aside.write_text(json.dumps(checksums))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint; raise InputError if the sizes declared in its archive exceed the file, because torch would allocate them."""
        with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > Path(path).stat().st_size:
                raise InputError(f"{path} declares more than it holds: it is damaged, or made to fill the memory")
        return super().load_checkpoint(path, *args, **kwargs)


class CheckpointFiles:
    """The checkpoints of one stage in `folder`; `stage` is "dynamics", "termination" or "policy"."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder, self.stage = folder, stage

    def path(self, epoch: int, batch: int) -> Path:
        """Return the path of the checkpoint taken in `epoch` after `batch` batches; names sort by age."""
        return self.folder / f"{self.stage}-{epoch:06d}-{batch:06d}.ckpt"

    def all(self) -> list[Path]:
        """Return the paths of all checkpoint files, oldest first, including damaged ones."""
        files = [path for path in self.folder.glob("*.ckpt") if not path.is_dir()]
        found = [(numbers, path) for path in files if (numbers := self._numbers(path))]
        return [path for _, path in sorted(found)]

    def _numbers(self, path: Path) -> tuple[int, int] | None:
        """Return epoch and batch in the name of a checkpoint of this stage; None for other files, such as `policy-mine.ckpt`."""
        match = re.fullmatch(rf"{self.stage}-(\d{{6,}})-(\d{{6,}})\.ckpt", path.name)
        return None if match is None else (int(match[1]), int(match[2]))

    def epochs_begun(self) -> int:
        """Return the number of epochs that had begun when the newest checkpoint was written."""
        return max((numbers[0] + 1 for path in self.all() if (numbers := self._numbers(path))), default=0)

    def newest_valid(self) -> Path | None:
        """Return the newest checkpoint whose checksums match, or None; print a warning for each damaged newer one."""
        for path in reversed(self.all()):
            if self._is_valid(path):
                return path
            print_once(f"{path} is damaged or incomplete; the checkpoint before it is used")
        return None

    @rank_zero_only
    def drop_after(self, taken: Path | None) -> None:
        """Remove the checkpoints newer than `taken`, the one a run resumes from (None: remove all).

        They are damaged, and new checkpoints of the resumed run would get the same names.
        """
        paths = self.all()
        for path in paths[0 if taken is None else paths.index(taken) + 1 :]:
            _remove(path)

    def _is_valid(self, path: Path) -> bool:
        checksums = _read_checksums(path)
        if checksums is None:
            return False
        sizes = checksums.get("bytes", {})  # checkpoints of earlier versions have no sizes
        if sha256_of(path, sizes.get(path.name)) != checksums["sha256"]:
            return False
        refreshes = checksums["refreshes"].items()
        return all(
            sha256_of(self.folder / REFRESHES / Path(name).name, sizes.get(name)) == digest
            for name, digest in refreshes
        )

    def prune(self) -> None:
        """Remove all checkpoints but the newest `KEEP` and the best, and the refresh files that no checkpoint refers to."""
        paths = self.all()
        checksums = {path: _read_checksums(path) or {} for path in paths}
        scored = [path for path in paths if checksums[path].get("score") is not None]
        best = max(scored, key=lambda path: checksums[path]["score"], default=None)
        for path in paths[:-KEEP]:
            if path != best:
                _remove(path)
        kept = self.folder.glob("*.ckpt")
        referenced = {name for path in kept for name in (_read_checksums(path) or {}).get("refreshes", ())}
        for file in (self.folder / REFRESHES).glob("*.rows"):
            if file.name not in referenced and re.fullmatch(REFRESH, file.name) and file.is_file():
                file.unlink()
        # Temporary files of a process that was killed while it wrote.
        for file in (*self.folder.glob(".*.part"), *(self.folder / REFRESHES).glob(".*.part")):
            if not file.is_dir():
                file.unlink()


def _checksum_file(path: Path) -> Path:
    """Return the path of a checkpoint's checksum file."""
    return path.with_suffix(".json")


def _remove(path: Path) -> None:
    # The checksum file is removed first, because a checkpoint without one is never used.
    for file in (_checksum_file(path), path):
        if not file.is_dir():
            file.unlink(missing_ok=True)


def _read_checksums(path: Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint's checksum file, or None if it is missing or damaged."""
    try:
        found = read_json(_checksum_file(path))
    except (OSError, ValueError):
        return None
    refreshes, score, sizes = found.get("refreshes"), found.get("score"), found.get("bytes", {})
    valid = (
        isinstance(found.get("sha256"), str)
        and isinstance(refreshes, dict)
        and all(isinstance(digest, str) for digest in refreshes.values())
        and isinstance(sizes, dict)
        and all(type(size) is int for size in sizes.values())
        and (score is None or (isinstance(score, int | float) and not isinstance(score, bool)))
    )
    return found if valid else None


def _refreshes_in(state: Any) -> Iterator[tuple[str, str, int]]:
    """Yield the file name, SHA-256 and size in bytes of every refresh that a nested checkpoint state refers to."""
    if isinstance(state, dict):
        if "file" in state and "sha256" in state:
            yield state["file"], state["sha256"], math.prod(state["shape"]) * np.dtype(state["dtype"]).itemsize
        else:
            for part in state.values():
                yield from _refreshes_in(part)
    elif isinstance(state, list | tuple):
        for part in state:
            yield from _refreshes_in(part)
