"""When a policy that learns in its environment takes steps there, and which of its versions are kept."""

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

    Actions are drawn from the policy. As many updates are made as steps, as by Haarnoja et al. 2018 (arXiv:1812.05905).
    """

    def __init__(self, environment: SteppedEnvironment, *, start_steps: int, seed: int) -> None:
        self.environment, self.start_steps = environment, start_steps
        self._noise = generator_for(seed, "behaviour")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check module and DataModule; raise InputError for others."""
        require(self, pl_module, SACModule)
        self._data(trainer)

    def _data(self, trainer: L.Trainer) -> ReplayDataModule:
        given = trainer.datamodule  # type: ignore[attr-defined]
        return require(self, given, ReplayDataModule, where=", handed to Trainer.fit as datamodule=")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the first steps, unless a checkpoint gave some."""
        data = self._data(trainer)
        if data.size == 0:
            low, high = self.environment.action_low, self.environment.action_high
            drawn = torch.rand(self.start_steps, len(low), generator=self._noise).numpy()
            self._take(data, [self.environment.step(low + (high - low) * share) for share in drawn])

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take as many steps as the batch has updates."""
        assert isinstance(pl_module, SACModule)
        data = self._data(trainer)
        policy = Policy(pl_module.actor, self.environment.action_low, self.environment.action_high, {})
        self._take(data, [self._step(policy) for _ in range(len(batch))])

    def _step(self, policy: Policy) -> np.ndarray:
        noise = torch.randn(self.environment.layout.action_dim, generator=self._noise)
        try:
            action = policy.with_noise(self.environment.observation, noise)
        except ActionsNotFinite as error:  # of a policy that diverged: the environment's step says so
            action = error.actions
        return self.environment.step(action)

    def _take(self, data: ReplayDataModule, steps: list[np.ndarray]) -> None:
        if steps:
            data.append(torch.from_numpy(np.stack(steps)).to(data.rows.device))

    def state_dict(self) -> dict[str, Any]:
        """Episode, its actions, and the stream of the policy's noise."""
        return {"environment": self.environment.state(), "noise": self._noise.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; the environment repeats its episode."""
        self.environment.restore(state_dict["environment"])
        continued(self._noise, state_dict["noise"])


class PolicySnapshots(L.Callback):
    """Keeps the policy of each evaluation that beat all before it: the first above any return is among them.

    Stands behind `PolicyEvaluation` in the list of callbacks.
    """

    def __init__(
        self,
        folder: Path,
        evaluation: PolicyEvaluation,
        *,
        policy_of: Callable[[SACModule], Policy],
        stop_at: float | None,
    ) -> None:
        """`folder`: gets a folder for each policy, named by its updates. `stop_at`: return at which training ends; None: never."""
        self.folder, self.evaluation, self.policy_of, self.stop_at = folder, evaluation, policy_of, stop_at

    def path(self, updates: float) -> Path:
        """Folder of the policy after so many updates."""
        return self.folder / f"{int(updates):08d}"

    @property
    def reached(self) -> bool:
        """Whether an evaluation reached `stop_at`."""
        return self.stop_at is not None and any(value >= self.stop_at for _, value in self.evaluation.history)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep a training that was finished finished."""
        if self.reached:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the policy if its evaluation is the best so far, and end the training if it is good enough."""
        assert isinstance(pl_module, SACModule)
        history = self.evaluation.history
        if history and history[-1][0] == pl_module.updates:
            if all(history[-1][1] > value for _, value in history[:-1]):
                self.policy_of(pl_module).save(self.path(pl_module.updates))
            if self.reached:
                trainer.should_stop = True
