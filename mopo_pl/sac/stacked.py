"""The updates of several seeds as one graph: each of their tensors stacked along a new first dimension S.

Where launching a kernel costs more than its work, as on a GPU with networks this small, S updates cost little more than
one. The weights are copied in before a block of updates and back after it: between blocks every run holds its own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from mopo_pl.data.transitions import Transitions
from mopo_pl.nn.compilation import compiled_for_itself
from mopo_pl.nn.functional_adam import AdamState
from mopo_pl.sac.one_graph import SACGraph


class StackedGraph:
    """Makes the updates of runs that differ in nothing but their seed."""

    def __init__(self, graphs: Sequence[SACGraph]) -> None:
        """`graphs`: one of each run; compiled if they are. Raises ValueError where the networks of two are not alike."""
        _refuse_unlike(graphs)
        self.graphs = list(graphs)
        self._states = [
            AdamState.stacked(states) for states in zip(*(graph.adams.states for graph in graphs), strict=True)
        ]
        self._slow = {name: torch.stack([graph.slow[name] for graph in graphs]) for name in graphs[0].slow}
        self._own = [_tensors(graph.adams.states, graph.slow) for graph in graphs]
        self._stacked = _tensors(self._states, self._slow)
        self._update: Callable[..., Tensor] = self.update
        if graphs[0].compiled:
            self._update = compiled_for_itself(self.update, self._stacked[0].device, "the SAC update of all seeds")

    def run(self, batches: Sequence[Transitions], noise: Sequence[Tensor]) -> list[Tensor]:
        """As `SACGraph.run` for each of the S runs, whose batches are [K, B, W]; their reports [K, 7]."""
        for stacked, own in zip(self._stacked, zip(*self._own, strict=True), strict=True):
            torch.stack(own, out=stacked)
        updates, form = len(batches[0]), batches[0]
        rows, draws = torch.stack([batch.rows for batch in batches], 1), torch.stack(list(noise), 1)
        ahead = [graph.adams.step_sizes_and_corrections(updates, rows.dtype) for graph in self.graphs]
        step_sizes, corrections = (torch.stack(parts, 1) for parts in zip(*ahead, strict=True))
        reports = []
        for k in range(updates):
            batch = Transitions(rows[k], form.obs_dim, form.action_dim)
            reports.append(self._update(*self._states, self._slow, batch, draws[k], step_sizes[k], corrections[k]))
        for s, (own, graph) in enumerate(zip(self._own, self.graphs, strict=True)):
            torch._foreach_copy_(own, [stacked[s] for stacked in self._stacked])  # pyright: ignore[reportPrivateImportUsage]
            graph.adams.count(updates)
        return list(torch.stack(reports, 1).unbind(0))

    def update(self, *arguments: Any) -> Tensor:
        """One update of each run in place; the reports [S, 7]."""
        return self.graphs[0].update(*arguments, lift=over_seeds)


def over_seeds(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.func.vmap` over the first dimension of every tensor, those of transitions too."""

    def lifted(*arguments: Any) -> Any:
        forms = [(a.obs_dim, a.action_dim) if isinstance(a, Transitions) else None for a in arguments]

        def single(*tensors: Any) -> Any:
            return function(
                *(t if form is None else Transitions(t, *form) for t, form in zip(tensors, forms, strict=True))
            )

        return vmap(single)(*(a.rows if isinstance(a, Transitions) else a for a in arguments))

    return lifted


def _tensors(states: Sequence[AdamState], slow: dict[str, Tensor]) -> list[Tensor]:
    return [tensor for state in states for tensor in state.tensors()] + list(slow.values())


def _refuse_unlike(graphs: Sequence[SACGraph]) -> None:
    """Code, and constants such as the normalisers', are taken from the first run."""
    first, *others = graphs
    for other in others:
        theirs = other.constants()
        unlike = [name for name, value in first.constants().items() if value != theirs[name]]
        pairs = zip(_tensors(first.adams.states, first.slow), _tensors(other.adams.states, other.slow), strict=False)
        unlike += ["sizes"] * any(one.shape != two.shape for one, two in pairs)
        unlike += [name for name, buffer in _buffers(first).items() if not torch.equal(buffer, _buffers(other)[name])]
        if unlike:
            raise ValueError(f"runs that differ in {', '.join(unlike)} cannot be stacked")


def _buffers(graph: SACGraph) -> dict[str, Tensor]:
    networks = {"actor": graph.updates.actor, "critic": graph.updates.critic}
    return {f"{name}.{of}": buffer for name, network in networks.items() for of, buffer in network.named_buffers()}
