"""LightningModule 1: fits the Gaussian ensemble."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mopo_pl.compilation import compile_errors, compiled_for_itself
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.holdout import HoldoutErrors
from mopo_pl.dynamics.likelihood import bound_loss, gaussian_loss, model_target
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.samples import EnsembleDataModule
from mopo_pl.layers import BatchedLinear
from mopo_pl.messages import say
from mopo_pl.ranks import world_size
from mopo_pl.rows import RowModule


class DynamicsModule(RowModule):
    """Maximum likelihood of (r, Δs) by Adam with an L2 coefficient per layer (Yu et al. 2020, appendix D; its code).

    Feed it an `EnsembleDataModule`, and let `callbacks.MemberSelection` stop it, restore each member's best weights and
    set `elites`. Then `model()` is what rollouts use.
    """

    elites: Tensor

    def __init__(
        self,
        ensemble: GaussianEnsemble,
        *,
        elites: int,
        learning_rate: float,
        weight_decay: Sequence[float],
        bound_coef: float,
        beta: float,
        compile: bool,
    ) -> None:
        """`weight_decay`: one coefficient per layer, else ValueError is raised; `beta`: of β-NLL, 0 for plain likelihood.

        `compile`: a single process computes the loss of whole batches and its gradient by compiled code.
        """
        super().__init__(("train_loss",))
        if len(weight_decay) != len(ensemble.layers):
            raise ValueError(f"weight_decay has {len(weight_decay)} coefficients for {len(ensemble.layers)} layers")
        self.ensemble = ensemble
        self.learning_rate, self.weight_decay, self.bound_coef = learning_rate, tuple(weight_decay), bound_coef
        self.beta, self._compile = beta, compile
        self._compiled: Callable[[Transitions], Tensor] | None = None
        self._whole_batch = 0
        self.register_buffer("elites", torch.arange(elites))
        self.holdout = HoldoutErrors(ensemble.members)
        self.holdout_mse = torch.full((ensemble.members,), torch.inf, dtype=torch.float64)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam's `weight_decay` adds c·W to the gradient, which is that of ½·c·‖W‖²; biases and bounds are free."""
        layers = [layer for layer in self.ensemble.layers if isinstance(layer, BatchedLinear)]
        groups: list[dict[str, Any]] = [
            {"params": [layer.weight], "weight_decay": c} for layer, c in zip(layers, self.weight_decay, strict=True)
        ]
        free = [layer.bias for layer in layers] + [self.ensemble.min_log_var, self.ensemble.max_log_var]
        groups.append({"params": free, "weight_decay": 0.0})
        return torch.optim.Adam(groups, lr=self.learning_rate, fused=True)

    def on_train_start(self) -> None:
        """Prepares the compiled loss, for this fit's device and the DataModule's whole batches."""
        self._compiled, data = None, self.trainer.datamodule  # type: ignore[attr-defined]
        if self._compile and world_size() == 1 and isinstance(data, EnsembleDataModule):
            self._compiled, self._whole_batch = compiled_for_itself(self.loss, self.device), data.batch_size
            say("the ensemble's step is compiled: the first one may take a minute (compile=false leaves it out)")

    def on_train_end(self) -> None:
        """Lets go of it."""
        self._compiled = None

    def training_step(self, batch: Transitions, batch_idx: int) -> Tensor:
        """The loss of one batch [E, B, W], each member's on its own rows."""
        loss = self._loss_of(batch)
        self.means.update(loss.detach().view(1, 1))
        return loss

    def _loss_of(self, batch: Transitions) -> Tensor:
        """By compiled code, but for the rest at an epoch's end, which has another shape."""
        if self._compiled is None or batch.rows.shape[1] != self._whole_batch:
            return self.loss(batch)
        try:
            return self._compiled(batch)
        except compile_errors() as error:
            self._compiled = None
            say(f"the ensemble's step is not compiled: {str(error).splitlines()[0]}")
            return self.loss(batch)

    def loss(self, batch: Transitions) -> Tensor:
        """Σ over members of the Gaussian loss on their own rows [E, B, W], plus the pull on the bounds."""
        mean, log_var = self.ensemble.normalised(batch.inputs)
        target = self.ensemble.target_normaliser(model_target(batch))
        loss = gaussian_loss(mean, log_var, target, beta=self.beta).sum()
        return loss + self.bound_coef * bound_loss(self.ensemble.min_log_var, self.ensemble.max_log_var)

    def validation_step(self, batch: Transitions, batch_idx: int) -> None:
        """Scores every member on the same held-out rows [n, W]."""
        mean, log_var = self.ensemble(batch.inputs)
        self.holdout.update(mean, log_var, model_target(batch))

    def on_validation_epoch_end(self) -> None:
        """Leaves the errors where callbacks find them, and logs them."""
        self.holdout_mse, likelihood = self.holdout.compute()
        self.holdout.reset()
        rows = {"holdout_mse": self.holdout_mse, "holdout_nll": likelihood}
        self.note({f"dynamics/{name}_{i}": value for name, row in rows.items() for i, value in enumerate(row)})

    def on_train_epoch_end(self) -> None:
        """One row an epoch. Raises Diverged where the loss, an error or a weight is not finite."""
        self.note({f"dynamics/{name}": value for name, value in self.means.compute().items()})
        self.means.reset()
        bounds = {"max_log_var": self.ensemble.max_log_var, "min_log_var": self.ensemble.min_log_var}
        self.note({f"dynamics/{name}": bound.detach().mean() for name, bound in bounds.items()})
        self.write_row("a lower dynamics.learning_rate, or a look at the ranges of the log")

    @property
    def updates(self) -> int:
        """Optimiser steps made."""
        return self.trainer.global_step

    def model(self) -> TransitionModel:
        """The ensemble and its elites, for rollouts."""
        return TransitionModel(ensemble=self.ensemble, elites=self.elites)
