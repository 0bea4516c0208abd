"""Train the jobs of a sweep, several at a time, each in a separate process. Interrupted jobs are resumed."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mopo_pl.config.compose import compose, config_from_file
from mopo_pl.config.foreign import named_code
from mopo_pl.distributed.console import print_once
from mopo_pl.distributed.signals import SignalHandler, block_signals
from mopo_pl.errors import InputError
from mopo_pl.run.child_processes import start_training
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.storage.run_records import RESULT, read_result
from mopo_pl.sweep.plan import Job

OUTPUT = "output"
"""Subfolder of the sweep with the printed output of the runs, one file per run."""
POLL = 0.1
"""Time between two checks of the runs [s]."""


@dataclass(frozen=True)
class Share:
    """How the machine is divided among the runs of a sweep."""

    at_once: int
    """Number of runs that train at the same time."""
    threads: int
    """Number of CPU threads of each run."""

    @classmethod
    def of(cls, runs: int, *, cores: int, threads: int | None, at_once: int | None) -> "Share":
        """Return the number of runs at a time and their threads. A value that is None is chosen so that the cores are used.

        >>> Share.of(12, cores=8, threads=None, at_once=None), Share.of(3, cores=8, threads=None, at_once=None)
        (Share(at_once=8, threads=1), Share(at_once=3, threads=2))
        """
        if at_once is None:
            at_once = cores // (threads or max(1, cores // runs))
        at_once = max(1, min(at_once, runs))
        return cls(at_once, threads or max(1, cores // at_once))


def train_all(
    jobs: Sequence[Job],
    folder: Path,
    share: Share,
    signals: SignalHandler,
    *,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, str | None]:
    """Train jobs, each after the job it needs; return why each job failed, None for finished jobs.

    A job that fails stops only the jobs that need it. At the first signal, the running jobs get the signal, save and end, and no other
    job begins. Jobs that a signal stopped or kept from beginning are not in the result.

    Args:
        jobs: The jobs, those that others need first.
        folder: Folder of the sweep.
        share: Number of runs at a time, and their threads.
        signals: Signal handler, which is installed here.
        meanwhile: Called at each check of the runs.

    """
    (folder / OUTPUT).mkdir(parents=True, exist_ok=True)
    waiting, running, ended = list(jobs), dict[str, subprocess.Popen](), dict[str, str | None]()

    def tell() -> None:
        for child in running.values():
            if child.poll() is None and signals.received is not None:
                child.send_signal(signals.received)

    with signals.installed(tell):
        while running or (waiting and signals.received is None):
            for name in [name for name, child in running.items() if child.poll() is not None]:
                code = running.pop(name).returncode
                if signals.received is None or is_finished(folder / name):
                    ended[name] = None if is_finished(folder / name) else _reason(code, output_of(folder, name))
                    print_once(_progress(name, folder, ended, len(jobs)))
            ready = [job for job in waiting if job.needs is None or job.needs in ended]
            free = share.at_once - len(running) if signals.received is None else 0
            for job in _first(ready, free, ended, folder):
                waiting.remove(job)
                if is_finished(folder / job.name):
                    ended[job.name] = None
                elif job.needs is not None and ended[job.needs] is not None:
                    ended[job.name] = f"its ensemble {job.needs} failed"
                else:
                    running[job.name] = _start(job, folder, share.threads)
                    # `start_training` leaves the signals blocked in this process.
                    block_signals(getattr(signal, "SIG_UNBLOCK", 0))
            meanwhile()
            time.sleep(POLL)
    return ended


def _first(ready: Iterable[Job], free: int, ended: Mapping[str, str | None], folder: Path) -> list[Job]:
    """Return the jobs to handle now: at most `free` to train, and all that are finished or whose ensemble failed."""
    chosen = []
    for job in ready:
        lost = job.needs is not None and ended[job.needs] is not None
        takes = not lost and not is_finished(folder / job.name)
        if not takes or free > 0:
            chosen.append(job)
            free -= takes
    return chosen


def is_finished(run: Path) -> bool:
    """Return whether a run has a result."""
    return (run / RESULT).exists()


def _start(job: Job, folder: Path, threads: int) -> subprocess.Popen:
    run = RunFolder(folder / job.name)
    if run.config.exists():
        arguments = [f"resume={run.path}", *(["trust=true"] if _named_by(job, run) else [])]
    else:
        run.path.parent.mkdir(parents=True, exist_ok=True)
        arguments = [f"threads={threads}", *job.settings, "seeds=in_turn", f"run_dir={json.dumps(str(run.path))}"]
    with output_of(folder, job.name).open("a") as output:
        return start_training(arguments, stdout=output, stderr=subprocess.STDOUT)


def _named_by(job: Job, run: RunFolder) -> bool:
    """Return whether a begun run names code, files or addresses, and only those in the settings that the sweep gave it."""
    try:
        stored, own = named_code(config_from_file(run.config)), named_code(compose(job.settings))
    except InputError:
        return False  # the run reports the error
    return bool(stored) and set(stored) <= set(own)


def output_of(folder: Path, name: str) -> Path:
    """Return the path of the file with the printed output of a run."""
    return folder / OUTPUT / f"{name.replace('/', '_')}.txt"


def _reason(code: int, output: Path) -> str:
    """Return why a run failed: its last error message, its last line, or the signal that killed it."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name} (what it said: {output})"
    said = [line for line in output.read_text(errors="replace").splitlines() if line.strip()] or ["it said nothing"]
    last = next((line for line in reversed(said) if line.startswith("error: ")), said[-1])
    return f"{last.removeprefix('error: ')} (exit code {code}; what it said: {output})"


def _progress(name: str, folder: Path, ended: Mapping[str, str | None], number: int) -> str:
    """Return a line about a job that has ended."""
    before = f"[{len(ended)}/{number}] {name}"
    if ended[name] is not None:
        return f"{before}  failed: {ended[name]}"
    result = read_result(folder / name)
    assert result is not None
    seconds = sum(filter(None, result["seconds"].values()))
    reached = "" if result["final_return"] is None else f"return {result['final_return']:.1f}, "
    return f"{before}  {reached}{seconds:.0f} s"
