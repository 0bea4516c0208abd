"""What a run starts from, opened and checked before anything is trained."""

import json
from dataclasses import dataclass
from pathlib import Path

from mopo_pl.assembly import build_penalty, build_samples, needs_model, open_log, trains_model
from mopo_pl.compose import config_from_file
from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.store import load_model
from mopo_pl.dynamics.termination import termination_rule
from mopo_pl.problems import InputError
from mopo_pl.run.own_functions import try_penalty, try_rule


@dataclass(frozen=True)
class Inputs:
    """The log, and an ensemble that was given."""

    dataset: OfflineDataset
    model: TransitionModel | None
    """Ensemble of `dynamics_from`."""


def open_inputs(config: Config) -> Inputs:
    """Opens the log and settles the environment; raises InputError for everything that can be known before training."""
    dataset = open_log(config)
    if needs_model(config):
        try_rule(termination_rule(config.termination, dataset.env_id), config, dataset)
        try_penalty(build_penalty(config), config, dataset)
    if trains_model(config):
        _refuse_too_few_rows(config, dataset)
    return Inputs(dataset, None if config.dynamics_from is None else _given_model(config.dynamics_from, dataset))


def _refuse_too_few_rows(config: Config, dataset: OfflineDataset) -> None:
    try:
        build_samples(config, dataset)
    except ValueError as error:
        raise InputError(
            f"{dataset.name}: {error}; a longer log or another dynamics.holdout_fraction is needed"
        ) from error


def ensemble_folder(run: Path) -> Path:
    """Where the ensemble of a run lies: in its own folder, or in that of the run from which it took one."""
    seen = []
    while not (run / "dynamics.json").exists() and (run / "config.yaml").exists() and run not in seen:
        seen.append(run)
        source = config_from_file(run / "config.yaml").dynamics_from
        run = run if source is None else Path(source)
    return run.resolve()


def _given_model(folder: str, dataset: OfflineDataset) -> TransitionModel:
    model = load_model(Path(folder))
    ours, theirs = (dataset.obs_dim, dataset.action_dim), (model.ensemble.obs_dim, model.ensemble.action_dim)
    if ours != theirs:
        raise InputError(
            f"dynamics_from={folder} models {theirs[0]} observation and {theirs[1]} action dimensions; "
            f"the data have {ours[0]} and {ours[1]}"
        )
    fitted_to = json.loads((Path(folder) / "dynamics.json").read_text()).get("dataset")
    if fitted_to not in (None, dataset.hash):
        raise InputError(
            f"dynamics_from={folder} was fitted to another log than dataset={dataset.name}: give the dataset of that run"
        )
    return model
