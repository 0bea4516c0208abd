"""What Lightning must be asked and told where a graph makes its optimisers' steps."""

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden

HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Of Lightning, that see gradients or the loss on its way to them."""


def gradients_are_watched(module: L.LightningModule) -> bool:
    """Whether the module or a callback waits for gradients: a graph shows none."""
    watchers = [module, *module.trainer.callbacks]  # type: ignore[attr-defined]
    return any(is_overridden(hook, watcher) for watcher in watchers for hook in HOOKS)


def count_steps(trainer: L.Trainer, steps: int) -> None:
    """Adds optimiser steps to Lightning's own count, so that what goes by `global_step` does not notice."""
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        tracker.ready += steps
        tracker.completed += steps
