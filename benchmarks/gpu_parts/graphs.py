"""An update in one function in the forms that a GPU can run it in: eager, compiled, and replayed as a CUDA graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from mopo_pl.data.transitions import Transitions
from mopo_pl.nn import compilation
from mopo_pl.nn.fused_update import FusedUpdate

FORMS = ("eager", "compiled", "reduce-overhead", "one graph")


@contextmanager
def nothing_falls_back() -> Iterator[None]:
    """Raise RuntimeError in the block where something cannot be compiled, instead of going on eagerly."""

    def refuse(message: str) -> None:
        raise RuntimeError(message)

    before, compilation.print_once = compilation.print_once, refuse
    try:
        yield
    finally:
        compilation.print_once = before


@contextmanager
def graphs_are_replayed(form: str) -> Iterator[None]:
    """Raise RuntimeError after the block where `reduce-overhead` has left a graph out, which torch only logs."""
    if form != "reduce-overhead":
        yield
        return
    from torch._dynamo.utils import counters  # seconds to import

    before = counters["inductor"]["cudagraph_skips"]
    yield
    left_out = counters["inductor"]["cudagraph_skips"] - before
    if left_out:
        raise RuntimeError(f"{left_out} CUDA graphs were left out (TORCH_LOGS=perf_hints says why)")


class Captured:
    """K updates of a `FusedUpdate` captured as one CUDA graph, and replayed from inputs at fixed places.

    Without a GPU the same calls run eagerly, from the same places.
    """

    def __init__(self, fused: FusedUpdate, batches: Transitions, rest: tuple[Tensor, ...]) -> None:
        """`batches`, `rest`: of the shapes that every replay will have. Warming up makes updates, as any call does."""
        self.fused, self.inputs = fused, (batches.rows.clone(), *(each.clone() for each in rest))
        self.batches = Transitions(self.inputs[0], batches.obs_dim, batches.action_dim, batches.history)
        sizes = fused._adams.step_sizes_and_corrections(len(batches), batches.rows.dtype)
        self.sizes = [size.clone() for size in sizes]
        self.graph: torch.cuda.CUDAGraph | None = None
        device = batches.rows.device
        if device.type == "cuda":
            self.updates()  # compiles on the stream that a run compiles on
            aside = torch.cuda.Stream(device)
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):
                for _ in range(2):
                    self.updates()
            torch.cuda.current_stream(device).wait_stream(aside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.reports = self.updates()

    def updates(self) -> Tensor:
        """Make K updates from the inputs at their places."""
        states, averages = self.fused._adams.states, self.fused._averages
        made = [
            self.fused._compiled(
                states, averages, self.sizes[0][k], self.sizes[1][k], self.batches[k], *(x[k] for x in self.inputs[1:])
            )
            for k in range(len(self.batches))
        ]
        return torch.stack(made)

    def run(self, batches: Transitions, *rest: Tensor) -> Tensor:
        """As `FusedUpdate.run`."""
        sizes = self.fused._adams.step_sizes_and_corrections(len(batches), batches.rows.dtype)
        for place, value in zip((*self.inputs, *self.sizes), (batches.rows, *rest, *sizes), strict=True):
            place.copy_(value)
        if self.graph is None:
            self.reports = self.updates()
        else:
            self.graph.replay()
        self.fused._adams.count(len(batches))
        return self.reports


def in_form(fused: FusedUpdate, form: str, batches: Transitions, *rest: Tensor) -> Callable[..., Tensor]:
    """Return what makes K updates from (batches, further inputs) in one of `FORMS`; a compiled form does not fall back."""
    if form == "eager":
        fused._compiled = fused.one
        return fused.run
    if form == "reduce-overhead":
        for tensor in tree_leaves([[s.parameters, s.means, s.squares] for s in fused._adams.states]):
            static(tensor)
        for tensor in tree_leaves(fused._averages):
            static(tensor)
        one: Any = fused.one
        compiled = torch.compile(one, mode="reduce-overhead", fullgraph=True, dynamic=False)

        def replayed(*arguments: Any) -> Tensor:
            torch.compiler.cudagraph_mark_step_begin()
            return compiled(*arguments).clone()  # the next replay overwrites it

        fused._compiled = replayed
        return fused.run
    fused._compiled = fused._compiled._compiled  # type: ignore[attr-defined]
    return fused.run if form == "compiled" else Captured(fused, batches, rest).run


def static(tensor: Any) -> None:
    """Say that a tensor stays where it is, so that a CUDA graph may change it in place."""
    if isinstance(tensor, Tensor):
        torch._dynamo.mark_static_address(tensor, guard=False)
