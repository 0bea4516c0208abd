"""`PolicyModule`: what the LightningModules that train a policy share."""

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
    """A module with an actor, which makes K updates a batch of K by manual optimisation and is validated on logged transitions.

    A subclass sets `actor`, adds to `_updates` what `training_step` made, and gives `validation_step` and
    `on_validation_epoch_end`.
    """

    BATCH_SIZE = "OfflineDataModule(batch_size=...)"
    SUGGESTION: ClassVar[str]
    """What to try where training diverges, for an error message."""

    actor: TanhGaussianActor

    def __init__(self, means: tuple[str, ...], hparams: dict[str, Any]) -> None:
        """As `LoggedModule`."""
        super().__init__(means, hparams)
        self.automatic_optimization = False
        self._updates = 0

    @property
    def updates(self) -> int:
        """Updates made by all fits of this module. `global_step` counts those of the current Trainer."""
        return self._updates

    @property
    def deployed_actor(self) -> TanhGaussianActor:
        """The actor that is evaluated and exported."""
        return self.actor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the count of updates."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["updates"] = self._updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the count of updates."""
        super().on_load_checkpoint(checkpoint)
        for section in ("sac", "cloning"):  # as earlier versions kept it
            checkpoint.update(checkpoint.pop(section, {}))
        self._updates = checkpoint["updates"]

    def forward(self, observations: Tensor) -> Tensor:
        """Return the mean action tanh μ(s) [..., A] of the deployed actor, in [-1, 1]."""
        return self.deployed_actor.mean_action(observations)

    def on_train_epoch_end(self) -> None:
        """One row an epoch; then the actor's schedule. Raises Diverged where a mean or a weight is not finite.

        Lightning calls this before callbacks that save, so that the last checkpoint is a good one.
        """
        self.note({f"policy/{name}": value for name, value in self.means.compute().items()})
        self.means.reset()
        self.write_row(self.SUGGESTION)
        schedule = self.lr_schedulers()
        # Beyond its length a cosine would rise again.
        if isinstance(schedule, CosineAnnealingLR) and schedule.last_epoch < schedule.T_max:
            schedule.step()

    def val_dataloader(self) -> NoValidation:
        """Return no validation for a fit without a DataModule: Lightning warns of a `validation_step` without a loader.

        Raises InputError in `Trainer.validate`, which needs transitions.
        """
        if self.trainer.state.fn != TrainerFn.FITTING:
            raise InputError(
                f"Trainer.validate of a {type(self).__name__} needs logged transitions: datamodule=OfflineDataModule(...)"
            )
        return NoValidation()

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients of the epoch's last update, for callbacks that read them at its end."""

    def on_test_epoch_start(self) -> None:
        """Same as `on_validation_epoch_start`."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Transitions, batch_idx: int) -> None:
        """Same as `validation_step`."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Same as `on_validation_epoch_end`."""
        self.on_validation_epoch_end()

    def predict_step(self, batch: Transitions, batch_idx: int) -> Tensor:
        """Return the mean actions [N, A], in [-1, 1], at the states of transitions [N, W]."""
        return self(batch.observations)


def untrained(kind: Any, *, obs_dim: int, **arguments: Any) -> Any:
    """Return a network whose weights and normaliser are loaded later."""
    generator = generator_for(0, "overwritten")
    return kind(obs_dim=obs_dim, **arguments, normaliser=Normaliser.identity(obs_dim), generator=generator)
