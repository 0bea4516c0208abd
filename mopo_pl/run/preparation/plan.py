"""The option `--dry-run`: describe what a run would do, from the opened log and the built modules, without training."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from lightning.pytorch.accelerators import CPUAccelerator

from mopo_pl.assembly.ensemble import build_dynamics, build_samples
from mopo_pl.assembly.penalised_model import build_penalised_model, build_refresh
from mopo_pl.assembly.policy import build_cloning, build_sac
from mopo_pl.config.resolve import resolve
from mopo_pl.config.schema import Config, TrainerConfig
from mopo_pl.data.batches.policy_batches import block_size
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import of_level
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.dynamics.rollouts import branch
from mopo_pl.dynamics.termination import never
from mopo_pl.run.preparation.host_memory import refuse_too_little_room, room_line
from mopo_pl.run.preparation.inputs import open_inputs
from mopo_pl.run.trainer import probe_flags
from mopo_pl.sac.cloning import CloningModule
from mopo_pl.sac.module import SACModule

TIMED = 5
"""Number of timed steps of each kind, after one step to warm up."""


def plan(config: Config, *, at_once: int = 1) -> str:
    """Open the log, count parameters, time a few steps of each kind, and return the plan of the run as text.

    `at_once`: number of runs of one command that train at the same time. Raises InputError for wrong input, and if the run needs more
    memory or disk space than is free.
    """
    trainer = probe_flags(config.trainer)
    on_gpu = not isinstance(trainer.accelerator, CPUAccelerator)
    inputs = open_inputs(config)
    dataset = inputs.dataset
    config = resolve(config, rows=len(dataset), threads=torch.get_num_threads(), device="cuda" if on_gpu else "cpu")
    model, folder = inputs.model, Path(config.resume or config.run_dir or "runs")
    copies = max(trainer.num_devices, at_once)
    refuse_too_little_room(config, inputs, on_gpu=on_gpu, folder=folder, copies=copies)
    lines = [
        f"data      {dataset.name}: {len(dataset)} rows, {len(dataset.episode_ends)} episodes, "
        f"{dataset.obs_dim} observations, {dataset.action_dim} actions, mean return {dataset.episode_returns().mean():.1f}",
        f"env       {dataset.env_id or 'none: the policy will not be scored'}",
        *(f"warning   {warning}" for warning in of_level("WARN", dataset.findings)),
    ]
    estimates, bytes_on_disk = [], 0.0
    if config.trains_model:
        samples = build_samples(config.dynamics, dataset, seed=config.seed)
        dynamics = build_dynamics(config.dynamics, samples, seed=config.seed, compile=False)
        parameters = sum(p.numel() for p in dynamics.ensemble.parameters())
        most = config.dynamics.max_epochs
        limit = "any number of epochs" if most is None else f"at most {most} epochs"
        lines.append(
            f"dynamics  {config.dynamics.members} members, {parameters} parameters, {limit} of {samples.steps} steps"
        )
        epoch = samples.steps * _seconds_of_a_step(
            dynamics, samples.log_rows[samples.bootstrap[:, : samples.batch_size]]
        )
        total = "" if most is None else f", at most {_duration(most * epoch)}"
        estimates.append(f"ensemble {_duration(epoch)} an epoch{total}")
        bytes_on_disk += 4.0 * parameters * 8
        model = dynamics.model()
    if config.learns_termination:
        updates = config.classifier.epochs * config.classifier.updates_per_epoch
        lines.append(
            f"ends      learned from {int(dataset.transitions.terminals.sum())} terminal rows, {updates} updates"
        )
    if config.stage != "dynamics":
        updates = config.trainer.max_epochs * _updates_of_an_epoch(config)
        if config.algorithm == "bc":
            module = build_cloning(config.sac, dataset, seed=config.seed)
        else:
            module = build_sac(config.sac, dataset, seed=config.seed, compile=False)
        lines.append(_policy_line(config, module, updates))
        seconds = updates * _seconds_of_an_update(config, dataset, module)
        if model is not None and config.uses_model:
            refreshes = config.trainer.max_epochs / config.rollout.every_n_epochs
            assert isinstance(module, SACModule)
            # A rule that is still to be learned takes a negligible part of the time.
            penalised = build_penalised_model(
                config.penalty, model, inputs.rule or never, dataset, inputs.reward, discount=config.sac.discount
            )
            penalised = replace(penalised, value=module.value, discount=module.discount)
            refresh = build_refresh(config.rollout, penalised, dataset, seed=config.seed, compile=False)
            starts = dataset.transitions.observations[: refresh.chunk].repeat(-(-refresh.chunk // len(dataset)), 1)
            generator = torch.Generator().manual_seed(0)
            chunk = _seconds_of(
                lambda: branch(penalised, module.actor.act, starts[: refresh.chunk], 1, refresh.limits, generator)
            )
            seconds += refreshes * config.rollout.horizon * config.rollout.starts / refresh.chunk * chunk
            bytes_on_disk += 2 * _buffer_bytes(config, dataset)
        estimates.append(f"policy {_duration(seconds)}")
    lines.append(f"memory    {room_line(config, inputs, on_gpu=on_gpu, folder=folder)}")
    lines.append(f"compiled  {', '.join(config.compile) or 'nothing'}")
    lines.append(
        f"estimate  {'; '.join(estimates)} (a few steps timed on this CPU, uncompiled; evaluation apart), "
        f"{bytes_on_disk / 1e6:.0f} MB on disk"
    )
    return "\n".join(lines)


def _policy_line(config: Config, module: SACModule | CloningModule, updates: int) -> str:
    networks = {"actor": module.actor} | ({"critics": module.critic} if isinstance(module, SACModule) else {})
    sizes = ", ".join(f"{name} {sum(p.numel() for p in network.parameters())}" for name, network in networks.items())
    block = block_size(config.sac.updates_per_epoch, config.sac.updates_per_step)
    line = f"policy    {sizes} parameters, {updates} updates, {block} in a training step"
    if config.uses_model:
        rows = config.rollout.starts * config.rollout.horizon
        line += f"; {rows} imagined rows a refresh, λ {config.penalty.coef} on {config.penalty.name}"
        line += "" if config.reward is None else f", reward {config.reward}"
    return line


def _seconds_of_a_step(module: DynamicsModule, batch: Transitions) -> float:
    """Return the time of a step of the ensemble's optimiser on rows [E, B, W] [s]."""
    optimizer = module.configure_optimizers()

    def step() -> None:
        optimizer.zero_grad()
        module.loss(batch).backward()
        optimizer.step()

    return _seconds_of(step)


def _seconds_of_an_update(config: Config, dataset: OfflineDataset, module: SACModule | CloningModule) -> float:
    """Return the time of an update of the policy on logged rows [s]. Imagined rows have the same shape."""
    optimizers, _ = module.configure_optimizers()
    rows = dataset.transitions[torch.randint(len(dataset), (config.sac.batch_size,))]
    if isinstance(module, CloningModule):
        return _seconds_of(lambda: module.update(optimizers[0], rows))
    noise = torch.randn(2, *rows.actions.shape)
    return _seconds_of(lambda: module.update(optimizers, rows, noise, module.average_rates(1)[0]))


def _seconds_of(work: Callable[[], object]) -> float:
    """Return the time of the fastest of `TIMED` calls, after one call to warm up [s]."""
    seconds = []
    for _ in range(1 + TIMED):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _updates_of_an_epoch(config: Config) -> int:
    block = block_size(config.sac.updates_per_epoch, config.sac.updates_per_step)
    return block * _limited(config.sac.updates_per_epoch // block, config.trainer)


def _limited(batches: int, trainer: TrainerConfig) -> int:
    """Return the number of batches of an epoch within `limit_train_batches`, which is a number or a fraction of them."""
    limit = trainer.limit_train_batches
    if limit is None:
        return batches
    return int(batches * limit) if isinstance(limit, float) else min(batches, limit)


def _buffer_bytes(config: Config, dataset: OfflineDataset) -> float:
    width, rollout = Transitions.width(dataset.obs_dim, dataset.action_dim), config.rollout
    return 4.0 * width * rollout.starts * rollout.horizon * rollout.retain_epochs


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
