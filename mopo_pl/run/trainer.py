"""The Lightning Trainer of a stage."""

import dataclasses
import logging
import sys
import warnings
from typing import Any

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import MPSAccelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from mopo_pl.callbacks import StageProgress
from mopo_pl.config.schema import TrainerConfig
from mopo_pl.errors import InputError
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.storage.checkpoints import ChecksummedCheckpointIO

LINE_SECONDS = 5.0


def probe_flags(settings: TrainerConfig) -> L.Trainer:
    """Return a Trainer with the user's flags, which shows what the flags resolve to on this machine.

    Raises InputError, before a run writes any file, if Lightning or this project does not accept the flags.
    """
    _quiet()
    try:
        trainer = L.Trainer(**_flags(settings), logger=False, enable_checkpointing=False)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError, OverflowError) as error:
        raise InputError(f"Lightning refuses a flag of trainer: {str(error).splitlines()[0]}") from error
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise InputError(
            f"trainer.devices={settings.devices} in a notebook or an interactive shell: Lightning would fork this process, and "
            "what the forks train would be lost; set trainer.devices=1, or start python train.py from a terminal"
        )
    if isinstance(trainer.accelerator, MPSAccelerator):
        raise InputError("trainer.accelerator: Apple's MPS has no float64, in which sums are kept; set it to cpu")
    return trainer


def build_trainer(
    settings: TrainerConfig,
    folder: RunFolder,
    *,
    stage: str,
    at_most: bool,
    shown: tuple[str, ...],
    callbacks: list[L.Callback],
    loggers: list[Logger],
) -> L.Trainer:
    """Return the Trainer of a stage, with the user's flags.

    Args:
        settings: The user's flags, with `max_epochs` of the stage.
        folder: Folder of the run.
        stage: Name of the stage, for the progress line.
        at_most: Whether the stage may end before `max_epochs`.
        shown: Names of the logged values that the progress line shows.
        callbacks: Callbacks in order; the progress line is added if it is enabled.
        loggers: Loggers of the stage.

    """
    _quiet()
    flags = _flags(settings)
    if flags["enable_progress_bar"]:
        callbacks = [
            *callbacks,
            StageProgress(stage=stage, shown=shown, at_most=at_most, every_seconds=LINE_SECONDS),
        ]
    return L.Trainer(
        **flags,
        callbacks=callbacks,
        logger=loggers,
        plugins=[ChecksummedCheckpointIO(beside=folder.config)],
        default_root_dir=str(folder.path),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def _flags(settings: TrainerConfig) -> dict[str, Any]:
    return {entry.name: getattr(settings, entry.name) for entry in dataclasses.fields(TrainerConfig)}


def _quiet() -> None:
    """Silence warnings of Lightning that do not apply: the loaders are plain iterables on purpose."""
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.pytorch.accelerators.cuda",
        "lightning.fabric.utilities.distributed",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*recommended to use.*sync_dist.*",
        ".*smaller than the logging interval.*",
        ".*Checkpoint directory.*exists and is not empty.*",
        ".*You called `self.log.*",
        ".*LeafSpec.*",
        ".*Experiment logs directory.*exists and is not empty.*",  # in a resumed run; its rows are kept
    ):
        warnings.filterwarnings("ignore", message=message)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning, module="lightning.*")
