"""`HostLog`: a log in host memory, whose rows are gathered there and copied to the device while it computes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

AHEAD = 2
"""Number of buffers in pinned memory: one is filled while another is copied."""


@dataclass(frozen=True)
class Copy:
    """Rows that are being copied to the device."""

    rows: Tensor
    done: torch.cuda.Event | None
    """Event after the copy; None if the copy is not asynchronous."""

    def arrived(self) -> Tensor:
        """Return the rows for work that is queued on the device from now on. The host does not wait for the copy."""
        if self.done is not None:
            stream = torch.cuda.current_stream(self.rows.device)
            stream.wait_event(self.done)
            # The memory of the rows must not be reused before this stream has finished with it.
            self.rows.record_stream(stream)
        return self.rows


class HostLog:
    """Rows [N, W] in host memory that are gathered for a device.

    For a GPU, rows are gathered into pinned memory, from which a separate CUDA stream copies them while the device computes. For other devices,
    the gather and the copy are synchronous.
    """

    def __init__(self, rows: Tensor, device: torch.device) -> None:
        """Wrap `rows`, which are on the CPU, for copies to `device`."""
        self.rows, self.device = rows, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._places: list[Tensor | None] = [None] * AHEAD
        self._copied: list[torch.cuda.Event | None] = [None] * AHEAD
        self._next = 0

    def fetch(self, index: Tensor) -> Copy:
        """Gather the rows at `index` [...] (on the CPU), and begin to copy them to the device, [..., W]."""
        shape = (*index.shape, self.rows.shape[-1])
        if self._stream is None:
            return Copy(self.rows.index_select(0, index.flatten()).view(shape).to(self.device), None)
        place = self._place(index.numel())
        torch.index_select(self.rows, 0, index.flatten(), out=place)
        with torch.cuda.stream(self._stream):
            rows = place.to(self.device, non_blocking=True).view(shape)
            done = torch.cuda.Event()
            done.record(self._stream)
        self._copied[self._next] = done
        self._next = (self._next + 1) % AHEAD
        return Copy(rows, done)

    def _place(self, rows: int) -> Tensor:
        """Return the next buffer in pinned memory, [rows, W], after waiting for its last copy to finish."""
        copied, place = self._copied[self._next], self._places[self._next]
        if copied is not None:
            copied.synchronize()
        if place is None or len(place) != rows:
            place = torch.empty(rows, self.rows.shape[-1], dtype=self.rows.dtype, pin_memory=True)
            self._places[self._next] = place
        return place

    def fetched(self, indices: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the rows at each index, while those at the next index are being copied."""
        coming: Copy | None = None
        for index in indices:
            before, coming = coming, self.fetch(index)
            if before is not None:
                yield before.arrived()
        if coming is not None:
            yield coming.arrived()
