"""Functions that build the log, modules, DataModules and callbacks from settings, for `train.py` and for any other Trainer.

They translate sections of the configuration to constructor arguments, so that the built objects do not depend on the
configuration. Only `open_dataset` takes the complete section `data`.
"""

from mopo_pl.assembly.batches import build_batches, build_logged_batches
from mopo_pl.assembly.callbacks import build_callbacks, build_evaluation, build_health, evaluation_seed, run_facts
from mopo_pl.assembly.ensemble import build_dynamics, build_samples, build_selection
from mopo_pl.assembly.log import examine_log, open_log
from mopo_pl.assembly.penalised_model import (
    build_penalised_model,
    build_penalty,
    build_refresh,
)
from mopo_pl.assembly.policy import (
    actor_class,
    as_policy,
    build_actor,
    build_cloning,
    build_sac,
)
from mopo_pl.assembly.terminals import build_terminal_samples, build_terminals

__all__ = [
    "actor_class",
    "as_policy",
    "build_actor",
    "build_batches",
    "build_callbacks",
    "build_cloning",
    "build_dynamics",
    "build_evaluation",
    "build_health",
    "build_logged_batches",
    "build_penalised_model",
    "build_penalty",
    "build_refresh",
    "build_sac",
    "build_samples",
    "build_selection",
    "build_terminal_samples",
    "build_terminals",
    "evaluation_seed",
    "examine_log",
    "open_log",
    "run_facts",
]
