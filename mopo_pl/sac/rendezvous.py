"""Where the runs of several seeds in one process wait for one another, to make their updates as one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from mopo_pl.data.transitions import Transitions
from mopo_pl.sac.one_graph import SACGraph
from mopo_pl.sac.stacked import StackedGraph


@dataclass
class _Arrival:
    """A run that waits; with a block of updates, and what became of it."""

    graph: SACGraph | None = None
    batches: Transitions | None = None
    noise: Tensor | None = None
    met: threading.Event = field(default_factory=threading.Event)
    reports: Tensor | None = None
    error: Exception | None = None


class Rendezvous:
    """Runs take turns: each has a thread, but one alone is awake until it comes to its next block of updates, or ends.

    So none sees what torch and Lightning keep for the whole process in the middle of another's step, such as the flag that says
    that code is being compiled. The run that comes last makes the updates of all. When one has ended the others go on
    together; the last one goes on by its own graph.
    """

    def __init__(self, runs: int, stopping: Callable[[], bool]) -> None:
        """`stopping`: whether all are to save and end, so that nothing is worth compiling any more."""
        self._runs, self._stopping = runs, stopping
        self._awake = threading.Lock()
        self._waiting: dict[int, _Arrival] = {}
        self._stacked: StackedGraph | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The whole of a run's thread."""
        with self._awake:
            try:
                yield
            finally:
                self._runs -= 1
                self._meet_if_all_wait()

    def gather(self, place: int) -> None:
        """Waits until all runs that have not ended are here, before their policies' clocks start."""
        self._wait(place, _Arrival())

    def run_block(self, place: int, graph: SACGraph, batches: Transitions, noise: Tensor) -> Tensor:
        """As `graph.run`, for the run of this place in the order of seeds, together with the others'."""
        mine = _Arrival(graph, batches, noise)
        if self._runs > 1 and not self._stopping():
            self._wait(place, mine)
        if mine.error is not None:
            raise mine.error
        if mine.reports is not None:
            return mine.reports
        return graph.run(batches, noise, eager=self._stopping())

    def _wait(self, place: int, mine: _Arrival) -> None:
        self._waiting[place] = mine
        if not self._meet_if_all_wait():
            with isolate_rng(include_cuda=False):  # the process's generators, which a user's own function may draw from
                self._awake.release()
                mine.met.wait()
                self._awake.acquire()

    def _meet_if_all_wait(self) -> bool:
        """Makes the updates of all once the last has come, and wakes them; they go on in turn."""
        if len(self._waiting) < self._runs:
            return False
        arrivals, self._waiting = [self._waiting[place] for place in sorted(self._waiting)], {}
        blocks = [arrival for arrival in arrivals if arrival.graph is not None]
        if len(blocks) > 1 and not self._stopping():
            self._update(blocks)
        for arrival in arrivals:
            arrival.met.set()
        return True

    def _update(self, blocks: list[_Arrival]) -> None:
        graphs = [block.graph for block in blocks if block.graph is not None]
        try:
            if self._stacked is None or self._stacked.graphs != graphs:
                self._stacked = StackedGraph(graphs)
            batches = [block.batches for block in blocks if block.batches is not None]
            made = self._stacked.run(batches, [block.noise for block in blocks if block.noise is not None])
        except Exception as error:
            for block in blocks:
                block.error = error
        else:
            for block, reports in zip(blocks, made, strict=True):
                block.reports = reports
