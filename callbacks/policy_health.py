"""Callback that checks the metrics of policy training for signs of failure and prints warnings."""

import math
from typing import Any

import lightning as L
import torch

from mopo_pl.callbacks.requirements import require
from mopo_pl.data.findings import Finding
from mopo_pl.diagnostics.health.judging import COLUMNS, judged_columns, signs_in
from mopo_pl.diagnostics.health.rows import Row
from mopo_pl.diagnostics.health.run_facts import RunFacts
from mopo_pl.distributed.console import print_once
from mopo_pl.errors import Diverged
from mopo_pl.sac.policy_module import PolicyModule


class PolicyHealth(L.Callback):
    """Checks all metrics rows at the end of each epoch, and prints a warning the first time that each sign of failure appears.

    In the Trainer's list of callbacks it must follow those that add values to the metrics row. It only reads the epoch's row,
    which is equal on all ranks; it draws no random numbers and does not change the training. With `stop`, a sign of level STOP
    ends the fit: a checkpoint of the epoch is saved, then Diverged is raised. A fit that resumes from it raises Diverged again.
    """

    def __init__(self, facts: RunFacts, *, after: int, stop: bool) -> None:
        """Create the callback.

        Args:
            facts: Facts about the log and the run that the checks use.
            after: Number of updates before which nothing is checked.
            stop: Whether a sign of level STOP ends the fit.

        """
        self.facts, self.after, self.stop = facts, after, stop
        self.rows: list[Row] = []
        """Columns of each epoch's metrics row that the checks use."""
        self.said: list[str] = []
        """Names of the signs for which a warning was printed."""
        self.ended: Finding | None = None
        """The sign that ended the fit."""
        self._ended_at = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Reset the state for a new fit. The Trainer loads a checkpoint's state after this hook.

        Raises InputError if the module is not a `PolicyModule`.
        """
        require(self, pl_module, PolicyModule)
        if stage == "fit" and trainer.current_epoch == 0:
            self.rows, self.said, self.ended, self._ended_at = [], [], None, 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raise Diverged if a sign has ended the fit that this one continues. Without `stop` the fit continues."""
        if self.stop:
            self._raise_if_ended()
        self.ended = None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the rows so far and print a warning for each new sign. With `stop`, request a stop on a sign of level STOP."""
        assert isinstance(pl_module, PolicyModule)
        # The module adds its means to the row after the callbacks have run. `compute` caches them and does not reset them.
        means = {f"policy/{name}": float(value) for name, value in pl_module.means.compute().items()}
        row = {"update": float(pl_module.updates), **pl_module.noted, **means}
        self.rows.append(judged_columns({name: value if math.isfinite(value) else None for name, value in row.items()}))
        for finding in signs_in(self.rows, self.facts, after=self.after):
            if finding.name not in self.said:
                self.said.append(finding.name)
                print_once(f"warning: update {pl_module.updates}: {finding.text}; try {finding.fix}")
            if self.stop and finding.level == "STOP" and self.ended is None:
                self.ended, self._ended_at = finding, pl_module.updates
                trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raise Diverged if a sign has ended the fit. The checkpoint is already saved when this hook is called."""
        self._raise_if_ended()

    def _raise_if_ended(self) -> None:
        if self.ended is not None:
            way_on = f"a new run with {self.ended.fix}; or go on with this one: resume= and health.stop=false"
            raise Diverged(f"health.stop=true has ended the run: {self.ended.text},", self._ended_at, way_on)

    def state_dict(self) -> dict[str, Any]:
        """Return the checked columns [epochs] with NaN for missing values, the signs already printed, and the one that ended the fit."""
        missing = float("nan")
        columns = {
            name: torch.tensor([missing if row[name] is None else row[name] for row in self.rows], dtype=torch.float64)
            for name in COLUMNS
        }
        ended = None if self.ended is None else vars(self.ended)
        return {"columns": columns, "said": self.said, "ended": ended, "ended_at": self._ended_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state saved by `state_dict`."""
        held = state_dict["columns"]
        epochs = max(map(len, held.values()), default=0)
        # A checkpoint of an earlier version may lack a column.
        columns = {name: held[name].tolist() if name in held else [math.nan] * epochs for name in COLUMNS}
        values = zip(*columns.values(), strict=True)
        self.rows = [
            {name: None if math.isnan(value) else value for name, value in zip(columns, row, strict=True)}
            for row in values
        ]
        self.said, self._ended_at = list(state_dict["said"]), state_dict["ended_at"]
        self.ended = None if state_dict["ended"] is None else Finding(**state_dict["ended"])
