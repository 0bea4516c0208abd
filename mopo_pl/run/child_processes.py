"""Runs in processes of their own: started, and their lines passed on."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from mopo_pl.distributed.launch import PARENT_PID
from mopo_pl.distributed.signals import block_signals


def start_training(
    arguments: Sequence[str], *, stdout: int | IO[str] = subprocess.PIPE, stderr: int | IO[str] = subprocess.PIPE
) -> subprocess.Popen:
    """Start `mopo_pl train` in a process of its own, which ends soon after this one does, however that ends."""
    return start_command(["train", *arguments], stdout=stdout, stderr=stderr)


def start_command(
    arguments: Sequence[str],
    *,
    threads: int | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | IO[str] = subprocess.PIPE,
) -> subprocess.Popen:
    """Start `mopo_pl` in a process of its own, with the script's folder on its import path.

    `threads`: of torch there, for a command without a setting of that name; None: as here.
    The handled signals stay blocked in the calling thread, and are blocked in the child until it handles them itself.
    """
    block_signals()
    beside = os.path.abspath(sys.path[0])
    return subprocess.Popen(
        [sys.executable, "-m", "mopo_pl", *arguments],
        stdout=stdout,
        stderr=stderr,
        text=True,
        errors="replace",
        bufsize=1,
        start_new_session=True,  # Ctrl-C comes from here alone, once
        env={
            **os.environ,
            **({} if threads is None else {"OMP_NUM_THREADS": str(threads)}),
            PARENT_PID: str(os.getpid()),
            "PYTHONPATH": os.pathsep.join(filter(None, (beside, os.environ.get("PYTHONPATH")))),
        },
    )


def pass_on(child: subprocess.Popen, name: str) -> None:
    """Print its lines, each with the name of the run before it; return when it has closed its output."""

    def copy(source: IO[str], target: IO[str]) -> None:
        with source:
            for line in source:
                with suppress(OSError, ValueError):  # a reader that has left must not stop the training
                    print(f"{name}  {line}" if line.strip() else line, end="", file=target, flush=True)

    assert child.stdout is not None
    assert child.stderr is not None
    copies = [(child.stdout, sys.stdout), (child.stderr, sys.stderr)]
    threads = [threading.Thread(target=copy, args=pair) for pair in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
