"""One of two processes that share the updates of `ranks.py`.

It makes updates of SAC and of the ensemble in float64 on its share of fixed rows, averages the gradients as a run does, and
leaves its weights. In a group of one it takes all rows.
"""

import os
import signal
from datetime import timedelta
from pathlib import Path

import torch
from speed import ACTION
from torch import Tensor, distributed

import mopo_pl.sac.module
from gpu_parts.stages import SMALL, drawn, stages_on, transitions
from mopo_pl.distributed.collectives import mean_over_ranks

UPDATES, ROWS = 20, 64
KILLED_BEFORE = 5
"""Update before which the fault `killed-rank` ends rank 1."""


def main(log: Path, folder: Path, rank: int, world: int, place: str, backend: str, fault: str | None) -> None:
    """Update, and write the weights to `<world>-<rank>.pt`; what is printed is added to `log`. `place`: the device."""
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    device = torch.device(place)
    torch.set_num_threads(1)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world > 1:
        store = f"file://{folder / 'store'}"
        distributed.init_process_group(
            backend, init_method=store, rank=rank, world_size=world, timeout=timedelta(seconds=50)
        )
    if fault == "own-gradients":
        mopo_pl.sac.module.mean_over_ranks = lambda gradients: gradients  # type: ignore[attr-defined]
    stages = stages_on(device, SMALL, dtype=torch.float64)
    sac, like = stages.sac, stages.batches.log_rows.rows
    for number in range(UPDATES):
        if fault == "killed-rank" and rank == 1 and number == KILLED_BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        batch = transitions(ROWS, like=like, seed=number)[rank::world]
        noise = drawn(2, ROWS, ACTION, seed=1000 + number).to(like)[:, rank::world]
        sac.update(stages.sac_optimizers, batch, noise, sac.average_rates(1)[0])
        rows = transitions(stages.config.dynamics.members, ROWS, like=like, seed=number)
        step_of_ensemble(stages, rows.rows[:, rank::world].contiguous())
    weights = {
        name: value.cpu() for name, value in [*sac.state_dict().items(), *stages.dynamics.ensemble.state_dict().items()]
    }
    torch.save(weights, folder / f"{world}-{rank}.pt")
    if world > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def step_of_ensemble(stages, rows: Tensor) -> None:
    """One step of the ensemble on this rank's rows [E, B, W], its gradients averaged over the ranks."""
    log, parameters = stages.samples.log_rows, list(stages.dynamics.ensemble.parameters())
    loss = stages.dynamics.loss(type(log)(rows, log.obs_dim, log.action_dim))
    gradients = mean_over_ranks(list(torch.autograd.grad(loss, parameters)))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    stages.dynamics_optimizer.step()
