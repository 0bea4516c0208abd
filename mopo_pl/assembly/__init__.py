"""From settings to finished parts: the log, modules, DataModules, callbacks; for a run and for a Trainer of your own.

Sections of a configuration become arguments here. The parts know nothing of the configuration; `open_dataset` alone takes its
section `data` whole.
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
