"""Start runs in separate processes and print their output."""

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
    """Start `mopo_pl train` in a separate process. The process ends soon after this one ends, for whatever reason."""
    return start_command(["train", *arguments], stdout=stdout, stderr=stderr)


def start_command(
    arguments: Sequence[str],
    *,
    threads: int | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | IO[str] = subprocess.PIPE,
) -> subprocess.Popen:
    """Start `mopo_pl` in a separate process, with the script's folder on its import path.

    `threads`: number of torch's CPU threads in that process, for a command that has no setting `threads`; None: the number is not set.
    The handled signals stay blocked in the calling thread. They are blocked in the child until it installs its handlers.
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
        start_new_session=True,  # the terminal does not send Ctrl-C to it: this process passes the signal on, once
        env={
            **os.environ,
            **({} if threads is None else {"OMP_NUM_THREADS": str(threads)}),
            PARENT_PID: str(os.getpid()),
            "PYTHONPATH": os.pathsep.join(filter(None, (beside, os.environ.get("PYTHONPATH")))),
        },
    )


def pass_on(child: subprocess.Popen, name: str) -> None:
    """Print the output of a child process, with the run's name before each line. Return when the child has closed its output."""

    def copy(source: IO[str], target: IO[str]) -> None:
        with source:
            for line in source:
                with suppress(OSError, ValueError):  # a closed pipe must not stop the training
                    print(f"{name}  {line}" if line.strip() else line, end="", file=target, flush=True)

    assert child.stdout is not None
    assert child.stderr is not None
    copies = [(child.stdout, sys.stdout), (child.stderr, sys.stderr)]
    threads = [threading.Thread(target=copy, args=pair) for pair in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
