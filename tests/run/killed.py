"""Runs `mopo_pl train`, and kills itself by SIGKILL, or does worse, at a named point.

`python killed.py POINT OCCURRENCE ARGUMENT…`. Of several processes each counts for itself.
"""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mopo_pl.run.session
from mopo_pl.cli import main
from mopo_pl.run.files.metrics_file import MetricsFile
from mopo_pl.sac.module import SACModule

left = int(sys.argv[2])


def die(due: bool) -> None:
    """Kills this process at the so-many-th call with `due`."""
    global left
    left -= due
    if due and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def watch(owner: Any, name: str, due: Callable[..., bool], *, after: bool = False) -> None:
    """Dies before or after a call for which `due` is true."""
    original = getattr(owner, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        if not after:
            die(due(*arguments))
        value = original(*arguments, **options)
        if after:
            die(due(*arguments))
        return value

    setattr(owner, name, watched)


def replaces(ending: str) -> Callable[..., bool]:
    return lambda source, target: str(target).endswith(ending)


def half_written(ending: str) -> None:
    original = Path.write_bytes

    def write_bytes(path: Path, content: Any) -> int:
        if path.name.endswith(f"{ending}.part"):
            original(path, bytes(content)[: len(content) // 2])
            die(True)
        return original(path, content)

    Path.write_bytes = write_bytes  # type: ignore[method-assign]


def on_rank_1(fault: Callable[[], None]) -> None:
    """Lets a fault happen to the second process alone, in its so-many-th training step."""
    original = SACModule.training_step

    def training_step(module: SACModule, *arguments: Any) -> Any:
        global left
        if module.global_rank == 1:
            left -= 1
            if left == 0:
                fault()
        return original(module, *arguments)

    SACModule.training_step = training_step  # type: ignore[method-assign]


def fail() -> None:
    raise OSError("the disk of rank 1 is on fire")


def always(*arguments: Any) -> bool:
    return True


POINTS: dict[str, Callable[[], None]] = {
    "checkpoint half written": lambda: half_written(".ckpt"),
    "before a checkpoint is renamed": lambda: watch(os, "replace", replaces(".ckpt")),
    "before the checksum file is written": lambda: watch(os, "replace", replaces(".ckpt"), after=True),
    "after the checksum file is written": lambda: watch(
        os, "replace", lambda source, target: bool(re.search(r"-\d{6}\.json$", str(target))), after=True
    ),
    "before a refresh is renamed": lambda: watch(os, "replace", replaces(".rows")),
    "before old checkpoints leave": lambda: watch(mopo_pl.storage.checkpoints.CheckpointFiles, "prune", always),  # type: ignore[attr-defined]
    "after an epoch's last batch": lambda: watch(
        SACModule, "training_step", lambda module, batch, index: module.updates % 20 == 0, after=True
    ),
    "before a row is written": lambda: watch(MetricsFile, "log_metrics", always),
    "after a row is written": lambda: watch(MetricsFile, "log_metrics", always, after=True),
    "before the ensemble is written": lambda: watch(os, "replace", replaces("dynamics.safetensors")),
    "between the ensemble's files": lambda: watch(os, "replace", replaces("dynamics.json")),
    "between the stages": lambda: watch(mopo_pl.run.session, "train_policy", always),
    "before the policy is written": lambda: watch(os, "replace", replaces("policy.safetensors")),
    "rank 1 is killed": lambda: on_rank_1(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "rank 1 is told that time is up": lambda: on_rank_1(lambda: os.kill(os.getpid(), signal.SIGUSR1)),
    "rank 1 raises": lambda: on_rank_1(fail),
    "nowhere": lambda: None,
    "before the result is written": lambda: watch(os, "replace", replaces("result.json")),
}

if __name__ == "__main__":
    POINTS[sys.argv[1]]()
    sys.exit(main(sys.argv[3:]))
