"""The objective of a search, which is computed from a finished run."""

import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from mopo_pl.config.compose import compose
from mopo_pl.config.foreign import OF_A_FINISHED_RUN, named_code
from mopo_pl.config.keys import is_within
from mopo_pl.distributed.signals import SignalHandler, block_signals
from mopo_pl.errors import InputError
from mopo_pl.run.child_processes import start_command
from mopo_pl.storage.run_records import ESTIMATES, another_policy, is_of_this_policy, read_estimates, read_result

OBJECTIVES = ("return", "estimate")
"""Names of the objectives. return: mean return of the final episodes, which needs the environment. estimate: lowest over the elites of the
mean return in the model, which does not need it."""
POLL = 0.1
"""Time between two checks of the estimating process [s]."""


def objective_of(run: Path, objective: str) -> float:
    """Return the objective of a finished run. Raises InputError if the run has no finite value of it."""
    if objective == "return":
        value = _written(read_result(run), run, "result").get("final_return")
        if value is None or not isfinite(value):
            raise InputError(f"{run} has no return: its policy gave no numbers, or it has no environment")
        return float(value)
    found = _written(read_estimates(run), run, "estimate")
    if not is_of_this_policy(run, found):
        raise InputError(another_policy(run))
    try:
        returns = list(map(float, found["model"]["policy"]["return"]["elites"]))
        value = min(returns)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{run / ESTIMATES} holds no returns of the elites: estimate the run again") from error
    if not all(map(isfinite, returns)):
        raise InputError(f"{run / ESTIMATES} holds a return that is no number")
    return value


def _written(found: Mapping[str, Any] | None, run: Path, what: str) -> Mapping[str, Any]:
    if found is None:
        command = shlex.join(["estimate", str(run)] if what == "estimate" else ["train", f"resume={run}"])
        raise InputError(f"{run} has no {what}: python -m mopo_pl {command} writes one")
    return found


def estimate(
    run: Path,
    settings: Mapping[str, str],
    output: Path,
    signals: SignalHandler,
    meanwhile: Callable[[], None],
    *,
    threads: int,
) -> None:
    """Run `python -m mopo_pl estimate` for a run without estimates of its policy. A signal kills the process.

    Errors of the process are not raised here; `objective_of` reports that the estimates are missing.

    Args:
        run: Folder of the run.
        settings: Settings of the run. Those that name code, files or addresses are passed to the process.
        output: File to which the output of the process is appended.
        signals: Signal handler.
        meanwhile: Called at each check of the process.
        threads: Number of CPU threads of the process.

    """
    if _is_estimated(run):
        return
    config = compose([f"{key}={text}" for key, text in settings.items()])
    code = [f"{key}={text}" for key, text in named_code(config) if is_within(key, OF_A_FINISHED_RUN)]
    with output.open("a") as written:
        child = start_command(["estimate", str(run), *code], threads=threads, stdout=written, stderr=subprocess.STDOUT)
    block_signals(getattr(signal, "SIG_UNBLOCK", 0))
    while child.poll() is None:
        if signals.received is not None:
            child.kill()
        meanwhile()
        time.sleep(POLL)


def _is_estimated(run: Path) -> bool:
    """Return whether a run has estimates of its policy, or damaged estimates, which `objective_of` reports."""
    try:
        found = read_estimates(run)
    except InputError:
        return True
    return found is not None and is_of_this_policy(run, found)
