"""The command `python -m mopo_pl sweep`: train a run for each combination of settings. The same command continues it."""

import hashlib
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from mopo_pl.config.schema import Config
from mopo_pl.distributed.console import print_once
from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.errors import InputError
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.trainer import probe_flags
from mopo_pl.storage.atomic_write import make_target, refuse_unwritable
from mopo_pl.storage.run_records import ensemble_folder, read_result
from mopo_pl.sweep.grid import Grid
from mopo_pl.sweep.jobs import OUTPUT, Share, is_finished, train_all
from mopo_pl.sweep.manifest import Manifest, read
from mopo_pl.sweep.plan import OF_THE_SWEEP, Job, check_inputs, jobs_of
from mopo_pl.sweep.ranges import is_range

FAILED = 1
"""Exit code if a run failed."""


@dataclass(frozen=True)
class Request:
    """The options of a sweep command, without its settings."""

    command: str
    folder: Path | None
    """Folder of the sweep; None: a folder in `runs/sweeps` that is named after the settings."""
    at_once: int | None
    dry_run: bool


def sweep_grid(arguments: Sequence[str], request: Request) -> int:
    """Train all combinations; return the exit code. Raises InputError before anything is trained.

    0: success; 1: a run failed, which does not stop the others; 128 + number of the signal: stopped by a signal.
    """
    grid = Grid.of(arguments)
    problems = [
        f"{key}={values[0]} is a range, which needs --search N; values of a grid are parted by commas"
        for key, values in grid.alternatives.items()
        if is_range(key, values[0])
    ]
    if not grid.varied:
        problems.append(
            "there is nothing to sweep: give a key several values, such as penalty.coef=0.5,2.5 or seed=0,1"
        )
    refuse_own_keys(grid, problems)
    folder = request.folder or default_folder(grid.alternatives)
    grid, given = with_given_ensembles(grid, folder)
    jobs, configs = jobs_of(list(grid.combinations()), grid.varied, folder, folder.name)
    policies = [job for job in jobs if job.trains_policy]
    manifest = Manifest(
        command=request.command,
        settings={key: list(values) for key, values in Grid.of(arguments).alternatives.items()},
        search=None,
        runs=[job.name for job in policies],
        ensembles=given,
    )
    share = share_of(configs, len(policies), request.at_once)
    if request.dry_run:
        print_once(plan_text(jobs, folder, share))
        return 0
    refuse_in_the_way(folder, (OUTPUT, *(job.name for job in jobs)))
    check_inputs(configs, folder, share.at_once)
    with locked(folder):
        if read(folder) is None:
            for job in jobs:
                RunFolder(folder / job.name).refuse_occupied()
        manifest.claim(folder)
        print_once(headline(jobs, folder, share))
        print_once(f"what the runs print: {folder / OUTPUT}")
        signals = SignalHandler()
        ended = train_all(jobs, folder, share, signals)
    return _told(jobs, ended, folder, signals)


def refuse_own_keys(grid: Grid, problems: Sequence[str] = ()) -> None:
    """Raise InputError if keys are given that a sweep sets itself, or if there are other `problems`, with all of them."""
    own = [f"{key}=: {instead}" for key, instead in OF_THE_SWEEP.items() if key in grid.alternatives]
    if problems or own:
        raise InputError([*problems, *own])


def default_folder(settings: Mapping[str, Sequence[str]]) -> Path:
    """Return the default folder of a sweep. The same settings give the same folder, other settings another one."""
    text = json.dumps({key: list(values) for key, values in settings.items()}, sort_keys=True)
    dataset = "-".join(Config(dataset=name).dataset_label for name in settings.get("dataset", ["pendulum"]))
    return Path("runs/sweeps") / f"{dataset}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def with_given_ensembles(grid: Grid, folder: Path) -> tuple[Grid, dict[str, str]]:
    """Return the grid with `dynamics_from` resolved to the folders it meant when the sweep began, and these folders by the given text."""
    given = grid.alternatives.get("dynamics_from", ())
    manifest = read(folder)
    before = {} if manifest is None else manifest.ensembles
    found = {text: before.get(text) or str(ensemble_folder(Path(text).expanduser())) for text in given}
    if not found:
        return grid, {}
    return replace(grid, alternatives={**grid.alternatives, "dynamics_from": tuple(found.values())}), found


def share_of(configs: Sequence[Config], runs: int, at_once: int | None) -> Share:
    """Return how many of `runs` runs train at the same time, with how many threads each.

    Runs of several processes train one after another unless `at_once` is given.
    """
    if at_once is None and any(probe_flags(config.trainer).world_size > 1 for config in configs[:1]):
        at_once = 1
    return Share.of(runs, cores=torch.get_num_threads(), threads=configs[0].threads, at_once=at_once)


def refuse_in_the_way(folder: Path, names: Iterable[str]) -> None:
    """Raise InputError if the folder of a sweep cannot be written, or a file or link has the path of one of its folders.

    `names`: paths of the folders, relative to the folder of the sweep.
    """
    refuse_unwritable(folder, "--folder")
    places = {
        folder / Path(*parts[:count])
        for parts in (Path(name).parts for name in names)
        for count in range(1, len(parts) + 1)
    }
    for place in sorted(places):
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise InputError(f"{place} stands where the sweep writes a folder: move it away, or give another --folder")
        refuse_unwritable(place, "--folder")
    printed = (folder / OUTPUT).iterdir() if (folder / OUTPUT).is_dir() else ()
    for place in sorted(printed):
        if not place.is_file():
            raise InputError(f"{place} is no file, and the sweep writes there what a run prints: move it away")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder against other sweep commands inside the block; raise InputError if one runs in it."""
    make_target(folder, "--folder")
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"{folder} is being swept by another command: wait for its end, or stop it") from error
    except (OSError, NotImplementedError):
        print_once(f"{folder} cannot be locked on this file system: make sure that only one command sweeps in it")
    try:
        yield
    finally:
        lock.release()


def headline(jobs: Sequence[Job], folder: Path, share: Share) -> str:
    """Return the line that describes what will be trained."""
    policies = sum(job.trains_policy for job in jobs)
    done = sum(is_finished(folder / job.name) for job in jobs)
    return (
        f"sweep folder {folder}: {len(jobs) - policies} ensembles and {policies} policies, of which {done} are finished; "
        f"{share.at_once} at a time, threads={share.threads} each"
    )


def plan_text(jobs: Sequence[Job], folder: Path, share: Share) -> str:
    """Return the list of the runs of a sweep, one per line, each with its state: finished, begun or new."""

    def state(job: Job) -> str:
        run = RunFolder(folder / job.name)
        return "finished" if is_finished(run.path) else "begun" if run.config.exists() else "new"

    lines = [f"{state(job):<9} {job.name}" + (f"  in {job.needs}" if job.needs else "") for job in jobs]
    return "\n".join([headline(jobs, folder, share), *lines])


def _told(jobs: Sequence[Job], ended: Mapping[str, str | None], folder: Path, signals: SignalHandler) -> int:
    """Print which runs failed and how to continue; return the exit code."""
    failed = {name: reason for name, reason in ended.items() if reason is not None}
    if failed:
        print_once("\n".join(["", f"{len(failed)} of {len(jobs)} runs failed:", *map(": ".join, failed.items())]))
    if signals.received is not None:
        print_once(f"stopped; {len(ended)} of {len(jobs)} runs have ended. The same command continues")
        return 128 + signals.received
    print_once(_next(jobs, folder))
    return FAILED if failed else 0


def _next(jobs: Sequence[Job], folder: Path) -> str:
    """Return the line with the command that compares or estimates the trained runs."""
    policies = [folder / job.name for job in jobs if job.trains_policy and is_finished(folder / job.name)]
    if any((read_result(run) or {}).get("final_return") is not None for run in policies) or not policies:
        return f"compare  {shlex.join(['python', '-m', 'mopo_pl', 'compare', str(folder)])}"
    again = shlex.join(["python", "-m", "mopo_pl", "estimate", str(policies[0])])
    return f"without an environment there are no returns to compare; each run by itself: {again}"
