"""Callbacks for online training: one steps the environment during training, one saves the policies that set a new best return."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from mopo_pl.callbacks.policy_evaluation import PolicyEvaluation
from mopo_pl.callbacks.requirements import require
from mopo_pl.data.batches.replay_buffer import ReplayDataModule
from mopo_pl.environments.stepping import SteppedEnvironment
from mopo_pl.errors import ActionsNotFinite
from mopo_pl.nn.random_streams import continued, generator_for
from mopo_pl.policy import Policy
from mopo_pl.sac.module import SACModule


class OnlineSteps(L.Callback):
    """Takes `start_steps` steps of uniform actions before training, then K steps after each K updates of a batch.

    During training, actions are drawn from the policy. The number of steps then equals the number of updates, as in Haarnoja
    et al. 2018 (arXiv:1812.05905).
    """

    def __init__(self, environment: SteppedEnvironment, *, start_steps: int, seed: int) -> None:
        self.environment, self.start_steps = environment, start_steps
        self._noise = generator_for(seed, "behaviour")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Raise InputError unless the module is a `SACModule` and the DataModule a `ReplayDataModule`."""
        require(self, pl_module, SACModule)
        self._data(trainer)

    def _data(self, trainer: L.Trainer) -> ReplayDataModule:
        given = trainer.datamodule  # type: ignore[attr-defined]
        return require(self, given, ReplayDataModule, where=", handed to Trainer.fit as datamodule=")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the first steps with uniform actions, unless the replay buffer holds steps from a checkpoint."""
        data = self._data(trainer)
        if data.size == 0:
            low, high = self.environment.action_low, self.environment.action_high
            drawn = torch.rand(self.start_steps, len(low), generator=self._noise).numpy()
            self._take(data, [self.environment.step(low + (high - low) * share) for share in drawn])

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take as many environment steps as the batch has updates."""
        assert isinstance(pl_module, SACModule)
        data = self._data(trainer)
        policy = Policy(pl_module.actor, self.environment.action_low, self.environment.action_high, {})
        self._take(data, [self._step(policy) for _ in range(len(batch))])

    def _step(self, policy: Policy) -> np.ndarray:
        noise = torch.randn(self.environment.layout.action_dim, generator=self._noise)
        try:
            action = policy.with_noise(self.environment.observation, noise)
        except ActionsNotFinite as error:  # the policy has diverged: the environment's step raises the error
            action = error.actions
        return self.environment.step(action)

    def _take(self, data: ReplayDataModule, steps: list[np.ndarray]) -> None:
        if steps:
            data.append(torch.from_numpy(np.stack(steps)).to(data.rows.device))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the environment's episode, with its actions, and of the generator of the policy's noise."""
        return {"environment": self.environment.state(), "noise": self._noise.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state saved by `state_dict`. The environment repeats the actions of its episode."""
        self.environment.restore(state_dict["environment"])
        continued(self._noise, state_dict["noise"])


class PolicySnapshots(L.Callback):
    """Saves the policy after each evaluation whose mean return is higher than that of all earlier evaluations.

    The first policy that exceeds any given return is therefore among the saved ones. In the list of callbacks it must follow
    `PolicyEvaluation`.
    """

    def __init__(
        self,
        folder: Path,
        evaluation: PolicyEvaluation,
        *,
        policy_of: Callable[[SACModule], Policy],
        stop_at: float | None,
    ) -> None:
        """Create the callback.

        Args:
            folder: Folder in which one folder for each policy is created, named by the number of updates.
            evaluation: Callback that evaluates the policy and holds the returns.
            policy_of: Makes the policy to save from the module.
            stop_at: Mean return at which training ends; None: training does not end early.

        """
        self.folder, self.evaluation, self.policy_of, self.stop_at = folder, evaluation, policy_of, stop_at

    def path(self, updates: float) -> Path:
        """Return the folder of the policy that is saved after this number of updates."""
        return self.folder / f"{int(updates):08d}"

    @property
    def reached(self) -> bool:
        """Whether the mean return of an evaluation has reached `stop_at`."""
        return self.stop_at is not None and any(value >= self.stop_at for _, value in self.evaluation.history)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Request a stop if a resumed training had already reached `stop_at`."""
        if self.reached:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the policy if its evaluation is the best so far; request a stop if an evaluation has reached `stop_at`."""
        assert isinstance(pl_module, SACModule)
        history = self.evaluation.history
        if history and history[-1][0] == pl_module.updates:
            if all(history[-1][1] > value for _, value in history[:-1]):
                self.policy_of(pl_module).save(self.path(pl_module.updates))
            if self.reached:
                trainer.should_stop = True
