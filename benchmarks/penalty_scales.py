"""What an automatic λ could be set from: u, rewards and errors of value on a log, for trained ensembles.

    python benchmarks/penalty_scales.py RUN…

RUN is a folder with an ensemble and its `config.yaml`. Each row of the table holds, of u = `ensemble_std` over the log: its mean, its
median and its 95 % quantile; of the rewards: mean |r|, standard deviation, interquartile range; and the λ of three rules in units of
mean |r| / mean u, which `penalty.coef` has with `penalty.relative`:

- `std`: mean λu is the standard deviation of the rewards; `IQR`: their interquartile range
- `|G|/u`: mean λu is the mean of |G| on the rows that the ensemble held out, G = r + γ(1 - d)V(s') less the elites' mean of the same,
  with their r and s'. G is what the theory asks λu to bound; V, a small network, is fitted to the discounted returns that followed
  the log's states on four fifths of its episodes (R² on the others beside it).
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mopo_pl.assembly.ensemble import build_samples
from mopo_pl.assembly.log import open_log
from mopo_pl.assembly.penalised_model import build_penalised_model
from mopo_pl.config.compose import config_from_file
from mopo_pl.config.schema import Config, PenaltyConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.statistics import returns_to_go, steps_to_go
from mopo_pl.dynamics.model import load_model
from mopo_pl.dynamics.model_on_log import logged_uncertainty
from mopo_pl.dynamics.termination import never
from mopo_pl.nn.layers import Normaliser

PLAIN = PenaltyConfig(name="ensemble_std", coef=1.0, relative=False, value_coef=0.0, free_quantile=None)
UPDATES = 4000
HEADS = (
    *(
        "log",
        "mean u",
        "median",
        "95 %",
        "mean abs r",
        "std",
        "IQR",
        "λ: std",
        "λ: IQR",
        "λ: mean abs G / mean u",
        "R²",
    ),
)


def fitted_value(dataset: OfflineDataset, discount: float) -> tuple[nn.Module, float]:
    """V of the log's states [B, D] to [B], in the log's units, and its R² on every fifth episode."""
    rows, ends = dataset.transitions, dataset.episode_ends
    lengths = dataset.episode_lengths()
    ended = rows.terminals[ends - 1].bool().repeat_interleave(lengths)
    # An episode that a limit cut is taken to go on with the log's mean reward.
    following = discount ** steps_to_go(dataset).double() * rows.rewards.double().mean() / (1 - discount)
    returns = returns_to_go(dataset, discount) + torch.where(ended, 0.0, following)
    held = (torch.arange(len(ends)) % 5 == 0).repeat_interleave(lengths)
    centre, scale = returns.mean(), returns.std().clamp(min=1e-12)
    torch.manual_seed(0)
    layers = [
        nn.Linear(rows.obs_dim, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 1),
        nn.Flatten(-2),
    ]
    network = nn.Sequential(Normaliser.fit(rows.observations), *layers)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, UPDATES)
    seen, goal = (~held).nonzero().squeeze(1), ((returns - centre) / scale).float()
    for _ in range(UPDATES):
        batch = seen[torch.randint(len(seen), (256,))]
        optimizer.zero_grad()
        (network(rows.observations[batch]) - goal[batch]).square().mean().backward()
        optimizer.step()
        schedule.step()

    class Value(nn.Module):
        def forward(self, states: Tensor) -> Tensor:
            return network(states).double() * scale + centre

    value = Value()
    with torch.no_grad():
        missed = (value(rows.observations[held]) - returns[held]).square().mean()
    return value, 1 - float(missed / returns[held].var())


@torch.no_grad()
def value_errors(dataset: OfflineDataset, model: Any, value: nn.Module, rows: Tensor, discount: float) -> Tensor:
    """G of logged rows [n]: what happened, less what the elites' means predict, in value."""
    log = dataset.transitions[rows]
    means = model.predict(log.inputs)[0][model.elites]
    goes_on = discount * (1 - log.terminals.double())
    predicted = torch.stack([mean[:, 0] + goes_on * value(log.observations + mean[:, 1:]) for mean in means]).mean(0)
    return log.rewards + goes_on * value(log.next_observations) - predicted


def row_of(run: Path, config: Config) -> list[str]:
    """The row of one ensemble."""
    dataset, model, discount = open_log(config), load_model(run), config.sac.discount
    penalised = build_penalised_model(PLAIN, model, never, dataset, discount=discount)
    u, rewards = logged_uncertainty(penalised, dataset).double(), dataset.transitions.rewards.double()
    quarters = rewards.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64))
    size, spread, middle = float(rewards.abs().mean()), float(rewards.std()), float(quarters[1] - quarters[0])
    held = build_samples(config.dynamics, dataset, seed=config.seed).holdout
    value, explained = fitted_value(dataset, discount)
    wrong = value_errors(dataset, model, value, held, discount).abs().mean()
    part = dataset.transitions[held]
    with torch.no_grad():
        there = penalised.uncertainty(part.observations, part.actions).double().mean()
    unit = size / float(u.mean())
    numbers = [
        *(float(u.mean()), float(u.median()), float(u.quantile(0.95)), size, spread, middle),
        *(spread / size, middle / size, float(wrong / there) / unit, explained),
    ]
    return [config.dataset_label, *(f"{number:.3g}" for number in numbers)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders with an ensemble")
    torch.set_num_threads(1)
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for run in parser.parse_args().runs:
        config = config_from_file(run / "config.yaml")
        print(f"| {' | '.join(row_of(run, replace(config, resume=None, callbacks=[])))} |", flush=True)


if __name__ == "__main__":
    main()
