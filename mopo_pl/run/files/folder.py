"""`RunFolder`: the folder of a run, its paths and its lock."""

import itertools
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mopo_pl.config.compose import config_from_file
from mopo_pl.config.foreign import named_code
from mopo_pl.config.keys import is_within
from mopo_pl.config.schema import Config
from mopo_pl.distributed.console import print_once
from mopo_pl.distributed.launch import SHARED_PATH, export_run_folder, is_launched_rank
from mopo_pl.errors import InputError, Unwritable
from mopo_pl.storage.atomic_write import atomic_write
from mopo_pl.storage.stored_json import read_json

STAGE_FILES = ("dynamics", "termination")
"""Stages that write weights and a description into the run folder, as `NAME.safetensors` and `NAME.json`."""


class RunFolder:
    """The folder of a run and the paths of its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.provenance = path / "provenance.json"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.checkpoints = path / "checkpoints"
        self.policy = path / "policy"
        self.logs = path / "logs"

    @classmethod
    def create(cls, config: Config, config_text: str, provenance: dict[str, Any], locks: ExitStack) -> "RunFolder":
        """Make the folder of a new run, with its `config.yaml` and `provenance.json`, and point `latest` at it.

        The folder is locked before anything is written into it, until `locks` are closed. Raises InputError if the folder contains a run
        already, or cannot be made.

        Args:
            config: The configuration, whose `run_dir`, dataset and seed give the path.
            config_text: Content of `config.yaml`.
            provenance: Content of `provenance.json`.
            locks: Stack that holds the lock.

        """
        try:
            folder = cls(Path(config.run_dir) if config.run_dir else _new_path(config))
            folder.refuse_occupied()
            folder.path.mkdir(parents=True, exist_ok=True)
            locks.enter_context(folder.locked())
            folder.refuse_occupied()
            folder.checkpoints.mkdir(exist_ok=True)
            folder.write(folder.provenance, json.dumps(provenance, indent=2) + "\n")
            # Written last: a folder with this file contains a run.
            folder.write(folder.config, config_text)
        except Unwritable as error:
            raise InputError(f"run_dir: {error}") from error
        except OSError as error:
            raise InputError(f"run_dir: {error.filename} cannot be made ({error.strerror})") from error
        _link_latest(folder.path)
        export_run_folder(folder.path)
        return folder

    @classmethod
    def reopen(cls, path: Path) -> "RunFolder":
        """Return the folder of a run to resume, with links resolved, because `runs/latest` may point elsewhere later.

        Raises InputError if the folder contains a link to a path outside it, a pipe or a device. The run would write through the link, and
        wait for the pipe.
        """
        folder = cls(path.resolve())
        for root, folders, files in os.walk(folder.path):
            for entry in (Path(root) / name for name in (*folders, *files)):
                # realpath, because resolve() fails at a loop of links.
                if entry.is_symlink() and not Path(os.path.realpath(entry)).is_relative_to(folder.path):
                    raise InputError(f"{entry} is a link to a place outside the run: replace it by what it points to")
                if not entry.is_symlink() and not entry.is_file() and not entry.is_dir():
                    raise InputError(f"{entry} is a pipe or a device, which no run writes: remove it")
            if Path(root) == folder.logs and "wandb" in folders:
                folders.remove("wandb")  # W&B's records contain links to its cache
        return folder

    def take_config(self, config_text: str) -> None:
        """Write the configuration with the changes given on resume to `config.yaml`, for the next resume."""
        self.checkpoints.mkdir(exist_ok=True)
        # A finished run that is continued is no longer finished, even if it is stopped again.
        self.result.unlink(missing_ok=True)
        self.write(self.config, config_text)
        export_run_folder(self.path)

    def keep_provenance(self, provenance: dict[str, Any]) -> None:
        """Write `provenance.json` if it does not exist."""
        if not self.provenance.exists():
            self.write(self.provenance, json.dumps(provenance, indent=2) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against training by other commands inside the block; raise InputError if one trains in it.

        The lock on the file `.lock` ends with the process, for whatever reason the process ends.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                f"{self.path} is being trained by another process: wait for its end, or stop it"
            ) from error
        except (OSError, NotImplementedError):
            print_once(
                f"{self.path} cannot be locked on this file system: make sure that only one command trains in it"
            )
        try:
            yield
        finally:
            lock.release()

    def refuse_occupied(self) -> None:
        """Raise InputError if the folder contains a run or files of one. Processes that Lightning launches share the folder of the first one."""
        if is_launched_rank():
            return
        if self.config.exists():
            raise InputError(
                f"run_dir={self.path} holds a run already: choose another, or continue it by {shlex.quote(f'resume={self.path}')}"
            )

        others = [path.name for path in self._own_files() if path.is_symlink() or path.exists()]
        if others:
            raise InputError(
                f"run_dir={self.path} holds {', '.join(others)}, which this run would continue or overwrite, and no config.yaml: "
                "choose another folder, or move them away"
            )

    def _own_files(self) -> list[Path]:
        """Return the paths that a run writes, without those left by a run that was killed before it wrote `config.yaml`."""
        left = {self.provenance} if _is_provenance(self.provenance) else set()
        left |= {self.checkpoints} if self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()) else set()
        stages = [self.path / f"{stage}.{end}" for stage in STAGE_FILES for end in ("json", "safetensors")]
        own = [self.provenance, self.checkpoints, self.metrics, self.result, self.policy, self.logs, *stages]
        return [path for path in own if path not in left]

    def resume_command(self, config: Config) -> str:
        """Return the command that continues the run. It contains `trust=true` if the configuration names code, which the user chose."""
        words = ["python", "train.py", f"resume={self.path}", *(["trust=true"] if named_code(config) else [])]
        return shlex.join(words)

    def evaluate_command(self, config: Config) -> str:
        """Return the command that scores the policy. It contains `trust=true` if the configuration names code or files of an environment."""
        foreign = [key for key, _ in named_code(config) if is_within(key, ("env_id", "env_kwargs"))]
        words = ["python", "-m", "mopo_pl", "evaluate", str(self.path), *(["trust=true"] if foreign else [])]
        own = ["--actor", config.sac.actor] if ":" in config.sac.actor else []
        return shlex.join([*words, *own, "--episodes", "100", "--seed", "1"])

    def write(self, path: Path, text: str) -> None:
        """Write a file of the run atomically."""
        with atomic_write(path) as aside:
            aside.write_text(text)


def launched_config() -> Config | None:
    """Return the resolved configuration of the run in a process that Lightning launched; None in the first process."""
    return config_from_file(Path(os.environ[SHARED_PATH]) / "config.yaml") if is_launched_rank() else None


def _is_provenance(path: Path) -> bool:
    """Return whether a file is a `provenance.json` of a run, and not a user's file of that name."""
    try:
        return read_json(path).keys() >= {"dataset", "processes", "config"}
    except (OSError, ValueError):
        return False


def _new_path(config: Config) -> Path:
    """Make a new folder named after dataset, time and seed. Runs of the same second are numbered."""
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}_s{config.seed}"
    for number in itertools.count(1):
        path = Path("runs") / config.dataset_label / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable")


def _link_latest(path: Path) -> None:
    """Point `runs/latest` at the folder, or `latest` next to a folder given by `run_dir=`.

    On a file system without links nothing happens. A file or a folder with the name `latest` belongs to the user and is kept.
    """
    root = Path("runs") if Path("runs").resolve() in path.resolve().parents else path.parent
    aside, latest = root / f".latest.{os.getpid()}", root / "latest"
    if latest.exists() and not latest.is_symlink():
        print_once(f"{latest} is no link, and is left as it is: it does not point at this run")
        return
    try:
        aside.symlink_to(os.path.relpath(path, root), target_is_directory=True)
        os.replace(aside, latest)
    except OSError:
        aside.unlink(missing_ok=True)
