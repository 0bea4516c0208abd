"""A step of the ensemble as one function to be compiled: gradient and Adam. For a single process."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.optim import Optimizer

from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.losses import EnsembleLoss
from mopo_pl.nn.compilation import compiled_for_itself
from mopo_pl.nn.functional_adam import AdamState, JointAdam


class EnsembleGraph:
    """Makes steps on the optimiser's own state, each by one call; no parameter's `.grad` is filled."""

    def __init__(self, loss: EnsembleLoss, optimizer: Optimizer, *, rows: int, device: torch.device) -> None:
        """`optimizer`: as `JointAdam.fit` asks; `rows`: of each member in the batches it takes."""
        self.loss, self.rows = loss, rows
        self._adams = JointAdam([optimizer], [dict(loss.ensemble.named_parameters())])
        self._step: Callable[..., Tensor] = compiled_for_itself(self.step, device, "the ensemble's step")

    def takes(self, batches: Transitions) -> bool:
        """Whether batches [K, E, B, W] have B as it was compiled for: the rest at an epoch's end has not."""
        return batches.rows.shape[2] == self.rows

    def run(self, batches: Transitions) -> Tensor:
        """One step after another from batches [K, E, B, W]; their losses [K]."""
        step_sizes, corrections = self._adams.step_sizes_and_corrections(len(batches), batches.rows.dtype)
        losses = [
            self._step(self._adams.states[0], batches[k], step_sizes[k, 0], corrections[k, 0])
            for k in range(len(batches))
        ]
        self._adams.count(len(batches))
        return torch.stack(losses)

    def step(self, state: AdamState, batch: Transitions, step_size: Tensor, correction: Tensor) -> Tensor:
        """In place; returns the loss before it."""
        gradients, loss = grad_and_value(self.loss)(state.parameters, batch)
        state.step_(gradients, step_size, correction)
        return loss
