#!/usr/bin/env python3
"""Compare what a policy earns in its model with what it earns in MuJoCo itself, step by step, from the same logged states.

python benchmarks/model_and_environment.py RUN… [--model ENSEMBLE] [--steps 200]

Plays the mean actions of each RUN's newest checkpoint from first states of logged episodes, and from the tenth of the logged states with
the highest rewards. Prints the mean reward of each fifth of the steps, from 200 such states in the model, whose elites draw the next states,
and from 8 of them in the environment. A model that promises more than the environment pays is exploited. `--model` is a run with
another ensemble. The robot's observation must be its position without x, and its velocity; what ends episodes is left out.
"""

import argparse
from pathlib import Path

import gymnasium
import numpy as np
import torch
from torch import Tensor

from mopo_pl.assembly import build_penalised_model, open_log
from mopo_pl.config.compose import config_from_file
from mopo_pl.config.schema import PenaltyConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.model import load_model
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.termination import never
from mopo_pl.environments.by_id import make_environment
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.module import SACModule
from mopo_pl.storage.checkpoints import CheckpointFiles

UNCHARGED = PenaltyConfig(
    name="none", coef=0.0, relative=False, free_quantile=None, value_coef=0.0, halt_widths=None
)  # what is compared is the model's reward
STARTS, PLAYED, PARTS = 200, 8, 5


def starts(dataset: OfflineDataset) -> dict[str, Tensor]:
    """Up to `STARTS` logged states of each kind [n, D], by name."""
    rows, generator = dataset.transitions, generator_for(0, "starts")
    first = torch.cat([torch.zeros(1, dtype=torch.long), dataset.episode_ends[:-1]])
    best = rows.rewards.argsort(descending=True)[: len(rows) // 10]
    return {
        name: rows.observations[chosen[torch.randperm(len(chosen), generator=generator)[:STARTS]]]
        for name, chosen in (("first states", first), ("highest rewards", best))
    }


@torch.no_grad()
def imagined(model: PenalisedModel, module: SACModule, states: Tensor, steps: int) -> np.ndarray:
    """Mean reward of each step in the model [steps]."""
    generator, rewards = generator_for(0, "imagined"), []
    for _ in range(steps):
        made = model.step(states, module.deployed_actor.mean_action(states), model.draw(states, generator)).transitions
        rewards.append(float(made.rewards.mean()))
        states = made.next_observations
    return np.array(rewards)


@torch.no_grad()
def played(environment: gymnasium.Env, module: SACModule, states: Tensor, steps: int) -> np.ndarray:
    """Mean reward of each step in the environment [steps]."""
    robot, positions = environment.unwrapped, environment.unwrapped.model.nq  # type: ignore[attr-defined]
    total = np.zeros(steps)
    for state in states.double().numpy():
        environment.reset()
        robot.set_state(np.concatenate([[0.0], state[: positions - 1]]), state[positions - 1 :])  # type: ignore[attr-defined]
        for step in range(steps):
            action = module.deployed_actor.mean_action(torch.from_numpy(state).float())
            state, reward, *_ = robot.step(action.double().numpy())
            total[step] += float(reward)
    return total / len(states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--model", type=Path, metavar="ENSEMBLE", help="run with the ensemble (default: that of RUN)")
    parser.add_argument("--steps", type=int, default=200, help="(default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    spans = [f"{part[0] + 1}-{part[-1] + 1}" for part in np.array_split(np.arange(options.steps), PARTS)]
    print(f"| run | from | in | {' | '.join(spans)} |\n|---|---|---|{'---|' * PARTS}")
    for run in options.runs:
        config = config_from_file(run / "config.yaml")
        dataset = open_log(config)
        newest = CheckpointFiles(run / "checkpoints", "policy").newest_valid()
        if newest is None or dataset.env_id is None:
            raise SystemExit(f"{run} has no checkpoint of a policy, or no environment")
        module = SACModule.load_from_checkpoint(newest, map_location="cpu")
        ensemble = load_model(options.model or Path(config.dynamics_from or run))
        model = build_penalised_model(UNCHARGED, ensemble, never, dataset, discount=module.discount)
        environment = make_environment(dataset.env_id, dataset.env_kwargs)
        for name, states in starts(dataset).items():
            for where, rewards in (
                ("model", imagined(model, module, states, options.steps)),
                ("environment", played(environment, module, states[:PLAYED], options.steps)),
            ):
                means = [f"{part.mean():.1f}" for part in np.array_split(rewards, PARTS)]
                print(f"| {run.name} | {name} | {where} | {' | '.join(means)} |", flush=True)


if __name__ == "__main__":
    main()
