"""The command `python -m mopo_pl sweep --search N`: a worker that trains trials chosen by Optuna.

Any number of workers can share one storage.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mopo_pl.distributed.console import print_once
from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.errors import InputError
from mopo_pl.sweep.command import (
    FAILED,
    Request,
    default_folder,
    refuse_in_the_way,
    refuse_own_keys,
    share_of,
    with_given_ensembles,
)
from mopo_pl.sweep.grid import Grid
from mopo_pl.sweep.jobs import OUTPUT, Share, is_finished, output_of, train_all
from mopo_pl.sweep.manifest import FILE, Manifest
from mopo_pl.sweep.objective import OBJECTIVES, estimate, objective_of
from mopo_pl.sweep.plan import ENSEMBLES, check_inputs, jobs_of
from mopo_pl.sweep.ranges import Range, is_range, read_range
from mopo_pl.sweep.study import Study, Trial, open_study

TRIALS = "trials"
"""Subfolder of the search with the trials. Each trial has one run per seed."""
OWN = {"objective": "return", "storage": None}
"""Keys of a search that are not configuration keys, with their defaults. Storage None: `journal:` of `search.journal` in the folder."""
WAIT = 1.0
"""Time between two checks of the other workers [s]."""


@dataclass(frozen=True)
class Search:
    """The settings, objective, storage and folder of a search."""

    grid: Grid
    """All settings, including the ranges as text."""
    ranges: Mapping[str, Range | tuple[str, ...]]
    """The range or the values from which each searched key is drawn."""
    objective: str
    storage: str
    folder: Path

    @property
    def searched(self) -> list[str]:
        """The keys that are searched."""
        return list(self.ranges)

    def combinations(self, values: Mapping[str, str]) -> list[dict[str, str]]:
        """Return the settings of a trial, one entry per seed. `values`: values of the searched keys."""
        fixed = {key: (values[key],) if key in values else texts for key, texts in self.grid.alternatives.items()}
        return list(Grid(fixed).combinations())

    def ends(self) -> list[dict[str, str]]:
        """Return settings of the first seed that cover both ends of each range and each listed value, to check them before the search."""
        texts = {key: _ends(drawn) for key, drawn in self.ranges.items()}
        first = {key: values[0] for key, values in texts.items()}
        found = [first, *({**first, key: value} for key, values in texts.items() for value in values[1:])]
        return [self.combinations(values)[0] for values in found]


def _ends(drawn: Range | tuple[str, ...]) -> tuple[str, ...]:
    return drawn if isinstance(drawn, tuple) else (_text(drawn.low, drawn), _text(drawn.high, drawn))


def _text(value: Any, drawn: Range | tuple[str, ...]) -> str:
    """Return a drawn value as on a command line, with six significant digits."""
    if isinstance(drawn, tuple):
        return value
    return str(int(value)) if drawn.whole else f"{value:.6g}"


def search(arguments: Sequence[str], number: int, request: Request) -> int:
    """Train trials until the study has `number` of them; return the exit code. Raises InputError before anything is trained.

    0: success; 1: every trial failed; 128 + number of the signal: stopped by a signal. The trial that was being trained is then queued
    again.

    Args:
        arguments: Settings `key=value` with ranges, and `objective` and `storage`.
        number: Number of trials of the study, those of all workers counted.
        request: Options of the command.

    """
    asked, given = _read(arguments, request.folder)
    _, configs = jobs_of(asked.ends(), asked.searched, asked.folder, asked.folder.name)
    share = share_of(configs, len(asked.grid.alternatives.get("seed", ("0",))), request.at_once)
    if request.dry_run:
        print_once(_plan(asked, number, share))
        return 0
    refuse_in_the_way(asked.folder, (OUTPUT, ENSEMBLES, TRIALS))
    inputs = check_inputs(configs, asked.folder, share.at_once)
    if asked.objective == "estimate" and not all(config.uses_model for config in configs):
        raise InputError(
            "objective=estimate: a policy is estimated in its ensemble: leave out settings that train without one"
        )
    if asked.objective == "return" and any(single.dataset.env_id is None for single in inputs):
        raise InputError(
            "objective=return: the log names no environment to measure it in: give env_id=, or objective=estimate"
        )
    settings = {key: list(values) for key, values in Grid.of(arguments).alternatives.items()}
    manifest = Manifest(
        command=request.command,
        settings=settings,
        search={"objective": asked.objective, "storage": asked.storage},
        runs=[],
        ensembles=given,
    )
    begun = (asked.folder / FILE).exists()
    manifest.claim(asked.folder)
    try:
        study = open_study(asked.storage, asked.folder.name, asked.ranges, settings)
    except InputError:
        if not begun:  # so that the folder can be used again with another storage
            (asked.folder / FILE).unlink(missing_ok=True)
            with suppress(OSError):
                asked.folder.rmdir()
        raise
    print_once(_plan(asked, number, share))
    signals = SignalHandler()
    with signals.installed():
        _work(study, asked, number, share, signals)
    return _told(study, asked, signals)


def _read(arguments: Sequence[str], folder: Path | None) -> tuple[Search, dict[str, str]]:
    """Return the search that the command describes, and the folders of given ensembles."""
    grid = Grid.of(arguments)
    settings = {key: values for key, values in grid.alternatives.items() if key not in OWN}
    refuse_own_keys(grid)
    folder = folder or default_folder(grid.alternatives)
    values = {key: ",".join(grid.alternatives.get(key, (default or "",))) for key, default in OWN.items()}
    if values["objective"] not in OBJECTIVES:
        raise InputError(f"objective={values['objective']} must be one of {', '.join(OBJECTIVES)}")
    if len(settings.get("dataset", ())) > 1:
        raise InputError("dataset: a search is on one log; sweep without --search takes several")
    ranges: dict[str, Range | tuple[str, ...]] = {}
    for key, texts in settings.items():
        if len(texts) == 1 and is_range(key, texts[0]):
            ranges[key] = read_range(key, texts[0])
        elif len(texts) > 1 and key != "seed":
            ranges[key] = texts
    if not ranges:
        raise InputError("--search needs a key with a range or several values, such as 'penalty.coef=0.1..10 (log)'")
    grid, given = with_given_ensembles(Grid(settings), folder)
    if "dynamics_from" in ranges:
        ranges["dynamics_from"] = grid.alternatives["dynamics_from"]
    storage = values["storage"] or f"journal:{folder / 'search.journal'}"
    return Search(grid, ranges, values["objective"], storage, folder), given


def _plan(asked: Search, number: int, share: Share) -> str:
    seeds = ", ".join(asked.grid.alternatives.get("seed", ("0",)))
    lines = [
        f"search folder {asked.folder}: {number} trials in {asked.storage}, objective={asked.objective}, seeds {seeds}; "
        f"{share.at_once} runs at a time, threads={share.threads} each"
    ]
    for key, drawn in asked.ranges.items():
        if isinstance(drawn, tuple):
            lines.append(f"  {key}  one of {'  '.join(drawn)}")
        else:
            low, high = _ends(drawn)
            lines.append(f"  {key}  from {low} to {high}{', logarithmic' if drawn.log else ''}")
    return "\n".join(lines)


def _work(study: Study, asked: Search, number: int, share: Share, signals: SignalHandler) -> None:
    """Train trials, including those of dead workers, until there are `number` trials and none is being trained."""
    while signals.received is None:
        study.queue_lost()
        trial = study.next(number)
        if trial is not None:
            _train(study, trial, asked, share, signals)
        elif study.others_train():
            time.sleep(WAIT)
        else:
            return


def _train(study: Study, trial: Trial, asked: Search, share: Share, signals: SignalHandler) -> None:
    """Train the runs of a trial, and report its objective or its failure to the study. After a signal, queue the trial again."""
    values = {key: _text(value, asked.ranges[key]) for key, value in trial.values.items()}
    print_once(f"trial {trial.number}: {' '.join(f'{key}={value}' for key, value in values.items())}")
    place = f"{TRIALS}/{trial.place}/"
    jobs, _ = jobs_of(asked.combinations(values), asked.searched, asked.folder, asked.folder.name, place)
    ensembles = [job for job in jobs if not job.trains_policy]
    beat = study.heartbeat(trial)
    with _alone([asked.folder / job.name for job in ensembles], signals, beat):
        ended = train_all(ensembles, asked.folder, share, signals, meanwhile=beat)
    if signals.received is None and not any(ended.values()):
        ended |= train_all(jobs, asked.folder, share, signals, meanwhile=beat)
    policies = [job.name for job in jobs if job.trains_policy]
    if asked.objective == "estimate" and signals.received is None:
        for name in [name for name in policies if ended.get(name, "") is None]:
            settings, output = values | _fixed(asked), output_of(asked.folder, name)
            estimate(asked.folder / name, settings, output, signals, beat, threads=share.threads)
    failed = {name: reason for name, reason in ended.items() if reason is not None}
    if failed:
        study.fail(trial, "; ".join(map(": ".join, failed.items())))
    elif signals.received is not None:
        study.queue_again(trial)
    else:
        try:
            reached = [objective_of(asked.folder / name, asked.objective) for name in policies]
        except InputError as error:
            study.fail(trial, str(error))
        else:
            study.finish(trial, sum(reached) / len(reached))


def _fixed(asked: Search) -> dict[str, str]:
    """Return the settings that are equal in all trials."""
    return {key: texts[0] for key, texts in asked.grid.alternatives.items() if key not in asked.ranges}


@contextmanager
def _alone(folders: Sequence[Path], signals: SignalHandler, beat: Callable[[], None]) -> Iterator[None]:
    """Wait until no other worker trains these ensembles, and lock them inside the block. A signal ends the wait.

    The locks are taken in the order of the names, so that two workers never wait for each other. `beat` is called while waiting.
    """
    with ExitStack() as locks:
        for folder in sorted(folder for folder in folders if not is_finished(folder)):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.with_name(f".{folder.name}.lock"))
            while signals.received is None:
                try:
                    locks.enter_context(lock.acquire(timeout=0))
                except Timeout:
                    beat()
                    time.sleep(WAIT)
                    continue
                except (OSError, NotImplementedError):
                    print_once(
                        f"{folder.parent} cannot be locked on this file system: two workers may train one ensemble"
                    )
                break
        yield


def _told(study: Study, asked: Search, signals: SignalHandler) -> int:
    """Print the summary of the search; return the exit code."""
    print_once(study.summary(asked.objective))
    if signals.received is not None:
        print_once("stopped: the trial is queued again. The same command continues")
        return 128 + signals.received
    print_once(f"compare  python -m mopo_pl compare {shlex.quote(str(asked.folder))}")
    return 0 if study.best() is not None else FAILED
