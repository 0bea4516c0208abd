"""The processes of a run, before Lightning has joined them: who started whom, and what the first one decides for all."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import lightning as L
from torch import distributed

from mopo_pl.distributed.collectives import gather_from_ranks, rank
from mopo_pl.errors import InputError

T = TypeVar("T")

SHARED_PATH = "MOPO_PL_RUN_DIR"
"""Environment variable by which processes that Lightning launches find the folder of the first."""

PARENT_PID = "MOPO_PL_FIRST_PROCESS"
"""Environment variable that holds the number of the process that started this one."""

LAUNCH_VARIABLES = (
    *(SHARED_PATH, PARENT_PID, "OMP_NUM_THREADS"),
    *("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"),
)
"""What a run and Lightning put into the environment of launched processes, and of the one that launches them."""

LAUNCHERS = {"WORLD_SIZE": "torchrun", "SLURM_NTASKS": "SLURM"}
"""Variables by which other launchers tell a process how many it is one of."""


def is_launched_rank() -> bool:
    """Whether this process was started by the first one of a run."""
    return int(os.environ.get("LOCAL_RANK", 0)) > 0 and SHARED_PATH in os.environ


def is_child_process() -> bool:
    """Whether another process of this system started this one: a rank of its run, or one of several runs side by side."""
    return os.environ.get(PARENT_PID, str(os.getpid())) != str(os.getpid())


def export_run_folder(path: Path) -> None:
    """Tells processes that this one will launch where the run's folder is, and who launched them."""
    os.environ[SHARED_PATH], os.environ[PARENT_PID] = str(path), str(os.getpid())


@contextmanager
def restored_environment() -> Iterator[None]:
    """Takes back at the end what a run and Lightning have put into the environment for the processes they launch.

    The next run in this process has a folder, and processes, of its own.
    """
    before = {name: os.environ.get(name) for name in LAUNCH_VARIABLES}
    try:
        yield
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def join_process_group(trainer: L.Trainer) -> None:
    """Joins processes that torchrun or SLURM started, so that they can agree on a run folder.

    Raises InputError where the launcher started another number of processes than the Trainer's flags say.
    """
    if SHARED_PATH in os.environ:
        # The first process started the others itself; Lightning joins them when training starts.
        return
    started = {name: int(os.environ[variable]) for variable, name in LAUNCHERS.items() if variable in os.environ}
    # Within a job of SLURM, torchrun starts the processes, and SLURM only torchrun.
    for name, number in list(started.items())[:1]:
        if number > 1 and number != trainer.world_size:
            raise InputError(
                f"{name} started {number} processes, and trainer.devices={trainer.num_devices} on "
                f"trainer.num_nodes={trainer.num_nodes} means {trainer.world_size}: make the two equal"
            )
    if trainer.num_nodes > 1 and not started:
        raise InputError(f"trainer.num_nodes={trainer.num_nodes} needs torchrun or SLURM to start the run on each node")
    if trainer.world_size > 1 and started:
        trainer.strategy.setup_environment()


def run_first_then_others(make: Callable[[], T]) -> T:
    """Made on the first process, then on the others, which find what it left; its InputError is raised on all."""
    made = _first(make)
    return make() if made is None else made[0]


def broadcast_from_first(make: Callable[[], T]) -> T:
    """What the first process made, on all; its InputError is raised on all."""
    made = _first(make)
    return gather_from_ranks(None if made is None else made[0])[0]  # type: ignore[return-value]


def _first(make: Callable[[], T]) -> tuple[T] | None:
    made, error = None, None
    if rank() == 0:
        try:
            made = (make(),)
        except InputError as problem:
            error = problem
    error = gather_from_ranks(error)[0]
    if error is not None:
        raise error
    return made


def exit_with_parent(every_seconds: float = 1.0) -> None:
    """Ends this process soon after the one that launched it has died: it would wait for it in vain."""
    first = int(os.environ[PARENT_PID])

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(every_seconds)
        os._exit(1)

    if os.getppid() != first:  # it died before this one had begun
        os._exit(1)
    threading.Thread(target=watch, daemon=True, name="end with first process").start()
