"""`ModelBuffer`: the imagined transitions of the latest refreshes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor

from mopo_pl.errors import InputError


class ModelBuffer:
    """A buffer of `slots` refreshes of at most `capacity` rows each. Beginning a further refresh empties the oldest slot.

    The buffer evicts slots rather than single rows, so that no slot holds a mix of two refreshes when rollouts end early. Filling a slot never
    waits for the device: the number of its rows is read once, by `end`.
    """

    def __init__(
        self, *, slots: int, capacity: int, width: int, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        """Allocate all slots.

        Args:
            slots: Number of refreshes that the buffer keeps.
            capacity: Largest number of rows of a refresh.
            width: Number of columns of a row, W.
            device: Device of the rows, which is the training device.
            dtype: Data type of the rows, which is that of training.

        """
        self.slots, self.capacity = slots, capacity
        # Rows that are not valid are written to the additional last row.
        self.rows = torch.empty(slots * capacity + 1, width, device=device, dtype=dtype)
        self.refreshes = 0
        self.counts = [0] * slots
        self._offered = 0
        self._filled = torch.zeros((), dtype=torch.int64, device=device)
        self._index()

    def __len__(self) -> int:
        return sum(self.counts)

    def begin(self) -> None:
        """Open a slot for a new refresh: a free slot, or the oldest one."""
        self.refreshes += 1
        self.counts[self._newest] = 0
        self._offered = 0
        self._filled.zero_()
        self._index()

    @property
    def _newest(self) -> int:
        return (self.refreshes - 1) % self.slots

    def append(self, rows: Tensor, valid: Tensor) -> None:
        """Add the rows [n, W] that are `valid` [n] bool to the open slot.

        Raises ValueError if more than `capacity` rows, valid or not, are offered to the slot.
        """
        self._offered += len(rows)
        if self._offered > self.capacity:
            raise ValueError(f"a refresh of more than {self.capacity} rows does not fit its slot")
        places = self._filled + valid.cumsum(0)
        start = self._newest * self.capacity
        self.rows.index_copy_(0, torch.where(valid, start + places - 1, len(self.rows) - 1), rows)
        self._filled += valid.sum()

    def end(self) -> None:
        """Close the slot, so that `draw` includes its rows."""
        self.counts[self._newest] = int(self._filled)
        self._index()

    def _index(self) -> None:
        """Update the index from stored rows to buffer rows.

        Cumulative counts give the slot of the j-th stored row, and an offset of the slot gives its row in the buffer.
        """
        counts = torch.tensor(self.counts)
        ends = counts.cumsum(0)
        self._ends = ends.to(self.rows.device)
        self._offsets = (torch.arange(self.slots) * self.capacity - (ends - counts)).to(self.rows.device)

    def draw(self, size: int, generator: Generator) -> Tensor:
        """Draw indices of stored rows uniformly with replacement, [size]. Raises InputError if nothing is stored."""
        if not len(self):
            raise InputError(
                "the model buffer is empty: no rollouts were made (is the RolloutRefresh callback missing?), or all of them were dropped"
            )
        return torch.randint(len(self), (size,), generator=generator, device=self.rows.device)

    def at(self, places: Tensor) -> Tensor:
        """Return the stored rows [n, W] at indices `places` [n], which count from 0 to len - 1 in the order of slots."""
        slots = torch.bucketize(places, self._ends, right=True)
        return self.rows.index_select(0, places + self._offsets[slots])

    def state_dict(self, keep: Callable[[int, Tensor], Any]) -> dict[str, Any]:
        """Return the counters and the stored refreshes.

        Each refresh is stored as the result of `keep`, which is called with the number of the refresh and a view of its rows [n, W].
        """
        stored = [(number, keep(number, self.rows[start : start + count])) for number, start, count in self._stored()]
        return {"slots": self.slots, "refreshes": self.refreshes, "stored": stored}

    def _stored(self) -> Iterator[tuple[int, int, int]]:
        """Yield the number, first row and row count of each stored refresh, oldest first."""
        for number in range(max(1, self.refreshes - self.slots + 1), self.refreshes + 1):
            slot = (number - 1) % self.slots
            yield number, slot * self.capacity, self.counts[slot]

    def load_state_dict(self, state_dict: dict[str, Any], fetch: Callable[[int, Any], Tensor]) -> None:
        """Restore the result of `state_dict`, where `fetch` is the inverse of `keep`. Raises ValueError if the shape of the buffer differs."""
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
