#!/usr/bin/env python3
"""Measure the model's error, and how well the penalty predicts it, on DMSD, whose dynamics are known in closed form.

python benchmarks/model_error.py RUN --data DMSD-high-20000-val.npz

Compares the root mean squared error of each predicted quantity on transitions that the ensemble of RUN was not trained
on: for the elites' mean, for a constant (the mean change), and for the closed form, which knows everything but the
targets' jumps. Then computes Spearman's correlation of u(s, a) with the true error of one step, at logged and at
perturbed actions.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.functional.regression import spearman_corrcoef

from mopo_pl.assembly import open_log
from mopo_pl.config.compose import compose
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.losses import model_target
from mopo_pl.dynamics.model import TransitionModel, load_model
from mopo_pl.dynamics.penalties import PENALTIES
from mopo_pl.environments.dmsd import step_masses, tracking_reward

QUANTITIES = ("reward", "x1", "x2", "v1", "v2", "target 1", "target 2")
PERTURBATIONS = (0.0, 0.1, 0.3, 1.0)
"""Standard deviations of the noise added to logged actions, which are then clipped to [-1, 1]."""


def closed_form(observations: Tensor, actions: Tensor) -> Tensor:
    """(r, Δs) [N, 7] of a step in which no target jumps."""
    state, force = observations.double().numpy(), actions.double().numpy()
    positions, velocities, targets = state[:, :2], state[:, 2:4], state[:, 4:]
    moved, changed = step_masses(positions, velocities, force)
    reward = torch.from_numpy(tracking_reward(moved, targets)).unsqueeze(-1)
    change = torch.cat([torch.from_numpy(moved - positions), torch.from_numpy(changed - velocities)], -1)
    return torch.cat([reward, change, torch.zeros(len(state), 2, dtype=torch.float64)], -1)


def rmse(error: Tensor) -> Tensor:
    """Root mean square of each column [7]."""
    return error.square().mean(0).sqrt()


@torch.no_grad()
def print_errors(model: TransitionModel, log: Transitions) -> None:
    """Print the table of errors, with and without the transitions in which a target jumps."""
    target = model_target(log).double()
    mean, _ = model.predict(log.inputs)
    errors = {
        "elites' mean": mean[model.elites].mean(0).double() - target,
        "constant": target.mean(0) - target,
        "closed form": closed_form(log.observations, log.actions) - target,
    }
    jumps = (target[:, -2:].abs() > 1e-6).any(-1)
    print(f"{len(target)} rows, a target jumps on {int(jumps.sum())} ({100 * jumps.double().mean():.2f} %)\n")
    print("| root mean squared error | " + " | ".join(QUANTITIES) + " |")
    print("|" + "---|" * (len(QUANTITIES) + 1))
    for rows, kept in (("all rows", torch.ones_like(jumps)), ("no jump", ~jumps)):
        for name, error in errors.items():
            print(f"| {name}, {rows} | " + " | ".join(f"{value:.2g}" for value in rmse(error[kept])) + " |")


@torch.no_grad()
def print_ranks(model: TransitionModel, log: Transitions, generator: torch.Generator) -> None:
    """Print Spearman's correlation of each penalty with ‖error of the elites' mean‖ relative to the closed form."""
    print("\n| rank correlation of u with the true error | " + " | ".join(f"noise {p:g}" for p in PERTURBATIONS) + " |")
    print("|" + "---|" * (len(PERTURBATIONS) + 1))
    noises = [p * torch.randn(log.actions.shape, generator=generator) for p in PERTURBATIONS]
    actions = [(log.actions + noise).clamp(-1, 1) for noise in noises]
    predicted = [model.predict(torch.cat([log.observations, a], -1)) for a in actions]
    # No model can predict the targets' jumps: the error is that of reward, positions and velocities.
    truth = [closed_form(log.observations, a)[:, :5] for a in actions]
    errors = [
        (m[model.elites].mean(0)[:, :5].double() - t).norm(dim=-1) for (m, _), t in zip(predicted, truth, strict=True)
    ]
    for name, penalty in PENALTIES.items():
        if name != "none":
            ranks = [spearman_corrcoef(penalty(*p).double(), e) for p, e in zip(predicted, errors, strict=True)]
            print(f"| {name} | " + " | ".join(f"{rank:.2f}" for rank in ranks) + " |")
    print("| mean error | " + " | ".join(f"{error.mean():.3g}" for error in errors) + " |")
    print(
        "| mean u (max_aleatoric) | "
        + " | ".join(f"{PENALTIES['max_aleatoric'](*p).mean():.3g}" for p in predicted)
        + " |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder with a trained ensemble")
    parser.add_argument("--data", required=True, help="DMSD dataset that the run was not trained on")
    options = parser.parse_args()
    log = open_log(compose([f"dataset={options.data}", "env_id=mopo_pl/DMSD-v0"])).transitions
    model = load_model(options.run)
    print_errors(model, log)
    print_ranks(model, log, torch.Generator().manual_seed(0))


if __name__ == "__main__":
    main()
