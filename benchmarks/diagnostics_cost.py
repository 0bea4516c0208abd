"""What judging a run's health costs while its policy trains: a share of the processor's time, both measured in one run.

    python benchmarks/diagnostics_cost.py [--epochs 3] [--history 1000] [key=value …]

A run with the default settings (and `key=value`) is trained for a few epochs, with a history of so many epochs behind it, as
late in a long run. The time inside `PolicyHealth` and inside `RolloutStatistics.add`, which also makes the sums that other
metrics need, is divided by that of the remaining training: with diagnostics, against without. Processor time of the training
thread is counted (threads=1), so that other programs on the machine do not matter.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import lightning as L

from mopo_pl import assembly
from mopo_pl.callbacks import PolicyHealth
from mopo_pl.config.compose import compose
from mopo_pl.config.resolve import resolve
from mopo_pl.diagnostics.health.rows import Row
from mopo_pl.dynamics.rollouts import RolloutStatistics
from mopo_pl.dynamics.termination import never
from mopo_pl.storage.checkpoints import ChecksummedCheckpointIO

SPENT: dict[str, float] = {}
"""Processor time spent inside, by name [s]."""


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose time is added to `SPENT`."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        begun = time.thread_time()
        try:
            return function(*arguments, **keywords)
        finally:
            SPENT[name] = SPENT.get(name, 0.0) + time.thread_time() - begun

    return call


class LateHealth(PolicyHealth):
    """Begins with a history, made of copies of the first epoch's row."""

    def __init__(self, inner: PolicyHealth, history: int) -> None:
        super().__init__(inner.facts, after=0, stop=inner.stop)
        self.history = history

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Judge the epoch; after the first there is a history."""
        super().on_train_epoch_end(trainer, pl_module)
        if len(self.rows) == 1:
            self.rows = list[Row](self.rows * self.history)


class Training(L.Callback):
    """Times the fit from its second epoch on, by when the history is there and nothing is built any more."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count at the second epoch."""
        if trainer.current_epoch == 1:
            SPENT.clear()
            self.begun = time.thread_time()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End the count."""
        self.spent = time.thread_time() - self.begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--history", type=int, default=1000)
    given, settings = parser.parse_known_args()
    config = compose([f"trainer.max_epochs={given.epochs + 1}", "compile=false", "threads=1", *settings])
    log = assembly.open_log(config)
    config = resolve(config, rows=len(log), threads=1, device="cpu")
    samples = assembly.build_samples(config.dynamics, log, seed=0)
    ensemble = assembly.build_dynamics(config.dynamics, samples, seed=0, compile=False)
    model = assembly.build_penalised_model(config.penalty, ensemble.model(), never, log, discount=config.sac.discount)
    module = assembly.build_sac(config.sac, log, seed=0, compile=False)
    known = config.reward is not None
    facts = assembly.run_facts(config.sac, log, real_ratio=config.rollout.real_ratio, known_reward=known)
    health, training = LateHealth(assembly.build_health(config.health, facts), given.history), Training()
    health.on_train_epoch_end = timed("PolicyHealth", health.on_train_epoch_end)
    RolloutStatistics.add = timed("RolloutStatistics.add", RolloutStatistics.add)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=given.epochs + 1,
            callbacks=[
                training,
                assembly.build_refresh(config.rollout, model, log, seed=0, compile=False),
                health,
            ],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=[ChecksummedCheckpointIO()],
            default_root_dir=folder,
        )
        trainer.fit(module, datamodule=assembly.build_batches(config.sac, config.rollout, log, seed=0))
    without = training.spent - sum(SPENT.values())
    print(
        f"training without diagnostics: {without / given.epochs:.2f} s an epoch of {config.sac.updates_per_epoch} updates"
    )
    for name, spent in SPENT.items():
        print(f"{name}: {1e3 * spent / given.epochs:.2f} ms an epoch, {spent / without:.3%}")
    print(f"with / without: {training.spent / without:.4f}")


if __name__ == "__main__":
    main()
