"""Inputs of a run: opened, and checked as far as possible before anything is trained."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mopo_pl.assembly import build_penalty, build_samples, open_log
from mopo_pl.config.compose import config_from_file
from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.model import TransitionModel, load_model
from mopo_pl.dynamics.penalties import Penalty
from mopo_pl.dynamics.termination import Rule, termination_rule
from mopo_pl.errors import InputError


@dataclass(frozen=True)
class Inputs:
    """The log, and the ensemble of `dynamics_from`."""

    dataset: OfflineDataset
    model: TransitionModel | None
    """None where the run trains one, or uses none."""


def open_inputs(config: Config) -> Inputs:
    """Open the log and check it, the termination rule, the penalty and a given ensemble; raises InputError."""
    dataset = open_log(config)
    if config.uses_model:
        try_rule(termination_rule(config.termination, dataset.env_id), config.termination, dataset)
        members = config.dynamics.members
        try_penalty(build_penalty(config.penalty.name), config.penalty.name, members=members, obs_dim=dataset.obs_dim)
    if config.trains_model:
        _refuse_too_few_rows(config, dataset)
    return Inputs(dataset, None if config.dynamics_from is None else _given_model(config.dynamics_from, dataset))


def _refuse_too_few_rows(config: Config, dataset: OfflineDataset) -> None:
    try:
        build_samples(config.dynamics, dataset, seed=config.seed)
    except ValueError as error:
        raise InputError(
            f"{dataset.name}: {error}; a longer log or another dynamics.holdout_fraction is needed"
        ) from error


def ensemble_folder(run: Path) -> Path:
    """The folder with the ensemble of a run: the run's folder, or that of the run named by its `dynamics_from`."""
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


TRIED = 3
"""Rows that a user's function is called with before training."""


def try_rule(rule: Rule, name: str | None, dataset: OfflineDataset) -> None:
    """Call the rule on 3 rows; raise InputError where it fails, returns no bool tensor [B], or changes its arguments."""
    rows = dataset.transitions[:TRIED]
    given = [rows.observations.clone(), rows.actions.clone(), rows.next_observations.clone()]
    ended = _called(lambda: rule(*given), f"termination={name}")
    if not isinstance(ended, Tensor) or ended.shape != rows.rewards.shape or ended.dtype != torch.bool:
        raise InputError(
            f"termination={name} must give a bool tensor [B] for states and actions [B, ...]; "
            f"it gave {_described(ended)}"
        )
    if not all(map(torch.equal, given, (rows.observations, rows.actions, rows.next_observations))):
        raise InputError(f"termination={name} changes its arguments in place; let it work on copies")


def try_penalty(penalty: Penalty, name: str, *, members: int, obs_dim: int) -> None:
    """Call the penalty on 3 rows; raise InputError where it fails, returns no floats [B] >= 0, or changes its arguments."""
    shape = (members, TRIED, 1 + obs_dim)
    mean, std = torch.zeros(shape), torch.ones(shape)
    u = _called(lambda: penalty(mean, std), f"penalty.name={name}")
    if not isinstance(u, Tensor) or u.shape != (TRIED,) or not u.is_floating_point() or not (u >= 0).all():
        raise InputError(
            f"penalty.name={name} must give floats u [B], none below 0, for means and deviations "
            f"[E, B, 1 + D]; it gave {_described(u)}"
        )
    if mean.any() or not (std == 1).all():
        raise InputError(f"penalty.name={name} changes its arguments in place; let it work on copies")


def _called(call: Callable[[], object], name: str) -> object:
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise InputError(f"{name} fails when it is called: {type(error).__name__}: {error}") from error


def _described(value: object) -> str:
    return (
        f"a tensor {list(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    )
