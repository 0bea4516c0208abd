"""Build the callbacks of stage 2 from settings: evaluation of the policy, checks of its training, and callbacks of the user."""

from collections.abc import Callable, Sequence
from functools import partial

import lightning as L
import numpy as np
import torch

from mopo_pl.assembly.policy import as_policy, target_entropy
from mopo_pl.callbacks import PolicyEvaluation, PolicyHealth
from mopo_pl.config.registry import lookup
from mopo_pl.config.schema import EvaluationConfig, HealthConfig, SACConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.diagnostics.health.run_facts import RunFacts
from mopo_pl.dynamics.rollouts import PINNED
from mopo_pl.environments.scores import normalised_score
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.policy_module import PolicyModule


def build_callbacks(names: Sequence[str]) -> list[L.Callback]:
    """Build the user's callbacks, each named `module:Class`. Raises InputError if one cannot be built."""
    return [_built_callback(name) for name in names]


def _built_callback(name: str) -> L.Callback:
    try:
        callback = lookup("callback", name, {})()
    except Exception as error:
        raise InputError(f"callbacks=[{name}]: {error}") from error
    if not isinstance(callback, L.Callback):
        raise InputError(f"callbacks=[{name}] is a {type(callback).__name__}, not a Lightning Callback")
    return callback


def build_evaluation(
    settings: EvaluationConfig, dataset: OfflineDataset, *, seed: int, before_step: Callable[[], None] = lambda: None
) -> PolicyEvaluation:
    """Build the callback that evaluates the policy in the log's environment. Raises ValueError if the log has no environment."""
    if dataset.env_id is None:
        raise ValueError("the log names no environment, and none was given")
    return PolicyEvaluation(
        policy_of=partial(_acting, dataset=dataset),
        env_id=dataset.env_id,
        env_kwargs=dataset.env_kwargs,
        episodes=settings.episodes,
        every_n_epochs=settings.every_n_epochs,
        seed=evaluation_seed(seed),
        score=partial(normalised_score, dataset.env_id),
        before_step=before_step,
    )


def _acting(module: PolicyModule, dataset: OfflineDataset) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from observations to the module's mean actions, in the environment's units."""
    return as_policy(module, dataset, {})


def evaluation_seed(seed: int) -> int:
    """Return the first seed of the evaluation environments, which is independent of the seeds used in training."""
    return int(torch.randint(2**30, (), generator=generator_for(seed, "evaluation")))


def run_facts(settings: SACConfig, dataset: OfflineDataset, *, real_ratio: float, known_reward: bool) -> RunFacts:
    """Return the facts about a log and a run's settings that the checks of the policy's training use.

    `real_ratio` is the share of logged transitions in a batch; `known_reward` is whether imagined steps have a known reward.
    """
    rows = dataset.transitions
    rewards = rows.rewards.double()
    return RunFacts(
        reward_low=float(rewards.min()),
        reward_high=float(rewards.max()),
        reward_mean=float(rewards.mean()),
        reward_std=float(rewards.std(correction=0)),
        reward_size=float(rewards.abs().mean()),
        reward_top=float(np.quantile(rewards.numpy(), 0.99)),  # torch.quantile accepts at most 16 million rows
        behaviour_return=float(dataset.episode_returns().mean()),
        terminal_share=float(rows.terminals.double().mean()),
        pinned_share=float((rows.actions.abs() > PINNED).double().mean()),
        discount=settings.discount,
        target_entropy=target_entropy(settings, dataset),
        action_dim=dataset.action_dim,
        alpha_max=settings.alpha_max,
        soft_backup=not settings.deterministic_backup,
        real_ratio=real_ratio,
        known_reward=known_reward,
    )


def build_health(settings: HealthConfig, facts: RunFacts) -> PolicyHealth:
    """Build the callback that checks the metrics of stage 2. It must follow the callbacks that add values to the metrics row."""
    return PolicyHealth(facts, after=settings.after, stop=settings.stop)
