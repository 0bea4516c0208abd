"""LightningModule that trains the classifier of terminal steps."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.terminals.classifier import CLASSIFIER_ARGUMENTS, TerminalClassifier, unfitted
from mopo_pl.dynamics.terminals.scores import area_under_curve, reliability
from mopo_pl.nn.hparams import built, network_hparams
from mopo_pl.nn.logged_module import LoggedModule


class TerminalModule(LoggedModule):
    """Fits a TerminalClassifier by cross-entropy on the batches of a TerminalDataModule, of which half are terminal.

    The optimiser is AdamW, with a step size that decreases to 0 along a cosine over `schedule_updates` updates.
    """

    LEARNING_RATES = "learning_rate"
    BATCH_SIZE = "TerminalDataModule(batch_size=...)"

    def __init__(
        self,
        classifier: TerminalClassifier | Mapping[str, Any],
        *,
        learning_rate: float,
        weight_decay: float,
        schedule_updates: int,
    ) -> None:
        """Create the module from a finished network, or from its hparams as a checkpoint holds them.

        Args:
            classifier: The network, or its hparams.
            learning_rate: Initial learning rate of AdamW.
            weight_decay: Weight decay of AdamW.
            schedule_updates: Length of the cosine schedule [updates].

        """
        classifier = built("classifier", classifier, TerminalClassifier, unfitted)
        hparams = {
            "classifier": network_hparams(classifier, CLASSIFIER_ARGUMENTS),
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "schedule_updates": schedule_updates,
        }
        super().__init__(("train_loss",), hparams)
        self.classifier, self.schedule_updates = classifier, schedule_updates
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self._scored: list[tuple[Tensor, Tensor]] = []

    @property
    def updates(self) -> int:
        """Number of optimiser steps made."""
        return self.global_step

    def configure_optimizers(self) -> Any:
        """Return AdamW and its schedule, which Lightning advances with each update."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.schedule_updates)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Transitions, batch_idx: int) -> Tensor:
        """Return the cross-entropy of rows [B, W]."""
        self.require_batch(batch, 2, "batches [B, W], which a TerminalDataModule makes")
        log_odds = self.classifier.balanced(batch.observations, batch.actions, batch.next_observations)
        loss = binary_cross_entropy_with_logits(log_odds, batch.terminals)
        self.means.update(loss.detach().double().view(1, 1))
        self.show_loss("termination/train_loss", loss.detach())
        return loss

    def validation_step(self, batch: Transitions, batch_idx: int) -> None:
        """Compute and keep the log odds of held-out rows [n, W]."""
        self.require_batch(batch, 2, "batches [N, W] for validation, which a TerminalDataModule makes")
        log_odds = self.classifier(batch.observations, batch.actions, batch.next_observations)
        self._scored.append((log_odds.float().cpu(), batch.terminals.bool().cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log the loss, the AUC and the calibration error on the held-out rows."""
        log_odds, terminal = (torch.cat(parts) for parts in zip(*self._scored, strict=True))
        self._scored = []
        self.note(
            {
                "termination/holdout_loss": binary_cross_entropy_with_logits(log_odds, terminal.float()),
                "termination/holdout_auc": area_under_curve(log_odds, terminal),
                "termination/calibration_error": reliability(log_odds, terminal)[1],
            }
        )

    def on_train_epoch_end(self) -> None:
        """Write the epoch's metrics row. Raises Diverged if the loss or a weight is not finite."""
        self.note({f"termination/{name}": value for name, value in self.means.compute().items()})
        self.means.reset()
        self.write_row("a lower classifier.learning_rate, or a look at the ranges of the log")
