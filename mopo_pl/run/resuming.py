"""Checks before a run is resumed: whether it is finished, and whether the new settings are allowed."""

import sys

from mopo_pl.config.compose import CHANGEABLE_ON_RESUME, config_from_file
from mopo_pl.config.keys import is_within
from mopo_pl.config.schema import Config
from mopo_pl.distributed.console import print_once
from mopo_pl.errors import InputError
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.files.provenance import settings_that_differ
from mopo_pl.storage.checkpoints import CheckpointFiles
from mopo_pl.storage.stored_json import read_json


def is_finished(config: Config, folder: RunFolder) -> bool:
    """Return whether the run has a result, and `trainer.max_epochs` and `trainer.max_time` are unchanged."""
    try:
        read_json(folder.result)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        print_once(f"{folder.result} is damaged: the run is taken as not finished, and makes it again")
        return False
    ended = config_from_file(folder.config).trainer
    return (ended.max_epochs, ended.max_time) == (config.trainer.max_epochs, config.trainer.max_time)


def without_effect(config: Config, folder: RunFolder) -> str:
    """Return the end of a message that lists settings without effect on a finished run; "" if there are none."""
    ended = config_from_file(folder.config)
    # A finished run without estimates or a report gets them now.
    useless = [key for key in CHANGEABLE_ON_RESUME if key not in ("estimate", "report")]
    keys = [key for key in settings_that_differ(ended, config) if is_within(key, useless)]
    return f"; without effect: {', '.join(keys)}. {folder.evaluate_command(ended)} scores its policy" if keys else ""


def refuse_epochs_of_a_trained_ensemble(config: Config, folder: RunFolder) -> None:
    """Raise InputError if `dynamics.max_epochs` is changed for an ensemble that is trained already."""
    given, had = config.dynamics.max_epochs, config_from_file(folder.config).dynamics.max_epochs
    trained = config.dynamics_from is not None or (folder.path / "dynamics.json").exists()
    if given != had and trained:
        raise InputError(
            f"dynamics.max_epochs={'null' if given is None else given}: the ensemble of {folder.path} is trained, with "
            f"{'null' if had is None else had}; start a new run to train one for longer"
        )


def refuse_fewer_epochs(config: Config, folder: RunFolder) -> None:
    """Raise InputError if a stage to continue has begun more epochs than the configuration allows."""
    stages = {"policy": ("trainer.max_epochs", config.trainer.max_epochs)}
    if not (folder.path / "dynamics.json").exists():
        stages["dynamics"] = ("dynamics.max_epochs", config.dynamics.max_epochs or sys.maxsize)
    for stage, (key, given) in stages.items():
        begun = CheckpointFiles(folder.checkpoints, stage).epochs_begun()
        if begun > given:
            raise InputError(
                f"{key}={given} is less than the {begun} epochs that {folder.path} has begun: give at least {begun}, "
                "or start a new run"
            )
