"""`PolicyModule`: the base class of the LightningModules that train a policy."""

from typing import Any, ClassVar

from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from mopo_pl.data.batches.row_batches import NoValidation
from mopo_pl.data.transitions import Transitions
from mopo_pl.errors import InputError
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.logged_module import LoggedModule
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.actor import TanhGaussianActor


class PolicyModule(LoggedModule):
    """A module with an actor that is trained with manual optimisation and validated on logged transitions.

    A batch of the Trainer is a block of K batches, for K updates. A subclass sets `actor`, adds the number of updates made in
    `training_step` to `_updates`, and defines `validation_step` and `on_validation_epoch_end`.
    """

    BATCH_SIZE = "OfflineDataModule(batch_size=...)"
    SUGGESTION: ClassVar[str]
    """What the user can try if training diverges, for an error message."""

    actor: TanhGaussianActor

    def __init__(self, means: tuple[str, ...], hparams: dict[str, Any]) -> None:
        """Create the module with the arguments of `LoggedModule`."""
        super().__init__(means, hparams)
        self.automatic_optimization = False
        self._updates = 0

    @property
    def updates(self) -> int:
        """Number of updates made in all fits of this module. `global_step` counts only those of the current Trainer."""
        return self._updates

    @property
    def deployed_actor(self) -> TanhGaussianActor:
        """The actor that is evaluated and exported."""
        return self.actor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the number of updates to the checkpoint."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["updates"] = self._updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the number of updates."""
        super().on_load_checkpoint(checkpoint)
        for section in ("sac", "cloning"):  # earlier versions stored the number in one of these sections
            checkpoint.update(checkpoint.pop(section, {}))
        self._updates = checkpoint["updates"]

    def forward(self, observations: Tensor) -> Tensor:
        """Return the mean action tanh μ(s) [..., A] of the deployed actor, in [-1, 1]."""
        return self.deployed_actor.mean_action(observations)

    def on_train_epoch_end(self) -> None:
        """Write the epoch's metrics row, then advance the actor's schedule. Raises Diverged if a mean or a weight is not finite.

        Lightning calls this before callbacks that save checkpoints, so that no checkpoint with such values is saved.
        """
        self.note({f"policy/{name}": value for name, value in self.means.compute().items()})
        self.means.reset()
        self.write_row(self.SUGGESTION)
        schedule = self.lr_schedulers()
        # After its full length, the cosine would rise again.
        if isinstance(schedule, CosineAnnealingLR) and schedule.last_epoch < schedule.T_max:
            schedule.step()

    def val_dataloader(self) -> NoValidation:
        """Return an empty validation loader for a fit without a DataModule.

        Lightning would otherwise warn about a `validation_step` without a loader. Raises InputError in `Trainer.validate`, which
        needs transitions.
        """
        if self.trainer.state.fn != TrainerFn.FITTING:
            raise InputError(
                f"Trainer.validate of a {type(self).__name__} needs logged transitions: datamodule=OfflineDataModule(...)"
            )
        return NoValidation()

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients of the epoch's last update, for callbacks that read them at the end of the epoch."""

    def on_test_epoch_start(self) -> None:
        """Do the same as `on_validation_epoch_start`."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Transitions, batch_idx: int) -> None:
        """Do the same as `validation_step`."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Do the same as `on_validation_epoch_end`."""
        self.on_validation_epoch_end()

    def predict_step(self, batch: Transitions, batch_idx: int) -> Tensor:
        """Return the mean actions [N, A], in [-1, 1], at the states of transitions [N, W]."""
        return self(batch.observations)


def untrained(kind: Any, *, obs_dim: int, **arguments: Any) -> Any:
    """Return a network whose weights and normaliser are loaded later."""
    generator = generator_for(0, "overwritten")
    return kind(obs_dim=obs_dim, **arguments, normaliser=Normaliser.identity(obs_dim), generator=generator)
