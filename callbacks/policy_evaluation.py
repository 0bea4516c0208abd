"""Evaluates the policy in the real environment during training."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import numpy as np

from mopo_pl.callbacks.requirements import require
from mopo_pl.distributed.collectives import gather_from_ranks, rank, world_size
from mopo_pl.environments.episodes import Episodes, evaluate, interleave
from mopo_pl.sac.policy_module import PolicyModule


class PolicyEvaluation(L.Callback):
    """Deterministic episodes every `every_n_epochs` epochs; the returns stay in `history`.

    The environment's seeds are the same at each evaluation, so that a change of the curve is a change of the policy, and
    nothing here draws from a stream that training uses.
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
        """`policy_of`: makes, of the module, the function from observations [n, D] to actions [n, A] in the environment's
        units. `env_id`, `env_kwargs`: arguments of `gymnasium.make`. `episodes`: per evaluation. `seed`: of the first
        episode. `score`: the normalised score of a return, None where no reference is known.
        """
        self.policy_of, self.env_id, self.env_kwargs = policy_of, env_id, env_kwargs
        self.episodes, self.every_n_epochs, self.seed, self.score = episodes, every_n_epochs, seed, score
        self.before_step = before_step
        """Called before each step of an evaluation on a single device; what it raises ends the fit."""
        self.history: list[list[float]] = []
        """[updates, mean return] of each evaluation."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Begin a new curve for a new fit; a checkpoint's is loaded after this. Raises InputError where the module trains no policy."""
        require(self, pl_module, PolicyModule)
        if stage == "fit" and trainer.current_epoch == 0:
            self.history = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate when due. A policy that has diverged is not evaluated: the module ends the fit for it."""
        assert isinstance(pl_module, PolicyModule)
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not due or not all(bool(p.isfinite().all()) for p in pl_module.deployed_actor.parameters()):
            return
        self.history.append([float(pl_module.updates), self._note(pl_module)])

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate for `Trainer.validate`, which returns the values. They do not enter `history`."""
        assert isinstance(pl_module, PolicyModule)
        self._note(pl_module)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """As `on_validation_epoch_end`, for `Trainer.test`."""
        self.on_validation_epoch_end(trainer, pl_module)

    def _note(self, module: PolicyModule) -> float:
        """Evaluate, note the results in the metrics row, and return the mean return."""
        episodes = self.run(module)
        mean = float(episodes.returns.mean())
        values = {"return": mean, "return_std": float(episodes.returns.std()), "length": float(episodes.lengths.mean())}
        score = self.score(mean)
        if score is not None:
            values["score"] = score
        module.note({f"evaluation/{name}": value for name, value in values.items()})
        return mean

    def after(self, updates: int) -> float | None:
        """Mean return of the evaluation after exactly this number of updates; None where there was none."""
        return self.history[-1][1] if self.history and self.history[-1][0] == updates else None

    def run(self, module: PolicyModule) -> Episodes:
        """One evaluation of the module as it is; each rank plays its share of the episodes.

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
                # Other ranks would wait for the episodes of one that leaves.
                before_step=self.before_step if world_size() == 1 else lambda: None,
            )
        finally:
            module.deployed_actor.train(training)
        return interleave(gather_from_ranks(played))

    def state_dict(self) -> dict[str, Any]:
        """The curve so far."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the curve saved by `state_dict`."""
        self.history = [list(point) for point in state_dict["history"]]
