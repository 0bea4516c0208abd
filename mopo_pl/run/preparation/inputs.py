"""Open the inputs of a run, and check them as far as possible before anything is trained."""

from dataclasses import dataclass, replace
from pathlib import Path

from mopo_pl.assembly.callbacks import build_callbacks
from mopo_pl.assembly.ensemble import build_samples
from mopo_pl.assembly.log import examine_log
from mopo_pl.assembly.penalised_model import build_penalty, known_reward
from mopo_pl.config.keys import format_value
from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor.checks import CONSTANT_REWARDS
from mopo_pl.data.doctor.reward import NAME as REWARD_CHECK
from mopo_pl.data.doctor.reward import reward_findings
from mopo_pl.data.doctor.rule import NAME as RULE_CHECK
from mopo_pl.data.doctor.rule import learnable_findings, rule_findings
from mopo_pl.data.findings import Finding, Level, of_level
from mopo_pl.data.signals import signals_of
from mopo_pl.data.statistics import over_rows
from mopo_pl.dynamics.model import TransitionModel, load_model
from mopo_pl.dynamics.penalised_model import Reward
from mopo_pl.dynamics.terminals.rule import LearnedRule, load_rule
from mopo_pl.dynamics.termination import Rule, never, rule_for, termination_rule
from mopo_pl.errors import InputError
from mopo_pl.run.preparation.own_code import called, try_actor, try_penalty, try_reward, try_rule
from mopo_pl.storage.stored_json import read_json

UNITS_CHECK = "units"
"""Name of the findings about `data.units`."""


@dataclass(frozen=True)
class Examined:
    """A log, the findings of its checks, and the termination rule and known reward of imagined steps."""

    dataset: OfflineDataset | None
    """The log; None if its arrays cannot be packed into one dataset."""
    findings: tuple[Finding, ...]
    rule: Rule | None = None
    """Termination rule; None if no steps are imagined, the run learns the rule, or a check found an error in it."""
    reward: Reward | None = None
    """Known reward; None if the learned reward is used, no steps are imagined, or a check found an error in it."""


@dataclass(frozen=True)
class Inputs:
    """The log, the ensemble of `dynamics_from`, and the termination rule and known reward of imagined steps."""

    dataset: OfflineDataset
    model: TransitionModel | None
    """Ensemble of `dynamics_from`; None if the run trains an ensemble, or uses none."""
    rule: Rule | None
    """Rule that ends imagined episodes; None if no steps are imagined, or the run learns the rule."""
    reward: Reward | None
    """Known reward r(s, a, s'); None: the learned reward."""


def open_inputs(config: Config) -> Inputs:
    """Open the log, and check it, the callbacks, the actor, the termination rule, the reward, the penalty and a given ensemble.

    Raises InputError with the problems.
    """
    log = examine_inputs(config)
    problems = list(of_level("STOP", log.findings))
    if log.dataset is None or problems:
        raise InputError(problems)
    dataset = replace(log.dataset, findings=log.findings)
    build_callbacks(config.callbacks)
    if config.stage != "dynamics":
        try_actor(config.sac, dataset)
    if config.uses_model:
        try_penalty(build_penalty(config.penalty.name), config.penalty.name, dataset, members=config.dynamics.members)
    if config.trains_model:
        _refuse_too_few_rows(config, dataset)
    model = None if config.dynamics_from is None else _given_model(config.dynamics_from, dataset)
    return Inputs(dataset, model, log.rule, log.reward)


def examine_inputs(config: Config, *, without_rule: Level = "STOP") -> Examined:
    """Return the log, and the findings about it, the termination rule and a known reward.

    `without_rule`: level of the finding that no termination rule is given and none is known for the environment.
    Raises InputError if the file cannot be read or lacks a field.
    """
    try:
        dataset, findings = examine_log(config)
    except InputError as error:
        unread = [*_about_rule(config, None)[1], *_about_reward(config, None)[1]]
        place = config.data.source or config.dataset
        moved = config.resume is not None and Path(place).is_absolute() and not Path(place).exists()
        hint = ["if the log has moved, give its new place beside resume=: dataset=NEW_PATH"] if moved else []
        raise InputError([*error.problems, *hint, *of_level("STOP", unread)]) from error
    missing = config.termination is None and dataset is not None and rule_for(dataset.env_id or "") is None
    rule, of_rule = _about_rule(config, dataset)
    reward, of_reward = _about_reward(config, dataset)
    of_rule = tuple(replace(finding, level=without_rule) if missing else finding for finding in of_rule)
    if config.reward is None and config.algorithm != "bc":  # the logged rewards are used for training
        findings = tuple(
            replace(finding, level="STOP") if (finding.name, finding.level) == (CONSTANT_REWARDS, "WARN") else finding
            for finding in findings
        )
    return Examined(dataset, (*findings, *_about_units(config, dataset), *of_rule, *of_reward), rule, reward)


def _about_units(config: Config, dataset: OfflineDataset | None) -> tuple[Finding, ...]:
    """Return the findings about the units of the columns; none if the units are valid or not given."""
    try:
        if dataset is not None:
            signals_of(dataset, config.data.units)
    except InputError as error:
        return tuple(Finding("STOP", UNITS_CHECK, problem) for problem in error.problems)
    return ()


def _about_rule(config: Config, dataset: OfflineDataset | None) -> tuple[Rule | None, tuple[Finding, ...]]:
    """Return the termination rule, and the findings about it, from a trial call and from the log."""
    if config.termination == "learned":
        return _about_learned_rule(config, dataset)
    env_id = config.env_id if dataset is None else dataset.env_id
    by_column = isinstance(config.termination, dict)
    if not config.uses_model or (dataset is None and (config.termination is None or by_column)):
        return None, ()
    try:
        columns = (
            () if dataset is None else dataset.names.of_observations(dataset.obs_dim)[: dataset.transitions.newest_dim]
        )
        rule = termination_rule(config.termination, env_id, columns)
        if dataset is None:
            return rule, ()
        name = format_value(config.termination or env_id)
        try_rule(rule, name, dataset)
        ended = called(lambda: over_rows(rule, dataset), f"termination={name}")
    except InputError as error:
        return None, tuple(Finding("STOP", RULE_CHECK, problem) for problem in error.problems)
    found = tuple(rule_findings(name, ended, dataset, reads_next=rule is not never))
    return rule, found or (Finding("OK", RULE_CHECK, ""),)


def _about_learned_rule(config: Config, dataset: OfflineDataset | None) -> tuple[Rule | None, tuple[Finding, ...]]:
    """Return the learned rule of `dynamics_from` and the findings about it. Without it, check that a rule can be learned from the log."""
    if dataset is None or not (config.uses_model or config.learns_termination):
        return None, ()
    if config.learns_termination:
        return None, tuple(learnable_findings(dataset)) or (Finding("OK", RULE_CHECK, ""),)
    try:
        rule = load_rule(Path(str(config.dynamics_from)))
        ours = dataset.transitions.newest_dim, dataset.action_dim
        theirs = (rule.classifier.obs_dim, rule.classifier.action_dim)
        if ours != theirs:
            raise InputError(
                f"dynamics_from={config.dynamics_from}: its learned rule is for {theirs[0]} observation and {theirs[1]} "
                f"action dimensions; the data have {ours[0]} and {ours[1]}"
            )
    except InputError as error:
        return None, tuple(Finding("STOP", RULE_CHECK, problem) for problem in error.problems)
    return rule, learned_findings(rule, dataset) or (Finding("OK", RULE_CHECK, ""),)


def learned_findings(rule: LearnedRule, dataset: OfflineDataset) -> tuple[Finding, ...]:
    """Return findings of level WARN if a learned rule contradicts the log so often that a given rule would stop the run."""
    found = rule_findings("learned", over_rows(rule, dataset), dataset)
    fix = "give limits of columns or a function, if you know what ends an episode"
    return tuple(replace(finding, level="WARN", fix=fix) for finding in found if finding.level == "STOP")


def _about_reward(config: Config, dataset: OfflineDataset | None) -> tuple[Reward | None, tuple[Finding, ...]]:
    """Return the known reward, and the findings about it, from a trial call and from the log."""
    name = config.reward
    if name is None or not config.uses_model:
        return None, ()
    try:
        reward = known_reward(name)
        if reward is None or dataset is None:
            return reward, ()
        try_reward(reward, name, dataset)
        given = called(lambda: over_rows(reward, dataset), f"reward={name}")
    except InputError as error:
        return None, tuple(Finding("STOP", REWARD_CHECK, problem) for problem in error.problems)
    return reward, tuple(reward_findings(name, given, dataset)) or (Finding("OK", REWARD_CHECK, ""),)


def _refuse_too_few_rows(config: Config, dataset: OfflineDataset) -> None:
    try:
        build_samples(config.dynamics, dataset, seed=config.seed)
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
    fitted_to = read_json(Path(folder) / "dynamics.json").get("dataset")
    if fitted_to not in (None, dataset.hash):
        raise InputError(
            f"dynamics_from={folder} was fitted to another log than dataset={dataset.name}: give the dataset of that run"
        )
    return model
