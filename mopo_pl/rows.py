"""`RowModule`: a LightningModule that writes one row of values an epoch, over its own count of updates."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from mopo_pl.metrics import NamedMeans
from mopo_pl.problems import Diverged
from mopo_pl.ranks import gathered, own


class RowModule(L.LightningModule):
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

    def write_row(self, lever: str) -> None:
        """Sends the row to the loggers; raises Diverged, with what to try, where a value or a weight is not finite."""
        row, self._row = self._row, {}
        lost = [name for name, value in row.items() if not torch.tensor(value).isfinite()]
        for logger in self.loggers:
            logger.log_metrics(row, step=self.updates)
        lost += [f"weights of {part}" for part in self._parts_that_are_not_finite()]
        if lost:
            raise Diverged(f"{', '.join(lost)} not finite", self.updates, lever)

    def _parts_that_are_not_finite(self) -> list[str]:
        names = [name.partition(".")[0] for name, _ in self.named_parameters()]
        finite = torch.stack([parameter.detach().isfinite().all() for parameter in self.parameters()]).tolist()
        return sorted({name for name, sound in zip(names, finite, strict=True) if not sound})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what every rank has averaged of a broken epoch; all ranks call it."""
        checkpoint["means"] = gathered({"total": self.means.total.clone(), "count": self.means.count.clone()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it back."""
        for name, state in own(checkpoint["means"]).items():
            setattr(self.means, name, state.to(self.device))
