"""The processes of a run before Lightning creates the process group: how they were started, and results shared from rank 0."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch import distributed

from mopo_pl.distributed.collectives import gather_from_ranks, rank
from mopo_pl.errors import InputError

T = TypeVar("T")

SHARED_PATH = "MOPO_PL_RUN_DIR"
"""Environment variable that holds the run folder, for the processes that Lightning launches."""

PARENT_PID = "MOPO_PL_FIRST_PROCESS"
"""Environment variable that holds the process id of the process that launched this one."""

LAUNCH_VARIABLES = (
    *(SHARED_PATH, PARENT_PID, "OMP_NUM_THREADS"),
    *("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"),
)
"""Environment variables that a run and Lightning set for the processes they launch."""

SRUN_TASKS = "SLURM_STEP_NUM_TASKS"
"""Environment variable that holds the number of processes of an srun step."""

LAUNCHERS = {"WORLD_SIZE": "torchrun", "SLURM_NTASKS": "SLURM"}
"""Environment variables that hold the number of processes started by an external launcher, and the launcher's name."""


def is_launched_rank() -> bool:
    """Return whether the first process of a run launched this one as a further rank."""
    return int(os.environ.get("LOCAL_RANK", 0)) > 0 and SHARED_PATH in os.environ


def is_child_process() -> bool:
    """Return whether a mopo_pl process launched this one, as a rank of its run or as one of several runs of a list of seeds."""
    return os.environ.get(PARENT_PID, str(os.getpid())) != str(os.getpid())


def export_run_folder(path: Path) -> None:
    """Store the run folder and this process's id in the environment of the processes that will be launched."""
    os.environ[SHARED_PATH], os.environ[PARENT_PID] = str(path), str(os.getpid())


@contextmanager
def restored_environment() -> Iterator[None]:
    """Restore the environment variables that the run and Lightning set, and destroy the process group, at the end of the block.

    A later run in the same process then starts with its own folder and its own processes.
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
    """Create the process group if torchrun or SLURM started the processes, so that they can agree on a run folder.

    Raises InputError if the launcher started another number of processes than the Trainer's flags require.
    """
    if SHARED_PATH in os.environ:
        # Lightning launches the other processes and creates the process group when training starts.
        return
    started = _externally_started()
    # In a SLURM job that uses torchrun, torchrun's count applies: SLURM only starts torchrun.
    for name, number in list(started.items())[:1]:
        if number > 1 and number != trainer.world_size:
            raise InputError(
                f"{name} started {number} processes, but trainer.devices={trainer.num_devices} and "
                f"trainer.num_nodes={trainer.num_nodes} require {trainer.world_size}: make the two numbers equal"
            )
    if trainer.num_nodes > 1 and not started:
        raise InputError(f"trainer.num_nodes={trainer.num_nodes} needs torchrun or SLURM to start the run on each node")
    if trainer.world_size > 1 and started:
        trainer.strategy.setup_environment()


def _externally_started() -> dict[str, int]:
    """Return the number of processes that each external launcher started, by the launcher's name.

    In an interactive job of SLURM (`salloc`, job name "bash" or "interactive"), SLURM_NTASKS is the size of the allocation, and
    plain `python` is a single process. Raises InputError if srun started several processes in such a job: Lightning would
    treat each as a separate run.
    """
    started = {name: int(os.environ[variable]) for variable, name in LAUNCHERS.items() if variable in os.environ}
    if "SLURM" in started and not SLURMEnvironment.detect():
        del started["SLURM"]
        tasks = int(os.environ.get(SRUN_TASKS, 1))
        if tasks > 1 and not started:
            raise InputError(
                f"srun started {tasks} processes in a job whose SLURM_JOB_NAME={SLURMEnvironment.job_name()} stands for a "
                "single process: give srun another name, such as srun --job-name=train"
            )
    return started


def run_first_then_others(make: Callable[[], T]) -> T:
    """Call `make` on rank 0, then on the other ranks, which can read the files that rank 0 wrote.

    Return each rank's result.

    An InputError of rank 0 is raised on all ranks.
    """
    made = _first(make)
    return make() if made is None else made[0]


def broadcast_from_first(make: Callable[[], T]) -> T:
    """Call `make` on rank 0 and return its result on all ranks. An InputError of rank 0 is raised on all ranks."""
    made = _first(make)
    return gather_from_ranks(None if made is None else made[0])[0]  # type: ignore[return-value]


def _first(make: Callable[[], T]) -> tuple[T] | None:
    """Call `make` on rank 0; return its result in a tuple there and None elsewhere.

    Raise its InputError on all ranks.
    """
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
    """End this process soon after its parent has died, because it would wait for the parent forever.

    `every_seconds`: interval between checks, which run in a daemon thread [s].
    """
    first = int(os.environ[PARENT_PID])

    def poll() -> None:
        while os.getppid() == first:
            time.sleep(every_seconds)
        os._exit(1)

    if os.getppid() != first:  # the parent died before this call
        os._exit(1)
    threading.Thread(target=poll, daemon=True, name="exit with parent").start()
