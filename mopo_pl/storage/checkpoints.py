"""The checkpoints of a run on disk: written whole, sealed with their hash, so that the newest whole one can be found."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.fabric.utilities.rank_zero import rank_zero_only

from mopo_pl.distributed.console import print_once
from mopo_pl.storage.atomic_write import atomic_write, sha256_of

KEEP = 2
"""The newest so many checkpoints of a stage stay, and the best."""
REFRESHES = "refreshes"
"""Folder beside the checkpoints in which the refreshes lie that they name."""


class ChecksummedCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint by `atomic_write`, then its seal: hashes of the file and of those it names, and its score.

    Lightning's own writer copies across file systems where TMPDIR is another one, which leaves a torn file behind when
    the process dies in between.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """As the base class, but atomically, durably and sealed. `storage_options`: `{"score": …}`, higher is better."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # By way of memory: torch's own writer reports a full disk as an internal error.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_write(target) as aside:
            aside.write_bytes(content.getbuffer())
        digest = hashlib.sha256(content.getbuffer()).hexdigest()
        seal = {"sha256": digest, "refreshes": dict(_named(checkpoint)), **(storage_options or {})}
        with atomic_write(_checksum_file(target)) as aside:
            aside.write_text(json.dumps(seal))


class CheckpointFiles:
    """The checkpoints of one stage."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder, self.stage = folder, stage

    def path(self, epoch: int, batch: int) -> Path:
        """Of the checkpoint taken there; names sort by age."""
        return self.folder / f"{self.stage}-{epoch:06d}-{batch:06d}.ckpt"

    def all(self) -> list[Path]:
        """Oldest first, damaged ones among them."""
        return sorted(self.folder.glob(f"{self.stage}-*.ckpt"))

    def epochs_begun(self) -> int:
        """Epochs that had begun when the newest was written."""
        return max((int(path.stem.split("-")[1]) + 1 for path in self.all()), default=0)

    def newest_valid(self) -> Path | None:
        """The newest checkpoint that is as it was written; says which newer ones are not."""
        for path in reversed(self.all()):
            if self._is_valid(path):
                return path
            print_once(f"{path} is damaged or was not finished; the one before it is taken")
        return None

    @rank_zero_only
    def drop_after(self, taken: Path | None) -> None:
        """Removes what is newer than the checkpoint a run goes on from: damaged, and in the way of its next ones."""
        for path in self.all():
            if taken is None or path.name > taken.name:
                _remove(path)

    def _is_valid(self, path: Path) -> bool:
        seal = _read_checksums(path)
        return (
            seal is not None
            and sha256_of(path) == seal["sha256"]
            and all(sha256_of(self.folder / REFRESHES / name) == digest for name, digest in seal["refreshes"].items())
        )

    def prune(self) -> None:
        """Removes all but the newest two and the best, and the refreshes that no checkpoint names any more."""
        paths = self.all()
        seals = {path: _read_checksums(path) or {} for path in paths}
        scored = [path for path in paths if seals[path].get("score") is not None]
        best = max(scored, key=lambda path: seals[path]["score"], default=None)
        for path in paths[:-KEEP]:
            if path != best:
                _remove(path)
        stand = self.folder.glob("*.ckpt")
        named = {name for path in stand for name in (_read_checksums(path) or {}).get("refreshes", ())}
        for file in (self.folder / REFRESHES).glob("*.rows"):
            if file.name not in named:
                file.unlink()
        # What a process that was killed had begun to write.
        for file in self.folder.rglob(".*.part"):
            file.unlink()


def _checksum_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _remove(path: Path) -> None:
    # The seal first: without it, a checkpoint counts for nothing.
    _checksum_file(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _read_checksums(path: Path) -> dict[str, Any] | None:
    try:
        seal = json.loads(_checksum_file(path).read_text())
    except (OSError, ValueError):
        return None
    sound = isinstance(seal, dict) and isinstance(seal.get("sha256"), str) and isinstance(seal.get("refreshes"), dict)
    return seal if sound else None


def _named(state: Any) -> Iterator[tuple[str, str]]:
    """Name and hash of every refresh that a state names, wherever it stands in it."""
    if isinstance(state, dict):
        if "file" in state and "sha256" in state:
            yield state["file"], state["sha256"]
        else:
            for part in state.values():
                yield from _named(part)
    elif isinstance(state, list | tuple):
        for part in state:
            yield from _named(part)
