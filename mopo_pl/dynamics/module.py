"""LightningModule of the first training stage, which fits the Gaussian ensemble."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer

from mopo_pl.data.transitions import Transitions
from mopo_pl.distributed.collectives import world_size
from mopo_pl.distributed.console import print_once
from mopo_pl.dynamics.bootstrap import EnsembleDataModule
from mopo_pl.dynamics.ensemble import ENSEMBLE_ARGUMENTS, GaussianEnsemble
from mopo_pl.dynamics.losses import EnsembleLoss, HoldoutErrors, model_target
from mopo_pl.dynamics.model import TransitionModel, untrained
from mopo_pl.nn.functional_adam import JointAdam
from mopo_pl.nn.fused_update import FusedUpdate
from mopo_pl.nn.hparams import built, network_hparams
from mopo_pl.nn.layers import BatchedLinear
from mopo_pl.nn.logged_module import LoggedModule, counting_updates, hooks_need_gradients


class DynamicsModule(LoggedModule):
    """Fits the ensemble by maximum likelihood of (r, Δs), with Adam and one L2 coefficient per layer.

    The method is that of Yu et al. 2020, appendix D, and of its code. Train it with an `EnsembleDataModule`. The callback
    `callbacks.MemberSelection` stops the training, restores each member's best weights and sets `elites`. After that `model()`
    returns the model for rollouts.
    """

    LEARNING_RATES = "learning_rate"
    BATCH_SIZE = "EnsembleDataModule(batch_size=...)"
    elites: Tensor

    def __init__(
        self,
        ensemble: GaussianEnsemble | Mapping[str, Any],
        *,
        elites: int,
        learning_rate: float,
        weight_decay: Sequence[float],
        bound_coef: float,
        beta: float,
        huber_delta: float | None = None,
        compile: bool,
    ) -> None:
        """Create the module from a finished network, or from its hparams as a checkpoint holds them.

        Args:
            ensemble: The ensemble, or its hparams.
            elites: Number of members with the lowest holdout error that rollouts use.
            learning_rate: Learning rate of Adam.
            weight_decay: L2 coefficient of each layer. Raises ValueError if there is not one for each layer.
            bound_coef: Coefficient of `losses.bound_loss`, which pulls the bounds of log σ² together.
            beta: β of β-NLL; 0 for the plain likelihood.
            huber_delta: Size of a residual, in units of σ, above which its loss is linear. None: the loss is quadratic everywhere, as
                in checkpoints without this argument.
            compile: Whether a single process makes the steps of batches of full size with one compiled function (`FusedUpdate`),
                which does not set any parameter's `.grad`.

        """
        ensemble = built("ensemble", ensemble, GaussianEnsemble, untrained)
        hparams = {
            "ensemble": network_hparams(ensemble, ENSEMBLE_ARGUMENTS),
            "elites": elites,
            "learning_rate": learning_rate,
            "weight_decay": list(weight_decay),
            "bound_coef": bound_coef,
            "beta": beta,
            "huber_delta": huber_delta,
            "compile": compile,
        }
        super().__init__(("train_loss",), hparams)
        if len(weight_decay) != len(ensemble.layers):
            raise ValueError(f"weight_decay has {len(weight_decay)} coefficients for {len(ensemble.layers)} layers")
        self.automatic_optimization = False
        self.ensemble = ensemble
        self.learning_rate, self.weight_decay = learning_rate, tuple(weight_decay)
        self._equation = EnsembleLoss(ensemble=ensemble, bound_coef=bound_coef, beta=beta, huber_delta=huber_delta)
        self._compile = compile
        self._fused: FusedUpdate | None = None
        self._gap_closed = False
        self.register_buffer("elites", torch.arange(elites))
        self.holdout = HoldoutErrors(ensemble.members, ensemble.min_log_var.shape[-1])
        self.holdout_mse = torch.full((ensemble.members,), torch.inf, dtype=torch.float64)
        self.holdout_geometric = self.holdout_mse.clone()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam with one L2 coefficient per layer; biases and bounds have none.

        Adam's `weight_decay` c adds c·W to the gradient, which is the gradient of ½·c·‖W‖².
        """
        layers = [layer for layer in self.ensemble.layers if isinstance(layer, BatchedLinear)]
        groups: list[dict[str, Any]] = [
            {"params": [layer.weight], "weight_decay": c} for layer, c in zip(layers, self.weight_decay, strict=True)
        ]
        free = [layer.bias for layer in layers] + [self.ensemble.min_log_var, self.ensemble.max_log_var]
        groups.append({"params": free, "weight_decay": 0.0})
        return torch.optim.Adam(groups, lr=self.learning_rate, fused=True)

    def on_train_start(self) -> None:
        """Build the compiled step if it can be used. The optimiser's state from a checkpoint is already loaded at this point."""
        self._fused = None  # it may still be that of an earlier fit, which raised an error
        optimizer, data = cast(Optimizer, self.optimizers(use_pl_optimizer=False)), self.trainer.datamodule  # type: ignore[attr-defined]
        if (
            self._compile
            and world_size() == 1
            and isinstance(data, EnsembleDataModule)
            and JointAdam.supports([optimizer], [dict(self.ensemble.named_parameters())])
            and not hooks_need_gradients(self)
            and not self._steps_otherwise()
        ):
            self._fused = FusedUpdate(
                self._equation.fused,
                optimizers=[optimizer],
                parameters=[dict(self.ensemble.named_parameters())],
                averages=[],
                rows=data.batch_size,
                name="the ensemble's step",
            )
            print_once("the ensemble's step is compiled: the first one may take a minute (compile=false leaves it out)")

    def _steps_otherwise(self) -> bool:
        """Return whether a subclass overrides the loss or the step, which the compiled step would not call."""
        kind = type(self)
        return kind.loss is not DynamicsModule.loss or kind._step is not DynamicsModule._step

    def on_train_end(self) -> None:
        """Release the compiled step, whose tensors belong to this fit and this device."""
        self._fused = None

    def training_step(self, batch: Transitions, batch_idx: int) -> None:
        """Make K steps of Adam in sequence from rows [K, E, B, W], with separate rows for each member.

        Raises InputError if the batch is not a block of batches.
        """
        self.require_batch(batch, 4, "blocks of batches [K, E, B, W], which an EnsembleDataModule makes")
        with counting_updates(self.trainer, len(batch)):
            if self._fused is not None and self._fused.takes(batch):
                losses = self._fused.run(batch)
            else:
                optimizer = cast(LightningOptimizer, self.optimizers())
                losses = torch.stack([self._step(optimizer, batch[k]) for k in range(len(batch))])
        self.means.update(losses.unsqueeze(-1))
        self.show_loss("dynamics/train_loss", losses[-1])

    def _step(self, optimizer: LightningOptimizer, batch: Transitions) -> Tensor:
        """Make one step of Adam; return the loss before it."""
        optimizer.zero_grad()
        loss = self.loss(batch)
        self.manual_backward(loss)
        optimizer.step()
        return loss.detach()

    def loss(self, batch: Transitions) -> Tensor:
        """Return the sum over members of the Gaussian loss on each member's rows [E, B, W], plus the loss of the bounds."""
        return self._equation(dict(self.ensemble.named_parameters()), batch)

    def validation_step(self, batch: Transitions, batch_idx: int) -> None:
        """Add the errors of every member on the same held-out rows [n, W]."""
        self.require_batch(batch, 2, "batches [N, W] for validation, which an EnsembleDataModule makes")
        mean, log_var = self.ensemble(batch.inputs)
        self.holdout.update(mean, log_var, self.ensemble.target_normaliser(model_target(batch)))

    def on_validation_epoch_end(self) -> None:
        """Store the holdout errors of all members as attributes, which callbacks read, and log them."""
        self.holdout_mse, self.holdout_geometric, likelihood = self.holdout.compute()
        self.holdout.reset()
        rows = {
            "holdout_mse": self.holdout_mse,
            "holdout_geometric": self.holdout_geometric,
            "holdout_nll": likelihood,
        }
        self.note({f"dynamics/{name}_{i}": value for name, row in rows.items() for i, value in enumerate(row)})

    def test_step(self, batch: Transitions, batch_idx: int) -> None:
        """Do the same as `validation_step`."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Do the same as `on_validation_epoch_end`."""
        self.on_validation_epoch_end()

    def predict_step(self, batch: Transitions, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Return each member's mean and standard deviation of (r, Δs) for transitions [N, W], each [E, N, 1 + D], in raw units."""
        mean, log_var = self.ensemble.in_raw_units(batch.inputs)
        return mean, torch.exp(0.5 * log_var)

    def on_train_epoch_end(self) -> None:
        """Write the epoch's metrics row. Raises Diverged if the loss, an error or a weight is not finite."""
        self.note({f"dynamics/{name}": value for name, value in self.means.compute().items()})
        self.means.reset()
        low, high = self.ensemble.min_log_var.detach(), self.ensemble.max_log_var.detach()
        gap = (high - low).min()
        self.note({"dynamics/max_log_var": high.mean(), "dynamics/min_log_var": low.mean(), "dynamics/bound_gap": gap})
        if gap <= 0 and not self._gap_closed:
            self._gap_closed = True
            print_once(
                "the bounds of a log σ² have met: σ cannot tell known states from unknown ones there; lower dynamics.bound_coef"
            )
        self.write_row("a lower dynamics.learning_rate, or a look at the ranges of the log")

    @property
    def updates(self) -> int:
        """Number of optimiser steps made."""
        return self.global_step

    def model(self) -> TransitionModel:
        """Return the ensemble and its elites as a model for rollouts.

        The weights are not copied but frozen in place, so that the module cannot be trained further.
        """
        return TransitionModel(ensemble=self.ensemble, elites=self.elites)
