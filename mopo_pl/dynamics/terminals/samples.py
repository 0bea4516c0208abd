"""DataModule of the classifier of terminal steps: batches of which half are terminal rows, and a holdout of both kinds of rows."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor

from mopo_pl.data.batches.row_batches import CHUNK, RowBatches
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor.rule import FEWEST_TO_LEARN
from mopo_pl.data.statistics import LogStatistics
from mopo_pl.data.transitions import Transitions
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for


class TerminalDataModule(L.LightningDataModule):
    """Makes training batches [B, W], half of them terminal rows, and batches [n, W] of the holdout.

    As for all termination rules, actions are in the log's units and states are single observations. Because terminal rows are
    rare, equal numbers of terminal and other rows are drawn for each batch, with replacement. Rows without a true next state are
    left out. With several ranks, a batch has `batch_size` rows on each rank.
    """

    def __init__(
        self,
        dataset: OfflineDataset,
        *,
        batch_size: int,
        updates_per_epoch: int,
        holdout_fraction: float,
        seed: int,
        on_host: bool = False,
    ) -> None:
        """Split the log into training rows and holdout. Raises ValueError if there are too few rows of a kind.

        Args:
            dataset: The log.
            batch_size: Rows in a batch on each rank, B.
            updates_per_epoch: Batches in an epoch.
            holdout_fraction: Share of the rows of each kind that are held out, at least one row.
            seed: Seed of the split and of the draws.
            on_host: Whether the rows stay in the host's memory.

        """
        super().__init__()
        self.batch_size, self.updates_per_epoch, self.seed, self.on_host = batch_size, updates_per_epoch, seed, on_host
        logged = dataset.transitions[dataset.next_known]
        actions = LogStatistics.of(dataset).in_log_units(logged.actions)
        self.rows = Transitions.pack(
            logged.newest_observations, actions, logged.newest_next_observations, logged.rewards, logged.terminals
        )
        terminal, split = logged.terminals.bool(), generator_for(seed, "terminal holdout")
        held_out, self.train = [], []
        for kind, name in ((terminal, "terminal"), (~terminal, "not terminal")):
            rows = kind.nonzero().squeeze(-1)
            if len(rows) < FEWEST_TO_LEARN:
                raise ValueError(
                    f"{len(rows)} rows with a true next state are {name}; at least {FEWEST_TO_LEARN} must be"
                )
            rows = rows[torch.randperm(len(rows), generator=split)]
            size = min(max(1, int(len(rows) * holdout_fraction)), len(rows) - 1)
            held_out.append(rows[:size])
            self.train.append(rows[size:])
        self.holdout = torch.cat(held_out)
        self._open_draws()

    def _open_draws(self) -> None:
        self._draws, self._position = generator_for(self.seed, "terminal batches"), 0

    @property
    def share(self) -> float:
        """Share of the training rows that are terminal."""
        terminal, others = map(len, self.train)
        return terminal / (terminal + others)

    def normaliser(self) -> Normaliser:
        """Return the mean and standard deviation of (s, a, s') over the training rows."""
        rows = self.rows[torch.cat(self.train)]
        return Normaliser.fit(torch.cat([rows.inputs, rows.next_observations], -1))

    def held_out(self) -> Transitions:
        """Return the held-out rows [n, W], which are not used for training."""
        return self.rows[self.holdout]

    def setup(self, stage: str | None = None) -> None:
        """Move the rows to the training device, and reset the draws if a new fit starts."""
        if self.trainer is not None:
            if stage == "fit" and self.trainer.current_epoch == 0:
                self._open_draws()
            if not self.on_host:
                self.rows = self.rows.to(self.trainer.strategy.root_device)

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return self.updates_per_epoch

    def __iter__(self) -> Iterator[Transitions]:
        """Yield the batches of one epoch, starting at the saved position and limited by the Trainer's `limit_train_batches`."""
        end = self.updates_per_epoch if self.trainer is None else int(self.trainer.num_training_batches)
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        if self._position >= end:
            self._position = 0
        while self._position < end:
            index = self._drawn(self.batch_size * world)
            self._position += 1
            yield self.rows[index[rank::world].to(self.rows.rows.device, non_blocking=True)]

    def _drawn(self, size: int) -> Tensor:
        """Return the row indices of one update: `size`/2 terminal rows, then as many others."""
        halves = [rows[torch.randint(len(rows), (size // 2,), generator=self._draws)] for rows in self.train]
        return torch.cat(halves)

    def train_dataloader(self) -> "TerminalDataModule":
        """Return this DataModule, which is a sized iterable of finished batches."""
        return self

    def val_dataloader(self) -> RowBatches:
        """Return the complete holdout on every rank, because a rank's share of it could have too few terminal rows."""
        return RowBatches(self.held_out(), CHUNK)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the draws and the position in the current epoch."""
        return {"draws": self._draws.get_state(), "position": self._position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state saved by `state_dict`, so that training continues with the next batch."""
        self._draws.set_state(state_dict["draws"])
        self._position = state_dict["position"]
