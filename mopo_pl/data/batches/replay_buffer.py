"""`ReplayDataModule`: the replay buffer of a policy that learns in its environment, as a LightningDataModule."""

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
"""Number of steps in a file on disk. Each file is written once; the steps that do not yet fill a file are stored in the checkpoint itself."""


class ReplayDataModule(L.LightningDataModule):
    """A data module that yields `updates_per_epoch` batches per epoch, each of `batch_size` steps drawn uniformly from all appended steps.

    As with `OfflineDataModule`, each item that the Trainer receives is a block [K, B, W] of K batches for K updates. A callback appends steps
    between blocks (`callbacks.OnlineSteps`). Only one process is supported.
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
        """Allocate an empty buffer on the CPU.

        Args:
            layout: Columns of a step.
            capacity: Largest number of steps that can be appended.
            action_low: Lower action bounds, which are scaled to -1 in batches, [A].
            action_high: Upper action bounds, which are scaled to +1 in batches, [A].
            batch_size: Number of steps B in a batch.
            updates_per_epoch: Number of batches in an epoch.
            updates_per_step: Largest number of batches K in a block; see `block_size`.
            folder: Folder of the files that checkpoints refer to. If None, each checkpoint contains all steps.
            seed: Seed of the random stream that draws the batches.

        """
        super().__init__()
        self.layout, self.batch_size, self.seed = layout, batch_size, seed
        self.updates_per_epoch = updates_per_epoch
        self.updates_per_step = block_size(updates_per_epoch, updates_per_step)
        self.rows = torch.empty(capacity, layout.width)
        self.size = 0
        """Number of steps that have been appended."""
        low, high = (torch.as_tensor(bound, dtype=torch.float32) for bound in (action_low, action_high))
        self._middle, self._half = (high + low) / 2, (high - low) / 2
        self._files = None if folder is None else RefreshFiles(folder)
        self._batches = generator_for(seed, "batches")

    def setup(self, stage: str | None = None) -> None:
        """Move the buffer to the training device. Raises InputError if there are several processes."""
        if self.trainer is None:
            return
        if self.trainer.world_size > 1:
            raise InputError("a policy learns in its environment on one process: set trainer.devices=1")
        device = self.trainer.strategy.root_device
        self.rows, self._middle, self._half = (x.to(device) for x in (self.rows, self._middle, self._half))
        if self._batches.device != device:
            self._batches = generator_for(self.seed, "batches", device=device)

    def append(self, steps: Tensor) -> None:
        """Append steps [n, R] in their order, where R is the width of `layout`."""
        self.rows[self.size : self.size + len(steps)] = steps
        self.size += len(steps)

    def sample(self, updates: int) -> Transitions:
        """Draw the batches for this number of updates, [updates, B, W], with actions scaled to [-1, 1]."""
        d, a = self.layout.obs_dim, self.layout.action_dim
        index = torch.randint(self.size, (updates, self.batch_size), generator=self._batches, device=self.rows.device)
        batch = Transitions(self.rows[index, : Transitions.width(d, a)], d, a)
        batch.actions.sub_(self._middle).div_(self._half)
        return batch

    def __len__(self) -> int:
        """Return the number of blocks in an epoch."""
        return self.updates_per_epoch // self.updates_per_step

    def __iter__(self) -> Iterator[Transitions]:
        for _ in range(len(self)):
            yield self.sample(self.updates_per_step)

    def train_dataloader(self) -> "ReplayDataModule":
        """Return this module itself, a sized iterable that draws each block during iteration."""
        return self

    def val_dataloader(self) -> NoValidation:
        """Return an empty loader, as there are no logged transitions."""
        return NoValidation()

    def state_dict(self) -> dict[str, Any]:
        """Return the appended steps and the state of the random stream of batches."""
        whole = self.size // SEGMENT * SEGMENT if self._files is not None else 0
        stored = []
        for number in range(whole // SEGMENT):
            assert self._files is not None
            stored.append(self._files.keep(number, self.rows[number * SEGMENT : (number + 1) * SEGMENT]))
        return {"stored": stored, "rest": self.rows[whole : self.size].clone(), "batches": self._batches.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the steps and the random stream from `state_dict`. Raises InputError if a file is missing or damaged."""
        self.size = 0
        for number, entry in enumerate(state_dict["stored"]):
            if self._files is None:
                raise InputError("the checkpoint's steps lie in files: give ReplayDataModule their folder")
            self.append(self._files.fetch(number, entry))
        self.append(state_dict["rest"])
        continued(self._batches, state_dict["batches"])
