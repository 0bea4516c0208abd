"""A step of the ensemble as one function to be compiled: gradient and Adam. For a single process."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.optim import Optimizer

from mopo_pl.adam import AdamState, JointAdam
from mopo_pl.compilation import compiled_for_itself
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.loss import EnsembleLoss


class EnsembleGraph:
    """Makes steps on the optimiser's own state, each by one call; no parameter's `.grad` is filled."""

    def __init__(self, loss: EnsembleLoss, optimizer: Optimizer, *, rows: int, device: torch.device) -> None:
        """`optimizer`: as `JointAdam.fit` asks; `rows`: of each member in the batches it takes."""
        self.loss, self.rows = loss, rows
        self._adams = JointAdam([optimizer], [dict(loss.ensemble.named_parameters())])
        self._step: Callable[..., Tensor] = compiled_for_itself(self.step, device, "the ensemble's step")

    def takes(self, batch: Transitions) -> bool:
        """Whether a batch [E, B, W] has B as it was compiled for: the rest at an epoch's end has not."""
        return batch.rows.shape[1] == self.rows

    def run(self, batch: Transitions) -> Tensor:
        """One step; its loss."""
        step_sizes, corrections = self._adams.step_sizes_and_corrections(1, batch.rows.dtype)
        loss = self._step(self._adams.states[0], batch, step_sizes[0, 0], corrections[0, 0])
        self._adams.count(1)
        return loss

    def step(self, state: AdamState, batch: Transitions, step_size: Tensor, correction: Tensor) -> Tensor:
        """In place; returns the loss before it."""
        gradients, loss = grad_and_value(self.loss)(state.parameters, batch)
        state.step_(gradients, step_size, correction)
        return loss
