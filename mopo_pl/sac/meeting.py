"""Where the runs of several seeds in one process wait for one another, to make their updates as one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from mopo_pl.data.transitions import Transitions
from mopo_pl.sac.one_graph import OneGraph
from mopo_pl.sac.stacked import StackedGraph


@dataclass
class _Block:
    """What one run brings, and what it takes away."""

    graph: OneGraph
    batches: Transitions
    noise: Tensor
    met: threading.Event = field(default_factory=threading.Event)
    reports: Tensor | None = None
    error: Exception | None = None


class Meeting:
    """Runs take turns: each has a thread, but one alone is awake until it comes to its next block of updates, or ends.

    So nothing that torch or Lightning keep for the whole process is ever used by two at once. The run that comes last makes
    the updates of all. When one has ended, the others go on one after another, each by its own graph.
    """

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._awake = threading.Lock()
        self._waiting: dict[int, _Block] = {}
        self._all_here = True
        self._stacked: StackedGraph | None = None

    @contextmanager
    def attended(self) -> Iterator[None]:
        """The whole of a run's thread."""
        with self._awake:
            try:
                yield
            finally:
                self._all_here = False
                self._dismiss()

    def run(self, place: int, graph: OneGraph, batches: Transitions, noise: Tensor) -> Tensor:
        """As `graph.run`, for the run of this place in the order of seeds, together with the others' as long as all are here."""
        if not self._all_here:
            return graph.run(batches, noise)
        mine = self._waiting[place] = _Block(graph, batches, noise)
        if len(self._waiting) == self._runs:
            self._update()
            self._dismiss()
        else:
            self._awake.release()
            mine.met.wait()
            self._awake.acquire()
        if mine.error is not None:
            raise mine.error
        return graph.run(batches, noise) if mine.reports is None else mine.reports

    def _update(self) -> None:
        blocks = [self._waiting[place] for place in sorted(self._waiting)]
        try:
            graphs = [block.graph for block in blocks]
            if self._stacked is None or self._stacked.graphs != graphs:
                self._stacked = StackedGraph(graphs)
            made = self._stacked.run([block.batches for block in blocks], [block.noise for block in blocks])
        except Exception as error:
            for block in blocks:
                block.error = error
        else:
            for block, reports in zip(blocks, made, strict=True):
                block.reports = reports

    def _dismiss(self) -> None:
        """Wakes all that wait; they go on in turn."""
        blocks, self._waiting = list(self._waiting.values()), {}
        for block in blocks:
            block.met.set()
