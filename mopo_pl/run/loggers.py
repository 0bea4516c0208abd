"""The loggers a configuration names."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.loggers import Logger

from mopo_pl.config import Config
from mopo_pl.problems import InputError
from mopo_pl.registry import resolve
from mopo_pl.run.folder import RunFolder

PLACES = {
    "csv": lambda logs, stage: {"save_dir": str(logs), "name": "csv", "version": stage},
    "tensorboard": lambda logs, stage: {"save_dir": str(logs), "name": "tensorboard", "version": stage},
    "wandb": lambda logs, stage: {"save_dir": str(logs), "name": f"{logs.parent.name}-{stage}"},
    "mlflow": lambda logs, stage: {"tracking_uri": f"sqlite:///{logs}/mlflow.db", "run_name": stage},
}
"""Where each logger writes unless it is told otherwise: into the run folder, one record per stage."""

LOGGERS = {
    "csv": loggers.CSVLogger,
    "tensorboard": loggers.TensorBoardLogger,
    "wandb": loggers.WandbLogger,
    "mlflow": loggers.MLFlowLogger,
}


@contextmanager
def open_loggers(config: Config, folder: RunFolder, stage: str) -> Iterator[list[Logger]]:
    """The loggers of a stage, none in a smoke test; raises InputError where one cannot be made."""
    built = [] if config.trainer.fast_dev_run else build_loggers(config.logger, folder, stage)
    try:
        yield built
    finally:
        for logger in built:
            if isinstance(logger, loggers.WandbLogger):
                # Lightning leaves it open, and the next stage would write into this one's record.
                logger.experiment.finish()


def build_loggers(chosen: Mapping[str, Any], folder: RunFolder, stage: str) -> list[Logger]:
    """One logger for each entry of name to arguments, opened; raises InputError where one cannot be made."""
    folder.logs.mkdir(exist_ok=True)
    built = []
    for name, arguments in chosen.items():
        place = PLACES[name](folder.logs, stage) if name in PLACES else {}
        try:
            built.append(resolve("logger", name, LOGGERS)(**{**place, **(arguments or {})}))
            # Most hand their arguments on only here.
            getattr(built[-1], "experiment", None)
        except Exception as error:
            raise InputError(f"logger.{name} cannot be made: {error}") from error
    return built
