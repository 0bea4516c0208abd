"""Stage 2: from settings to the callbacks that evaluate and judge the policy, and to the user's own."""

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
    """Build the user's own callbacks, each named `module:Class`; raises InputError if one cannot be built."""
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
    """The callback that scores the policy in the log's environment; raises ValueError where it has none."""
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
    """The mean action in the environment's units."""
    return as_policy(module, dataset, {})


def evaluation_seed(seed: int) -> int:
    """First seed of the environments, apart from every seed of training."""
    return int(torch.randint(2**30, (), generator=generator_for(seed, "evaluation")))


def run_facts(settings: SACConfig, dataset: OfflineDataset, *, real_ratio: float, known_reward: bool) -> RunFacts:
    """What the signs of health must know of a log and of a run's settings.

    `real_ratio`: share of logged transitions in a batch. `known_reward`: whether imagined steps earn a known reward.
    """
    rows = dataset.transitions
    rewards = rows.rewards.double()
    return RunFacts(
        reward_low=float(rewards.min()),
        reward_high=float(rewards.max()),
        reward_mean=float(rewards.mean()),
        reward_std=float(rewards.std(correction=0)),
        reward_size=float(rewards.abs().mean()),
        reward_top=float(np.quantile(rewards.numpy(), 0.99)),  # torch's takes 16 million rows at most
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
    """The callback that judges the rows of stage 2; it stands after the callbacks that note values."""
    return PolicyHealth(facts, after=settings.after, stop=settings.stop)
