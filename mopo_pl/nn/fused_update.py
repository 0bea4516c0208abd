"""A whole update as one compiled function: gradients, Adam's steps and averaging. For a single process."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mopo_pl.nn.compilation import compiled_for_itself
from mopo_pl.nn.functional_adam import AdamState, JointAdam
from mopo_pl.nn.layers import Params

Step = Callable[[Params], None]
"""Changes a group of parameters in place by their gradients, which have the parameters' names."""


class Batches(Protocol):
    """K batches of rows, such as `Transitions`: indexing gives one of them."""

    @property
    def rows(self) -> Tensor:
        """[K, ..., B, W]."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Update = Callable[..., Tensor]
"""From the optimisers' states, the averages, a `Step` for each optimiser, a batch and further tensors to a report.

Changes the states' parameters by calling the steps, and the averages in place.
"""


class FusedUpdate:
    """Makes updates on the state of torch's own Adam optimisers, each by one call of compiled code.

    Gradients live and end in the compiled function: no parameter's `.grad` is filled. Several devices cannot use it: they
    average each group of gradients before its step. Eager updates can continue from its state, and it from theirs.
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
        """`parameters`: those of each optimiser, by name; the two must satisfy `JointAdam.supports`. `averages`: further
        groups of tensors that the update changes, such as the weights of target networks. `rows`: B of the batches that compiled code is for;
        None: B of the first ones. `name`: of the update, in messages.
        """
        self._update, self._averages, self._rows = update, averages, rows
        self._adams = JointAdam(optimizers, parameters)
        device = next(iter(self._adams.states[0].parameters.values())).device
        self._compiled: Callable[..., Tensor] = compiled_for_itself(self.one, device, name)

    def takes(self, batches: Batches) -> bool:
        """Whether batches [K, ..., B, W] have the B that compiled code is for: the last one of an epoch may be smaller."""
        self._rows = self._rows or batches.rows.shape[-2]
        return batches.rows.shape[-2] == self._rows

    def run(self, batches: Batches, *rest: Tensor) -> Tensor:
        """One update after another from batches [K, ..., B, W] and further inputs [K, ...]; their reports [K, ...]."""
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
        """One update in place, with Adam's step sizes and corrections [optimisers]; its report. This is what is compiled."""
        steps: list[Any] = [
            partial(state.step_, step_size=step_sizes[i], correction=corrections[i]) for i, state in enumerate(states)
        ]
        return self._update(states, averages, steps, batch, *rest)
