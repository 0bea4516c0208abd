"""LightningModule for behaviour cloning, the baseline that learned policies are compared with."""

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from mopo_pl.data.transitions import Transitions
from mopo_pl.distributed.collectives import mean_over_ranks
from mopo_pl.nn.hparams import built, network_hparams
from mopo_pl.nn.logged_module import RowMeans, counting_updates
from mopo_pl.sac.actor import ACTOR_ARGUMENTS, TanhGaussianActor
from mopo_pl.sac.losses import cloning_error
from mopo_pl.sac.policy_module import PolicyModule, untrained

UPDATE_METRICS = ("cloning_error",)
"""Metric of an update: the mean squared distance between mean actions and logged actions, before the update."""


class CloningModule(PolicyModule):
    """Trains an actor by behaviour cloning: one step of Adam on `losses.cloning_error` for each of the K batches in a block.

    Train it with an `OfflineDataModule(real_ratio=1)`. The actor is that of soft actor-critic, but its σ is not trained, so that
    only its mean action is used as the policy. On several devices the gradient is averaged over the ranks before the step, so
    that the update equals that of a single process with the rows of all ranks.
    """

    LEARNING_RATES = "actor_lr"
    SUGGESTION = "a lower sac.actor_lr, and sac.normalise_observations=true"

    def __init__(
        self, actor: TanhGaussianActor | Mapping[str, Any], *, actor_lr: float, schedule_epochs: int | None
    ) -> None:
        """Create the module from a finished network, or from its hparams as a checkpoint holds them.

        Args:
            actor: The network, or its hparams.
            actor_lr: Learning rate of Adam.
            schedule_epochs: Length of the cosine schedule of the learning rate [epochs]; None: constant learning rate.

        """
        actor = built("actor", actor, TanhGaussianActor, partial(untrained, TanhGaussianActor))
        hparams = {
            "actor": network_hparams(actor, ACTOR_ARGUMENTS),
            "actor_lr": actor_lr,
            "schedule_epochs": schedule_epochs,
        }
        super().__init__(UPDATE_METRICS, hparams)
        self.actor, self.actor_lr, self.schedule_epochs = actor, actor_lr, schedule_epochs
        self.errors = RowMeans(UPDATE_METRICS)

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[LRScheduler]]:
        """Return Adam, with a cosine schedule of its learning rate if `schedule_epochs` is set."""
        optimizer = torch.optim.Adam(self.actor.parameters(), lr=self.actor_lr, fused=True)
        return [optimizer], [] if self.schedule_epochs is None else [CosineAnnealingLR(optimizer, self.schedule_epochs)]

    def training_step(self, batch: Transitions, batch_idx: int) -> None:
        """Make K updates in sequence from rows [K, B, W]. Raises InputError if the batch is not a block of batches."""
        self.require_batch(batch, 3, "blocks of batches [K, B, W], which an OfflineDataModule makes")
        optimizer = cast(LightningOptimizer, self.optimizers())
        with counting_updates(self.trainer, len(batch)):
            losses = torch.stack([self.update(optimizer, batch[k]) for k in range(len(batch))])
        self._updates += len(batch)
        self.means.update(losses.unsqueeze(-1))
        self.show_loss("policy/cloning_error", losses[-1])

    def update(self, optimizer: Any, batch: Transitions) -> Tensor:
        """Make one update from a batch [B, W]; return the mean error before it."""
        error = cloning_error(self.actor.mean_action(batch.observations), batch.actions).mean()
        parameters = list(self.actor.parameters())
        # Parameters that do not affect the mean action, such as a separate layer for σ in a user's actor, get a gradient of 0.
        gradients = torch.autograd.grad(error, parameters, materialize_grads=True)
        for parameter, gradient in zip(parameters, mean_over_ranks(list(gradients)), strict=True):
            parameter.grad = gradient
        optimizer.step()
        return error.detach()

    def validation_step(self, batch: Transitions, batch_idx: int) -> None:
        """Add the errors of the mean actions on logged transitions [N, W]."""
        self.require_batch(batch, 2, "batches [N, W] for validation, which an OfflineDataModule makes")
        self.errors.update(cloning_error(self(batch.observations), batch.actions).unsqueeze(-1))

    def on_validation_epoch_end(self) -> None:
        """Log the mean error over all logged transitions."""
        self.note({f"policy/logged_{name}": value for name, value in self.errors.compute().items()})
        self.errors.reset()
