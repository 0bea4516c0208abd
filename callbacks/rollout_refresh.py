"""Callback that generates new imagined data with the current policy."""

import math
from dataclasses import replace
from typing import Any

import lightning as L
import torch

from mopo_pl.callbacks.requirements import require
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.distributed.collectives import gather_from_ranks, state_of_this_rank
from mopo_pl.distributed.console import print_once
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.rollouts import RolloutStatistics, Stepper, branch, compiled_step, one_step
from mopo_pl.errors import Diverged, InputError
from mopo_pl.nn.random_streams import continued, generator_for
from mopo_pl.nn.stored_weights import digest_of
from mopo_pl.sac.module import SACModule


class RolloutRefresh(L.Callback):
    """Every `every_n_epochs` epochs, branches `starts` rollouts of `horizon` steps and adds them to the model buffer.

    Such an update of the buffer is called a refresh. The first refresh uses the untrained policy (Yu et al. 2020, algorithm 2).
    The model is not part of the LightningModule: it is frozen, and should take no space in checkpoints and no part in gradient
    synchronisation. `starts` is per rank. Each rank uses a separate random stream and the precision of training.
    """

    def __init__(
        self,
        model: PenalisedModel,
        *,
        horizon: int,
        starts: int,
        every_n_epochs: int,
        chunk: int,
        continue_share: float,
        limits: StateLimits,
        max_dropped: float,
        seed: int,
        compile: bool,
    ) -> None:
        """Create the callback.

        Args:
            model: Penalised model in which the policy is rolled out.
            horizon: Length of a rollout, h [steps].
            starts: Number of rollouts in a refresh, per rank.
            every_n_epochs: Number of epochs between two refreshes.
            chunk: Largest number of rollouts that are computed together.
            continue_share: Share of the starts that are drawn from the states at which rollouts of the last refresh were still
                running, so that the buffer also holds states that the policy itself reaches. The other starts are logged states.
            limits: Limits of the states. A rollout is dropped at the first state outside of them.
            max_dropped: Largest share of the rollouts of a refresh that may leave `limits` or become NaN or infinite.
            seed: Seed of the starts and of all random numbers of the rollouts.
            compile: Whether the step of chunks of full size is compiled.

        """
        self.model, self.limits, self.max_dropped = model, limits, max_dropped
        self.horizon, self.starts, self.every_n_epochs = horizon, starts, every_n_epochs
        # Equal chunks. The remaining starts, for which the step is not compiled, are then fewer than the number of chunks.
        self.chunk = starts // math.ceil(starts / chunk)
        self.continue_share, self.seed = continue_share, seed
        self._running: torch.Tensor | None = None
        """States at which rollouts of the last refresh were still running [n, D]."""
        self.compile = compile
        self._step: Stepper = one_step
        self.done = 0
        """Number of refreshes made. After a resume within an epoch it prevents a second refresh in that epoch."""
        self.summary: dict[str, float] = {}
        """Statistics of the refresh made in this epoch; empty if there was none."""
        self._generator: torch.Generator | None = None
        """Random generator of this rank; None before the first fit."""
        self._saved_generators: list[torch.Tensor] | None = None
        """Generator states of a checkpoint, one for each rank; None if it was saved before the first fit."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Reset the state for a new fit, whose model buffer is empty. The Trainer loads a checkpoint's state after this hook.

        Raises InputError if the module is not a `SACModule`, the DataModule is not an `OfflineDataModule`, or its model buffer is
        too small.
        """
        require(self, pl_module, SACModule)
        if stage != "fit":
            return
        data = self._data(trainer)
        if data.capacity < self.starts * self.horizon:
            raise InputError(
                f"OfflineDataModule(capacity={data.capacity}) is too small for a refresh of {self.starts} starts of "
                f"{self.horizon} steps: it takes {self.starts * self.horizon} rows"
            )
        if trainer.current_epoch == 0:
            self.done, self.summary, self._generator, self._running = 0, {}, None, None
            if self.model.halt is not None:
                self.model.halt.begin()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move the model to the training device, create this rank's generator there, and compile the step if `compile` is set.

        A fit that resumes from a checkpoint restores the generator's state from it. A further fit of the same Trainer continues
        with the existing generator. Any other fit starts with a newly seeded one.
        """
        self.model = self.model.to(pl_module.device)
        if self.model.halt is not None:
            share = gather_from_ranks(self.model.halt.share)[0]  # the value of rank 0, on all ranks
            self.model = replace(self.model, halt=replace(self.model.halt, share=share))
        if self.model.needs_value:
            assert isinstance(pl_module, SACModule)
            self.model = replace(self.model, value=pl_module.value, discount=pl_module.discount)
        self.limits = self.limits.to(pl_module.device)
        resumes = trainer.ckpt_path is not None
        if resumes or self._generator is None or self._generator.device != pl_module.device:
            self._generator = generator_for(self.seed, "rollouts", trainer.global_rank, pl_module.device)
        if resumes and self._saved_generators is not None:
            continued(self._generator, state_of_this_rank(self._saved_generators))
        if self._running is not None:
            self._running = self._running.to(pl_module.device)
        if self.compile:
            self._step = compiled_step(self.chunk, pl_module.device)
            print_once(
                "the rollouts' step is compiled: the first one may take a quarter of a minute (compile=false leaves it out)"
            )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make a refresh if one is due, or if the model buffer has never been filled."""
        data = self._data(trainer)
        assert isinstance(pl_module, SACModule)
        if self.done > trainer.current_epoch // self.every_n_epochs and data.model_buffer.refreshes:
            return
        with trainer.precision_plugin.forward_context():
            self.summary = self.refresh(pl_module, data)

    def _data(self, trainer: L.Trainer) -> OfflineDataModule:
        given = trainer.datamodule  # type: ignore[attr-defined]
        return require(self, given, OfflineDataModule, where=", handed to Trainer.fit as datamodule=")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the statistics of the refresh to the epoch's metrics row, also after a resume within the epoch."""
        assert isinstance(pl_module, SACModule)
        pl_module.note({f"rollout/{name}": value for name, value in self.summary.items()})
        self.summary = {}

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Release the step that was compiled for this fit."""
        self._step = one_step

    def refresh(self, module: SACModule, data: OfflineDataModule) -> dict[str, float]:
        """Fill one slot of the model buffer, chunk by chunk, and return the statistics of the refresh.

        Raises Diverged if more than `max_dropped` of the rollouts were dropped.
        """
        assert self._generator is not None
        statistics, ends, running = RolloutStatistics(module.device, self.model.log), [], []
        data.model_buffer.begin()
        for begin in range(0, self.starts, self.chunk):
            starts = self._starts(data, min(self.chunk, self.starts - begin), self._generator)
            rollout = branch(
                self.model,
                module.actor.act,
                starts,
                self.horizon,
                self.limits,
                self._generator,
                self._step,
            )
            data.model_buffer.append(rollout.transitions.rows.flatten(0, 1), rollout.valid.flatten())
            statistics.add(rollout)
            ends.append(rollout.ends)
            running.append(rollout.running)
        data.model_buffer.end()
        self.done += 1
        if self.continue_share:
            self._running = torch.cat(ends)[torch.cat(running)]
        summary = statistics.summary()
        if self.model.halt is not None:
            halted = summary["halted"] / max(summary["length"], 1e-12)
            summary |= {"halt_cost": float(self.model.halt.price_limit), "halt_excess": halted / self.model.halt.share}
            self.model.halt.follow(halted)
        if summary["dropped_share"] > self.max_dropped:
            raise Diverged(
                f"{summary['dropped_share']:.0%} of the imagined rollouts left the dataset's range or became NaN or inf "
                f"(more than rollout.max_dropped={self.max_dropped})",
                module.updates,
                "a larger penalty.coef or a shorter rollout.horizon, and look at the ensemble's holdout errors",
            )
        return summary

    def _starts(self, data: OfflineDataModule, size: int, generator: torch.Generator) -> torch.Tensor:
        """Return the start states [size, D]: first those that continue rollouts of the last refresh, then logged states."""
        starts = data.sample_starts(size, generator).contiguous()  # the compiled step is for this memory layout only
        if not self.continue_share or self._running is None or not len(self._running):
            return starts
        continuing = int(size * self.continue_share)
        index = torch.randint(len(self._running), (continuing,), generator=generator, device=starts.device)
        return torch.cat([self._running[index], starts[continuing:]])

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the callback on all ranks.

        It holds the number of refreshes, the statistics of this epoch's refresh, the generator and the running states of every
        rank, C and ε of `Halt`, and the checksum of the ensemble's weights.
        """
        streams = None if self._generator is None else gather_from_ranks(self._generator.get_state())
        running = gather_from_ranks(self._running)
        halt = None if self.model.halt is None else (float(self.model.halt.price_limit), self.model.halt.share)
        return {
            "done": self.done,
            "summary": self.summary,
            "generators": streams,
            "running": running,
            "halt": halt,
            "ensemble": digest_of(self.model.transition.ensemble.state_dict().values()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state saved by `state_dict`. Raises InputError if it was saved with another ensemble."""
        ours, theirs = digest_of(self.model.transition.ensemble.state_dict().values()), state_dict.get("ensemble")
        if theirs not in (None, ours):  # earlier versions: none
            raise InputError(
                f"the ensemble is another ({ours[:12]}) than that of the checkpoint ({theirs[:12]}), in which its policy was trained: "
                "restore dynamics.safetensors and dynamics.json, or start a new run"
            )
        self.done, self.summary = state_dict["done"], dict(state_dict["summary"])
        self._saved_generators = state_dict["generators"]
        self._running = state_of_this_rank(state_dict["running"])
        if self.model.halt is not None and state_dict.get("halt") is not None:  # earlier versions: none
            cost, share = state_dict["halt"]
            self.model.halt.price_limit.fill_(cost)
            # A machine that rounds differently may have computed another share from the logged steps.
            self.model = replace(self.model, halt=replace(self.model.halt, share=share))
