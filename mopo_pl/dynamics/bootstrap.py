"""DataModule of the ensemble: a holdout, and one bootstrap sample per member, reshuffled every epoch."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor

from mopo_pl.data.batches.host_log import HostLog
from mopo_pl.data.batches.row_batches import CHUNK, RowBatches
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.losses import model_target
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for


class EnsembleDataModule(L.LightningDataModule):
    """Makes blocks of K batches [K, E, B, W] for training, and one batch [n, W] of the holdout.

    The bootstrap indices are drawn once, as in the code of Yu et al. 2020; if they were drawn anew in each epoch, the members would
    become similar. Rows are gathered by index, so that the log is not copied for each member. Rows without a true next state are
    left out.

    A block is one batch of the Trainer, for up to `updates_per_step` steps of Adam. The last rows of an epoch, fewer than a
    batch, form a separate block. With several ranks a step takes `batch_size` rows per member *on each rank*: it equals the step
    of one process with a batch of `batch_size` times the number of ranks. At the end of an epoch, rows that cannot be divided
    evenly among the ranks are left out.
    """

    def __init__(
        self,
        dataset: OfflineDataset,
        *,
        members: int,
        batch_size: int,
        updates_per_step: int,
        holdout_fraction: float,
        holdout_max: int,
        seed: int,
        on_host: bool = False,
    ) -> None:
        """Split `dataset` into holdout and training rows, and draw each member's bootstrap sample.

        Raises ValueError if there are too few rows to split.

        Args:
            dataset: The log.
            members: Number of members, E.
            batch_size: Rows per member in a batch, B.
            updates_per_step: Largest number of batches in a block, K.
            holdout_fraction: Share of the rows that are held out.
            holdout_max: Largest number of rows that are held out.
            seed: Seed of the split, the bootstrap samples and the shuffles.
            on_host: Whether the log stays in the host's memory. The next block is then copied to the device during the training on
                the present one. The batches are the same.

        """
        super().__init__()
        self.batch_size, self.updates_per_step, self.seed = batch_size, updates_per_step, seed
        self.on_host, self._device = on_host, torch.device("cpu")
        self.log_rows = dataset.transitions
        usable = dataset.next_known.nonzero().squeeze(-1)
        split = generator_for(seed, "holdout")
        order = usable[torch.randperm(len(usable), generator=split)]
        held_out = min(int(len(usable) * holdout_fraction), holdout_max)
        if held_out < 1 or held_out >= len(usable):
            raise ValueError(f"{len(usable)} rows with a true next state are too few to hold out {held_out}")
        self.holdout, self.train = order[:held_out], order[held_out:]
        draws = torch.randint(len(self.train), (members, len(self.train)), generator=generator_for(seed, "bootstrap"))
        self.bootstrap = self.train[draws]
        self._open_shuffles()

    def _open_shuffles(self) -> None:
        self._shuffles = generator_for(self.seed, "shuffle")
        self._epoch_start = self._shuffles.get_state()
        self._position = 0
        """Number of optimiser steps of this epoch whose batches have been yielded."""

    def normaliser(self) -> Normaliser:
        """Return the mean and standard deviation of (s, a) over the training rows."""
        return Normaliser.fit(self.log_rows[self.train].inputs)

    def target_normaliser(self) -> Normaliser:
        """Return the mean and standard deviation of (r, Δs) over the training rows."""
        return Normaliser.fit(model_target(self.log_rows[self.train]))

    def setup(self, stage: str | None = None) -> None:
        """Move rows and indices to the training device, and reset the shuffles if a new fit starts."""
        if self.trainer is not None:
            if stage == "fit" and self.trainer.current_epoch == 0:
                self._open_shuffles()
            self._device = self.trainer.strategy.root_device
            if not self.on_host:
                self.log_rows = self.log_rows.to(self._device)
                self.bootstrap, self.holdout = self.bootstrap.to(self._device), self.holdout.to(self._device)

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    @property
    def steps(self) -> int:
        """Number of optimiser steps per epoch. A last batch with fewer rows than ranks is left out."""
        world = self._ranks()[1]
        full, rest = divmod(self.bootstrap.shape[1], self.batch_size * world)
        return full + (rest >= world)

    def _block(self, position: int) -> int:
        """Return K, the number of batches in the block that begins at this step of an epoch."""
        full = self.bootstrap.shape[1] // (self.batch_size * self._ranks()[1])
        return min(self.updates_per_step, full - position) if position < full else 1

    def _epoch(self, most: float = math.inf) -> tuple[int, int]:
        """Return the number of steps and of blocks in an epoch of at most `most` blocks."""
        position, blocks = 0, 0
        while position < self.steps and blocks < most:
            position, blocks = position + self._block(position), blocks + 1
        return position, blocks

    def __len__(self) -> int:
        """Return the number of blocks per epoch."""
        return self._epoch()[1]

    def __iter__(self) -> Iterator[Transitions]:
        """Yield the blocks of one epoch, starting at the saved position and limited by the Trainer's `limit_train_batches`."""
        end, _ = self._epoch(self.trainer.num_training_batches if self.trainer is not None else math.inf)
        if self._position >= end:
            self._position, self._epoch_start = 0, self._shuffles.get_state()
        self._shuffles.set_state(self._epoch_start)
        order = torch.stack([torch.randperm(row.numel(), generator=self._shuffles) for row in self.bootstrap])
        shuffled = self.bootstrap.gather(1, order.to(self.bootstrap.device))
        position, blocks = self._position, []
        while position < end:
            blocks.append((position, self._block(position)))
            position += blocks[-1][1]
        indices = (self._share(shuffled, *block) for block in blocks)
        rows = self.log_rows.rows
        host = HostLog(rows, self._device) if self.on_host else None
        gathered = (rows[index] for index in indices) if host is None else host.fetched(indices)
        for (_, block), batch in zip(blocks, gathered, strict=True):
            self._position += block
            yield replace(self.log_rows, rows=batch)

    def _share(self, shuffled: Tensor, position: int, block: int) -> Tensor:
        """Return this rank's row indices in the log [block, E, B] for the block of `block` steps that begins at step `position`."""
        rank, world = self._ranks()
        span = self.batch_size * world
        begin = position * span
        step = shuffled[:, begin : begin + block * span].unflatten(1, (block, -1)).transpose(0, 1)
        # Every rank gets the same number of rows, because gradients are averaged over ranks, not over rows.
        even = step.shape[-1] // world * world
        return step[..., rank:even:world].contiguous()

    def train_dataloader(self) -> "EnsembleDataModule":
        """Return this DataModule, which is a sized iterable of finished batches."""
        return self

    def val_dataloader(self) -> RowBatches:
        """Return the holdout rows of this rank as one batch, without padding."""
        rank, world = self._ranks()
        rows = self.log_rows[self.holdout[rank::world]]
        return RowBatches(rows, len(rows))

    def test_dataloader(self) -> RowBatches:
        """Return the same batch as `val_dataloader`, since a log has one holdout."""
        return self.val_dataloader()

    def predict_dataloader(self) -> RowBatches:
        """Return this rank's share of all rows of the log, in order."""
        rank, world = self._ranks()
        return RowBatches(self.log_rows[rank::world], CHUNK)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the shuffles and the position in the current epoch."""
        return {
            "epoch_start": self._epoch_start,
            "shuffles": self._shuffles.get_state(),
            "position": self._position,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state saved by `state_dict`, so that training continues with the next batch."""
        self._epoch_start, self._position = state_dict["epoch_start"], state_dict["position"]
        self._shuffles.set_state(state_dict["shuffles"])
