"""Plan the runs of a sweep: one ensemble for each seed and each setting of the dynamics, then the policies that use them."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch.accelerators import CPUAccelerator

from mopo_pl.config.compose import compose
from mopo_pl.config.keys import WITHOUT_EFFECT, is_within
from mopo_pl.config.schema import Config
from mopo_pl.errors import InputError
from mopo_pl.run.preparation.host_memory import refuse_too_little_room
from mopo_pl.run.preparation.inputs import Inputs, open_inputs
from mopo_pl.run.trainer import probe_flags
from mopo_pl.sweep.grid import folder_name

ENSEMBLES = "ensembles"
"""Subfolder of the sweep with the ensembles."""
OF_THE_SWEEP = {
    "run_dir": "--folder says where the runs go",
    "resume": "the same sweep command continues a sweep",
    "stage": "a sweep trains ensembles and policies by itself",
    "seeds": "--at-once says how many runs train at the same time",
}
"""Keys that a sweep sets itself, each with a hint on what to use instead."""
OF_THE_POLICY = ("penalty", "rollout", "sac", "evaluation", "reward")
"""Sections and keys on which an ensemble does not depend. They are not passed to the runs that train ensembles."""
NOT_OF_AN_ENSEMBLE = (*OF_THE_POLICY, "algorithm", "trainer.max_epochs", *WITHOUT_EFFECT)
"""Keys whose value does not change an ensemble. Each value of any other key needs separate ensembles. `preset` counts through the keys
that it sets."""


@dataclass(frozen=True)
class Job:
    """A run of a sweep."""

    name: str
    """Path of the run folder, relative to the folder of the sweep."""
    settings: tuple[str, ...]
    """Settings `key=value` of a new run, without `run_dir` and `threads`."""
    needs: str | None = None
    """Name of the job that trains the ensemble; None if the run needs no ensemble, or an existing one is given."""
    trains_policy: bool = True


def jobs_of(
    combinations: Sequence[Mapping[str, str]], varied: Sequence[str], folder: Path, group: str, within: str = ""
) -> tuple[list[Job], list[Config]]:
    """Return the jobs of combinations of settings, the ensembles first, and the configurations of the policies.

    Raises InputError with all problems of all combinations, each once, and if two combinations are the same run.

    Args:
        combinations: Settings of each policy.
        varied: Keys that are part of the names of the runs.
        folder: Folder of the sweep.
        group: Name under which loggers file the runs.
        within: Path of a subfolder for the policies, with a slash at its end, or "".

    """
    configs = _composed(combinations)
    for_ensembles = [key for key in varied if not is_within(key, NOT_OF_AN_ENSEMBLE)]
    ensembles: dict[str, Job] = {}
    policies = []
    for combination, config in zip(combinations, configs, strict=True):
        settings, needs = _texts({"group": json.dumps(group), **combination}), None
        if config.uses_model and config.dynamics_from is None:
            kept = {key: text for key, text in combination.items() if not is_within(key, (*OF_THE_POLICY, "algorithm"))}
            ensemble = Job(
                name=f"{ENSEMBLES}/{folder_name(combination, for_ensembles)}",
                settings=(*_texts({"group": json.dumps(group), **kept}), "stage=dynamics"),
                trains_policy=False,
            )
            needs = ensembles.setdefault(_ensemble_key(config), ensemble).name
            given = json.dumps(str(folder / needs))
            settings = (*settings, f"dataset={config.dataset}", "stage=policy", f"dynamics_from={given}")
        policies.append(Job(f"{within}{folder_name(combination, varied)}", settings, needs))
    _composed([dict(map(_pair, job.settings)) for job in ensembles.values()])
    return [*ensembles.values(), *policies], configs


def _texts(settings: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{key}={text}" for key, text in settings.items())


def _pair(setting: str) -> tuple[str, str]:
    key, _, text = setting.partition("=")
    return key, text


def _composed(combinations: Iterable[Mapping[str, str]]) -> list[Config]:
    """Return the configuration of each combination; raise InputError that lists every problem once."""
    problems: dict[str, None] = {}
    configs, seen = [], dict[str, str]()
    for combination in combinations:
        try:
            config = compose(_texts(combination))
        except InputError as error:
            problems |= dict.fromkeys(error.problems)
            continue
        configs.append(config)
        content = json.dumps(dataclasses.asdict(config), sort_keys=True, default=str)
        if content in seen:
            problems[f"{' '.join(_texts(combination))} is the same run as {seen[content]}: leave one out"] = None
        seen[content] = " ".join(_texts(combination))
    if problems:
        raise InputError(list(problems))
    return configs


def _ensemble_key(config: Config) -> str:
    """Return a text that is equal for configurations that train the same ensemble."""
    values = {
        key: value
        for key, value in _leaves(dataclasses.asdict(config))
        if not is_within(key, (*NOT_OF_AN_ENSEMBLE, "preset"))
        and not (is_within(key, ("termination", "classifier")) and config.termination != "learned")
    }
    return json.dumps(values, sort_keys=True, default=str)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and not prefix:
            yield from _leaves(value, f"{key}.")
        else:
            yield f"{prefix}{key}", value


def check_inputs(configs: Sequence[Config], folder: Path, at_once: int) -> list[Inputs]:
    """Open and check the inputs of the runs, equal inputs once, and return them.

    Raises InputError with all problems before anything is trained. Too little memory, or disk space in `folder`, for `at_once` runs at
    the same time is a problem too.
    """
    problems: dict[str, None] = {}
    opened: dict[str, Inputs | None] = {}
    for config in configs:
        key = json.dumps([_ensemble_key(replace(config, seed=0)), *map(str, _named(config))])
        try:
            if key not in opened:
                opened[key] = None
                opened[key] = open_inputs(config)
            inputs = opened[key]
            if inputs is not None:
                on_gpu = not isinstance(probe_flags(config.trainer).accelerator, CPUAccelerator)
                copies = min(at_once, len(configs))
                refuse_too_little_room(config, inputs, on_gpu=on_gpu, folder=folder, copies=copies)
        except InputError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise InputError(list(problems))
    return [inputs for inputs in opened.values() if inputs is not None]


def _named(config: Config) -> tuple[Any, ...]:
    """Return the settings that name functions and classes, or decide whether these are used."""
    return config.penalty.name, config.reward, config.termination, config.sac.actor, config.algorithm, config.uses_model
