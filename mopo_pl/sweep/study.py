"""An Optuna study that several workers share, any of which may be killed.

Optuna detects dead workers only with a database, not with a journal, and marks their trials as failed. Here each worker regularly writes
the time into its trial. A trial whose time is old is queued again with its values and its folder, in which its runs are resumed.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mopo_pl.distributed.console import print_once
from mopo_pl.errors import InputError
from mopo_pl.sweep.ranges import Range

BEAT = 30.0
"""Time between two heartbeats of a worker [s]."""
STALE = 180.0
"""Age of the last heartbeat from which a worker counts as dead [s]. The clocks of the machines must differ by less."""
JOURNAL = "journal:"


@dataclass(frozen=True)
class Trial:
    """A trial: one choice of values of the searched keys."""

    number: int
    """Number in the study. A trial that is queued again gets another number."""
    values: dict[str, Any]
    """Values by key."""
    place: str
    """Name of the folder of the trial, which does not change when the trial is queued again."""
    handle: Any
    """The trial object of Optuna."""


def open_study(
    storage: str, name: str, ranges: Mapping[str, Range | tuple[str, ...]], settings: Mapping[str, Sequence[str]]
) -> "Study":
    """Open the study `name` in a storage, or create it.

    Raises InputError if Optuna is not installed, the storage cannot be opened, or the study has other settings.

    Args:
        storage: `journal:FILE` or the URL of a database.
        name: Name of the study.
        ranges: The range or the values of each searched key.
        settings: All settings of the search, which are stored with the study and compared.

    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise InputError("--search needs Optuna: pip install -c constraints.txt -e '.[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not storage.startswith(JOURNAL) and "://" not in storage:
        raise InputError(f"storage={storage} must be journal:FILE, or a database's URL such as sqlite:///search.db")
    try:
        if storage.startswith(JOURNAL):
            # Absolute, because Optuna's lock is a link to the file, which is resolved relative to the link's folder.
            path = Path(storage.removeprefix(JOURNAL)).expanduser().absolute()
            opened = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        else:
            opened = optuna.storages.get_storage(storage)
        # constant_liar: a trial that another worker trains counts as bad, so that workers do not try the same values.
        sampler = optuna.samplers.TPESampler(constant_liar=True)
        study = optuna.create_study(
            storage=opened, sampler=sampler, study_name=name, direction="maximize", load_if_exists=True
        )
    except Exception as error:  # errors of the file, of SQLAlchemy, or of the database driver
        raise InputError(f"storage={storage} cannot be opened: {str(error).splitlines()[0]}") from error
    told = {key: list(values) for key, values in settings.items()}
    if study.user_attrs.get("settings", told) != told:
        raise InputError(
            f"storage={storage} holds another search called {name}: give another --folder, whose name it takes"
        )
    study.set_user_attr("settings", told)
    return Study(study, {key: _distribution(drawn) for key, drawn in ranges.items()})


def _distribution(drawn: Range | tuple[str, ...]) -> Any:
    from optuna import distributions

    if isinstance(drawn, tuple):
        return distributions.CategoricalDistribution(drawn)
    if drawn.whole:
        return distributions.IntDistribution(int(drawn.low), int(drawn.high), log=drawn.log)
    return distributions.FloatDistribution(drawn.low, drawn.high, log=drawn.log)


class Study:
    """The trials of a search. Old entries of trials that were queued again, and surplus trials, are not counted."""

    def __init__(self, study: Any, space: Mapping[str, Any]) -> None:
        """Wrap a study of Optuna. `space`: Optuna's distribution of each key."""
        self.study, self.space = study, dict(space)

    def next(self, number: int) -> Trial | None:
        """Return the next trial to train, a queued one first; None if `number` trials are trained or being trained."""
        if not self._waiting() and len(self._counted()) >= number:
            return None
        asked = self.study.ask(self.space)
        place = asked.user_attrs.get("place", str(asked.number))
        for name, value in {"place": place, "worker": _worker(), "alive": time.time()}.items():
            asked.set_user_attr(name, value)
        before = [trial for trial in self._counted() if trial.number < asked.number]
        if len(before) >= number:  # two workers requested the last trial at the same time
            self._drop(asked)
            return None
        return Trial(asked.number, asked.params, place, asked)

    def _waiting(self) -> list[Any]:
        return self._in_state("WAITING")

    def _in_state(self, state: str) -> list[Any]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name == state]

    def _counted(self) -> list[Any]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if not trial.user_attrs.get("dropped")]

    def others_train(self) -> bool:
        """Return whether a trial is being trained or is queued."""
        return bool(self._in_state("RUNNING") or self._waiting())

    def heartbeat(self, trial: Trial) -> Callable[[], None]:
        """Return a function that writes a heartbeat into the trial if the last one is at least `BEAT` seconds old."""
        last = time.monotonic()

        def beat() -> None:
            nonlocal last
            if time.monotonic() - last >= BEAT:
                last = time.monotonic()
                with suppress(Exception):  # a database that is unavailable for a moment must not end the training
                    trial.handle.set_user_attr("alive", time.time())

        return beat

    def finish(self, trial: Trial, value: float) -> None:
        """Report the objective of a trial."""
        print_once(f"trial {trial.number}: {value:.4g}")
        self._tell(trial, value)

    def fail(self, trial: Trial, reason: str) -> None:
        """Report that a trial failed. It is not trained again."""
        print_once(f"trial {trial.number} failed: {reason}")
        trial.handle.set_user_attr("reason", reason)
        self._tell(trial, None)

    def _tell(self, trial: Trial, value: float | None) -> None:
        from optuna.trial import TrialState

        try:
            self.study.tell(trial.number, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)
        except (ValueError, RuntimeError):
            print_once(f"trial {trial.number}: another worker has taken it over")

    def queue_again(self, trial: Trial) -> None:
        """Queue a trial that was stopped, for this worker's next command or another worker."""
        self._requeue(trial.number)

    def queue_lost(self) -> None:
        """Queue the trials whose workers have died."""
        for trial in self._in_state("RUNNING"):
            if _is_lost(trial.user_attrs, trial.datetime_start.timestamp()):
                print_once(f"trial {trial.number}: its worker has ended; it is queued again")
                self._requeue(trial.number)

    def _requeue(self, number: int) -> None:
        (found,) = [trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number]
        place = found.user_attrs.get("place", str(number))
        if self._drop(found):
            self.study.enqueue_trial(found.params, user_attrs={"place": place})

    def _drop(self, trial: Any) -> bool:
        """End a trial that is not counted; return False if another worker ended it."""
        from optuna.trial import TrialState

        try:
            self.study._storage.set_trial_user_attr(trial._trial_id, "dropped", True)
            self.study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, RuntimeError):
            return False
        return True

    def best(self) -> Any:
        """Return the Optuna trial with the highest value, None if no trial is complete."""
        complete = [trial for trial in self._in_state("COMPLETE") if trial.value is not None]
        return max(complete, key=lambda trial: trial.value, default=None)

    def summary(self, objective: str) -> str:
        """Return the summary of the search in at most two lines."""
        counted, best = self._counted(), self.best()
        ended = [trial for trial in counted if trial.state.name in ("COMPLETE", "FAIL")]
        failed = sum(trial.state.name == "FAIL" for trial in counted)
        lines = [f"{len(ended)} trials, of which {failed} failed"]
        if best is not None:
            values = " ".join(f"{key}={value}" for key, value in best.params.items())
            lines.append(
                f"best     {objective} {best.value:.4g}: {values}  (trial {best.number}; the best of {len(ended)} is optimistic: "
                "train it again with new seeds)"
            )
        return "\n".join(lines)


def _worker() -> str:
    """Return a name of this process that is unique among machines: host, namespace of process ids, process id."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{platform.node()}|{namespace}|{os.getpid()}"


def _is_lost(attributes: Mapping[str, Any], began: float) -> bool:
    """Return whether the worker of a running trial has died: its process on this machine has ended, or its heartbeat is old.

    `began`: start of the trial, used without a heartbeat [s since the epoch].
    """
    if time.time() - float(attributes.get("alive", began)) > STALE:
        return True
    host, _, process = str(attributes.get("worker", "|")).rpartition("|")
    if host != _worker().rpartition("|")[0] or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
