"""LightningModule for behaviour cloning: the reference that a learned policy is compared with."""

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
"""What an update reports: the mean squared distance of the mean action from the logged one, before the update."""


class CloningModule(PolicyModule):
    """K updates a batch of K: one step of Adam each on `losses.cloning_error` of the actor's mean action.

    Feed it an `OfflineDataModule(real_ratio=1)`. The actor is that of soft actor-critic; its σ is not trained, so that the
    policy is its mean action alone. On several devices the gradient is averaged over the ranks before the step, so that the
    update is the one a single process would make of all ranks' rows.
    """

    LEARNING_RATES = "actor_lr"
    SUGGESTION = "a lower sac.actor_lr, and sac.normalise_observations=true"

    def __init__(
        self, actor: TanhGaussianActor | Mapping[str, Any], *, actor_lr: float, schedule_epochs: int | None
    ) -> None:
        """`actor`: a finished network, or its hparams, as a checkpoint holds them. `actor_lr`: learning rate of Adam. `schedule_epochs`: epochs of the cosine
        schedule of its step size; None: a constant one.
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
        """Adam; its step size follows a cosine over the run if asked to."""
        optimizer = torch.optim.Adam(self.actor.parameters(), lr=self.actor_lr, fused=True)
        return [optimizer], [] if self.schedule_epochs is None else [CosineAnnealingLR(optimizer, self.schedule_epochs)]

    def training_step(self, batch: Transitions, batch_idx: int) -> None:
        """K updates, one after another, from rows [K, B, W]; raises InputError for a batch that is no block of batches."""
        self.require_batch(batch, 3, "blocks of batches [K, B, W], which an OfflineDataModule makes")
        optimizer = cast(LightningOptimizer, self.optimizers())
        with counting_updates(self.trainer, len(batch)):
            losses = torch.stack([self.update(optimizer, batch[k]) for k in range(len(batch))])
        self._updates += len(batch)
        self.means.update(losses.unsqueeze(-1))
        self.show_loss("policy/cloning_error", losses[-1])

    def update(self, optimizer: Any, batch: Transitions) -> Tensor:
        """One update from a batch [B, W]; the mean error before it."""
        error = cloning_error(self.actor.mean_action(batch.observations), batch.actions).mean()
        parameters = list(self.actor.parameters())
        # What gives no mean action, such as the layer of σ in an actor of the user's own, has a gradient of 0.
        gradients = torch.autograd.grad(error, parameters, materialize_grads=True)
        for parameter, gradient in zip(parameters, mean_over_ranks(list(gradients)), strict=True):
            parameter.grad = gradient
        optimizer.step()
        return error.detach()

    def validation_step(self, batch: Transitions, batch_idx: int) -> None:
        """Compare mean actions with those of logged transitions [N, W]."""
        self.require_batch(batch, 2, "batches [N, W] for validation, which an OfflineDataModule makes")
        self.errors.update(cloning_error(self(batch.observations), batch.actions).unsqueeze(-1))

    def on_validation_epoch_end(self) -> None:
        """Log the mean over all logged transitions."""
        self.note({f"policy/logged_{name}": value for name, value in self.errors.compute().items()})
        self.errors.reset()
