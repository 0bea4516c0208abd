"""How the runs of a list of seeds train: side by side, each in a process of its own, or one after another.

An update of soft actor-critic gains little from a second thread: two runs of one thread each make more updates together than
one after another with two (docs/performance.md). Each run is the one it would be alone with as many threads, to the bit; each
has its own copy of the log and the model buffer.
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
"""Above it, an exit code is that of a signal."""


def run_all(arguments: Sequence[str], runs: Sequence[Config]) -> int:
    """Train all runs; return the first exit code that is not 0, else 0. `arguments`: the command line they were made from.

    A run that diverges or cannot write does not stop the others, nor does any that trains beside them; a signal stops all. Raises InputError before anything is trained where a run
    cannot begin. Runs in turn re-raise the first error after the last of them.
    """
    for config in runs:
        refuse_occupied(config)
    runs = [with_named_ensemble(config) for config in runs]
    if len(runs) > 1 and fit_side_by_side(runs[0]):
        return run_side_by_side(arguments, runs)
    return _in_turn(runs)


def runs_at_once(runs: Sequence[Config]) -> int:
    """How many of these runs train at the same time. Raises InputError as `fit_side_by_side` does."""
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
    """Whether runs of this configuration train at the same time, as `seeds` and this machine have it.

    Raises InputError where `seeds` does not go with the Trainer's flags.
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
    """Trains runs of which `arguments` of the command line differ by seed and folder alone; the first exit code but 0.

    Raises InputError for what can be known before any begins. A signal is passed on to those that train; those that wait do not begin.
    """
    inputs = open_inputs(runs[0])  # once for all: what is wrong is said once, and a log that must be collected is
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
        if watch.received is not None:  # while it was being started; an echo does no harm
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
    """As a shell tells it."""
    if returned < 0:
        print_once(f"seed {run.seed} was killed by {signal.Signals(-returned).name}")
        return 128 - returned
    return returned


def _own(run: Config, threads: int) -> Iterator[str]:
    yield f"seed={run.seed}"
    yield "seeds=in_turn"
    yield f"threads={threads}"
    for name in ("run_dir", "dynamics_from", "group"):  # `runs/latest` would soon be one of these runs
        if getattr(run, name) is not None:
            yield f"{name}={json.dumps(getattr(run, name))}"
