"""The main job: a log goes in; a model, a policy and its score come out."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning_utilities.core.rank_zero import rank_zero_only

from mopo_pl.assembly import build_penalty, build_samples, environment_arguments, evaluation_seed, open_log
from mopo_pl.callbacks import Interrupted
from mopo_pl.compilation import resolve_compile
from mopo_pl.compose import to_yaml
from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.store import load_model
from mopo_pl.dynamics.termination import termination_rule
from mopo_pl.evaluation import Episodes, evaluate
from mopo_pl.messages import say
from mopo_pl.policy import Policy
from mopo_pl.problems import InputError
from mopo_pl.run.dynamics_stage import train_dynamics
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.policy_stage import train_policy
from mopo_pl.run.result import build_result, save_result, summary
from mopo_pl.run.signals import SignalWatch
from mopo_pl.run.trainers import check_flags

FINAL_SEED_OFFSET = 10_000
"""Apart from the episodes of the curve: the last score is not taken where the curve was watched."""


@dataclass(frozen=True)
class Inputs:
    """What a run starts from, opened and checked."""

    dataset: OfflineDataset
    env_id: str | None
    """Environment of evaluation and termination rule: the user's choice, else the one the log names."""
    model: TransitionModel | None
    """Ensemble of `dynamics_from`."""


def run(config: Config) -> int:
    """Runs or resumes what `config` says; returns the exit code. Raises InputError before any training starts."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, verbose=False)
    inputs = open_inputs(config)
    _settle(config)
    folder = _folder(config)
    if folder.result.exists():
        say(f"{folder.path} is finished: nothing to resume")
        return 0
    say(f"run folder {folder.path}")
    try:
        result = _stages(config, inputs, folder)
    except Interrupted as stop:
        say(f"{stop}; saved. Continue with: python train.py resume={folder.path}")
        return stop.code
    if result is not None:
        say(summary(folder, result))
    return 0


def refuse_occupied(config: Config) -> None:
    """Raises InputError where the folder that a new run asks for holds a run."""
    if config.run_dir is not None and config.resume is None:
        RunFolder(Path(config.run_dir)).refuse_occupied()


def open_inputs(config: Config) -> Inputs:
    """Opens the log and settles the environment; raises InputError for everything that can be known before training."""
    check_flags(config)
    dataset = open_log(config)
    env_id = config.env_id or dataset.env_id
    if needs_model(config):
        termination_rule(config.termination, env_id)
        build_penalty(config)
    if trains_model(config):
        _refuse_too_few_rows(config, dataset)
    return Inputs(
        dataset, env_id, None if config.dynamics_from is None else _given_model(config.dynamics_from, dataset)
    )


def _refuse_too_few_rows(config: Config, dataset: OfflineDataset) -> None:
    try:
        build_samples(config, dataset)
    except ValueError as error:
        raise InputError(
            f"{dataset.name}: {error}; a longer log or another dynamics.holdout_fraction is needed"
        ) from error


def _given_model(folder: str, dataset: OfflineDataset) -> TransitionModel:
    model = load_model(Path(folder))
    ours, theirs = (dataset.obs_dim, dataset.action_dim), (model.ensemble.obs_dim, model.ensemble.action_dim)
    if ours != theirs:
        raise InputError(
            f"dynamics_from={folder} models {theirs[0]} observation and {theirs[1]} action dimensions; "
            f"the data have {ours[0]} and {ours[1]}"
        )
    return model


def _settle(config: Config) -> None:
    """Writes what `auto` and null come to into the configuration, so that a resumed run computes the same."""
    config.sac.schedule_epochs = config.sac.schedule_epochs or config.trainer.max_epochs
    compiled = resolve_compile(config.compile, config.trainer.max_epochs * config.sac.updates_per_epoch)
    config.compile = "true" if compiled else "false"
    if compiled and config.stage != "dynamics":
        say("the SAC update is compiled: the first one may take half a minute (compile=false leaves it out)")


def needs_model(config: Config) -> bool:
    """Whether any imagined row will be used."""
    return config.stage != "dynamics" and config.rollout.real_ratio < 1


def trains_model(config: Config) -> bool:
    """Whether stage 1 is part of the run."""
    return config.dynamics_from is None and (config.stage == "dynamics" or needs_model(config))


def _folder(config: Config) -> RunFolder:
    if config.resume is not None:
        return RunFolder.reopen(Path(config.resume), to_yaml(replace(config, resume=None)))
    if config.dynamics_from is not None:
        # `runs/latest` is about to mean this run.
        config.dynamics_from = str(Path(config.dynamics_from).resolve())
    return RunFolder.create(config, config.dataset, to_yaml(config))


def _stages(config: Config, inputs: Inputs, folder: RunFolder) -> dict[str, Any] | None:
    """Both stages in order; None on all processes but the first."""
    dataset, env_id, model = inputs.dataset, inputs.env_id, inputs.model
    watch = SignalWatch()
    updates, curve, final = 0, [], None
    seconds: dict[str, float | None] = {"dynamics": None, "policy": None}
    with watch.watching():
        if trains_model(config):
            if not (folder.path / "dynamics.json").exists():
                train_dynamics(config, dataset, folder, watch)
            model = load_model(folder.path)
            seconds["dynamics"] = json.loads((folder.path / "dynamics.json").read_text())["seconds"]
        if config.stage != "dynamics":
            model = model if needs_model(config) else None
            updates, curve, seconds["policy"] = train_policy(config, dataset, model, env_id, folder, watch)
    if getattr(rank_zero_only, "rank", 0) != 0:
        return None
    if config.stage != "dynamics" and env_id is not None:
        final = final_evaluation(config, dataset, env_id, folder)
    result = build_result(
        dataset=dataset, env_id=env_id, seed=config.seed, updates=updates, seconds=seconds, curve=curve, final=final
    )
    save_result(folder, result)
    return result


def final_evaluation(config: Config, dataset: OfflineDataset, env_id: str, folder: RunFolder) -> Episodes:
    """Scores the exported policy, as a user of the folder would."""
    return evaluate(
        Policy.load(folder.path),
        env_id=env_id,
        env_kwargs=environment_arguments(config, dataset),
        episodes=config.evaluation.final_episodes,
        seed=evaluation_seed(config.seed) + FINAL_SEED_OFFSET,
    )
