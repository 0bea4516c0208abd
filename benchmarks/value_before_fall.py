#!/usr/bin/env python3
"""Compare what the critics believe before a fall with what was earned until it, in MuJoCo itself.

python benchmarks/value_before_fall.py RUN [--starts 400]

Plays the policy of RUN, with its mean actions, from logged states of a MuJoCo robot whose observation is its position without x, and
its velocity (Hopper, Walker2d), until it falls or 300 steps have passed. Of the episodes that end in a fall, prints by steps before
it: Q of the critics, the discounted rewards that followed, and the Bellman residual r + γV(s') - Q. A run's newest checkpoint is
read.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from mopo_pl.assembly import as_policy, open_log
from mopo_pl.config.compose import config_from_file
from mopo_pl.environments.by_id import make_environment
from mopo_pl.sac.losses import lower_estimate
from mopo_pl.sac.module import SACModule
from mopo_pl.storage.checkpoints import CheckpointFiles

BINS = ((1, 1), (2, 5), (6, 10), (11, 20), (21, 40), (41, 80))
"""First and last step before the fall; 1 is the step that falls."""
MOST_STEPS = 300


class Episode(NamedTuple):
    """T steps of a policy."""

    observations: np.ndarray
    """[T + 1, D]."""
    rewards: np.ndarray
    """[T]."""
    fell: bool


def play(environment: gymnasium.Env, act, start: np.ndarray) -> Episode:
    """The policy from a logged observation, its x set to 0."""
    robot = environment.unwrapped
    environment.reset()
    positions = robot.model.nq  # type: ignore[attr-defined]
    robot.set_state(np.concatenate([[0.0], start[: positions - 1]]), start[positions - 1 :])  # type: ignore[attr-defined]
    observations, rewards, fell = [start], [], False
    while not fell and len(rewards) < MOST_STEPS:
        observation, reward, fell, _, _ = environment.step(act(observations[-1]))
        observations.append(observation)
        rewards.append(float(reward))
    return Episode(np.stack(observations), np.array(rewards), bool(fell))


def earned(rewards: np.ndarray, discount: float) -> np.ndarray:
    """Σ_k γ^k r_{t+k} up to the fall, of each step t [T].

    >>> earned(np.array([1.0, 2.0, 4.0]), 0.5).tolist()
    [3.0, 4.0, 4.0]
    """
    following, total = np.zeros(len(rewards)), 0.0
    for step in reversed(range(len(rewards))):
        total = following[step] = rewards[step] + discount * total
    return following


@torch.no_grad()
def values(module: SACModule, observations: np.ndarray) -> Tensor:
    """The lower estimate of Q(s, π(s)) of states [n, D], π being the policy that is exported [n]."""
    states = torch.from_numpy(observations).float()
    return lower_estimate(module.critic(states, module.deployed_actor.mean_action(states)), module.pessimism)


def main() -> None:
    """Print the table, and the share of the starts that fell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--starts", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    config = config_from_file(options.run / "config.yaml")
    newest = CheckpointFiles(options.run / "checkpoints", "policy").newest_valid()
    if newest is None:
        raise SystemExit(f"{options.run} has no checkpoint of a policy")
    module = SACModule.load_from_checkpoint(newest, map_location="cpu")
    dataset = open_log(config)
    policy = as_policy(module, dataset, {})
    logged = dataset.transitions.observations.numpy()
    drawn = np.random.default_rng(0).choice(len(logged), options.starts, replace=False)
    assert dataset.env_id is not None
    environment = make_environment(dataset.env_id, dataset.env_kwargs)
    episodes = [play(environment, policy, logged[start].astype(np.float64)) for start in drawn]
    fallen = [episode for episode in episodes if episode.fell]
    before = [np.arange(len(episode.rewards), 0, -1) for episode in fallen]
    believed, residual = [], []
    for episode in fallen:
        value = values(module, episode.observations).numpy()
        following = np.append(value[1:-1], 0.0)
        believed.append(value[:-1])
        residual.append(episode.rewards + module.discount * following - value[:-1])
    returned = [earned(episode.rewards, module.discount) for episode in fallen]
    columns = [np.concatenate(part) if part else np.zeros(0) for part in (before, believed, returned, residual)]
    rows = []
    for first, last in BINS:
        chosen = (columns[0] >= first) & (columns[0] <= last)
        if chosen.any():
            rows.append(
                [f"{first}-{last}" if last > first else str(first), *(float(c[chosen].mean()) for c in columns[1:])]
            )
    if options.json:
        print(
            json.dumps(
                {
                    "run": options.run.name,
                    "updates": module.updates,
                    "starts": options.starts,
                    "fell": len(fallen),
                    "rows": rows,
                }
            )
        )
        return
    print(f"{len(fallen)} of {options.starts} starts fell within {MOST_STEPS} steps, after {module.updates} updates\n")
    print("| steps before the fall | Q | earned | r + γV(s') - Q |\n|---|---|---|---|")
    for name, q, true, error in rows:
        print(f"| {name} | {q:.0f} | {true:.0f} | {error:.1f} |")


if __name__ == "__main__":
    main()
