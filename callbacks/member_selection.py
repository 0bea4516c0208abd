"""Early stopping of an ensemble, in which each member keeps the weights of its best epoch."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from mopo_pl.callbacks.requirements import require
from mopo_pl.distributed.console import print_once
from mopo_pl.dynamics.module import DynamicsModule


class MemberSelection(L.Callback):
    """Keeps each member's best weights, stops when none improves, then restores them and picks the elites.

    A member improves when its holdout error falls by more than `improvement` of |its best|. Training stops after more
    than `patience` epochs in a row without any improvement (Janner et al. 2019, Yu et al. 2020: code, not paper).
    """

    def __init__(self, *, patience: int, improvement: float, geometric: bool) -> None:
        """Create the callback.

        Args:
            patience: Number of consecutive epochs without improvement that are tolerated.
            improvement: Smallest relative decrease of the holdout error that counts as an improvement.
            geometric: Use the geometric mean over the targets of their mean squared errors, instead of the arithmetic mean.

        """
        self.patience, self.improvement, self.geometric = patience, improvement, geometric
        self.best: Tensor | None = None
        """Lowest holdout error of each member that counted as an improvement [E]."""
        self.snapshot: dict[str, Tensor] = {}
        """Every parameter of the ensemble; row i is from the best epoch of member i."""
        self.stale = 0
        """Number of consecutive epochs without any improvement."""
        self.epochs = 0
        """Number of validated epochs."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Reset the state for a new fit. The Trainer loads a checkpoint's state after this hook.

        Raises InputError if the module is not a `DynamicsModule`.
        """
        require(self, pl_module, DynamicsModule)
        if stage == "fit" and not trainer.enable_validation:
            print_once(
                f"MemberSelection selects nothing without validation (limit_val_batches={trainer.limit_val_batches}, or no "
                "val_dataloader): the last weights stay, and training ends at max_epochs"
            )
        if stage == "fit" and trainer.current_epoch == 0:
            self.best, self.snapshot, self.stale, self.epochs = None, {}, 0, 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Update the best weights; request a stop when patience is exceeded.

        This is not done in `on_validation_epoch_end`: Lightning calls that hook of callbacks before that of the module, so that
        the module's errors would be those of the previous epoch.
        """
        assert isinstance(pl_module, DynamicsModule)
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self.epochs += 1
        errors = pl_module.holdout_geometric if self.geometric else pl_module.holdout_mse
        self.observe(errors.cpu(), dict(pl_module.ensemble.named_parameters()))
        if self.stale > self.patience:
            trainer.should_stop = True

    def observe(self, errors: Tensor, parameters: dict[str, Tensor]) -> None:
        """Compare one epoch's errors [E] with the best; keep the parameters [E, …] of the members that improved."""
        best = torch.full_like(errors, torch.inf) if self.best is None else self.best
        # A relative decrease from an infinite best error is undefined: inf - inf is NaN.
        improved = torch.where(best.isinf(), errors.isfinite(), best - errors > self.improvement * best.abs())
        self.best = torch.where(improved, errors, best)
        self.stale = 0 if improved.any() else self.stale + 1
        for name, parameter in parameters.items():
            if name not in self.snapshot:
                self.snapshot[name] = parameter.detach().clone()
            chosen = improved.to(parameter.device)
            self.snapshot[name][chosen] = parameter.detach()[chosen]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore each member's best weights, and set the elites to the members with the lowest best errors, best first.

        This is not done in `on_train_end`, which is not called in a run that is resumed after its last epoch.
        """
        assert isinstance(pl_module, DynamicsModule)
        if self.best is None:
            return
        with torch.no_grad():
            for name, parameter in pl_module.ensemble.named_parameters():
                parameter.copy_(self.snapshot[name])
        pl_module.elites.copy_(self.best.argsort()[: len(pl_module.elites)])
        ended = "early stop" if self.stale > self.patience else "stopped"
        if ended == "stopped" and trainer.current_epoch == trainer.max_epochs:
            ended = "ended at the most epochs allowed,"
        elites = " ".join(map(str, pl_module.elites.tolist()))
        print_once(f"dynamics: {ended} after {self.epochs} epochs; elites {elites}")

    def state_dict(self) -> dict[str, Any]:
        """Return the best errors, the weights that belong to them, and the counters of epochs."""
        return {"best": self.best, "snapshot": self.snapshot, "stale": self.stale, "epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state saved by `state_dict`."""
        self.best, self.snapshot = state_dict["best"], dict(state_dict["snapshot"])
        self.stale, self.epochs = state_dict["stale"], state_dict["epochs"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move a snapshot loaded from a checkpoint to the module's device; request a stop if training had already finished."""
        self.snapshot = {name: tensor.to(pl_module.device) for name, tensor in self.snapshot.items()}
        if self.stale > self.patience:
            trainer.should_stop = True
