"""Made-up rows and facts: a run that is well, and what is changed to make it ill."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mopo_pl.diagnostics.health.rows import Row
from mopo_pl.diagnostics.health.run_facts import RunFacts

FACTS = RunFacts(
    reward_low=-1.0,
    reward_high=4.0,
    reward_mean=2.0,
    reward_std=1.0,
    reward_size=2.0,
    reward_top=3.5,
    behaviour_return=100.0,
    terminal_share=0.01,
    pinned_share=0.3,
    discount=0.99,
    target_entropy=-3.0,
    action_dim=3,
    alpha_max=1.0,
    soft_backup=True,
    real_ratio=0.5,
    known_reward=False,
)
"""γ = 0.99: a value sums up 100 steps, and lies in [-100, 400] before penalty and entropy."""

GOOD: dict[str, float] = {
    "rollout/length": 20.0,
    "rollout/terminated": 0.1,
    "rollout/dropped_share": 0.0,
    "rollout/penalty": 0.4,
    "rollout/reward": 2.5,
    "rollout/penalty_share": 0.16,
    "rollout/beyond_log": 0.1,
    "rollout/pinned": 0.3,
    "rollout/penalty_first": 0.3,
    "rollout/penalty_last": 0.5,
    "evaluation/return": 200.0,
    "policy/critic_loss": 20.0,
    "policy/q1": 220.0,
    "policy/q2": 221.0,
    "policy/alpha": 0.05,
    "policy/entropy": -2.9,
}
"""An epoch of a run that is well: Q·(1 - γ) = 2.2, an imagined step earns 2.5 - 0.5·0.4 - 0.05·2.9 = 2.155."""


def history(epochs: int, changed: Callable[[int], dict[str, float | None]] = lambda epoch: {}) -> list[Row]:
    """Rows of so many epochs of 1000 updates; `changed`: what differs from a good row, by the epoch's number from 1."""
    return [{"update": 1000.0 * epoch, **GOOD, **changed(epoch)} for epoch in range(1, epochs + 1)]


def facts(**changed: Any) -> RunFacts:
    return replace(FACTS, **changed)
