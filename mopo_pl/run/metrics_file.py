"""`metrics.jsonl`: one line per stage and update, whatever other loggers there are."""

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mopo_pl.callbacks import Interrupted
from mopo_pl.whole_file import whole_file


class MetricsFile(Logger):
    """A Lightning logger that appends `{"stage": …, "update": …, name: value, …}`. Non-finite values become null."""

    def __init__(self, path: Path, *, stage: str) -> None:
        super().__init__()
        self.path, self.stage = path, stage

    @property
    def name(self) -> str:
        """The stage."""
        return self.stage

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """They are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Appends a row in one write."""
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        row = {"stage": self.stage, "update": step}
        row |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    @rank_zero_only
    def forget_after(self, update: int) -> None:
        """Drops rows of this stage beyond `update`: what a resumed run will write again."""
        if not self.path.exists():
            return
        rows = [json.loads(line) for line in self.path.read_text().splitlines() if line.endswith("}")]
        kept = [row for row in rows if row["stage"] != self.stage or row["update"] <= update]
        with whole_file(self.path) as aside:
            aside.write_text("".join(json.dumps(row) + "\n" for row in kept))


def forget_unsaved(file: MetricsFile) -> LambdaCallback:
    """Drops, when training starts, the rows written after the checkpoint it starts from. Modules count `updates`."""
    return LambdaCallback(on_train_start=lambda trainer, module: file.forget_after(int(module.updates)))  # type: ignore[arg-type]


def keep_last_row() -> LambdaCallback:
    """Hands loggers the row of an epoch at whose end the run is stopped.

    Lightning does so after all callbacks, the one that saves and stops among them; the resumed run begins with the next
    epoch and would never write that row.
    """
    return LambdaCallback(on_exception=_write_ended_epoch)


def _write_ended_epoch(trainer: L.Trainer, module: L.LightningModule, error: BaseException) -> None:
    # On an epoch's last batch a run is only ever stopped at the epoch's end.
    if isinstance(error, Interrupted) and trainer.is_last_batch:
        trainer._logger_connector.update_train_epoch_metrics()
