"""The model buffer: imagined transitions of the newest refreshes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from mopo_pl.errors import InputError


class ModelBuffer:
    """`slots` refreshes of at most `capacity` rows each; beginning one more empties the oldest.

    Slots rather than single rows are evicted, so that episodes that end early never leave a mix of two refreshes behind.
    Filling a slot never waits for the device: how many rows it holds is read once, when it is closed.
    """

    def __init__(
        self, *, slots: int, capacity: int, width: int, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        """Allocate it whole. `width`: W, values of a row; `device` and `dtype`: of the rows, those of training."""
        self.slots, self.capacity = slots, capacity
        # One row more than is stored: rows that are not valid are written there.
        self.rows = torch.empty(slots * capacity + 1, width, device=device, dtype=dtype)
        self.refreshes = 0
        self.counts = [0] * slots
        self._offered = 0
        self._filled = torch.zeros((), dtype=torch.int64, device=device)
        self._index()

    def __len__(self) -> int:
        return sum(self.counts)

    def begin(self) -> None:
        """Opens a slot for a new refresh: a free one, or the oldest."""
        self.refreshes += 1
        self.counts[self._newest] = 0
        self._offered = 0
        self._filled.zero_()
        self._index()

    @property
    def _newest(self) -> int:
        return (self.refreshes - 1) % self.slots

    def append(self, rows: Tensor, valid: Tensor) -> None:
        """Adds those of the rows [n, W] that are `valid` [n] bool to the open slot. Raises ValueError where n rows do not fit."""
        self._offered += len(rows)
        if self._offered > self.capacity:
            raise ValueError(f"a refresh of more than {self.capacity} rows does not fit its slot")
        places = self._filled + valid.cumsum(0)
        start = self._newest * self.capacity
        self.rows.index_copy_(0, torch.where(valid, start + places - 1, len(self.rows) - 1), rows)
        self._filled += valid.sum()

    def end(self) -> None:
        """Closes the slot: from now on its rows are drawn too."""
        self.counts[self._newest] = int(self._filled)
        self._index()

    def _index(self) -> None:
        """Where the j-th stored row lies: the slot by j's place among the running counts, then an offset."""
        counts = torch.tensor(self.counts)
        ends = counts.cumsum(0)
        self._ends = ends.to(self.rows.device)
        self._offsets = (torch.arange(self.slots) * self.capacity - (ends - counts)).to(self.rows.device)

    def draw(self, size: int, generator: Generator) -> Tensor:
        """Places of stored rows, uniformly with replacement [size]. Raises InputError while nothing is stored."""
        if not len(self):
            raise InputError(
                "the model buffer is empty: no rollouts were made (is the RolloutRefresh callback missing?), or all of them were dropped"
            )
        return torch.randint(len(self), (size,), generator=generator, device=self.rows.device)

    def at(self, places: Tensor) -> Tensor:
        """The rows that stand there [n, W], for places [n] from 0 to len - 1 in the order of slots."""
        slots = torch.bucketize(places, self._ends, right=True)
        return self.rows.index_select(0, places + self._offsets[slots])

    def state_dict(self, keep: Callable[[int, Tensor], Any]) -> dict[str, Any]:
        """The counters, and what `keep` makes of each stored refresh: its number and its rows [n, W], not a copy."""
        stored = [(number, keep(number, self.rows[start : start + count])) for number, start, count in self._stored()]
        return {"slots": self.slots, "refreshes": self.refreshes, "stored": stored}

    def _stored(self) -> Iterator[tuple[int, int, int]]:
        """Number, first row and count of each refresh that is held, oldest first."""
        for number in range(max(1, self.refreshes - self.slots + 1), self.refreshes + 1):
            slot = (number - 1) % self.slots
            yield number, slot * self.capacity, self.counts[slot]

    def load_state_dict(self, state_dict: dict[str, Any], fetch: Callable[[int, Any], Tensor]) -> None:
        """Restores what `state_dict` gave; `fetch` undoes `keep`. Raises ValueError where the shape of the buffer differs."""
        stored = {number: fetch(number, entry) for number, entry in state_dict["stored"]}
        width = self.rows.shape[1]
        if state_dict["slots"] != self.slots or any(
            len(rows) > self.capacity or rows.shape[1] != width for rows in stored.values()
        ):
            raise ValueError("the saved model buffer has another shape: rollout.* must not change on resume")
        self.refreshes, self.counts = state_dict["refreshes"], [0] * self.slots
        for number, start, _ in self._stored():
            self.counts[(number - 1) % self.slots] = len(stored[number])
            self.rows[start : start + len(stored[number])] = stored[number]
        self._index()
