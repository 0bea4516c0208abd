"""What is measured for the report of a run, with its ensemble and its policy, on its log."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from mopo_pl.assembly.ensemble import build_samples
from mopo_pl.assembly.penalised_model import build_penalised_model, build_penalty, state_limits
from mopo_pl.assembly.policy import actor_class
from mopo_pl.config.compose import config_from_file
from mopo_pl.config.schema import Config, PenaltyConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.diagnostics.model_error import (
    OneStep,
    OpenLoop,
    known_stretch,
    one_step,
    open_loop,
    predict,
    sampled_episodes,
    target_names,
)
from mopo_pl.diagnostics.policy_actions import (
    ActionColumn,
    UncertaintyThere,
    Visited,
    beside_the_log,
    chosen_actions,
    uncertainty_there,
    visited,
)
from mopo_pl.dynamics.model import TransitionModel, load_model
from mopo_pl.dynamics.penalised_model import PenalisedModel, Value
from mopo_pl.dynamics.penalties import PENALTIES, Penalty
from mopo_pl.dynamics.rewards import Reward, known_reward
from mopo_pl.dynamics.terminals.rule import load_rule
from mopo_pl.dynamics.termination import Rule, never, termination_rule
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.report.run_files import Trust
from mopo_pl.sac.module import SACModule
from mopo_pl.storage.run_records import read_record

HELD_OUT = 20_000
"""Most held-out rows that one-step errors are measured on."""
SAMPLED = 1000
"""Rows of a sample of episodes, where the held-out rows are not known."""
STARTS = 500
"""Most starts of open-loop replays and of imagined rollouts."""
COMPARED = 5000
"""Most logged states on which the policy is compared with the log."""
HORIZON = (10, 100)
"""Least and greatest length of an open-loop replay, between which it is that of the rollouts [steps]."""
VALUE_SPREAD = "value_spread"
"""Name of λ_V's term beside the penalties."""


@dataclass(frozen=True, kw_only=True)
class ModelEvidence:
    """How wrong the ensemble is, and whether it knows."""

    folder: str
    """Of the run that trained it."""
    held_out: bool
    """Whether the rows were held out from its training."""
    members: int
    elites: list[int]
    one_step: OneStep
    open_loop: OpenLoop


@dataclass(frozen=True, kw_only=True)
class PolicyEvidence:
    """The policy beside the log."""

    rows: int
    """Logged states on which it was asked."""
    actions: list[ActionColumn]
    distance: float
    """Mean ‖π(s) - a‖₂, each action in half its range."""
    spread: float
    """Mean ‖a - mean a‖₂ over the log in the same unit: the distance of a policy that knows no state."""
    uncertainty: UncertaintyThere | None
    """None where there is no model."""
    visited: Visited | None


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What is measured, and on which log; each is None where the run has none."""

    config: Config
    dataset: OfflineDataset
    names: list[str]
    """Of the newest observation columns."""
    home: Path | None
    """Folder of the ensemble."""
    model: TransitionModel | None
    policy: Policy | None
    penalty: Penalty | None
    """u of the run."""
    value: Value | None
    """V of the newest checkpoint, for the spread that λ_V charges."""
    reward: Reward | None
    """r of the run, where it is known and may be imported."""
    discount: float
    rule: Rule
    """Of termination; `never` where it may not be imported, or cannot be found."""


def parts_of(folder: Path, config: Config, dataset: OfflineDataset, trust: Trust, notes: list[str]) -> Parts:
    """Load what there is of a run; what is left out is said in `notes`. Raises InputError for damaged files."""
    home = _home(folder, config)
    model = None if home is None else load_model(home)
    if model is None and (config.trains_model or config.uses_model):
        notes.append("there is no trained ensemble yet")
    if model is not None and (model.ensemble.obs_dim, model.ensemble.action_dim) != (
        dataset.obs_dim,
        dataset.action_dim,
    ):
        raise InputError(
            f"the ensemble in {home} has other dimensions than the log of {folder}: one of them was replaced"
        )
    policy = _policy(folder, config, trust, notes)
    penalty = None
    if model is not None:
        if trust.allows(config.penalty.name):
            penalty = build_penalty(config.penalty.name)
        else:
            notes.append(
                f"its penalty {config.penalty.name} is Python code, which is not run: {_again(folder, 'penalty.name', config.penalty.name)}"
            )
    module = None
    if model is not None and policy is not None and config.uses_model:
        module = _critics(folder, notes)
    reward = None
    if model is not None and trust.allows(config.reward):
        reward = known_reward(config.reward)
    elif module is not None:
        notes.append(
            f"its reward {config.reward} is Python code, which is not run, so that the spread of values is left out: "
            f"{_again(folder, 'reward', str(config.reward))}"
        )
        module = None
    return Parts(
        config=config,
        dataset=dataset,
        names=[dataset.names.observation(i) for i in range(dataset.transitions.newest_dim)],
        home=home,
        model=model,
        policy=policy,
        penalty=penalty,
        value=None if module is None else module.value,
        reward=reward,
        discount=config.sac.discount,
        rule=never if model is None else _rule(folder, home, config, dataset, trust, notes),
    )


def _again(folder: Path, key: str, value: str) -> str:
    return f"read it, then python -m mopo_pl report {folder} {key}={value}"


def _home(folder: Path, config: Config) -> Path | None:
    """The folder with the ensemble: the run's own, else that of `dynamics_from`."""
    for path in (folder, None if config.dynamics_from is None else Path(config.dynamics_from)):
        if path is not None and (path / "dynamics.json").exists():
            return path
    return None


def _policy(folder: Path, config: Config, trust: Trust, notes: list[str]) -> Policy | None:
    if not (folder / "policy").is_dir():
        if config.stage != "dynamics":
            notes.append("there is no exported policy yet")
        return None
    if not trust.allows(config.sac.actor):
        notes.append(
            f"its actor {config.sac.actor} is Python code, which is not run: {_again(folder, 'sac.actor', config.sac.actor)}"
        )
        return None
    return Policy.load(folder, actor=actor_class(config.sac.actor))


def _critics(folder: Path, notes: list[str]) -> SACModule | None:
    """The module of the newest checkpoint of the policy; None where there is none that can be read."""
    newest = max((folder / "checkpoints").glob("policy-*.ckpt"), default=None)
    if newest is None:
        return None
    try:
        module = SACModule.load_from_checkpoint(newest, map_location="cpu", weights_only=True)
    except Exception as error:
        notes.append(
            f"the critics of {newest.name} cannot be read, so that their value is left out ({type(error).__name__})"
        )
        return None
    return module.eval().requires_grad_(False)


def _rule(
    folder: Path, home: Path | None, config: Config, dataset: OfflineDataset, trust: Trust, notes: list[str]
) -> Rule:
    given = config.termination
    if given == "learned":
        places = [place for place in (folder, home) if place is not None and (place / "termination.json").exists()]
        if places:
            return load_rule(places[0])
        notes.append("there is no learned rule of termination yet: imagined episodes are not ended here")
        return never
    if not trust.allows(given):
        notes.append(
            f"its rule of termination {given} is Python code, which is not run, so that imagined episodes are not ended here: "
            f"{_again(folder, 'termination', given)}"
        )
        return never
    try:
        columns = dataset.names.of_observations(dataset.obs_dim)[: dataset.transitions.newest_dim]
        return termination_rule(given, dataset.env_id, columns)
    except InputError as error:
        if config.stage != "dynamics":  # which needs none
            notes.append(
                f"its rule of termination is not there, so that imagined episodes are not ended here: {error.problems[0]}"
            )
        return never


# The model


def of_model(parts: Parts) -> ModelEvidence | None:
    """Its errors on held-out rows; None where there is no model, or too few rows."""
    model, dataset, home = parts.model, parts.dataset, parts.home
    if model is None or home is None:
        return None
    rows = _held_out(home, dataset)
    held_out = rows is not None
    rows = sampled_episodes(dataset, rows=SAMPLED, seed=0) if rows is None else rows[:HELD_OUT]
    if len(rows) < 2:
        return None
    penalties = dict(PENALTIES) | ({} if parts.penalty is None else {parts.config.penalty.name: parts.penalty})
    predicted = predict(model, dataset, rows, penalties)
    if parts.value is not None:
        predicted.penalties[VALUE_SPREAD] = _value_spread(parts, model, parts.value, rows)
    starts = rows[known_stretch(dataset)[rows] > 0][:STARTS]
    least, most = HORIZON
    return ModelEvidence(
        folder=str(home),
        held_out=held_out,
        members=model.ensemble.members,
        elites=model.elites.tolist(),
        one_step=one_step(predicted, target_names(dataset.transitions, parts.names), seed=0),
        open_loop=open_loop(model, dataset, starts, min(max(parts.config.rollout.horizon, least), most), parts.names),
    )


def _held_out(home: Path, dataset: OfflineDataset) -> Tensor | None:
    """The rows that the ensemble held out [n]; None where its run does not say, or was trained on another log."""
    facts = read_record(home / "dynamics.json") or {}
    if not (home / "config.yaml").exists() or facts.get("dataset") not in (None, dataset.hash):
        return None
    source = config_from_file(home / "config.yaml")
    try:
        return build_samples(source.dynamics, dataset, seed=source.seed).holdout
    except ValueError:
        return None


@torch.no_grad()
def _value_spread(parts: Parts, model: TransitionModel, value: Value, rows: Tensor) -> Tensor:
    """std_i [r_i + γ(1 - d_i)·V(s'_i)] over the elites, of logged rows [n]: what λ_V = 1 charges."""
    charged = replace(_penalised(parts, model), value_coef=1.0, value=value)
    part = parts.dataset.transitions[rows]
    draws = charged.draw(part.observations, Generator().manual_seed(0))  # of the outcome, which does not matter here
    return charged.step(part.observations, part.actions, draws)[1].double()


def _penalised(parts: Parts, model: TransitionModel) -> PenalisedModel:
    """M̃ with the run's u and reward, whose rollouts charge nothing and are not halted."""
    name = "none" if parts.penalty is None else parts.config.penalty.name
    nothing = PenaltyConfig(name=name, coef=0.0, value_coef=0.0, relative=False, free_quantile=None)
    return build_penalised_model(nothing, model, parts.rule, parts.dataset, parts.reward, discount=parts.discount)


# The policy


def of_policy(parts: Parts) -> PolicyEvidence | None:
    """What it does on logged states, and where it leads in the model; None where there is no policy."""
    policy, dataset = parts.policy, parts.dataset
    if policy is None:
        return None
    act: Callable[[Tensor], Tensor] = policy.actor.mean_action
    rows = torch.randperm(len(dataset), generator=generator_for(0, "compared states"))[:COMPARED]
    logged, chosen = dataset.transitions[rows].actions, chosen_actions(act, dataset, rows)
    there: UncertaintyThere | None = None
    seen: Visited | None = None
    if parts.model is not None:
        penalised = _penalised(parts, parts.model)
        if parts.penalty is not None and parts.config.penalty.name != "none":
            there = uncertainty_there(penalised, parts.config.penalty.name, act, dataset, rows)
        seen = _visited(parts, penalised, policy, rows)
    return PolicyEvidence(
        rows=len(rows),
        actions=beside_the_log(act, dataset, rows),
        distance=float((chosen - logged).norm(dim=-1).mean()),
        spread=float((logged - logged.mean(0)).norm(dim=-1).mean()),
        uncertainty=there,
        visited=seen,
    )


def _visited(parts: Parts, model: PenalisedModel, policy: Policy, rows: Tensor) -> Visited:
    cloned = bool(policy.meta.get("cloned"))  # its σ is untrained
    return visited(
        model,
        (lambda s, noise: policy.actor.mean_action(s)) if cloned else policy.actor.act,
        parts.dataset,
        rows,
        starts=STARTS,
        horizon=parts.config.rollout.horizon,
        names=parts.names,
        limits=state_limits(parts.dataset, parts.config.rollout.range_widths),
        generator=generator_for(0, "imagined states"),
    )
