"""Parts of a run that are measured: ensemble, penalty, critics, termination rule, reward and policy, as far as they may be loaded."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from mopo_pl.assembly.penalised_model import build_penalised_model, build_penalty, known_reward
from mopo_pl.assembly.policy import actor_class
from mopo_pl.config.schema import Config, PenaltyConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.model import TransitionModel, load_model
from mopo_pl.dynamics.penalised_model import PenalisedModel, Reward, Value
from mopo_pl.dynamics.penalties import Penalty
from mopo_pl.dynamics.terminals.rule import load_rule
from mopo_pl.dynamics.termination import Rule, never, termination_rule
from mopo_pl.errors import InputError
from mopo_pl.policy.policy import Policy, refuse_another_shape
from mopo_pl.report.run.run_files import Trust
from mopo_pl.sac.module import SACModule
from mopo_pl.storage.checkpoints import CheckpointFiles
from mopo_pl.storage.run_records import ensemble_folder


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Parts of a run that are measured, with the log on which they are measured; a part is None where the run has none."""

    config: Config
    dataset: OfflineDataset
    names: list[str]
    """Names of the newest observation columns."""
    home: Path | None
    """Folder of the ensemble."""
    model: TransitionModel | None
    policy: Policy | None
    penalty: Penalty | None
    """Uncertainty u of the run's penalty."""
    value: Value | None
    """Value function V of the newest checkpoint, for the spread that λ_V charges."""
    reward: Reward | None
    """Reward function of the run, where it is known and may be imported."""
    discount: float
    rule: Rule
    """Termination rule; `never` where it may not be imported, or cannot be found."""


def parts_of(folder: Path, config: Config, dataset: OfflineDataset, trust: Trust, notes: list[str]) -> Parts:
    """Load the available parts of a run; each missing part is explained in `notes`. Raises InputError for damaged files."""
    home = _home(folder)
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
    if policy is not None:
        refuse_another_shape(policy, dataset.obs_dim, dataset.action_dim, folder)
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
        module = _critics(folder, dataset, notes)
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
    return f"read it, then {shlex.join(['python', '-m', 'mopo_pl', 'report', str(folder), f'{key}={value}'])}"


def _home(folder: Path) -> Path | None:
    """Return the folder with the ensemble; None where there is none yet."""
    home = ensemble_folder(folder)
    return home if (home / "dynamics.json").exists() else None


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


def _critics(folder: Path, dataset: OfflineDataset, notes: list[str]) -> SACModule | None:
    """Return the module of the newest checkpoint of the policy; None where there is none, or it cannot be read."""
    checkpoints = CheckpointFiles(folder / "checkpoints", "policy").all()
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    try:
        module = SACModule.load_from_checkpoint(newest, map_location="cpu", weights_only=True)
        if (module.actor.obs_dim, module.actor.action_dim) != (dataset.obs_dim, dataset.action_dim):
            raise ValueError("of another shape")
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
            return _learned_rule(places[0], folder, dataset)
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


def _learned_rule(place: Path, folder: Path, dataset: OfflineDataset) -> Rule:
    rule = load_rule(place)
    ours = dataset.transitions.newest_dim, dataset.action_dim
    if (rule.classifier.obs_dim, rule.classifier.action_dim) != ours:
        raise InputError(
            f"the learned rule in {place} has other dimensions than the log of {folder}: one of them was replaced"
        )
    return rule


def uncharged_model(parts: Parts, model: TransitionModel) -> PenalisedModel:
    """Return M̃ with the run's u and reward, whose rollouts charge no penalty and are not halted."""
    name = "none" if parts.penalty is None else parts.config.penalty.name
    nothing = PenaltyConfig(name=name, coef=0.0, value_coef=0.0, relative=False, free_quantile=None, halt_widths=None)
    return build_penalised_model(nothing, model, parts.rule, parts.dataset, parts.reward, discount=parts.discount)
