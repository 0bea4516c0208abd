"""What `auto` and null come to for one log on one machine: decided once, before anything is built."""

import importlib.util
import math
import os
import shutil
from dataclasses import replace

from mopo_pl.config.keys import format_value
from mopo_pl.config.schema import Config
from mopo_pl.errors import InputError

COMPILE_THRESHOLDS = {"policy": 5000, "ensemble": 20_000, "rollouts": 5_000_000}
"""Updates, steps and imagined transitions below which compiling a part costs more than it saves: on two CPU cores some 20 s
against 5 ms an update, up to a minute against a step's 10 ms, 15 s against 3 µs a transition.
"""


def resolve(config: Config, *, rows: int, threads: int, device: str) -> Config:
    """The configuration with nothing left open: `compile` is a list, `threads` and `sac.schedule_epochs` are numbers.

    `rows`: transitions of the log; `threads`: what `threads=null` comes to; `device`: "cpu" or "cuda". Raises InputError
    where `compile` asks for what cannot be built here. A resolved configuration resolves to itself.
    """
    return replace(
        config,
        compile=compiled_parts(config, rows, device),
        threads=config.threads or threads,
        sac=replace(config.sac, schedule_epochs=config.sac.schedule_epochs or config.trainer.max_epochs),
    )


def compiled_parts(config: Config, rows: int, device: str) -> list[str]:
    """The parts that are compiled for a run on a log of so many rows, on this type of device.

    auto: those that are worth it, none where torch.compile has nothing to build with. What is asked for is compiled in any
    case, unless the run has none of it; raises InputError where there is nothing to build it with.
    """
    if config.compile == "false" or not config.compile:
        return []
    amounts, missing = _amounts(config, rows), _missing(device)
    if config.compile == "auto":
        return [] if missing else [part for part, enough in COMPILE_THRESHOLDS.items() if amounts[part] >= enough]
    asked = list(COMPILE_THRESHOLDS) if config.compile == "true" else list(config.compile)
    if missing:
        raise InputError(
            f"compile={format_value(config.compile)} needs {missing}, and there is none; install it or set compile=false"
        )
    return [part for part in asked if amounts[part]]


def _amounts(config: Config, rows: int) -> dict[str, int]:
    """Updates, steps and imagined transitions of the whole run."""
    epochs = 0 if config.stage == "dynamics" else config.trainer.max_epochs
    refreshes = math.ceil(epochs / config.rollout.every_n_epochs) if config.uses_model else 0
    model_epochs = config.dynamics.max_epochs if config.trains_model else 0
    return {
        "policy": epochs * config.sac.updates_per_epoch,
        "ensemble": model_epochs * math.ceil(rows / config.dynamics.batch_size),
        "rollouts": refreshes * config.rollout.starts * config.rollout.horizon,
    }


def _missing(device: str) -> str | None:
    """What torch.compile would need for this type of device and does not find."""
    if device == "cuda":
        return None if importlib.util.find_spec("triton") else "triton"
    compilers = filter(None, (os.environ.get("CXX"), "g++", "clang++"))
    return None if any(map(shutil.which, compilers)) else "a C++ compiler (g++, clang++ or $CXX)"
