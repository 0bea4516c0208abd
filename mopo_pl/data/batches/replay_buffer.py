"""Replay buffer: the steps of a policy that learns in its environment, as a DataModule."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from mopo_pl.data.batches.policy_batches import block_size
from mopo_pl.data.batches.row_batches import NoValidation
from mopo_pl.data.transitions import Transitions
from mopo_pl.environments.stepping import StepLayout
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import continued, generator_for
from mopo_pl.storage.buffer_files import RefreshFiles

SEGMENT = 10_000
"""Steps of a file on disk. A file is written once; what is not yet a whole one is kept in the checkpoint itself."""


class ReplayDataModule(L.LightningDataModule):
    """`updates_per_epoch` batches of `batch_size` steps drawn uniformly from all that were appended so far.

    As in an `OfflineDataModule`, what a Trainer takes for a batch is a block [K, B, W] for K updates. A callback appends
    steps between blocks (`callbacks.OnlineSteps`). For one process.
    """

    def __init__(
        self,
        layout: StepLayout,
        *,
        capacity: int,
        action_low: np.ndarray,
        action_high: np.ndarray,
        batch_size: int,
        updates_per_epoch: int,
        updates_per_step: int,
        folder: Path | None,
        seed: int,
    ) -> None:
        """`capacity`: steps that can be appended. `action_low`, `action_high` [A]: what -1 and +1 stand for in batches.
        `folder`: of the files that checkpoints refer to; None: all steps are kept in each checkpoint itself.
        """
        super().__init__()
        self.layout, self.batch_size, self.seed = layout, batch_size, seed
        self.updates_per_epoch = updates_per_epoch
        self.updates_per_step = block_size(updates_per_epoch, updates_per_step)
        self.rows = torch.empty(capacity, layout.width)
        self.size = 0
        """Steps appended."""
        low, high = (torch.as_tensor(bound, dtype=torch.float32) for bound in (action_low, action_high))
        self._middle, self._half = (high + low) / 2, (high - low) / 2
        self._files = None if folder is None else RefreshFiles(folder)
        self._batches = generator_for(seed, "batches")

    def setup(self, stage: str | None = None) -> None:
        """Move the buffer to the device of training. Raises InputError on several processes."""
        if self.trainer is None:
            return
        if self.trainer.world_size > 1:
            raise InputError("a policy learns in its environment on one process: set trainer.devices=1")
        device = self.trainer.strategy.root_device
        self.rows, self._middle, self._half = (x.to(device) for x in (self.rows, self._middle, self._half))
        if self._batches.device != device:
            self._batches = generator_for(self.seed, "batches", device=device)

    def append(self, steps: Tensor) -> None:
        """Add steps [n, R] in their order."""
        self.rows[self.size : self.size + len(steps)] = steps
        self.size += len(steps)

    def sample(self, updates: int) -> Transitions:
        """Batches for so many updates [updates, B, W], actions scaled to [-1, 1]."""
        d, a = self.layout.obs_dim, self.layout.action_dim
        index = torch.randint(self.size, (updates, self.batch_size), generator=self._batches, device=self.rows.device)
        batch = Transitions(self.rows[index, : Transitions.width(d, a)], d, a)
        batch.actions.sub_(self._middle).div_(self._half)
        return batch

    def __len__(self) -> int:
        """Blocks of an epoch."""
        return self.updates_per_epoch // self.updates_per_step

    def __iter__(self) -> Iterator[Transitions]:
        for _ in range(len(self)):
            yield self.sample(self.updates_per_step)

    def train_dataloader(self) -> "ReplayDataModule":
        """This module itself: a sized iterable, whose blocks are drawn when they are asked for."""
        return self

    def val_dataloader(self) -> NoValidation:
        """Nothing: there are no logged transitions."""
        return NoValidation()

    def state_dict(self) -> dict[str, Any]:
        """The appended steps and the stream of batches."""
        whole = self.size // SEGMENT * SEGMENT if self._files is not None else 0
        stored = []
        for number in range(whole // SEGMENT):
            assert self._files is not None
            stored.append(self._files.keep(number, self.rows[number * SEGMENT : (number + 1) * SEGMENT]))
        return {"stored": stored, "rest": self.rows[whole : self.size].clone(), "batches": self._batches.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave. Raises InputError where a file is missing or damaged."""
        self.size = 0
        for number, entry in enumerate(state_dict["stored"]):
            if self._files is None:
                raise InputError("the checkpoint's steps lie in files: give ReplayDataModule their folder")
            self.append(self._files.fetch(number, entry))
        self.append(state_dict["rest"])
        continued(self._batches, state_dict["batches"])
