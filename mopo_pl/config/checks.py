"""Validity of a configuration: the range of each value, and which values exclude each other."""

from collections.abc import Iterator
from dataclasses import fields
from math import inf, isfinite
from typing import Any

from mopo_pl.config.keys import format_value
from mopo_pl.config.schema import Config, SACConfig
from mopo_pl.config.sources.mapping import is_mapping

PENALTIES = ("max_aleatoric", "ensemble_std", "disagreement", "none")
"""Names in `dynamics.penalties.PENALTIES`, repeated here so that torch is not imported (a test compares them)."""
ACTORS = ("tanh_gaussian",)
"""Names in `sac.actor.ACTORS`, repeated here so that torch is not imported."""
LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")
"""Names in `run.loggers.LOGGERS`, repeated here so that Lightning is not imported."""

COMPILED_PARTS = ("policy", "ensemble", "rollouts")
"""Names in `config.resolve.COMPILE_THRESHOLDS`, repeated here (a test compares them)."""

PRECISIONS = ("32-true", "32", "bf16-mixed")
"""The supported precisions of Lightning. The dataset stays in float32, and no loss scaler is applied to the gradients."""

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
"""The supported strategies of Lightning.

Sharding gains nothing for networks this small. Strategies that fork leave the callbacks' state in the child processes,
where the run cannot read it.
"""


MOST_THREADS = 1024
"""Largest number of threads that is accepted. With more, torch cannot start them and ends with a segmentation fault."""


def problems_of(config: Config) -> list[str]:
    """Validate a configuration; return one message per violated constraint, none if it is valid.

    >>> from dataclasses import replace
    >>> config = Config()
    >>> problems_of(config)
    []
    >>> problems_of(replace(config, rollout=replace(config.rollout, horizon=0)))
    ['rollout.horizon=0 must be at least 1']
    """
    problems = [*_counts(config), *_ranges(config), *_relations(config), *_names(config)]
    reported = {problem.partition("=")[0] for problem in problems}
    return problems + [problem for problem in _not_finite(config) if problem.partition("=")[0] not in reported]


def _not_finite(config: Config) -> Iterator[str]:
    for section in (
        config.dynamics,
        config.classifier,
        config.rollout,
        config.penalty,
        config.sac,
        config.checkpoint,
    ):
        for entry in fields(section):
            value = getattr(section, entry.name)
            if isinstance(value, float) and not isfinite(value):
                name = type(section).__name__.removesuffix("Config").lower()
                yield f"{name}.{entry.name}={value} must be a finite number"


def _counts(config: Config) -> Iterator[str]:
    dynamics, rollout, sac, evaluation = config.dynamics, config.rollout, config.sac, config.evaluation
    counts = {
        "dynamics.members": dynamics.members,
        "dynamics.elites": dynamics.elites,
        "dynamics.batch_size": dynamics.batch_size,
        "dynamics.updates_per_step": dynamics.updates_per_step,
        "dynamics.holdout_max": dynamics.holdout_max,
        "classifier.epochs": config.classifier.epochs,
        "classifier.updates_per_epoch": config.classifier.updates_per_epoch,
        "rollout.horizon": rollout.horizon,
        "rollout.starts": rollout.starts,
        "rollout.every_n_epochs": rollout.every_n_epochs,
        "rollout.retain_epochs": rollout.retain_epochs,
        "rollout.chunk": rollout.chunk,
        "sac.batch_size": sac.batch_size,
        "sac.updates_per_epoch": sac.updates_per_epoch,
        "sac.updates_per_step": sac.updates_per_step,
        "evaluation.episodes": evaluation.episodes,
        "evaluation.every_n_epochs": evaluation.every_n_epochs,
        "evaluation.final_episodes": evaluation.final_episodes,
        "trainer.max_epochs": config.trainer.max_epochs,
        "data.collect_steps": config.data.collect_steps,
        "data.history": config.data.history,
    }
    optional = {
        "threads": config.threads,
        "sac.schedule_epochs": sac.schedule_epochs,
        "dynamics.max_epochs": dynamics.max_epochs,
        "data.time_limit": config.data.time_limit,
        "data.max_rows": config.data.max_rows,
    }
    counts |= {key: value for key, value in optional.items() if value is not None}
    for key, value in counts.items():
        if not 1 <= value < 2**31:
            yield f"{key}={value} must be at least 1{' and below 2147483648' if value > 1 else ''}"
    if (config.threads or 1) > MOST_THREADS:
        yield f"threads={config.threads} is more than {MOST_THREADS}: give at most as many as the machine has cores"
    if config.data.collect_seed < 0:
        yield f"data.collect_seed={config.data.collect_seed} must be at least 0"
    if config.trainer.limit_train_batches == 0:
        yield "trainer.limit_train_batches=0 would train nothing"
    hidden = {"dynamics": dynamics.hidden_sizes, "classifier": config.classifier.hidden_sizes, "sac": sac.hidden_sizes}
    if config.classifier.batch_size < 2 or config.classifier.batch_size % 2:
        yield f"classifier.batch_size={config.classifier.batch_size} must be even and at least 2: half of the rows are terminal"
    for key, sizes in {f"{section}.hidden_sizes": sizes for section, sizes in hidden.items()}.items():
        if not sizes or min(sizes) < 1:
            yield f"{key}={sizes} must be a list of layer widths, each at least 1"


def _ranges(config: Config) -> Iterator[str]:
    dynamics, sac = config.dynamics, config.sac
    if not 0 <= config.rollout.real_ratio <= 1:
        yield f"rollout.real_ratio={config.rollout.real_ratio} must lie in [0, 1]"
    if config.penalty.free_quantile is not None and not 0 <= config.penalty.free_quantile <= 1:
        yield f"penalty.free_quantile={config.penalty.free_quantile} must lie in [0, 1]"
    if not 0 < config.penalty.halt_share < 1:
        yield f"penalty.halt_share={config.penalty.halt_share} must lie between 0 and 1"
    if not 0 <= config.rollout.continue_share < 1:
        yield f"rollout.continue_share={config.rollout.continue_share} must lie in [0, 1)"
    if sac.actor_average is not None and not 0 < sac.actor_average < 1:
        yield f"sac.actor_average={sac.actor_average} must lie between 0 and 1"
    if not 2 <= sac.critics < 2**10:
        yield f"sac.critics={sac.critics} must be at least 2 and below 1024: their minimum is the value"
    if not 0 <= config.rollout.max_dropped <= 1:
        yield f"rollout.max_dropped={config.rollout.max_dropped} must lie in [0, 1]"
    if not 0 < dynamics.holdout_fraction < 1:
        yield f"dynamics.holdout_fraction={dynamics.holdout_fraction} must lie between 0 and 1"
    if not 0 < config.classifier.holdout_fraction < 1:
        yield f"classifier.holdout_fraction={config.classifier.holdout_fraction} must lie between 0 and 1"
    if not 0 <= dynamics.beta <= 1:
        yield f"dynamics.beta={dynamics.beta} must lie in [0, 1]"
    if not 0 <= dynamics.improvement < 1:
        yield f"dynamics.improvement={dynamics.improvement} must lie in [0, 1)"
    if not 0 <= sac.discount < 1:
        yield f"sac.discount={sac.discount} must lie in [0, 1)"
    if not 0 < sac.tau <= 1:
        yield f"sac.tau={sac.tau} must lie in (0, 1]"
    positive = {
        "dynamics.learning_rate": dynamics.learning_rate,
        "dynamics.huber_delta": dynamics.huber_delta,
        "classifier.learning_rate": config.classifier.learning_rate,
        "sac.actor_lr": sac.actor_lr,
        "sac.critic_lr": sac.critic_lr,
        "sac.alpha_lr": sac.alpha_lr,
        "sac.alpha_init": sac.alpha_init,
        "sac.alpha_max": sac.alpha_max,
        "sac.gradient_clip_norm": sac.gradient_clip_norm,
    }
    for key, value in positive.items():
        if value is not None and not value > 0:
            yield f"{key}={value} must be positive"
    not_negative = {
        "penalty.coef": config.penalty.coef,
        "penalty.value_coef": config.penalty.value_coef,
        **({} if sac.pessimism is None else {"sac.pessimism": sac.pessimism}),
        **({} if config.penalty.halt_widths is None else {"penalty.halt_widths": config.penalty.halt_widths}),
        "rollout.range_widths": config.rollout.range_widths,
        "dynamics.patience": dynamics.patience,
        "dynamics.bound_coef": dynamics.bound_coef,
        "classifier.weight_decay": config.classifier.weight_decay,
        "health.after": config.health.after,
        "checkpoint.every_minutes": config.checkpoint.every_minutes,
        **{f"dynamics.weight_decay[{i}]": value for i, value in enumerate(dynamics.weight_decay)},
    }
    for key, value in not_negative.items():
        if not value >= 0:
            yield f"{key}={value} must not be negative"


def _relations(config: Config) -> Iterator[str]:
    dynamics, sac = config.dynamics, config.sac
    if dynamics.elites > dynamics.members:
        yield f"dynamics.elites={dynamics.elites} is more than dynamics.members={dynamics.members}"
    layers = len(dynamics.hidden_sizes) + 1
    if len(dynamics.weight_decay) != layers:
        yield (
            f"dynamics.weight_decay has {len(dynamics.weight_decay)} coefficients, but dynamics.hidden_sizes give {layers} "
            "layers, including the output layer: write one coefficient per layer"
        )
    if sac.log_std_min >= sac.log_std_max:
        yield f"sac.log_std_min={sac.log_std_min} must be less than sac.log_std_max={sac.log_std_max}"
    if config.algorithm == "bc":
        yield from _not_of_cloning(config)
    if config.stage == "policy" and config.dynamics_from is None and config.uses_model:
        yield "stage=policy needs dynamics_from=<run folder>, the run whose ensemble it uses"
    if config.stage == "dynamics" and config.dynamics_from is not None:
        yield "stage=dynamics trains an ensemble: remove dynamics_from, which uses an existing one"
    if is_mapping(config.dataset) and config.data.source is None:
        yield f"dataset={config.dataset} does not say where the log is: set data.source in it"
    low, high = config.data.action_low, config.data.action_high
    if low is not None and high is not None and len(low) != len(high):
        yield f"data.action_low has {len(low)} dimensions, but data.action_high has {len(high)}"


def _not_of_cloning(config: Config) -> Iterator[str]:
    """Yield a message for each setting that has no effect in behaviour cloning, though a user may expect one."""
    if config.stage == "dynamics":
        yield "stage=dynamics trains an ensemble, which algorithm=bc does not use: remove one of the two"
    if config.dynamics_from is not None:
        yield f"dynamics_from={config.dynamics_from} is not used by algorithm=bc: remove it"
    for key in ("actor_average", "gradient_clip_norm"):
        if getattr(config.sac, key) not in (None, getattr(SACConfig(), key)):
            yield f"sac.{key}={getattr(config.sac, key)} is for algorithm=sac: algorithm=bc has none"


def _names(config: Config) -> Iterator[str]:
    if config.penalty.name not in PENALTIES and ":" not in config.penalty.name:
        yield f"penalty.name={config.penalty.name} is unknown: use one of {', '.join(PENALTIES)}, or module:function"
    if config.sac.actor not in ACTORS and ":" not in config.sac.actor:
        yield f"sac.actor={config.sac.actor} is unknown: use one of {', '.join(ACTORS)}, or module:Class"
    yield from _termination(config.termination)
    if config.reward is not None and ":" not in config.reward:
        yield f"reward={config.reward} must name a function of (s, a, s') as module:function"
    for name in config.callbacks:
        if ":" not in name:
            yield f"callbacks=[{name}] must name classes of callbacks, each as module:Class"
    for name, arguments in config.logger.items():
        if arguments is not None and not isinstance(arguments, dict):
            yield f"logger.{name}={arguments} must be a map of arguments, such as {{}}"
        if name not in LOGGERS and ":" not in str(name):
            yield f"logger {name} is unknown: use one of {', '.join(LOGGERS)}, or module:Class"
    if config.trainer.strategy not in STRATEGIES:
        yield f"trainer.strategy={config.trainer.strategy} is not supported: use one of {', '.join(STRATEGIES)}"
    if config.trainer.precision not in PRECISIONS:
        yield f"trainer.precision={config.trainer.precision} is not supported: use one of {', '.join(PRECISIONS)}"
    if config.compile not in ("auto", "true", "false") and not _names_parts(config.compile):
        yield f"compile={format_value(config.compile)} must be auto, true, false, or a list such as [policy] of {', '.join(COMPILED_PARTS)}, each once"
    seeds = config.seed if isinstance(config.seed, list) else [config.seed]
    if not seeds or not all(
        isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32 for seed in seeds
    ):
        yield f"seed={config.seed} must be an integer from 0 to 4294967295, or a list of them"
    elif len(set(seeds)) != len(seeds):
        yield f"seed={config.seed} lists a seed twice"
    elif len(seeds) > 1 and config.trainer.devices not in (1, "1"):
        yield f"seed={config.seed} is a list, which needs trainer.devices=1: start one command per seed instead"


LARGEST = (2 - 2**-23) * 2.0**127
"""The largest number of float32."""


def _termination(given: Any) -> Iterator[str]:
    if given is None or isinstance(given, str):
        return
    bounds = given.get("bounds") if isinstance(given, dict) and given.keys() == {"bounds"} else None
    if not isinstance(bounds, dict) or not bounds:
        yield (
            f"termination={format_value(given)} must be never, learned, module:function, an environment id, or limits of "
            "observation columns, such as {bounds: {temp: [0, 90]}}"
        )
        return
    for column, limits in bounds.items():
        if not _is_interval(limits):
            yield (
                f"termination.bounds.{column}={format_value(limits)} must be a lower and a higher number, such as "
                "[0, 90]; null stands for none"
            )


def _is_interval(limits: Any) -> bool:
    if not isinstance(limits, list) or len(limits) != 2 or limits == [None, None]:
        return False
    if not all(limit is None or (isinstance(limit, int | float) and not isinstance(limit, bool)) for limit in limits):
        return False
    low, high = (-inf if limits[0] is None else limits[0]), (inf if limits[1] is None else limits[1])
    # A finite limit beyond the range of float32 would become infinite.
    return low < high and all(abs(limit) == inf or abs(limit) <= LARGEST for limit in (low, high))


def _names_parts(choice: Any) -> bool:
    return (
        isinstance(choice, list) and all(part in COMPILED_PARTS for part in choice) and len(set(choice)) == len(choice)
    )
