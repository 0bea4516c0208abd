"""Callback that evaluates the policy in the real environment during training."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import numpy as np

from mopo_pl.callbacks.requirements import require
from mopo_pl.distributed.collectives import gather_from_ranks, rank, world_size
from mopo_pl.environments.episodes import Episodes, evaluate, interleave
from mopo_pl.sac.policy_module import PolicyModule


class PolicyEvaluation(L.Callback):
    """Plays episodes with deterministic actions every `every_n_epochs` epochs, and keeps the mean returns in `history`.

    The seeds of the environment are the same at each evaluation, so that a difference between two evaluations is due to the
    policy. No random number is drawn from a generator that training uses.
    """

    def __init__(
        self,
        *,
        policy_of: Callable[[PolicyModule], Callable[[np.ndarray], np.ndarray]],
        env_id: str,
        env_kwargs: Mapping[str, Any],
        episodes: int,
        every_n_epochs: int,
        seed: int,
        score: Callable[[float], float | None],
        before_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Create the callback.

        Args:
            policy_of: Makes from the module the function from observations [n, D] to actions [n, A] in the environment's units.
            env_id: Id of the environment, for `gymnasium.make`.
            env_kwargs: Keyword arguments of `gymnasium.make`.
            episodes: Number of episodes in an evaluation.
            every_n_epochs: Number of epochs between two evaluations.
            seed: Seed of the first episode.
            score: Returns the normalised score of a return, or None if the environment has no reference returns.
            before_step: Called before each step of an evaluation on a single device. An exception it raises ends the fit.

        """
        self.policy_of, self.env_id, self.env_kwargs = policy_of, env_id, env_kwargs
        self.episodes, self.every_n_epochs, self.seed, self.score = episodes, every_n_epochs, seed, score
        self.before_step = before_step
        """Called before each step of an evaluation on a single device. An exception it raises ends the fit."""
        self.history: list[list[float]] = []
        """[updates, mean return] of each evaluation."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Clear `history` for a new fit. The Trainer loads a checkpoint's history after this hook.

        Raises InputError if the module is not a `PolicyModule`.
        """
        require(self, pl_module, PolicyModule)
        if stage == "fit" and trainer.current_epoch == 0:
            self.history = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate the policy when due. A policy with weights that are not finite is skipped; the module then ends the fit."""
        assert isinstance(pl_module, PolicyModule)
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not due or not all(bool(p.isfinite().all()) for p in pl_module.deployed_actor.parameters()):
            return
        self.history.append([float(pl_module.updates), self._note(pl_module)])

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate the policy for `Trainer.validate`, which returns the values. They are not added to `history`."""
        assert isinstance(pl_module, PolicyModule)
        self._note(pl_module)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate the policy for `Trainer.test`, as `on_validation_epoch_end` does for `Trainer.validate`."""
        self.on_validation_epoch_end(trainer, pl_module)

    def _note(self, module: PolicyModule) -> float:
        """Evaluate the policy, add the results to the metrics row, and return the mean return."""
        episodes = self.run(module)
        mean = float(episodes.returns.mean())
        values = {"return": mean, "return_std": float(episodes.returns.std()), "length": float(episodes.lengths.mean())}
        score = self.score(mean)
        if score is not None:
            values["score"] = score
        module.note({f"evaluation/{name}": value for name, value in values.items()})
        return mean

    def after(self, updates: int) -> float | None:
        """Return the mean return of the last evaluation if it was made after exactly this number of updates, else None."""
        return self.history[-1][1] if self.history and self.history[-1][0] == updates else None

    def run(self, module: PolicyModule) -> Episodes:
        """Evaluate the module's current policy and return the episodes of all ranks; each rank plays its share of them.

        The actor is in evaluation mode meanwhile, as an exported policy is.
        """
        training = module.deployed_actor.training
        module.deployed_actor.eval()
        try:
            played = evaluate(
                self.policy_of(module),
                env_id=self.env_id,
                env_kwargs=self.env_kwargs,
                numbers=range(self.episodes)[rank() :: world_size()],
                seed=self.seed,
                # If one of several ranks raised here, the others would wait forever for its episodes.
                before_step=self.before_step if world_size() == 1 else lambda: None,
            )
        finally:
            module.deployed_actor.train(training)
        return interleave(gather_from_ranks(played))

    def state_dict(self) -> dict[str, Any]:
        """Return the updates and mean returns of all evaluations."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the history saved by `state_dict`."""
        self.history = [list(point) for point in state_dict["history"]]
