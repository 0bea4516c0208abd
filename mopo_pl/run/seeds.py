"""Train the runs of a list of seeds, either side by side, each in a separate process, or one after another.

An update of soft actor-critic gains little from a second thread: two runs side by side with one thread each make more updates
than the same runs one after another with two threads (docs/performance.md). Each run gives bit for bit the result that it gives
alone with the same number of threads. Each process holds a copy of the log and of the model buffer.
"""

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from lightning.pytorch.accelerators import CPUAccelerator

from mopo_pl.config.schema import Config
from mopo_pl.distributed.console import print_once
from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.errors import Diverged, InputError, Unwritable
from mopo_pl.run.child_processes import pass_on, start_training
from mopo_pl.run.preparation.host_memory import refuse_too_little_room
from mopo_pl.run.preparation.inputs import open_inputs
from mopo_pl.run.session import refuse_occupied, run, with_named_ensemble
from mopo_pl.run.trainer import probe_flags

SIGNALLED = 128
"""Exit codes above it are 128 plus the number of a signal."""


def run_all(arguments: Sequence[str], runs: Sequence[Config]) -> int:
    """Train all runs; return the first exit code that is not 0, else 0. `arguments`: the command line they were made from.

    One after another, a run that diverges or cannot write does not stop the later ones, and the first such error is raised after
    the last run. Side by side, no failing run stops the others. A signal stops all runs. Raises InputError before anything is
    trained if a run cannot begin.
    """
    for config in runs:
        refuse_occupied(config)
    runs = [with_named_ensemble(config) for config in runs]
    if len(runs) > 1 and fit_side_by_side(runs[0]):
        return run_side_by_side(arguments, runs)
    return _in_turn(runs)


def runs_at_once(runs: Sequence[Config]) -> int:
    """Return how many of these runs train at the same time. Raises InputError as `fit_side_by_side` does."""
    if len(runs) == 1 or not fit_side_by_side(runs[0]):
        return 1
    cores = torch.get_num_threads()
    threads = runs[0].threads or max(1, cores // len(runs))
    return min(len(runs), max(1, cores // threads))


def _in_turn(runs: Sequence[Config]) -> int:
    codes, errors = [], []
    for config in runs:
        try:
            codes.append(run(config))
        except (Diverged, Unwritable) as error:
            errors.append(error)
            if len(runs) > 1:
                print_once(f"seed {config.seed} ended by an error: {error}")
        if codes and codes[-1] > SIGNALLED:
            break
    if errors:
        raise errors[0]
    return next(filter(None, codes), 0)


def fit_side_by_side(config: Config) -> bool:
    """Return whether runs of this configuration train at the same time, given `seeds` and the CPU threads of this machine.

    Raises InputError if `seeds=side_by_side` is combined with Trainer flags for several processes.
    """
    if config.seeds == "in_turn":
        return False
    if probe_flags(config.trainer).world_size > 1:
        if config.seeds == "auto":
            return False
        raise InputError(
            f"seeds={config.seeds} is for runs of one process each: leave it out, or set trainer.devices=1"
        )
    return config.seeds == "side_by_side" or torch.get_num_threads() // (config.threads or 1) > 1


def run_side_by_side(arguments: Sequence[str], runs: Sequence[Config]) -> int:
    """Train runs in separate processes; return the first exit code that is not 0, else 0.

    `arguments`: the command line that all runs share; they differ in seed and run folder only. A signal is passed on to the runs that
    train, and the waiting ones do not begin. Raises InputError before any run begins if its inputs are wrong or memory is too small.
    """
    inputs = open_inputs(runs[0])  # once for all runs: a problem is reported once, and a built-in log is collected once
    all_threads = torch.get_num_threads()
    threads = runs[0].threads or max(1, all_threads // len(runs))
    at_once = runs_at_once(runs)
    on_gpu = not isinstance(probe_flags(runs[0].trainer).accelerator, CPUAccelerator)
    refuse_too_little_room(runs[0], inputs, on_gpu=on_gpu, folder=Path(runs[0].run_dir or "runs"), copies=at_once)
    print_once(f"{len(runs)} runs, {at_once} at a time, threads={threads} each (seeds=in_turn: one after another)")
    watch, children = SignalHandler(), list[subprocess.Popen]()

    def train(run: Config) -> int:
        if watch.received is not None:
            return 128 + watch.received
        child = start_training([*arguments, *_own(run, threads)])
        children.append(child)
        if watch.received is not None:  # the signal came while the child was started; receiving it twice does no harm
            child.send_signal(watch.received)
        pass_on(child, f"seed {run.seed}")
        return _code(child.wait(), run)

    def tell() -> None:
        for child in children:
            if child.poll() is None and watch.received is not None:
                child.send_signal(watch.received)

    with watch.installed(tell), ThreadPoolExecutor(at_once) as pool:
        codes = list(pool.map(train, runs))
    return next(filter(None, codes), 0)


def _code(returned: int, run: Config) -> int:
    """Return the exit code as a shell reports it, 128 plus the number of the signal that killed the process."""
    if returned < 0:
        print_once(f"seed {run.seed} was killed by {signal.Signals(-returned).name}")
        return 128 - returned
    return returned


def _own(run: Config, threads: int) -> Iterator[str]:
    yield f"seed={run.seed}"
    yield "seeds=in_turn"
    yield f"threads={threads}"
    # `dynamics_from` is resolved here, because `runs/latest` would soon point at one of these runs.
    for name in ("run_dir", "dynamics_from", "group"):
        if getattr(run, name) is not None:
            yield f"{name}={json.dumps(getattr(run, name))}"
