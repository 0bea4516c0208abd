"""`LoggedModule`: a LightningModule that writes one row of values an epoch, over its own count of updates."""

import os
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

from mopo_pl.distributed.collectives import gathered, own
from mopo_pl.errors import Diverged, InputError


class LoggedModule(L.LightningModule):
    """Gathers what the module and its callbacks note in an epoch, and hands it to every logger at the epoch's end.

    Lightning would do so after the callbacks that save: a run killed in between would lose the row. And its x-axis would
    be batches, each of several updates.

    Its `hparams` are the constructor's arguments as plain values, networks as `nn.hparams` has them, so that
    `load_from_checkpoint` needs no more than the path.
    """

    RATES: ClassVar[str]
    """Names of its arguments that are learning rates, as they stand in a sentence."""
    BATCH_SIZE: ClassVar[str]
    """Where its batch size is set."""

    def __init__(self, means: tuple[str, ...], hparams: dict[str, Any]) -> None:
        """`means`: names of the scalars that are averaged over the updates of an epoch, by `self.means.update`;
        `hparams`: every argument of the subclass's constructor, by name.
        """
        super().__init__()
        self.save_hyperparameters(hparams)
        self.means = NamedMeans(means)
        self._row: dict[str, float] = {}
        self._saved_means: list[dict[str, Tensor]] = []
        """Of a checkpoint, one for each rank."""

    @property
    def updates(self) -> int:
        """Updates made, the loggers' x-axis."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Raises InputError where Lightning is to search a learning rate or a batch size: it would search nothing."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LearningRateFinder | BatchSizeFinder):
                rate = isinstance(callback, LearningRateFinder)
                if getattr(callback, "_early_exit", False):  # one that a Tuner has added for this search
                    self.trainer.callbacks.remove(callback)  # type: ignore[attr-defined]
                raise InputError(
                    f"{type(self).__name__} steps its optimisers by hand, which {type(callback).__name__} cannot drive: "
                    f"set {self.RATES if rate else self.BATCH_SIZE}"
                )

    def note(self, values: Mapping[str, Tensor | float]) -> None:
        """Adds values, which must be the same on all ranks, to the epoch's row, and shows them to callbacks that monitor one.

        `Trainer.validate` and `Trainer.test` return them instead, and give them to the loggers themselves.
        """
        training = self.trainer.state.fn == TrainerFn.FITTING
        for name, value in values.items():
            known = _Known()
            known.update(torch.as_tensor(value))
            self.log(name, known, logger=not training, on_step=False, on_epoch=True, metric_attribute=name)
        if training:
            self._row |= {name: float(value) for name, value in values.items()}

    def show_loss(self, name: str, value: Tensor) -> None:
        """Shows the newest loss in Lightning's own progress bar, and to callbacks that look between epochs."""
        self.log(name, value, prog_bar=True, logger=False, on_step=True, on_epoch=False)

    def wrong_batch(self, batch: Any, wanted: str) -> InputError:
        """What to raise for a batch that is not of the form `wanted`."""
        rows = getattr(batch, "rows", None)
        found = f"a {type(batch).__name__}" if rows is None else f"rows of shape {list(rows.shape)}"
        return InputError(f"{type(self).__name__} takes Transitions in {wanted}; this batch is {found}")

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

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As Lightning's: the module that a checkpoint holds, rebuilt from its hparams; `kwargs` replace single ones.

        Raises InputError where the checkpoint is one of another class, or does not hold all arguments of this one.
        """
        try:
            return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        except TypeError as error:
            raise InputError(_why_not_rebuilt(cls, checkpoint_path, error)) from error

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the module's class, and what every rank has averaged of a broken epoch; all ranks call it."""
        checkpoint["module"] = type(self).__qualname__
        checkpoint["means"] = gathered({"total": self.means.total.clone(), "count": self.means.count.clone()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the means of a broken epoch when the next fit begins. Raises InputError for another class's checkpoint."""
        refuse_other_class(type(self), checkpoint)
        self._saved_means = checkpoint["means"]

    def on_fit_start(self) -> None:
        """A fit that continues from a checkpoint restores this rank's means of its epoch; a new one starts without any."""
        if self.trainer.ckpt_path is not None:
            for name, state in own(self._saved_means).items():
                setattr(self.means, name, state.to(self.device))
        elif self.trainer.current_epoch == 0:
            self.means.reset()
            self._row = {}


def refuse_other_class(kind: type, checkpoint: Mapping[str, Any]) -> None:
    """Raises InputError where the checkpoint is of a class that `kind` is neither nor derives from."""
    saved = checkpoint.get("module")
    if saved is not None and saved not in [base.__qualname__ for base in kind.__mro__]:
        raise InputError(
            f"the checkpoint holds a {saved}, not a {kind.__name__}: load it by {saved}.load_from_checkpoint"
        )


def _why_not_rebuilt(kind: type, path: Any, error: TypeError) -> str:
    if isinstance(path, str | os.PathLike):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        refuse_other_class(kind, checkpoint)
        if "hyper_parameters" not in checkpoint:
            return f"{path} holds no hyper-parameters, as older versions wrote it: build the {kind.__name__} and load its state_dict"
    return f"{path} does not hold all that a {kind.__name__} is built from: {error}; give it to load_from_checkpoint"


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


class RowMeans(NamedMeans):
    """The same over rows, however many come at once."""

    def update(self, values: Tensor) -> None:
        """Adds rows of values [n, len(names)]."""
        self.total += values.double().sum(0)
        self.count += len(values)


class _Known(Metric):
    """A value that every rank knows: Lightning neither averages it over them nor recommends to."""

    def __init__(self) -> None:
        super().__init__(sync_on_compute=False)
        self.value = torch.zeros(())

    def update(self, value: Tensor) -> None:
        """Takes its place."""
        self.value = value.detach() if value.is_floating_point() else value.float()

    def compute(self) -> Tensor:
        """The value."""
        return self.value


HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Of Lightning, that see gradients or the loss on its way to them."""


def gradients_are_watched(module: L.LightningModule) -> bool:
    """Whether the module or a callback waits for gradients: a graph shows none."""
    watchers = [module, *module.trainer.callbacks]  # type: ignore[attr-defined]
    return any(is_overridden(hook, watcher) for watcher in watchers for hook in HOOKS)


@contextmanager
def counting_updates(trainer: L.Trainer, updates: int) -> Iterator[None]:
    """Lets so many updates inside the block be as many steps in Lightning's own count, `global_step`.

    It counts the steps of every optimiser, of which an update of soft actor-critic makes three, and none of compiled code.
    """
    before = trainer.global_step
    yield
    missing = before + updates - trainer.global_step
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        tracker.ready += missing
        tracker.completed += missing
