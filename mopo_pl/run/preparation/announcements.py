"""Print warnings and notes before training starts."""

import lightning as L
import torch
from lightning.pytorch.accelerators import CPUAccelerator

from mopo_pl.config.schema import Config
from mopo_pl.data.findings import of_level
from mopo_pl.distributed.console import print_once
from mopo_pl.run.preparation.inputs import Inputs


def announce(config: Config, inputs: Inputs, trainer: L.Trainer) -> None:
    """Print warnings about the log, and notes on processes, precision, learning rate schedule and compilation."""
    for warning in of_level("WARN", inputs.dataset.findings):
        print_once(f"warning: {warning}")
    if trainer.world_size > 1:
        world, batch, starts = trainer.world_size, config.sac.batch_size, config.rollout.starts
        print_once(
            f"{world} processes: an update takes {world} x {batch} = {world * batch} rows"
            + (f", a refresh {world} x {starts} = {world * starts} starts" if config.uses_model else "")
        )
    on_cpu = isinstance(trainer.accelerator, CPUAccelerator)
    if config.trainer.precision == "bf16-mixed" and on_cpu and not _multiplies_bf16():
        print_once(
            "bf16 is slower than fp32 on this processor, which has neither AMX nor AVX512-BF16: trainer.precision=32-true"
        )
    sac, epochs = config.sac, config.trainer.max_epochs
    if config.stage != "dynamics" and sac.actor_schedule == "cosine" and epochs > (sac.schedule_epochs or epochs):
        print_once(
            f"the actor's step size falls to 0 in the first {sac.schedule_epochs} of {epochs} epochs (sac.schedule_epochs): it "
            "learns no more after them; a new run with all its epochs, or with sac.actor_schedule=constant, goes on learning"
        )
    if "policy" in config.compile:
        print_once("the SAC update is compiled: the first one may take half a minute (compile=false leaves it out)")


def _multiplies_bf16() -> bool:
    """Return whether the processor has instructions for products of bf16. Without them torch emulates bf16, slower than fp32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
