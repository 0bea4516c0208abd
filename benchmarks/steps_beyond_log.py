#!/usr/bin/env python3
"""How often a policy goes further than its log, in the environment itself: in a column of the state, or of its change.

`python benchmarks/steps_beyond_log.py RUN… [--episodes 5] [--costly -50]` plays the policy of each run. A step is beyond the log where a
column of s', or of s' - s, lies outside the range of the logged ones. Printed are the shares of such steps, and how many of those with a
reward below `--costly` are among them.
"""

import argparse
from pathlib import Path

import numpy as np

from mopo_pl.assembly import evaluation_seed, open_log
from mopo_pl.config.compose import config_from_file
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.environments.by_id import make_environment
from mopo_pl.policy import Policy


def play(policy: Policy, dataset: OfflineDataset, episodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States before and after [T, D], and rewards [T], of some episodes."""
    assert dataset.env_id is not None
    environment = make_environment(dataset.env_id, dataset.env_kwargs)
    before, after, rewards = [], [], []
    for episode in range(episodes):
        observation, _ = environment.reset(seed=evaluation_seed(0) + episode)
        policy.reset()
        ended = False
        while not ended:
            before.append(observation)
            observation, reward, terminal, truncated, _ = environment.step(policy(np.asarray(observation)))
            after.append(observation)
            rewards.append(float(reward))
            ended = terminal or truncated
    return np.array(before, np.float32), np.array(after, np.float32), np.array(rewards)


def outside(values: np.ndarray, logged: np.ndarray) -> np.ndarray:
    """Which of the values [T, D] lie outside the range of the logged ones [N, D].

    >>> outside(np.array([[1.0], [3.0]]), np.array([[0.0], [2.0]])).tolist()
    [[False], [True]]
    """
    return (values < logged.min(0)) | (values > logged.max(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--episodes", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--costly", type=float, default=-50.0, help="reward of a costly step (default: %(default)s)")
    options = parser.parse_args()
    print("| run | steps | state beyond | change beyond | costly | of them: state beyond | change beyond |")
    print("|---|---|---|---|---|---|---|")
    for run in options.runs:
        dataset = open_log(config_from_file(run / "config.yaml"))
        rows = dataset.transitions
        states, reached = rows.newest_observations.numpy(), rows.newest_next_observations.numpy()
        before, after, rewards = play(Policy.load(run), dataset, options.episodes)
        far = outside(after, np.concatenate([states, reached]))
        fast, costly = outside(after - before, reached - states), rewards < options.costly
        counts = [int((costly & each.any(1)).sum()) for each in (far, fast)]
        told = [f"{far.any(1).mean():.1%}", f"{fast.any(1).mean():.1%}", str(costly.sum()), *map(str, counts)]
        print(f"| {run.name} | {len(rewards)} | {' | '.join(told)} |")
        for name, each in (("states", far), ("changes", fast)):
            shares = {i: round(float(share), 4) for i, share in enumerate(each.mean(0)) if share}
            print(f"<!-- {run.name}, share of the steps by column of {name}: {shares} -->")


if __name__ == "__main__":
    main()
