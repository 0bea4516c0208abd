"""Both stages on a device, built as a run builds them, from random data of HalfCheetah's shapes."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from speed import ACTION, OBS, log_of, started
from torch import Tensor
from torch.optim import Optimizer

from mopo_pl.assembly import (
    build_batches,
    build_dynamics,
    build_penalised_model,
    build_refresh,
    build_sac,
    build_samples,
)
from mopo_pl.callbacks import RolloutRefresh
from mopo_pl.config.compose import compose
from mopo_pl.config.schema import Config
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.bootstrap import EnsembleDataModule
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.termination import never
from mopo_pl.nn.fused_update import FusedUpdate
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.module import SACModule

SMALL_NETWORKS = (
    *("sac.hidden_sizes=[32,32]", "dynamics.hidden_sizes=[32,32]", "dynamics.weight_decay=[1e-5,1e-5,1e-5]"),
)
SMALL = (
    *(*SMALL_NETWORKS, "sac.batch_size=64", "dynamics.batch_size=64"),
    *("rollout.starts=200", "rollout.horizon=4"),
)
"""Sizes with which the check itself is tried on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What a run holds in its two stages, on one device."""

    config: Config
    dataset: OfflineDataset
    device: torch.device
    sac: SACModule
    sac_optimizers: list[Optimizer]
    batches: OfflineDataModule
    dynamics: DynamicsModule
    dynamics_optimizer: Optimizer
    samples: EnsembleDataModule
    refresh: RolloutRefresh

    @property
    def model(self) -> PenalisedModel:
        """What is rolled out."""
        return self.refresh.model

    @property
    def limits(self) -> StateLimits:
        """Of the rollouts."""
        return self.refresh.limits


def stages_on(
    device: torch.device, options: tuple[str, ...] = (), *, rows: int = 2000, dtype: torch.dtype = torch.float32
) -> Stages:
    """Build both stages with default settings, changed by `options`, on a log of `rows` rows.

    The weights depend on neither the device nor the dtype: they are drawn in fp32 on the CPU.
    """
    config, dataset = (
        compose(["termination=never", "compile=false", "sac.schedule_epochs=1000", *options]),
        log_of(rows),
    )
    sac = build_sac(config.sac, dataset, seed=0, compile=False).to(device, dtype)
    samples = build_samples(config.dynamics, dataset, seed=0)
    dynamics = build_dynamics(config.dynamics, samples, seed=0, compile=False)
    # A model of its own for the rollouts: they freeze it.
    rolled = build_dynamics(config.dynamics, samples, seed=0, compile=False).model()
    penalised = build_penalised_model(config.penalty, rolled, never, dataset, discount=config.sac.discount)
    dynamics.to(device, dtype)
    refresh = started(build_refresh(config.rollout, penalised, dataset, seed=0, compile=False), sac)
    refresh.model.transition.ensemble.to(dtype)
    refresh.limits = StateLimits(refresh.limits.low.to(dtype), refresh.limits.high.to(dtype))
    batches = build_batches(config.sac, config.rollout, dataset, seed=0)
    for data in (batches, samples):
        data.log_rows = data.log_rows.to(dtype)
        set_up(data, device)
    sac._noise = generator_for(0, "updates", 0, device)
    return Stages(
        config=config,
        dataset=dataset,
        device=device,
        sac=sac,
        sac_optimizers=sac.configure_optimizers()[0],
        batches=batches,
        dynamics=dynamics,
        dynamics_optimizer=dynamics.configure_optimizers(),
        samples=samples,
        refresh=refresh,
    )


def set_up(data: Any, device: torch.device) -> None:
    """Call a DataModule's `setup` as a Trainer on this device does."""
    strategy = SimpleNamespace(root_device=device)
    facts = {"current_epoch": 0, "global_rank": 0, "world_size": 1, "num_training_batches": 10**9}
    data.trainer = cast(Any, SimpleNamespace(strategy=strategy, **facts))
    data.setup("fit")


def fill(data: OfflineDataModule, rows: int) -> None:
    """Add one refresh of logged rows to the model buffer, as many as asked or as it takes."""
    logged, rows = data.log_rows.rows, min(rows, data.capacity)
    taken = logged[torch.arange(rows, device=logged.device) % len(logged)].to(data.model_buffer.rows.device)
    data.model_buffer.begin()
    data.model_buffer.append(taken, torch.ones(rows, dtype=torch.bool, device=taken.device))
    data.model_buffer.end()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Return standard normal numbers in float64 on the CPU, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def transitions(*shape: int, like: Tensor, seed: int = 0) -> Transitions:
    """Return random transitions [*shape, W] of the device and the dtype of `like`; none is terminal."""
    rows = drawn(*shape, Transitions.width(OBS, ACTION), seed=seed)
    rows[..., OBS : OBS + ACTION].tanh_()
    rows[..., -1] = 0
    return Transitions(rows.to(like), OBS, ACTION)


def sac_update(stages: Stages, batches: Transitions, noise: Tensor) -> Tensor:
    """Make K updates by torch's optimisers, as several devices do; return their reports [K, 7]."""
    rates, sac = stages.sac.average_rates(len(batches)), stages.sac
    reports = [sac.update(stages.sac_optimizers, batches[k], noise[k], rates[k]) for k in range(len(batches))]
    sac._updates += len(batches)
    return torch.stack(reports)


def dynamics_step(stages: Stages, batch: Transitions) -> Tensor:
    """Make one step of the ensemble by autograd and torch's optimiser; return the loss before it."""
    stages.dynamics_optimizer.zero_grad()
    loss = stages.dynamics.loss(batch)
    loss.backward()
    stages.dynamics_optimizer.step()
    return loss.detach()


def fused_dynamics(module: DynamicsModule) -> FusedUpdate:
    """Return the ensemble's step in one function, as a fit builds it."""
    return FusedUpdate(
        module._equation.fused,
        optimizers=[module.configure_optimizers()],
        parameters=[dict(module.ensemble.named_parameters())],
        averages=[],
        rows=None,
        name="the ensemble's step",
    )
