"""`LoggedModule`: a LightningModule that writes one row of values an epoch, over its own count of updates."""

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
    """Gathers what the module and its callbacks note in an epoch, and hands it to every logger at the epoch's end.

    Lightning would do so after the callbacks that save: a run killed in between would lose the row. And its x-axis would
    be batches or optimiser steps, of which soft actor-critic makes three an update.
    """

    def __init__(self, means: tuple[str, ...]) -> None:
        """`means`: names of the scalars that are averaged over the updates of an epoch, by `self.means.update`."""
        super().__init__()
        self.means = NamedMeans(means)
        self._row: dict[str, float] = {}

    @property
    def updates(self) -> int:
        """Updates made, the loggers' x-axis."""
        raise NotImplementedError

    def note(self, values: Mapping[str, Tensor | float]) -> None:
        """Adds values to the epoch's row, and shows them to callbacks that monitor one."""
        self.log_dict(dict(values), logger=False)
        self._row |= {name: float(value) for name, value in values.items()}

    def write_row(self, suggestion: str) -> None:
        """Sends the row to the loggers; raises Diverged, with what to try, where a value or a weight is not finite."""
        row, self._row = self._row, {}
        lost = [name for name, value in row.items() if not torch.tensor(value).isfinite()]
        for logger in self.loggers:
            logger.log_metrics(row, step=self.updates)
        lost += [f"weights of {part}" for part in self._parts_that_are_not_finite()]
        if lost:
            raise Diverged(f"{', '.join(lost)} not finite", self.updates, suggestion)

    def _parts_that_are_not_finite(self) -> list[str]:
        names = [name.partition(".")[0] for name, _ in self.named_parameters()]
        finite = torch.stack([parameter.detach().isfinite().all() for parameter in self.parameters()]).tolist()
        return sorted({name for name, sound in zip(names, finite, strict=True) if not sound})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what every rank has averaged of a broken epoch; all ranks call it."""
        checkpoint["means"] = gather_from_ranks({"total": self.means.total.clone(), "count": self.means.count.clone()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it back."""
        for name, state in state_of_this_rank(checkpoint["means"]).items():
            setattr(self.means, name, state.to(self.device))


class NamedMeans(Metric):
    """Means of several named scalars over an epoch, kept as one vector so that a step costs one addition."""

    total: Tensor
    count: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.add_state("total", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Adds K values for each name [K, len(names)], one after another: sums do not depend on how many come at once."""
        for value in values:
            self.total += value
        self.count += len(values)

    def compute(self) -> dict[str, Tensor]:
        """Mean of each."""
        return dict(zip(self.names, self.total / self.count, strict=True))


HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Of Lightning, that see gradients or the loss on its way to them."""


def hooks_need_gradients(module: L.LightningModule) -> bool:
    """Whether the module or a callback waits for gradients: a graph shows none."""
    watchers = [module, *module.trainer.callbacks]  # type: ignore[attr-defined]
    return any(is_overridden(hook, watcher) for watcher in watchers for hook in HOOKS)


def count_steps(trainer: L.Trainer, steps: int) -> None:
    """Adds optimiser steps to Lightning's own count, so that what goes by `global_step` does not notice."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        tracker.ready += steps
        tracker.completed += steps
