#!/usr/bin/env python3
"""From arrays to a policy: write a log, train on it, load the policy.

python examples/own_log.py runs/own_log

The log here is that of a point on a line, which two forces push at random. Replace `collect` by your own arrays. Settings after the
folder go to the training: `trainer.max_epochs=100`.
"""

import sys
from pathlib import Path

import numpy as np

from mopo_pl import Policy, cli

STEPS = 50
"""Length of an episode: a time limit ends it."""


def collect(episodes: int, seed: int) -> dict[str, np.ndarray]:
    """A log of N transitions, under the names that mopo_pl reads.

    State: position and velocity. Action: two forces in [-2, 2]. Reward: minus the squared distance from the origin.
    """
    rng = np.random.default_rng(seed)
    position, velocity = rng.uniform(-1, 1, episodes), np.zeros(episodes)
    rows: dict[str, list[np.ndarray]] = {
        "obs": [],
        "action": [],
        "reward": [],
        "next_obs": [],
        "done": [],
        "timeout": [],
    }
    for step in range(STEPS):
        action = rng.uniform(-2, 2, (episodes, 2))
        rows["obs"].append(np.stack([position, velocity], 1))
        rows["action"].append(action)
        velocity = 0.9 * velocity + 0.1 * action.sum(1)
        position = position + 0.1 * velocity
        rows["reward"].append(-(position**2))
        rows["next_obs"].append(np.stack([position, velocity], 1))
        # The task never ends by itself: no state is terminal. The clock cuts each episode.
        rows["done"].append(np.zeros(episodes, bool))
        rows["timeout"].append(np.full(episodes, step == STEPS - 1))
    # mopo_pl wants whole episodes, one after another: [steps, episodes, …] becomes [episodes · steps, …].
    return {name: np.concatenate(np.stack(values, 1)) for name, values in rows.items()}


def act_in(policy: Policy, episodes: int, seed: int) -> float:
    """Mean return of the policy in the system that made the log."""
    rng = np.random.default_rng(seed)
    position, velocity, total = rng.uniform(-1, 1, episodes), np.zeros(episodes), np.zeros(episodes)
    for _ in range(STEPS):
        action = policy(np.stack([position, velocity], 1).astype(np.float32))
        velocity = 0.9 * velocity + 0.1 * action.sum(1)
        position = position + 0.1 * velocity
        total -= position**2
    return float(total.mean())


def main(arguments: list[str]) -> int:
    """Writes the log beside the run, trains, and compares the policy with the log."""
    folder, *settings = arguments
    run, log = Path(folder), Path(f"{folder}.npz")

    # 1. The log as a file.
    arrays = collect(episodes=200, seed=0)
    log.parent.mkdir(parents=True, exist_ok=True)
    np.savez(log, **arrays)  # type: ignore[arg-type]  # taken for allow_pickle

    # 2. Train. The file says neither when the task ends nor what the bounds of the actions are.
    said = [
        *(f"dataset={log}", f"run_dir={run}", "termination=never"),
        *("data.action_low=[-2.0,-2.0]", "data.action_high=[2.0,2.0]"),
        *("dynamics.max_epochs=30", "rollout.starts=5000", "trainer.max_epochs=10", "penalty.coef=0.5"),
    ]
    code = cli.main([*said, *settings])
    if code:
        return code

    # 3. Load the policy, and act.
    policy = Policy.load(run)
    print(f"log     mean return {arrays['reward'].sum() / 200:.2f}")
    print(f"policy  mean return {act_in(policy, episodes=100, seed=1):.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
