"""One update as one compiled function: gradients, Adam's updates and averaging of parameters.

For a single process only.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mopo_pl.nn.compilation import compile_without_guards
from mopo_pl.nn.functional_adam import AdamState, JointAdam
from mopo_pl.nn.layers import Params

ParameterStep = Callable[[Params], None]
"""Change a group of parameters in place, given their gradients by parameter name."""


class Batches(Protocol):
    """K batches of transitions, such as `Transitions`; indexing returns one of them."""

    @property
    def rows(self) -> Tensor:
        """Packed transitions [K, ..., B, W]."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Update = Callable[..., Tensor]
"""Compute one update from (Adam states, averages, one `ParameterStep` per optimiser, a batch, further tensors).

Return its metrics.

It changes the parameters by calling the steps, and the averages in place.
"""


class FusedUpdate:
    """Update the parameters and states of torch's Adam optimisers, by one call of compiled code per update.

    Gradients exist only inside the compiled function: no parameter's `.grad` is set. Several processes cannot use it,
    because they average each group of gradients before Adam's update. Eager and compiled updates can continue from each
    other's state.
    """

    def __init__(
        self,
        update: Update,
        *,
        optimizers: Sequence[Optimizer],
        parameters: Sequence[dict[str, nn.Parameter]],
        averages: Sequence[Params],
        rows: int | None,
        name: str,
    ) -> None:
        """Compile `update` for these optimisers.

        Args:
            update: The function that computes one update.
            optimizers: Adam optimisers, for which `JointAdam.supports` must be true.
            parameters: The parameters of each optimiser by name.
            averages: Further groups of tensors that the update changes, such as the weights of target networks.
            rows: Batch size B that the code is compiled for; None: that of the first batch.
            name: The update's name in messages.

        """
        self._update, self._averages, self._rows = update, averages, rows
        self._adams = JointAdam(optimizers, parameters)
        device = next(iter(self._adams.states[0].parameters.values())).device
        self._compiled: Callable[..., Tensor] = compile_without_guards(self.one, device, name)

    def takes(self, batches: Batches) -> bool:
        """Return whether batches [K, ..., B, W] have the compiled batch size B.

        The last batch of an epoch may be smaller.
        """
        self._rows = self._rows or batches.rows.shape[-2]
        return batches.rows.shape[-2] == self._rows

    def run(self, batches: Batches, *rest: Tensor) -> Tensor:
        """Make K updates in order from batches [K, ..., B, W] and further inputs [K, ...].

        Return their metrics [K, ...].
        """
        step_sizes, corrections = self._adams.step_sizes_and_corrections(len(batches), batches.rows.dtype)
        reports = [
            self._compiled(
                self._adams.states, self._averages, step_sizes[k], corrections[k], batches[k], *(x[k] for x in rest)
            )
            for k in range(len(batches))
        ]
        self._adams.count(len(batches))
        return torch.stack(reports)

    def one(
        self,
        states: Sequence[AdamState],
        averages: Sequence[Params],
        step_sizes: Tensor,
        corrections: Tensor,
        batch: Any,
        *rest: Tensor,
    ) -> Tensor:
        """Make one update in place; return its metrics. This method is compiled.

        There is one entry of `states` per optimiser. `step_sizes` and `corrections` [optimisers] are the arguments of
        `AdamState.step_`. `batch` is [..., B, W].
        """
        steps: list[Any] = [
            partial(state.step_, step_size=step_sizes[i], correction=corrections[i]) for i, state in enumerate(states)
        ]
        return self._update(states, averages, steps, batch, *rest)
