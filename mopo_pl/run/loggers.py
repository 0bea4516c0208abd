"""Build the loggers of a stage; when a run is resumed, they continue their records without lost or doubled rows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mopo_pl.config.registry import lookup
from mopo_pl.distributed.console import print_once
from mopo_pl.errors import InputError, Unwritable
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.files.metrics_file import MetricsFile
from mopo_pl.storage.atomic_write import atomic_write
from mopo_pl.storage.stored_json import read_json

LOGGERS = {
    "csv": loggers.CSVLogger,
    "tensorboard": loggers.TensorBoardLogger,
    "wandb": loggers.WandbLogger,
    "mlflow": loggers.MLFlowLogger,
}


def _places(logs: Path, stage: str, dataset: str, group: str | None) -> dict[str, dict[str, Any]]:
    """Return the default arguments of each logger by name: a record in the run folder for each stage, filed under dataset and group."""
    local = {"save_dir": str(logs), "version": stage}
    tags = {} if group is None else {"group": group}
    return {
        "csv": {**local, "name": "csv"},
        "tensorboard": {**local, "name": "tensorboard", "default_hp_metric": False},
        "wandb": {"save_dir": str(logs), "name": f"{logs.parent.name}-{stage}", **tags},
        "mlflow": {
            "tracking_uri": f"sqlite:///{logs}/mlflow.db",
            "artifact_location": str(logs / "mlflow"),  # MLflow would use the current folder
            "experiment_name": dataset,
            "run_name": stage,
            "tags": tags,
        },
    }


DATABASES = ("mlflow", "sqlalchemy", "sqlite3")
"""Packages whose errors mean that MLflow's store cannot be written. These errors are not subclasses of OSError."""


class _SkipsHeldRows:
    """A mixin, placed before a logger class, that skips rows which the logger got before the run was stopped.

    It also skips the hyperparameters of a LightningModule: `_tell` logs the complete configuration of the run instead.
    """

    held = -1
    told = False

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log hyperparameters until the configuration of the run has been logged; ignore later calls."""
        if not self.told:
            super().log_hyperparams(*args, **kwargs)  # type: ignore[misc]

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log a row of metrics if it is new, then call `save`, so that the row is stored when this returns.

        Raises Unwritable where it cannot be stored.
        """
        if step is not None and step <= self.held:
            return
        try:
            super().log_metrics(metrics, step)  # type: ignore[misc]
            self.save()  # type: ignore[attr-defined]
        except Exception as error:
            _say_unwritable(error)
            raise

    def finalize(self, status: str) -> None:
        """Close the logger. After a failed run, errors of closing are ignored, so that they do not hide why the run failed."""
        try:
            super().finalize(status)  # type: ignore[misc]
        except Exception as error:
            if status != "failed":
                _say_unwritable(error)
                raise


def _say_unwritable(error: Exception) -> None:
    """Raise Unwritable if `error` means that a record could not be written; return for other errors, such as one in a user's logger."""
    if isinstance(error, OSError):
        raise Unwritable(error.filename or "a logger's record", error) from error
    if type(error).__module__.partition(".")[0] in DATABASES:
        raise Unwritable("a logger's record", OSError(str(error).partition("\n")[0])) from error


@dataclass
class _Records:
    """The loggers that a run has opened for each stage, with the identities of their records. It is stored in the run folder."""

    path: Path
    stage: str
    opened: dict[str, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.opened = read_json(self.path)
            _refuse_records(self.opened)
        except FileNotFoundError:
            self.opened = {}
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            self.opened = {}
            print_once(f"{self.path} is damaged: loggers begin new records, and are told the rows so far")

    def identity(self, name: str) -> dict[str, Any] | None:
        """Return the arguments that continue the record of a logger; None if there is no record. A CSV file is always written anew."""
        return None if name == "csv" else self._record(name).get("identity")

    def held(self, name: str) -> int:
        """Return the update count of the newest row known to be in the logger; -1 if none. `metrics.jsonl` may have dropped it since."""
        return self._record(name).get("held", -1)

    def _record(self, name: str) -> dict[str, Any]:
        return self.opened.get(self.stage, {}).get(name, {})

    @rank_zero_only
    def keep(self, name: str, logger: Logger, held: int) -> None:
        """Store the identity of a logger's record and its newest row, `held` [updates]. Call it before training drops any row."""
        identity: dict[str, Any] = {}
        if isinstance(logger, loggers.WandbLogger):
            identity = {"id": logger.experiment.id, "resume": "allow"}
        elif isinstance(logger, loggers.MLFlowLogger):
            identity = {"run_id": logger.run_id}
        self.opened.setdefault(self.stage, {})[name] = {"identity": identity, "held": held}
        with atomic_write(self.path) as aside:
            aside.write_text(json.dumps(self.opened))


IDENTITY = ("id", "resume", "run_id")
"""Logger arguments that continue a record. `records.json` may hold no others, so that it cannot set where a logger writes."""


def _refuse_records(opened: dict[str, Any]) -> None:
    """Raise ValueError, TypeError, AttributeError or KeyError if the records do not have the form that `_Records.keep` writes."""
    for record in opened.values():
        for name, entry in record.items():
            texts = entry["identity"].items()
            if type(entry["held"]) is not int or not all(key in IDENTITY and type(text) is str for key, text in texts):
                raise ValueError(name)


@contextmanager
def closed_after(built: Sequence[Logger]) -> Iterator[Sequence[Logger]]:
    """Yield the loggers of a stage; at the end of the block, finish the runs of W&B."""
    try:
        yield built
    finally:
        for logger in built:
            if isinstance(logger, loggers.WandbLogger):
                # Lightning leaves the run of W&B open, and the next stage would write into the record of this one.
                logger.experiment.finish()


def build_loggers(
    settings: Mapping[str, Any],
    hyperparameters: dict[str, Any],
    folder: RunFolder,
    metrics: MetricsFile,
    *,
    dataset: str,
    group: str | None,
) -> list[Logger]:
    """Build and open one logger for each entry of `settings`.

    A record that the run opened before is continued. A new record first gets the hyperparameters and the stage's rows so far.
    Raises InputError where a logger cannot be made.

    Args:
        settings: Arguments of each logger, by name.
        hyperparameters: The complete configuration, as plain values.
        folder: Folder of the run, in which the loggers write by default.
        metrics: The metrics rows of the stage so far.
        dataset: Name of MLflow's experiment.
        group: Group of W&B, and a tag of MLflow; None: none.

    """
    folder.logs.mkdir(exist_ok=True)
    records = _Records(folder.logs / "records.json", metrics.stage)
    places, rows = _places(folder.logs, metrics.stage, dataset, group), metrics.rows()
    sent = max((row["update"] for row in rows), default=-1)
    built = []
    for name, arguments in settings.items():
        identity = records.identity(name)
        held = sent if identity is None else max(sent, records.held(name))
        try:
            logger = _built(name, {**places.get(name, {}), **(identity or {}), **(arguments or {})}, held)
            if identity is None:
                _tell(logger, hyperparameters, rows)
            logger.held, logger.told = held, True  # type: ignore[attr-defined]
            records.keep(name, logger, held)
        except Exception as error:
            raise InputError(f"logger.{name} cannot be made: {error}") from error
        built.append(logger)
    return built


def _built(name: str, arguments: Mapping[str, Any], held: int) -> Logger:
    own = lookup("logger", name, LOGGERS)
    if not isinstance(own, type):
        return own(**arguments)
    if issubclass(own, loggers.TensorBoardLogger) and held >= 0:
        # TensorBoard ignores older events from this step on, such as a row that was written while the run was killed.
        arguments = {**arguments, "purge_step": held + 1}
    logger: Logger = type(own.__name__, (_SkipsHeldRows, own), {})(**arguments)  # type: ignore[assignment]
    # Most loggers use their arguments, and can fail, only when `experiment` is first read.
    getattr(logger, "experiment", None)
    return logger


def _tell(logger: Logger, hyperparameters: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Log the hyperparameters and the stage's rows so far to a logger whose record is new."""
    logger.log_hyperparams(hyperparameters)
    for row in rows:
        values = {name: value for name, value in row.items() if name not in ("stage", "update") and value is not None}
        logger.log_metrics(values, step=row["update"])
