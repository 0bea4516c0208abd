"""Loaders of transitions in order, for validation, test and prediction."""

import warnings
from collections.abc import Iterator

from mopo_pl.data.transitions import Transitions

CHUNK = 10_000
"""Largest number of transitions per batch, which limits memory."""


class RowBatches:
    """A loader of batches [N, W] of at most `size` transitions. It is not a plain list, which Lightning would treat as several loaders."""

    def __init__(self, rows: Transitions, size: int) -> None:
        self.rows, self.size = rows, size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __iter__(self) -> Iterator[Transitions]:
        for first in range(0, len(self.rows), self.size):
            yield self.rows[first : first + self.size]


class NoValidation(list):
    """An empty loader, with which Lightning skips validation without its warning about empty loaders."""

    def __init__(self) -> None:
        super().__init__()
        warnings.filterwarnings("ignore", message=f"Total length of `{type(self).__name__}`")
