"""Replace `compile`, `threads` and `sac.schedule_epochs` by their values for one dataset and machine, once."""

import importlib.util
import math
import os
import shutil
from dataclasses import replace

from mopo_pl.config.keys import format_value
from mopo_pl.config.schema import Config
from mopo_pl.errors import InputError

COMPILE_THRESHOLDS = {"policy": 5000, "ensemble": 20_000, "rollouts": 5_000_000}
"""Policy updates, ensemble updates and imagined transitions below which compiling a part costs more time than it saves.

Measured on two CPU cores: compiling takes about 20 s against 5 ms per policy update, up to a minute against 10 ms per
ensemble update, and 15 s against 3 µs per imagined transition.
"""
UNLIMITED_EPOCHS = 100
"""Number of epochs that is assumed for an ensemble without a limit, when the parts to compile are chosen."""


def resolve(config: Config, *, rows: int, threads: int, device: str) -> Config:
    """Return the configuration with `compile` as a list, and `threads` and `sac.schedule_epochs` as numbers.

    `rows`: number of transitions; `threads`: the value for `threads=null`; `device`: "cpu" or "cuda". Resolving twice
    changes nothing. Raises InputError if `compile` requires a compiler that is not installed.

    >>> from mopo_pl.config.schema import TrainerConfig
    >>> config = resolve(Config(trainer=TrainerConfig(max_epochs=3)), rows=20_000, threads=2, device="cpu")
    >>> config.compile, config.threads, config.sac.schedule_epochs
    ([], 2, 3)
    """
    return replace(
        config,
        compile=compiled_parts(config, rows, device),
        threads=config.threads or threads,
        sac=replace(config.sac, schedule_epochs=config.sac.schedule_epochs or config.trainer.max_epochs),
    )


def compiled_parts(config: Config, rows: int, device: str) -> list[str]:
    """Return the parts that are compiled for a run on a dataset of `rows` transitions on `device` ("cpu" or "cuda").

    auto: the parts that reach `COMPILE_THRESHOLDS`, none without a compiler. true: all parts that the run has. A list: those of the
    listed parts that the run has. Raises InputError if parts are named and there is no compiler.
    """
    if config.compile == "false" or not config.compile:
        return []
    amounts, missing = _amounts(config, rows), _missing(device)
    if config.compile == "auto":
        return [] if missing else [part for part, enough in COMPILE_THRESHOLDS.items() if amounts[part] >= enough]
    asked = list(COMPILE_THRESHOLDS) if config.compile == "true" else list(config.compile)
    if missing:
        raise InputError(
            f"compile={format_value(config.compile)} needs {missing}, which was not found: install it or set compile=false"
        )
    return [part for part in asked if amounts[part]]


def _amounts(config: Config, rows: int) -> dict[str, int]:
    """Return the number of policy updates, ensemble updates and imagined transitions of the run."""
    epochs = 0 if config.stage == "dynamics" else config.trainer.max_epochs
    refreshes = math.ceil(epochs / config.rollout.every_n_epochs) if config.uses_model else 0
    model_epochs = (config.dynamics.max_epochs or UNLIMITED_EPOCHS) if config.trains_model else 0
    return {
        "policy": epochs * config.sac.updates_per_epoch if config.algorithm == "sac" else 0,
        "ensemble": model_epochs * math.ceil(rows / config.dynamics.batch_size),
        "rollouts": refreshes * config.rollout.starts * config.rollout.horizon,
    }


def _missing(device: str) -> str | None:
    """Return what torch.compile needs on this type of device and is not installed, or None."""
    if device == "cuda":
        return None if importlib.util.find_spec("triton") else "triton"
    compilers = filter(None, (os.environ.get("CXX"), "g++", "clang++"))
    return None if any(map(shutil.which, compilers)) else "a C++ compiler (g++, clang++ or $CXX)"
