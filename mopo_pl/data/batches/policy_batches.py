"""Batches for the policy: a share of logged rows, the rest imagined."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Generator, Tensor

from mopo_pl.data.batches.host_log import Copy, HostLog
from mopo_pl.data.batches.model_buffer import ModelBuffer
from mopo_pl.data.batches.row_batches import CHUNK, NoValidation, RowBatches
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.distributed.collectives import gather_from_ranks, state_of_this_rank
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import continued, generator_for
from mopo_pl.storage.buffer_files import RefreshFiles
from mopo_pl.storage.checkpoints import REFRESHES


def block_size(updates_per_epoch: int, updates_per_step: int) -> int:
    """K: the largest divisor of an epoch's updates up to `updates_per_step`, so that all blocks are of one size."""
    return max(k for k in range(1, min(updates_per_step, updates_per_epoch) + 1) if updates_per_epoch % k == 0)


class OfflineDataModule(L.LightningDataModule):
    """`updates_per_epoch` batches of `batch_size` rows, int(batch_size · real_ratio) of them from the log.

    What a Trainer takes for a batch is a block [K, B, W]: K of them, for K updates in one `training_step` (`block_size`).
    Each batch of a block is drawn for itself, in order, so that K changes none of them.

    The log and the model buffer live on the device of training; a block is two gathers. With `on_host` the log stays in the
    host's memory, and the logged rows of the next block are on their way while one is trained on. A callback fills the model
    buffer (`callbacks.RolloutRefresh`). `batch_size` is per rank; each rank draws from its own stream.
    """

    def __init__(
        self,
        dataset: OfflineDataset,
        *,
        batch_size: int,
        real_ratio: float,
        updates_per_epoch: int,
        updates_per_step: int,
        retain: int,
        capacity: int,
        refresh_folder: Path | None,
        seed: int,
        on_host: bool = False,
    ) -> None:
        """Open an empty model buffer beside the log.

        `batch_size`: B. `real_ratio`: share of logged rows in a batch, in [0, 1]. `updates_per_step`: K, at most. `retain`:
        refreshes the model buffer keeps. `capacity`: rows of a refresh at most (starts · horizon). `refresh_folder`: where
        refreshes are stored, so that checkpoints name them; None: in each checkpoint itself. `seed`: of the batches.
        `on_host`: the log stays in the host's memory; its rows are then drawn from a stream of their own.
        """
        super().__init__()
        # Where s' is not known only a terminal row may train the critic: of any other, it would learn the value of a
        # stand-in.
        usable = dataset.next_known | dataset.transitions.terminals.bool()
        self.log_rows = dataset.transitions if usable.all() else dataset.transitions[usable]
        self.batch_size, self.real_rows = batch_size, int(batch_size * real_ratio)
        self.updates_per_epoch, self.seed, self.on_host = updates_per_epoch, seed, on_host
        self.updates_per_step = block_size(updates_per_epoch, updates_per_step)
        self.retain, self.capacity = (retain, capacity) if self.real_rows < batch_size else (1, 0)
        self._refresh_folder = refresh_folder
        self._open(torch.device("cpu"), 0)

    def setup(self, stage: str | None = None) -> None:
        """Move the log to the device; a new fit opens the model buffer and the stream of batches there.

        A further fit of the same Trainer goes on with those it has; validating and predicting leave them alone.
        """
        if self.trainer is None:
            return
        device = self.trainer.strategy.root_device
        if not self.on_host:
            self.log_rows = self.log_rows.to(device)
        if stage == "fit" and (self.trainer.current_epoch == 0 or self.model_buffer.rows.device != device):
            self._open(device, self.trainer.global_rank)

    def _open(self, device: torch.device, rank: int) -> None:
        rows = self.log_rows.rows
        self.model_buffer = ModelBuffer(
            slots=self.retain, capacity=self.capacity, width=rows.shape[1], device=device, dtype=rows.dtype
        )
        # Refreshes are numbered from 1 again: entries of those before would be taken for them.
        self._files = None if self._refresh_folder is None else RefreshFiles(self._refresh_folder)
        self._batches = generator_for(self.seed, "batches", rank, device)
        self._host = HostLog(rows, device) if self.on_host else None
        self._logged = generator_for(self.seed, "logged batches", rank)
        """Stream of the logged rows where the log is on the host."""
        self._coming: tuple[int, Tensor, Copy] | None = None
        """Updates whose logged rows are on their way, the state of their stream before, and the rows."""

    def sample_starts(self, size: int, generator: Generator) -> Tensor:
        """Logged states, uniformly with replacement [size, D]."""
        rows = self.log_rows.rows
        index = torch.randint(len(rows), (size,), generator=generator, device=generator.device)
        return self.log_rows[index.to(rows.device)].observations.to(generator.device)

    def sample(self, updates: int) -> Transitions:
        """Draw the batches of this number of updates [updates, B, W]: in each, logged rows first."""
        rows, imagined = self.log_rows.rows, self.batch_size - self.real_rows
        logged, places = [], []
        for _ in range(updates):
            if self._host is None:
                logged.append(torch.randint(len(rows), (self.real_rows,), generator=self._batches, device=rows.device))
            if imagined:
                places.append(self.model_buffer.draw(imagined, self._batches))
        if self._host is None:
            parts = [rows.index_select(0, torch.cat(logged)).unflatten(0, (updates, self.real_rows))]
        else:
            parts = [self._from_host(self._host, updates)]
        if imagined:
            parts.append(self.model_buffer.at(torch.cat(places)).unflatten(0, (updates, imagined)))
        return replace(self.log_rows, rows=torch.cat(parts, 1))

    def _from_host(self, host: HostLog, updates: int) -> Tensor:
        """Logged rows of this number of updates [updates, real_rows, W]; those of as many more are then on their way."""
        if self._coming is not None and self._coming[0] != updates:
            self._logged.set_state(self._coming[1])
            self._coming = None
        _, _, rows = self._coming or self._sent(host, updates)
        self._coming = self._sent(host, updates)
        return rows.arrived()

    def _sent(self, host: HostLog, updates: int) -> tuple[int, Tensor, Copy]:
        before = self._logged.get_state()
        index = torch.randint(len(host.rows), (updates, self.real_rows), generator=self._logged)
        return updates, before, host.fetch(index)

    def __len__(self) -> int:
        """Blocks of an epoch."""
        return self.updates_per_epoch // self.updates_per_step

    def __iter__(self) -> Iterator[Transitions]:
        for _ in range(len(self)):
            yield self.sample(self.updates_per_step)

    def train_dataloader(self) -> "OfflineDataModule":
        """This module itself: a sized iterable of ready batches, so that the first one is drawn after the first refresh."""
        return self

    def val_dataloader(self) -> RowBatches | NoValidation:
        """This rank's share of the logged rows, for `Trainer.validate`; an epoch of `Trainer.fit` is not validated."""
        fitting = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        return NoValidation() if fitting else self.predict_dataloader()

    def test_dataloader(self) -> RowBatches:
        """This rank's share of the logged rows: a log has no others."""
        return self.predict_dataloader()

    def predict_dataloader(self) -> RowBatches:
        """This rank's share of the logged rows, in order."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        return RowBatches(self.log_rows[rank::world], CHUNK)

    def state_dict(self) -> dict[str, Any]:
        """Model buffer and stream of every rank; all ranks must call it."""
        if self._files is None:
            buffer = self.model_buffer.state_dict(lambda number, rows: rows.clone())
        else:
            buffer = self.model_buffer.state_dict(self._files.keep)
            self._files.drop_before(self.model_buffer.refreshes - self.retain + 1)
        state = {"model_buffer": buffer, "batches": self._batches.get_state()}
        if self.on_host:  # without what is only on its way
            state["logged"] = self._logged.get_state() if self._coming is None else self._coming[1]
        return {"ranks": gather_from_ranks(state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore this rank's model buffer and stream, unless the Trainer only validates, tests or predicts.

        Raises InputError for another number of ranks or another `on_host`, and where a refresh lies neither in
        `refresh_folder` nor beside the checkpoint.
        """
        if self.trainer is not None and self.trainer.state.fn != TrainerFn.FITTING:
            return
        state = state_of_this_rank(state_dict["ranks"])
        if self.on_host != ("logged" in state):
            raise InputError(
                f"the checkpoint was written with the log {'on the device of training' if self.on_host else 'on the host'}: "
                f"continue it with data.device={'training' if self.on_host else 'cpu'}"
            )
        self.model_buffer.load_state_dict(state["model_buffer"], self._fetch)
        continued(self._batches, state["batches"])
        if self.on_host:
            self._coming = None
            self._logged.set_state(state["logged"])

    def _fetch(self, number: int, entry: Tensor | dict[str, Any]) -> Tensor:
        """The rows of a saved refresh: in the checkpoint itself, in `refresh_folder`, or beside the checkpoint."""
        if isinstance(entry, Tensor):
            return entry
        if self._files is not None and self._files.holds(entry):
            return self._files.fetch(number, entry)
        checkpoint = self.trainer.ckpt_path if self.trainer is not None else None
        beside = [] if checkpoint is None else [RefreshFiles(Path(checkpoint).parent / REFRESHES)]
        for files in beside:
            if files.holds(entry):
                return files.fetch(number, entry)
        sought = [str(files.folder) for files in ([] if self._files is None else [self._files]) + beside]
        raise InputError(
            f"the checkpoint's refresh {entry['file']} is neither in {' nor in '.join(sought)}, or was changed since: "
            "keep the checkpoint beside its folder of refreshes, or give that as refresh_folder"
        )
