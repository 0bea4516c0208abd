"""`LoggedModule`: a LightningModule that writes one row of metrics per epoch, with the number of updates as x-axis."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torchmetrics import Metric

from mopo_pl.distributed.collectives import gather_from_ranks, state_of_this_rank
from mopo_pl.errors import Diverged


class LoggedModule(L.LightningModule):
    """Collect the metrics of the module and its callbacks during an epoch, and send them to all loggers at the epoch's end.

    Lightning would send them after the callbacks that save a checkpoint, so that a run killed in between would lose the
    row. Its x-axis would be batches or optimiser steps, and soft actor-critic makes three optimiser steps per update.
    """

    def __init__(self, means: tuple[str, ...]) -> None:
        """`means`: names of the scalars that `self.means.update` averages over the updates of an epoch."""
        super().__init__()
        self.means = NamedMeans(means)
        self._row: dict[str, float] = {}

    @property
    def updates(self) -> int:
        """Number of updates made so far, the x-axis of the loggers."""
        raise NotImplementedError

    def note(self, values: Mapping[str, Tensor | float]) -> None:
        """Add values to the epoch's metrics row, and make them available to callbacks that monitor a metric."""
        self.log_dict(dict(values), logger=False)
        self._row |= {name: float(value) for name, value in values.items()}

    def write_row(self, suggestion: str) -> None:
        """Send the epoch's metrics row to the loggers.

        Raises Diverged, with `suggestion` (what the user can try), if a metric or a parameter is not finite.
        """
        row, self._row = self._row, {}
        bad = [name for name, value in row.items() if not torch.tensor(value).isfinite()]
        for logger in self.loggers:
            logger.log_metrics(row, step=self.updates)
        bad += [f"weights of {part}" for part in self._parts_that_are_not_finite()]
        if bad:
            raise Diverged(f"{', '.join(bad)} not finite", self.updates, suggestion)

    def _parts_that_are_not_finite(self) -> list[str]:
        """Return the names of submodules that have a parameter with NaN or inf."""
        names = [name.partition(".")[0] for name, _ in self.named_parameters()]
        finite = torch.stack([parameter.detach().isfinite().all() for parameter in self.parameters()]).tolist()
        return sorted({name for name, sound in zip(names, finite, strict=True) if not sound})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the running means of all ranks, which are not zero in the middle of an epoch. All ranks must call it."""
        checkpoint["means"] = gather_from_ranks({"total": self.means.total.clone(), "count": self.means.count.clone()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore this rank's running means."""
        for name, state in state_of_this_rank(checkpoint["means"]).items():
            setattr(self.means, name, state.to(self.device))


class NamedMeans(Metric):
    """Means of several named scalars over an epoch, stored as one vector so that an update costs one addition."""

    total: Tensor
    count: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.add_state("total", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Add K values of each name [K, len(names)] one after another, so that the sums do not depend on K."""
        for value in values:
            self.total += value
        self.count += len(values)

    def compute(self) -> dict[str, Tensor]:
        """Return the mean of each name."""
        return dict(zip(self.names, self.total / self.count, strict=True))


HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Hooks of Lightning that receive gradients, or the loss before its backward pass."""


def hooks_need_gradients(module: L.LightningModule) -> bool:
    """Return whether the module or a callback overrides one of `HOOKS`; a compiled update never calls them."""
    owners = [module, *module.trainer.callbacks]  # type: ignore[attr-defined]
    return any(is_overridden(hook, owner) for owner in owners for hook in HOOKS)


def count_steps(trainer: L.Trainer, steps: int) -> None:
    """Add `steps` to Lightning's count of optimiser steps, so that `global_step` is right when a compiled update makes them."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        tracker.ready += steps
        tracker.completed += steps
