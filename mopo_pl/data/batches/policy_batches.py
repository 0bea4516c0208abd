"""`OfflineDataModule`: batches for training the policy, made of logged and imagined transitions."""

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
    """Return the block size K: the largest divisor of `updates_per_epoch` that is at most `updates_per_step`, so that all blocks have one size."""
    return max(k for k in range(1, min(updates_per_step, updates_per_epoch) + 1) if updates_per_epoch % k == 0)


class OfflineDataModule(L.LightningDataModule):
    """A data module that yields `updates_per_epoch` batches of `batch_size` rows per epoch, int(batch_size · real_ratio) of them from the log.

    Each item that the Trainer receives is a block [K, B, W] of K batches, for K updates in one `training_step` (`block_size`). The batches of a
    block are drawn one after another, so that their content does not depend on K.

    The log and the model buffer are on the training device, and a block takes two gathers. With `on_host`, the log stays in host memory, and the
    logged rows of the next block are copied to the device during training on the current one. A callback fills the model buffer
    (`callbacks.RolloutRefresh`). `batch_size` is per rank; each rank draws from a separate random stream.
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
        """Select the usable rows of the log and allocate an empty model buffer.

        Args:
            dataset: The log.
            batch_size: Number of rows B in a batch.
            real_ratio: Share of logged rows in a batch, in [0, 1].
            updates_per_epoch: Number of batches in an epoch.
            updates_per_step: Largest number of batches K in a block; see `block_size`.
            retain: Number of refreshes that the model buffer keeps.
            capacity: Largest number of rows in a refresh (starts · horizon).
            refresh_folder: Folder of the files of refreshes that checkpoints refer to. If None, each checkpoint contains the refreshes.
            seed: Seed of the random streams that draw the batches.
            on_host: Whether the log stays in host memory. Its rows are then drawn from a separate random stream on the CPU.

        """
        super().__init__()
        # A row without a known s' may train the critic only if it is terminal. In any other such row, the critic would use the value of a
        # placeholder.
        usable = dataset.next_known | dataset.transitions.terminals.bool()
        self.log_rows = dataset.transitions if usable.all() else dataset.transitions[usable]
        self.batch_size, self.real_rows = batch_size, int(batch_size * real_ratio)
        self.updates_per_epoch, self.seed, self.on_host = updates_per_epoch, seed, on_host
        self.updates_per_step = block_size(updates_per_epoch, updates_per_step)
        self.retain, self.capacity = (retain, capacity) if self.real_rows < batch_size else (1, 0)
        self._refresh_folder = refresh_folder
        self._open(torch.device("cpu"), 0)

    def setup(self, stage: str | None = None) -> None:
        """Move the log to the training device; at the start of a new fit, allocate the model buffer and the random stream of batches there.

        A later fit of the same Trainer continues with the existing ones. Validation and prediction do not change them.
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
        # Refreshes are numbered from 1 again, so the entries of earlier refreshes must not be reused.
        self._files = None if self._refresh_folder is None else RefreshFiles(self._refresh_folder)
        self._batches = generator_for(self.seed, "batches", rank, device)
        self._host = HostLog(rows, device) if self.on_host else None
        self._logged = generator_for(self.seed, "logged batches", rank)
        """Random stream that draws the logged rows if the log is on the host."""
        self._coming: tuple[int, Tensor, Copy] | None = None
        """Logged rows that are being copied ahead: number of updates, state of the stream before they were drawn, and the rows."""

    def sample_starts(self, size: int, generator: Generator) -> Tensor:
        """Draw logged states uniformly with replacement, [size, D]."""
        rows = self.log_rows.rows
        index = torch.randint(len(rows), (size,), generator=generator, device=generator.device)
        return self.log_rows[index.to(rows.device)].observations.to(generator.device)

    def sample(self, updates: int) -> Transitions:
        """Draw the batches for this number of updates, [updates, B, W]. In each batch, logged rows come first."""
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
        """Return the logged rows for this number of updates, [updates, real_rows, W], and begin to copy those for as many further updates."""
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
        """Return the number of blocks in an epoch."""
        return self.updates_per_epoch // self.updates_per_step

    def __iter__(self) -> Iterator[Transitions]:
        for _ in range(len(self)):
            yield self.sample(self.updates_per_step)

    def train_dataloader(self) -> "OfflineDataModule":
        """Return this module itself, a sized iterable of blocks, so that the first one is drawn after the first refresh."""
        return self

    def val_dataloader(self) -> RowBatches | NoValidation:
        """Return this rank's share of the logged rows for `Trainer.validate`, or an empty loader during `Trainer.fit`."""
        fitting = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        return NoValidation() if fitting else self.predict_dataloader()

    def test_dataloader(self) -> RowBatches:
        """Return this rank's share of the logged rows, as there is no separate test set."""
        return self.predict_dataloader()

    def predict_dataloader(self) -> RowBatches:
        """Return a loader of this rank's share of the logged rows, in order."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        return RowBatches(self.log_rows[rank::world], CHUNK)

    def state_dict(self) -> dict[str, Any]:
        """Return the model buffers and random streams of all ranks. All ranks must call this method."""
        if self._files is None:
            buffer = self.model_buffer.state_dict(lambda number, rows: rows.clone())
        else:
            buffer = self.model_buffer.state_dict(self._files.keep)
            self._files.drop_before(self.model_buffer.refreshes - self.retain + 1)
        state = {"model_buffer": buffer, "batches": self._batches.get_state()}
        if self.on_host:  # the state before the rows that are copied ahead were drawn
            state["logged"] = self._logged.get_state() if self._coming is None else self._coming[1]
        return {"ranks": gather_from_ranks(state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore this rank's model buffer and random streams, unless the Trainer only validates, tests or predicts.

        Raises InputError if the number of ranks or `on_host` differs from the saved run, or if a refresh is neither in `refresh_folder` nor in
        the folder of refreshes next to the checkpoint.
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
        """Return the rows of a saved refresh.

        They are in the checkpoint itself, in `refresh_folder`, or in the folder of refreshes next to the checkpoint.
        """
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
