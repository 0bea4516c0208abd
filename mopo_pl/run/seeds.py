"""How the runs of a list of seeds train."""

from collections.abc import Sequence

import torch
from lightning.pytorch.accelerators import CPUAccelerator

from mopo_pl.config import Config
from mopo_pl.messages import say
from mopo_pl.problems import Diverged, InputError, Unwritable
from mopo_pl.run.session import name_ensemble, refuse_occupied, run
from mopo_pl.run.side_by_side import run_side_by_side
from mopo_pl.run.stacked import run_stacked
from mopo_pl.run.trainers import probe_flags

SIGNALLED = 128
"""Above it, an exit code is that of a signal."""


def run_all(arguments: Sequence[str], runs: Sequence[Config]) -> int:
    """Trains them; the first exit code but 0. `arguments` of the command line, from which they were made.

    One that fails does not stop the others; a signal stops all. Raises InputError before anything is trained where one
    cannot begin, and what the first that failed has raised.
    """
    for config in runs:
        refuse_occupied(config)
        name_ensemble(config)
    manner = "in_turn" if len(runs) == 1 else chosen(runs[0])
    if manner == "side_by_side":
        return run_side_by_side(arguments, runs)
    if manner == "stacked":
        return run_stacked(runs)
    return _in_turn(runs)


def _in_turn(runs: Sequence[Config]) -> int:
    codes, errors = [], []
    for config in runs:
        try:
            codes.append(run(config))
        except (Diverged, Unwritable) as error:
            errors.append(error)
            if len(runs) > 1:
                say(f"seed {config.seed} ended by an error: {error}")
        if codes and codes[-1] > SIGNALLED:
            break
    if errors:
        raise errors[0]
    return next(filter(None, codes), 0)


def chosen(config: Config) -> str:
    """What `seeds` comes to on this machine; raises InputError where it does not go with the Trainer's flags.

    On a CPU runs gain from a thread each, and stacking networks of the usual size gains nothing (docs/performance.md). A GPU,
    on which launching such small kernels should cost more than their work, was not at hand.
    """
    if config.seeds == "in_turn":
        return "in_turn"
    trainer = probe_flags(config)
    if trainer.world_size > 1:
        if config.seeds == "auto":
            return "in_turn"
        raise InputError(
            f"seeds={config.seeds} is for runs of one process each: leave it out, or set trainer.devices=1"
        )
    if config.seeds != "auto":
        return config.seeds
    if isinstance(trainer.accelerator, CPUAccelerator):
        return "side_by_side" if torch.get_num_threads() // (config.threads or 1) > 1 else "in_turn"
    return "in_turn" if config.stage == "dynamics" else "stacked"
