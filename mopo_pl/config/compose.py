"""Compose the `Config` of a command line `group=choice key=value …`.

Later sources override earlier ones: dataclass defaults, dataset, preset, trainer and logger files, `key=value`.
"""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mopo_pl.config.checks import problems_of
from mopo_pl.config.foreign import (
    REPEAT,
    TRUST,
    is_trusted,
    read_yaml,
    refuse_named_code,
    refuse_unfilled,
)
from mopo_pl.config.keys import (
    is_within,
    suggestion_for,
)
from mopo_pl.config.schema import Config
from mopo_pl.config.sources.choices import (
    GROUPS,
    MALFORMED,
    PUBLISHED_KEYS,
    choices,
    file_of,
    is_published,
    load,
    names_data,
    published,
    unpublished,
)
from mopo_pl.config.sources.logger_choice import chosen_loggers, with_defaults
from mopo_pl.config.sources.mapping import is_mapping, read_mapping
from mopo_pl.config.sources.merging import Layer, merged, opened, overridden
from mopo_pl.errors import InputError

CHANGEABLE_ON_RESUME = (
    "dynamics.max_epochs",
    "logger",
    "estimate",
    "evaluation",
    "checkpoint",
    "health",
    "report",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.max_epochs",
    "trainer.max_time",
    "trainer.profiler",
)
"""Keys that may be given with `resume=`: they do not affect weights that are already trained."""
CHANGES_ROUNDING = ("compile", "threads")
"""Further keys that may be given with `resume=`; the resumed run is then no longer bit-identical."""
MOVED = "data.source"
"""Key of the log's path. `resume=RUN dataset=PATH` changes it for a log that was moved; the hash of the log must be the same."""


def compose(arguments: Sequence[str]) -> Config:
    """Return the configuration that command-line arguments describe. Raises InputError with one message per problem.

    >>> config = compose(["preset=mbpo", "rollout.horizon=3"])
    >>> config.penalty.name, config.rollout.horizon
    ('none', 3)
    >>> compose(["rollout.horizn=3"])
    Traceback (most recent call last):
    mopo_pl.errors.InputError: rollout.horizn=3: there is no such key; did you mean rollout.horizon?
    """
    if any(argument.startswith("resume=") for argument in arguments):
        return _resumed(arguments)
    problems: list[str] = []
    pairs = _pairs(arguments, problems)
    config = opened()
    trust = is_trusted(arguments)
    source = _run_with_the_log(pairs, problems, trust=trust)
    if source is not None:
        config.dataset = source.dataset
    selected = _selected(pairs, config, problems)
    for layer in _layers(selected, {key for key, _ in pairs}, problems, source, trust=trust):
        config = merged(config, layer, problems)
    config = overridden(_with_loggers(config, pairs, problems), pairs, problems)
    if not any(problem.endswith(MALFORMED) for problem in problems):
        problems += unpublished(config, selected, pairs)
    return _checked(config, problems)


def config_from_file(path: Path) -> Config:
    """Read the `config.yaml` of a run.

    Raises InputError if it is missing, is not YAML, or has unknown keys or invalid values.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path.parent} holds no run: there is no {path.name} in it")
    except OSError as error:  # a folder without permission to read it
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    stored = read_yaml(path)
    if not stored:
        raise InputError(f"{path} is empty: restore it from a copy of the run")
    refuse_unfilled(stored, path)
    problems: list[str] = []
    try:
        return _checked(merged(opened(), Layer(str(path), stored), problems), problems)
    except InputError as error:
        raise InputError(
            [problem if str(path) in problem else f"{path}: {problem}" for problem in error.problems]
        ) from error


def to_yaml(config: Config) -> str:
    """Return all keys and values as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _pairs(arguments: Sequence[str], problems: list[str]) -> list[tuple[str, str]]:
    """Split arguments key=value; append a message to `problems` for any other argument."""
    pairs = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key == TRUST and equals:
            continue
        if argument.startswith("-"):
            problems.append(
                f"{argument}: write {key.lstrip('-')}=… without dashes; the only options are --help, --print-config and --dry-run"
            )
        elif not equals:
            problems.append(f"{argument}: write key=value, or group=choice")
        else:
            pairs.append((key, value))
    return pairs


def _selected(pairs: list[tuple[str, str]], config: DictConfig, problems: list[str]) -> dict[str, str]:
    """Return the choice of each group, or its default."""
    selected = {"dataset": config.dataset, "preset": config.preset, "trainer": "default"}
    for key, value in pairs:
        if key in GROUPS and key != "logger":
            selected[key] = value
    for group, choice in selected.items():
        if "${" in choice or choice == "???":
            problems.append(f"{group}={choice}: ${{…}} and ??? are not supported; write the name of a choice")
            selected[group] = {"dataset": config.dataset, "preset": config.preset}.get(group, "default")
            continue
        if choice in choices(group) or (group == "dataset" and names_data(choice)):
            continue
        several = "; python -m mopo_pl sweep takes several" if "," in choice else suggestion_for(choice, choices(group))
        problems.append(f"{group}={choice}: there is no such choice{several}")
    return selected


def _with_loggers(config: DictConfig, pairs: list[tuple[str, str]], problems: list[str]) -> DictConfig:
    """Set the loggers that `logger=` names, and the defaults of those that only `logger.name.argument=` names."""
    texts = [text for key, text in pairs if key == "logger"]
    if texts:
        config.logger = chosen_loggers(texts, choices("logger"), problems)
    for key in [key for key, _ in pairs if key.startswith("logger.")]:
        name = key.split(".")[1]
        if name in choices("logger") and name not in config.logger:
            config.logger[name] = with_defaults(name, None, choices("logger"))
    return config


def _run_with_the_log(pairs: list[tuple[str, str]], problems: list[str], *, trust: bool) -> Config | None:
    """Return the configuration of the run that `dynamics_from` names, where the command line names no dataset.

    An ensemble can be used only with the log that it was trained on. A run's configuration may come from someone else, so names of
    Python code in it are accepted only if the command line repeats them or contains `trust=true`.
    """
    given = dict(pairs)
    if "dynamics_from" not in given or "dataset" in given:
        return None
    if given.get("stage") == "dynamics" or given.get("algorithm") == "bc":
        return None  # they use no ensemble; problems_of reports that alone
    path = Path(given["dynamics_from"]).expanduser() / "config.yaml"
    try:
        source = config_from_file(path)
    except InputError as error:
        problems += [
            *error.problems,
            f"dynamics_from={given['dynamics_from']} does not say which log it is of: give dataset=",
        ]
        return None
    taken = ("env_id", "env_kwargs", "termination", "reward")
    try:
        refuse_named_code(path, source, trust=trust, replaced=given, within=taken, remedy=REPEAT)
    except InputError as error:
        problems += error.problems
    return source


def _layers(
    selected: dict[str, str],
    given: Collection[str],
    problems: list[str],
    source_of_log: Config | None,
    *,
    trust: bool,
) -> Iterable[Layer]:
    """Yield the layers of settings of the selected choices, in the order in which they are merged.

    After a preset comes a layer with the values that the dataset's file lists as published for that preset.

    Args:
        selected: Choice of each group.
        given: Keys of the command line.
        problems: Receives one message per problem.
        source_of_log: Configuration of a run whose log is read with the same settings; None: none.
        trust: Whether the command line allows the code that a mapping file names.

    """
    stored = None if source_of_log is None else OmegaConf.structured(source_of_log)
    for group in GROUPS:
        path = file_of(group, selected.get(group, ""))
        source = f"conf/{group}/{path.stem if path is not None else selected.get(group)}.yaml"
        moved = source_of_log is not None and not Path(selected["dataset"]).expanduser().exists()
        if group == "dataset" and path is None and is_mapping(selected[group]) and not moved:
            source = selected[group]
            values = read_mapping(Path(source).expanduser(), given, problems, trust=trust)
        else:
            values = load(path) if path is not None else OmegaConf.create({})
        if group == "dataset" and not is_published(values.pop("published", {})):
            problems.append(f"{source}: {MALFORMED}")
        if group == "trainer":
            values = OmegaConf.create({group: values})
        yield Layer(source, values)
        if group == "dataset" and stored is not None:
            yield Layer(
                "dynamics_from", OmegaConf.masked_copy(stored, ["env_id", "env_kwargs", "termination", "reward"])
            )
        if group == "preset":
            taken = OmegaConf.create({})
            for name, value in published(selected).items():
                OmegaConf.update(taken, PUBLISHED_KEYS[name], value)
            yield Layer("published", taken)
    if stored is not None:
        yield Layer("dynamics_from", OmegaConf.masked_copy(stored, ["data"]))
    yield Layer("choices", OmegaConf.create({key: selected[key] for key in ("dataset", "preset")}))


def _checked(config: DictConfig, problems: list[str]) -> Config:
    """Return the validated dataclass, with ~ expanded in run folders. Raises InputError if there are problems."""
    built = OmegaConf.to_object(config)
    assert isinstance(built, Config)
    folders = {key: getattr(built, key) for key in ("run_dir", "dynamics_from")}
    folders = {key: None if name is None else str(Path(name).expanduser()) for key, name in folders.items()}
    built = dataclasses.replace(built, **folders)
    problems += problems_of(built)
    if problems:
        raise InputError(problems)
    return built


def _resumed(arguments: Sequence[str]) -> Config:
    """Return the configuration stored with a run, with the permitted changes of the command line."""
    problems: list[str] = []
    pairs = _pairs(arguments, problems)
    folder = Path(next(value for key, value in pairs if key == "resume")).expanduser()
    config = config_from_file(folder / "config.yaml")
    given = {key for key, _ in pairs}
    try:
        refuse_named_code(folder / "config.yaml", config, trust=is_trusted(arguments), replaced=given)
    except InputError as error:
        problems += error.problems
    stored = opened(config)
    moved = [text for key, text in pairs if key == "dataset"]
    for place in moved:
        if place in choices("dataset") or is_mapping(place):
            problems.append(
                f"dataset={place}: with resume=, dataset= says where the run's log lies now: give the file or folder of the data itself"
            )
        OmegaConf.update(stored, MOVED, place)
    rest = [(key, text) for key, text in pairs if key not in ("resume", "dataset")]
    for key, text in rest:
        if not is_within(key, (*CHANGEABLE_ON_RESUME, *CHANGES_ROUNDING)):
            problems.append(
                f"{key}={text}: a resumed run keeps its configuration; only these may be given with resume=: {', '.join((*CHANGEABLE_ON_RESUME, *CHANGES_ROUNDING, 'dataset'))}"
            )
    if problems:
        raise InputError(problems)
    stored = overridden(_with_loggers(stored, rest, problems), rest, problems)
    stored.resume = str(folder)
    return _checked(stored, problems)
