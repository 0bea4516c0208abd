"""Read and write `metrics.jsonl`, one metrics row per epoch, in addition to the chosen loggers."""

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mopo_pl.distributed.console import print_once
from mopo_pl.errors import InputError, Unwritable
from mopo_pl.storage.atomic_write import atomic_write
from mopo_pl.storage.stored_json import METRICS_LARGEST, read_text


class MetricsFile(Logger):
    """A Lightning logger that appends rows `{"stage": …, "update": …, name: value, …}`. Non-finite values become null."""

    def __init__(self, path: Path, *, stage: str) -> None:
        super().__init__()
        self.path, self.stage = path, stage

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.stage

    @property
    def version(self) -> str:
        """The empty string, because the file has no versions."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing, because config.yaml contains the hyperparameters."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a metrics row with a single write call; raise Unwritable if that fails."""
        values = {name: float(value) for name, value in metrics.items()}
        row = {"stage": self.stage, "update": step}
        row |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise Unwritable(self.path, error) from error

    def rows(self) -> list[dict[str, Any]]:
        """Return the metrics rows of this stage, in order, without incomplete or damaged lines; none if there is no file.

        Raises InputError if the file is larger than 200 MB, or is not a regular file.
        """
        return [row for row in self._whole_lines() if row["stage"] == self.stage]

    def _whole_lines(self) -> list[dict[str, Any]]:
        return [row for row in map(_row, self._lines()) if row is not None]

    def _lines(self) -> list[str]:
        try:
            return read_text(self.path, METRICS_LARGEST).split("\n")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} is damaged ({error}): restore it from a copy, or move it away") from error

    @rank_zero_only
    def forget_after(self, update: int) -> None:
        """Remove the rows of this stage after `update`, because a resumed run writes them again."""
        if not self.path.exists():
            if update > 0:
                print_once(f"{self.path} is missing: the rows so far are lost, and the curve begins here")
            return
        whole = self._whole_lines()
        kept = [row for row in whole if row["stage"] != self.stage or row["update"] <= update]
        damaged = sum(bool(line) for line in self._lines()) - len(whole)
        if damaged:
            print_once(f"{self.path}: {damaged} incomplete or damaged lines are left out")
        with atomic_write(self.path) as aside:
            aside.write_text("".join(json.dumps(row) + "\n" for row in kept))


def _row(line: str) -> dict[str, Any] | None:
    """Return the metrics row in a line, None if the line is incomplete or damaged."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(row, dict) and isinstance(row.get("stage"), str) and type(row.get("update")) is int
    if not sound:
        return None
    values = (value for name, value in row.items() if name not in ("stage", "update"))
    return row if all(value is None or type(value) in (int, float) for value in values) else None


def forget_unsaved(file: MetricsFile) -> LambdaCallback:
    """Return a callback that removes the rows after the resumed checkpoint when training starts."""
    return LambdaCallback(on_train_start=lambda trainer, module: file.forget_after(int(module.updates)))  # type: ignore[arg-type]
