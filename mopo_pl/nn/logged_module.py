"""`LoggedModule`: a LightningModule that writes one row of metrics per epoch, with the number of updates as x-axis."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torchmetrics import Metric

from mopo_pl.distributed.collectives import gather_from_ranks, state_of_this_rank
from mopo_pl.errors import Diverged, InputError


class LoggedModule(L.LightningModule):
    """A module that collects its metrics and those of callbacks during an epoch, and sends them to all loggers at the epoch's end.

    Lightning would send them after the callbacks that save a checkpoint, so that a run killed in between would lose the row.
    Its x-axis would be batches, each of which holds several updates.

    `hparams` are the constructor's arguments as plain values (for networks, see `nn.hparams`), so that `load_from_checkpoint`
    needs only the path.
    """

    LEARNING_RATES: ClassVar[str]
    """Arguments that are learning rates, for an error message."""
    BATCH_SIZE: ClassVar[str]
    """Argument that sets the batch size, for an error message."""

    def __init__(self, means: tuple[str, ...], hparams: dict[str, Any]) -> None:
        """Create the module.

        Args:
            means: Names of the scalars that `self.means.update` averages over the updates of an epoch.
            hparams: Arguments of the subclass's constructor, by name.

        """
        super().__init__()
        self.save_hyperparameters(hparams)
        self.means = NamedMeans(means)
        self._row: dict[str, float] = {}
        self._saved_means: list[dict[str, Tensor]] = []
        """Running means from a checkpoint, one entry per rank."""

    @property
    def updates(self) -> int:
        """Number of updates made so far, the x-axis of the loggers."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Raise InputError if the Trainer has a callback that searches for a learning rate or a batch size."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LearningRateFinder | BatchSizeFinder):
                rate = isinstance(callback, LearningRateFinder)
                if getattr(callback, "_early_exit", False):  # one that a Tuner has added for this search
                    self.trainer.callbacks.remove(callback)  # type: ignore[attr-defined]
                raise InputError(
                    f"{type(self).__name__} steps its optimisers by hand, which {type(callback).__name__} cannot drive: "
                    f"set {self.LEARNING_RATES if rate else self.BATCH_SIZE}"
                )

    def note(self, values: Mapping[str, Tensor | float]) -> None:
        """Add values to the epoch's metrics row, and make them available to callbacks that monitor a metric.

        The values must be equal on all ranks. In `Trainer.validate` and `Trainer.test` they are returned and logged by
        Lightning instead, and no row is written.
        """
        training = self.trainer.state.fn == TrainerFn.FITTING
        with warnings.catch_warnings():
            # Lightning returns only logged values, also if there is no logger.
            warnings.filterwarnings("ignore", message=".*but have no logger configured")
            for name, value in values.items():
                known = _Known()
                known.update(torch.as_tensor(value))
                self.log(name, known, logger=not training, on_step=False, on_epoch=True, metric_attribute=name)
        if training:
            self._row |= {name: float(value) for name, value in values.items()}

    @property
    def noted(self) -> dict[str, float]:
        """The values noted since the last row was written."""
        return dict(self._row)

    def show_loss(self, name: str, value: Tensor) -> None:
        """Show the newest loss in Lightning's own progress bar, and to callbacks that read metrics within an epoch."""
        self.log(name, value, prog_bar=True, logger=False, on_step=True, on_epoch=False)

    def require_batch(self, batch: Any, dimensions: int, form: str) -> None:
        """Raise InputError unless the batch is Transitions whose rows have this many dimensions.

        `form` describes the expected batch in the message.
        """
        rows = getattr(batch, "rows", None)
        if rows is None or rows.dim() != dimensions:
            found = f"a {type(batch).__name__}" if rows is None else f"rows of shape {list(rows.shape)}"
            raise InputError(f"{type(self).__name__} takes Transitions in {form}; this batch is {found}")

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

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Rebuild the module of a checkpoint from its hparams, as in Lightning; `kwargs` replace single hparams.

        Raises InputError if the checkpoint is of another class, or lacks an argument of this one.
        """
        try:
            return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        except TypeError as error:
            raise InputError(_why_not_rebuilt(cls, checkpoint_path, error)) from error

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the class and the running means of all ranks, which are not zero within an epoch. All ranks must call it."""
        checkpoint["module"] = type(self).__qualname__
        checkpoint["means"] = gather_from_ranks({"total": self.means.total.clone(), "count": self.means.count.clone()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the running means for `on_fit_start`. Raises InputError if the checkpoint is of another class."""
        refuse_other_class(type(self), checkpoint)
        self._saved_means = checkpoint["means"]

    def on_fit_start(self) -> None:
        """Restore this rank's running means if the fit resumes from a checkpoint; a new fit starts with none."""
        if self.trainer.ckpt_path is not None:
            for name, state in state_of_this_rank(self._saved_means).items():
                setattr(self.means, name, state.to(self.device))
        elif self.trainer.current_epoch == 0:
            self.means.reset()
            self._row = {}


def refuse_other_class(kind: type, checkpoint: Mapping[str, Any]) -> None:
    """Raise InputError unless `kind` is the class of the checkpoint, or derives from it."""
    saved = checkpoint.get("module")
    if saved is not None and saved not in [base.__qualname__ for base in kind.__mro__]:
        raise InputError(
            f"the checkpoint holds a {saved}, not a {kind.__name__}: load it by {saved}.load_from_checkpoint"
        )


def _why_not_rebuilt(kind: type, path: Any, error: TypeError) -> str:
    """Return what the checkpoint at `path` lacks, in one sentence."""
    if isinstance(path, str | os.PathLike):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        refuse_other_class(kind, checkpoint)
        if "hyper_parameters" not in checkpoint:
            return f"{path} holds no hyper-parameters, as older versions wrote it: build the {kind.__name__} and load its state_dict"
    return f"{path} does not hold all that a {kind.__name__} is built from: {error}; give it to load_from_checkpoint"


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


class RowMeans(NamedMeans):
    """Means of named values over transitions, in batches of any size."""

    def update(self, values: Tensor) -> None:
        """Add values of N transitions [N, len(names)]."""
        # Not in place: after `Trainer.validate` the states are inference tensors, which a later fit may not change.
        self.total = self.total + values.double().sum(0)
        self.count = self.count + len(values)


class _Known(Metric):
    """A value that is equal on all ranks. Lightning neither averages it over ranks nor recommends `sync_dist`."""

    def __init__(self) -> None:
        super().__init__(sync_on_compute=False)
        self.value = torch.zeros(())

    def update(self, value: Tensor) -> None:
        """Set the value."""
        self.value = value.detach() if value.is_floating_point() else value.float()

    def compute(self) -> Tensor:
        """Return the value."""
        return self.value


HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Hooks of Lightning that receive gradients, or the loss before its backward pass."""


def hooks_need_gradients(module: L.LightningModule) -> bool:
    """Return whether the module or a callback overrides one of `HOOKS`; a compiled update never calls them."""
    owners = [module, *module.trainer.callbacks]  # type: ignore[attr-defined]
    return any(is_overridden(hook, owner) for owner in owners for hook in HOOKS)


@contextmanager
def counting_updates(trainer: L.Trainer, updates: int) -> Iterator[None]:
    """Make Lightning's `global_step` grow by `updates` inside the block.

    Lightning counts the steps of every optimiser, of which an update of soft actor-critic makes three, and no step that
    compiled code makes.
    """
    before = trainer.global_step
    yield
    missing = before + updates - trainer.global_step
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        tracker.ready += missing
        tracker.completed += missing
