"""`--dry-run`: what a run would do, from the opened data and the built modules, without training."""

import itertools
import time

import torch

from mopo_pl.assembly import build_dynamics, build_sac, build_samples, compiled_parts, needs_model, trains_model
from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor import doubts
from mopo_pl.data.policy_batches import block_size
from mopo_pl.data.transitions import Transitions
from mopo_pl.run.inputs import open_inputs
from mopo_pl.run.trainer import probe_flags

SHARE = 0.45
"""Of the speed of a large matrix product that training comes to, roughly and in all phases."""


def plan(config: Config) -> str:
    """Opens the data, counts parameters, estimates time and disk; the text for the user."""
    probe_flags(config)
    dataset = open_inputs(config).dataset
    lines = [
        f"data      {dataset.name}: {len(dataset)} rows, {len(dataset.episode_ends)} episodes, "
        f"{dataset.obs_dim} observations, {dataset.action_dim} actions, mean return {dataset.episode_returns().mean():.1f}",
        f"env       {dataset.env_id or 'none: the policy will not be scored'}",
        *(f"doubt     {doubt}" for doubt in doubts(dataset)),
    ]
    work, disk = 0.0, 0.0
    if trains_model(config):
        text, flop, size = _dynamics(config, dataset)
        lines.append(text)
        work, disk = work + flop, disk + size
    if config.stage != "dynamics":
        text, flop, size = _policy(config, dataset)
        lines.append(text)
        work, disk = work + flop, disk + size
    lines.append(f"compiled  {', '.join(compiled_parts(config, dataset)) or 'nothing'}")
    speed = _product_speed()
    lines.append(
        f"estimate  {_duration(work / (SHARE * speed))} at {100 * SHARE:.0f} % of this processor's {speed / 1e9:.0f} GFLOP/s "
        f"(evaluation apart), {disk / 1e6:.0f} MB on disk"
    )
    return "\n".join(lines)


def _product_speed() -> float:
    """Of a square fp32 product on the CPU [FLOP/s], the best of a few."""
    size = 1024
    square = torch.ones(size, size)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        torch.matmul(square, square)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _dynamics(config: Config, dataset: OfflineDataset) -> tuple[str, float, float]:
    module = build_dynamics(config, dataset, build_samples(config, dataset))
    parameters = sum(p.numel() for p in module.ensemble.parameters())
    rows, epochs = len(dataset), config.dynamics.max_epochs
    # Forward 2 and backward 4 operations per weight and row; a typical early stop comes near 50 epochs.
    flop = 6.0 * parameters * rows * min(epochs, 50)
    text = (
        f"dynamics  {config.dynamics.members} members, {parameters} parameters, at most {epochs} epochs of {rows} rows"
    )
    return text, flop, 4.0 * parameters * 8


def _policy(config: Config, dataset: OfflineDataset) -> tuple[str, float, float]:
    module = build_sac(config, dataset)
    actor = sum(p.numel() for p in module.actor.parameters())
    critic = sum(p.numel() for p in module.critic.parameters())
    block = block_size(config.sac.updates_per_epoch, config.sac.updates_per_step)
    updates = config.trainer.max_epochs * block * _limited(config.sac.updates_per_epoch // block, config)
    # Critics: target forward, forward and backward; actor: twice forward, once backward, and through the critics.
    flop = updates * config.sac.batch_size * 2.0 * (7 * critic + 4 * actor)
    text = f"policy    actor {actor}, critics {critic} parameters, {updates} updates, {block} in a training step"
    ring = 0.0
    if needs_model(config):
        rollout = config.rollout
        refresh = rollout.starts * rollout.horizon
        ensemble = config.dynamics.members * _weights(dataset, config.dynamics.hidden_sizes)
        flop += 2.0 * ensemble * refresh * config.trainer.max_epochs / rollout.every_n_epochs
        ring = 4.0 * Transitions.width(dataset.obs_dim, dataset.action_dim) * refresh * rollout.retain_epochs
        text += f"; {refresh} imagined rows a refresh, λ {config.penalty.coef} on {config.penalty.name}"
    return text, flop, 2 * (ring + 16.0 * (actor + 2 * critic))


def _limited(batches: int, config: Config) -> int:
    """Batches of an epoch that the Trainer takes: a whole number of them, or a share."""
    limit = config.trainer.limit_train_batches
    if limit is None:
        return batches
    return int(batches * limit) if isinstance(limit, float) else min(batches, limit)


def _weights(dataset: OfflineDataset, hidden_sizes: list[int]) -> int:
    sizes = [dataset.obs_dim + dataset.action_dim, *hidden_sizes, 2 * (1 + dataset.obs_dim)]
    return sum(i * o for i, o in itertools.pairwise(sizes))
