"""The main job: a log goes in; a model, a policy and its score come out."""

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only

from mopo_pl.callbacks import Interrupted
from mopo_pl.compose import to_yaml
from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.sources import open_dataset
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.store import load_model
from mopo_pl.dynamics.termination import termination_rule
from mopo_pl.evaluation import Episodes, evaluate
from mopo_pl.policy import Policy
from mopo_pl.problems import InputError
from mopo_pl.run.dynamics_stage import train_dynamics
from mopo_pl.run.folder import RunFolder
from mopo_pl.run.policy_stage import evaluation_seed, train_policy
from mopo_pl.run.result import build_result, save_result, summary
from mopo_pl.run.signals import SignalWatch

FINAL_SEED_OFFSET = 10_000
"""Apart from the episodes of the curve: the last score is not taken where the curve was watched."""


def run(config: Config) -> int:
    """Runs or resumes what `config` says; returns the exit code. Raises InputError before any training starts."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    L.seed_everything(config.seed, verbose=False)
    dataset, env_id = open_inputs(config)
    folder = _folder(config, dataset)
    if folder.result.exists():
        say(f"{folder.path} is finished: nothing to resume")
        return 0
    say(f"run folder {folder.path}")
    try:
        result = _stages(config, dataset, env_id, folder)
    except Interrupted as stop:
        say(f"{stop}; saved. Continue with: python train.py resume={folder.path}")
        return stop.code
    if result is not None:
        say(summary(folder, result))
    return 0


def open_inputs(config: Config) -> tuple[OfflineDataset, str | None]:
    """Opens the log and settles the environment; raises InputError for everything that can be known before training."""
    dataset = open_dataset(name=config.dataset, data=config.data, env_id=config.env_id, env_kwargs=config.env_kwargs)
    env_id = config.env_id or dataset.env_id
    if needs_model(config):
        termination_rule(config.termination, env_id)
    if config.dynamics_from is not None:
        model = load_model(Path(config.dynamics_from))
        ours, theirs = (dataset.obs_dim, dataset.action_dim), (model.ensemble.obs_dim, model.ensemble.action_dim)
        if ours != theirs:
            raise InputError(
                f"dynamics_from={config.dynamics_from} models {theirs[0]} observation and {theirs[1]} action dimensions; "
                f"the data have {ours[0]} and {ours[1]}"
            )
    return dataset, env_id


def needs_model(config: Config) -> bool:
    """Whether any imagined row will be used."""
    return config.stage != "dynamics" and config.rollout.real_ratio < 1


def _folder(config: Config, dataset: OfflineDataset) -> RunFolder:
    if config.resume is not None:
        return RunFolder(Path(config.resume))
    return RunFolder.create(config, config.dataset, to_yaml(config))


def _stages(config: Config, dataset: OfflineDataset, env_id: str | None, folder: RunFolder) -> dict[str, Any] | None:
    """Both stages in order; None on all processes but the first."""
    watch = SignalWatch()
    model: TransitionModel | None = None
    updates, curve, seconds, final = 0, [], {"dynamics": None, "policy": None}, None
    with watch.watching():
        if config.stage == "dynamics" or needs_model(config):
            model = _model(config, dataset, folder, watch)
        if config.stage != "dynamics":
            updates, curve, seconds["policy"] = train_policy(config, dataset, model, env_id, folder, watch)
    if rank_zero_only.rank != 0:
        return None
    if config.stage != "dynamics" and env_id is not None:
        final = final_evaluation(config, dataset, env_id, folder)
    if model is not None and config.dynamics_from is None:
        seconds["dynamics"] = json.loads((folder.path / "dynamics.json").read_text())["seconds"]
    result = build_result(
        dataset=dataset, env_id=env_id, seed=config.seed, updates=updates, seconds=seconds, curve=curve, final=final
    )
    save_result(folder, result)
    return result


def _model(config: Config, dataset: OfflineDataset, folder: RunFolder, watch: SignalWatch) -> TransitionModel:
    """Another run's ensemble, this run's finished one, or one trained now."""
    if config.dynamics_from is not None:
        return load_model(Path(config.dynamics_from))
    if not (folder.path / "dynamics.json").exists():
        train_dynamics(config, dataset, folder, watch)
    return load_model(folder.path)


def final_evaluation(config: Config, dataset: OfflineDataset, env_id: str, folder: RunFolder) -> Episodes:
    """Scores the exported policy, as a user of the folder would."""
    return evaluate(
        Policy.load(folder.path),
        env_id=env_id,
        env_kwargs=config.env_kwargs or dataset.env_kwargs,
        episodes=config.evaluation.final_episodes,
        seed=evaluation_seed(config.seed) + FINAL_SEED_OFFSET,
    )


@rank_zero_only
def say(text: str) -> None:
    """A line for the user, once for all processes."""
    print(text, file=sys.stdout, flush=True)
