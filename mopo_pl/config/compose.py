"""Compose the `Config` of a command line `group=choice key=value …`.

Later sources override earlier ones: dataclass defaults, dataset, preset, trainer and logger files, `key=value`.
"""

import dataclasses
import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mopo_pl.config.checks import problems_of
from mopo_pl.config.foreign import (
    TRUST,
    UNFILLED,
    is_repeated,
    is_trusted,
    named_code,
    read_yaml,
    refusal,
    refuse_unfilled,
)
from mopo_pl.config.keys import (
    accepts_any_value,
    is_within,
    known_keys,
    lies_in_open_map,
    sections,
    single_value_keys,
    suggestion_for,
    text_keys,
)
from mopo_pl.config.logger_choice import chosen_loggers, with_defaults
from mopo_pl.config.mapping import is_mapping, read_mapping
from mopo_pl.config.schema import Config
from mopo_pl.errors import InputError

CONF = Path(__file__).parents[1] / "conf"
GROUPS = ("dataset", "preset", "trainer", "logger")
PUBLISHED_KEYS = {"coef": "penalty.coef", "horizon": "rollout.horizon", "termination": "termination"}
"""What a dataset's file may say under `published`, and the key that takes it."""
MALFORMED = "published must hold {coef: λ, horizon: h} for each preset"
PRESETS_OF_PUBLISHED = ("d4rl-v2", "paper")
"""Presets whose λ and h are those published for the dataset: there are no others that would stand for them."""
CHANGEABLE_ON_RESUME = (
    "logger",
    "estimate",
    "evaluation",
    "checkpoint",
    "health",
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
"""Where the log lies: `resume=RUN dataset=PATH` changes it for a log that was moved, whose hash must be the same."""
OTHER_FLAGS = {
    "trainer.gradient_clip_val": "Lightning refuses it with manual optimisation; use sac.gradient_clip_norm",
    "trainer.gradient_clip_algorithm": "Lightning refuses it with manual optimisation; use sac.gradient_clip_norm",
    "trainer.accumulate_grad_batches": "Lightning refuses it with manual optimisation; use sac.batch_size",
    "trainer.max_steps": "a run ends with an epoch; use trainer.max_epochs and sac.updates_per_epoch",
    "trainer.limit_val_batches": "the holdout is a single batch; use dynamics.holdout_max",
    "trainer.callbacks": "use callbacks=[module:Class]",
    "trainer.logger": "use logger=",
}
"""Flags of Lightning's Trainer that are not keys, each with the key to use instead."""


def choices(group: str) -> dict[str, Path]:
    """Return the file of each choice of a group ("dataset", "preset", "trainer" or "logger"), by name."""
    return {path.stem: path for path in sorted((CONF / group).glob("*.yaml"))}


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
    config = _open()
    trust = is_trusted(arguments)
    source = _run_with_the_log(pairs, problems, trust=trust)
    if source is not None:
        config.dataset = source.dataset
    selected = _selected(pairs, config, problems)
    for layer in _layers(selected, {key for key, _ in pairs}, problems, source, trust=trust):
        config = _merged(config, layer, problems)
    config = _overridden(_with_loggers(config, pairs, problems), pairs, problems)
    if not any(problem.endswith(MALFORMED) for problem in problems):
        problems += _unpublished(config, selected, pairs)
    return _checked(config, problems)


def config_from_file(path: Path) -> Config:
    """Read the `config.yaml` of a run.

    Raises InputError if it is missing, is not YAML, or has unknown keys or invalid values.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path.parent} holds no run: there is no {path.name} in it")
    except OSError as error:  # a folder that may not be looked into
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    stored = read_yaml(path)
    refuse_unfilled(stored, path)
    problems: list[str] = []
    try:
        return _checked(_merged(_open(), _Layer(str(path), stored), problems), problems)
    except InputError as error:
        raise InputError(
            [problem if str(path) in problem else f"{path}: {problem}" for problem in error.problems]
        ) from error


def to_yaml(config: Config) -> str:
    """Return all keys and values as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


@dataclasses.dataclass
class _Layer:
    """Values to merge, and their source for messages."""

    source: str
    values: DictConfig


def _open(config: Config | type[Config] = Config) -> DictConfig:
    """Return a DictConfig that can be merged into: OmegaConf marks frozen dataclasses as read-only."""
    opened: DictConfig = OmegaConf.structured(config)
    for node in (opened, *(OmegaConf.select(opened, section) for section in sections())):
        OmegaConf.set_readonly(node, False)
    return opened


def _load(path: Path) -> DictConfig:
    loaded = OmegaConf.load(path)
    return loaded if isinstance(loaded, DictConfig) else OmegaConf.create({})


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
        if choice in choices(group) or (group == "dataset" and _names_data(choice)):
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


def _names_data(choice: str) -> bool:
    """Return whether a dataset name looks like a file, a folder or an id rather than a misspelt choice."""
    return bool(re.search(r"[/.\\]|-v\d+$", choice)) or Path(choice).is_dir()


def _run_with_the_log(pairs: list[tuple[str, str]], problems: list[str], *, trust: bool) -> Config | None:
    """Return the configuration of the run that `dynamics_from` names, where the command line names no dataset.

    Its ensemble is of no use with another log. A run's configuration may come from someone else: names of Python code in
    it are followed only where the command line repeats them, or says `trust=true`.
    """
    given = dict(pairs)
    if "dynamics_from" not in given or "dataset" in given:
        return None
    if given.get("stage") == "dynamics" or given.get("algorithm") == "bc":
        return None  # they take no ensemble, which is said alone
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
    for key, text in [] if trust else named_code(source):
        if is_within(key, taken) and not is_repeated(key, given):
            problems.append(refusal(path, key, text, f"give {key}={text} on the command line too, or trust=true"))
    return source


def _layers(
    selected: dict[str, str],
    given: Collection[str],
    problems: list[str],
    source_of_log: Config | None,
    *,
    trust: bool,
) -> Iterable[_Layer]:
    """Yield the files of the selected choices in order; `given`: keys of the command line.

    A preset is followed by what the dataset's file says was published for it. `source_of_log`: a run whose log is taken as it
    read it.
    """
    stored: DictConfig = OmegaConf.structured(source_of_log or Config)
    for group in GROUPS:
        path = _file_of(group, selected.get(group, ""))
        source = f"conf/{group}/{path.stem if path is not None else selected.get(group)}.yaml"
        moved = source_of_log is not None and not Path(selected["dataset"]).expanduser().exists()
        if group == "dataset" and path is None and is_mapping(selected[group]) and not moved:
            source = selected[group]
            values = read_mapping(Path(source).expanduser(), given, problems, trust=trust)
        else:
            values = _load(path) if path is not None else OmegaConf.create({})
        if group == "dataset" and not _is_published(values.pop("published", {})):
            problems.append(f"{source}: {MALFORMED}")
        if group == "trainer":
            values = OmegaConf.create({group: values})
        yield _Layer(source, values)
        if group == "dataset" and source_of_log is not None:
            yield _Layer(
                "dynamics_from", OmegaConf.masked_copy(stored, ["env_id", "env_kwargs", "termination", "reward"])
            )
        if group == "preset":
            published = OmegaConf.create({})
            for name, value in _published(selected).items():
                OmegaConf.update(published, PUBLISHED_KEYS[name], value)
            yield _Layer("published", published)
    if source_of_log is not None:
        yield _Layer("dynamics_from", OmegaConf.masked_copy(stored, ["data"]))
    yield _Layer("choices", OmegaConf.create({key: selected[key] for key in ("dataset", "preset")}))


def _file_of(group: str, choice: str) -> Path | None:
    """The file of a choice, None where there is none; a D4RL file has that of the dataset it is named after.

    >>> _file_of("dataset", "logs/hopper_medium-v2.hdf5").stem
    'hopper-medium-v2'
    """
    path = Path(choice)
    if group == "dataset" and path.suffix in (".hdf5", ".h5"):
        choice = path.stem.replace("_", "-")
    return choices(group).get(choice)


def _published(selected: dict[str, str]) -> dict[str, Any]:
    """What the dataset's file says was published for the preset, by its names."""
    choice = selected["dataset"]
    path = Path(choice).expanduser() if is_mapping(choice) else _file_of("dataset", choice)
    published = _load(path).get("published", {}) if path is not None and path.is_file() else {}
    return dict(published.get(selected["preset"], {})) if _is_published(published) else {}


def _is_published(numbers: Any) -> bool:
    """Whether what stands under `published` holds λ and h by preset."""
    if not isinstance(numbers, DictConfig | dict):
        return False
    entries = [entry for entry in numbers.values() if isinstance(entry, DictConfig | dict)]
    return len(entries) == len(numbers) and all(set(entry) <= PUBLISHED_KEYS.keys() for entry in entries)


def _unpublished(config: DictConfig, selected: dict[str, str], pairs: list[tuple[str, str]]) -> Iterable[str]:
    """A problem where a preset of published λ and h has none for the dataset, and the user gives none."""
    uses_model = config.stage != "dynamics" and config.algorithm == "sac" and config.rollout.real_ratio < 1
    if selected["preset"] not in PRESETS_OF_PUBLISHED or not uses_model:
        return
    known, given = _published(selected), {key for key, _ in pairs}
    missing = [key for name in ("coef", "horizon") if (key := PUBLISHED_KEYS[name]) not in given and name not in known]
    if missing:
        yield (
            f"preset={selected['preset']}: no λ and h are published for dataset={selected['dataset']}: "
            f"give {' and '.join(f'{key}=' for key in missing)}"
        )


def _merged(config: DictConfig, layer: _Layer, problems: list[str]) -> DictConfig:
    """Merge key by key, so that every wrong key is reported."""
    for key, value in _leaves(layer.values):
        _set(config, key, value, f"{layer.source}: {key}", problems)
    return config


def _leaves(values: DictConfig, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key in values:
        value = values[key]
        path = f"{prefix}{key}"
        if isinstance(value, DictConfig) and not accepts_any_value(path):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _overridden(config: DictConfig, pairs: list[tuple[str, str]], problems: list[str]) -> DictConfig:
    """Set the keys of the pairs; those of groups are set already."""
    for key, text in pairs:
        if key in GROUPS:
            continue
        if "${" in text or text == "???":
            problems.append(f"{key}={text}: {UNFILLED}")
            continue
        try:
            value = _as_typed(text, is_text=key in text_keys())
        except (ValueError, yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
            problems.append(f"{key}={text}: the value is not valid YAML ({(str(error).splitlines() or ['?'])[0]})")
            continue
        if (isinstance(value, DictConfig | ListConfig) and _unfilled(value) is not None) or value == "???":
            problems.append(f"{key}={text}: {UNFILLED}")
            continue
        joined = _joined_pairs(value) if not is_within(key, ("logger",)) else None
        if joined is not None:
            problems.append(f"{key}={text}: {joined} is one name without a value; write a blank after the colon")
            continue
        _set(config, key, value, f"{key}={text}", problems)
    return config


NULLS = ("", "null", "Null", "NULL", "~")
"""What stands for no value."""


def _as_typed(text: str, *, is_text: bool) -> Any:
    """Return the value that was typed: YAML where it is a number, a list, a map or quoted, and else the text as it stands.

    YAML would cut a text at ` #`, and take `&a` and `!a` for its own. `is_text`: for keys whose values are texts, of which `10:00:00`
    and `1_000` are no numbers.

    >>> [_as_typed(text, is_text=False) for text in ("out #1", "&x", "'a b'", "[1, 2]", "1e3", "null")]
    ['out #1', '&x', 'a b', [1, 2], 1000.0, None]
    >>> [_as_typed(text, is_text=True) for text in ("1_000", "{a}", "a: b", "~")]
    ['1_000', '{a}', 'a: b', None]
    """
    if text in NULLS:
        return None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if is_text and not quoted:
        return text
    if not quoted and text[0] in "&*!#%@`|>":
        return text
    value = OmegaConf.create(f"value: {text}").value if not is_text or quoted else text
    return text if value is None or (isinstance(value, str) and not quoted) else value


def _joined_pairs(value: Any) -> str | None:
    """Return `a:1` of a map such as {a:1}, which YAML takes for a name without a value; None where there is none."""
    if isinstance(value, DictConfig):
        for name in value:
            if value._get_node(name) is not None and value[name] is None and ":" in str(name):
                return str(name)
    return None


def _unfilled(values: DictConfig | ListConfig) -> str | None:
    """Return the key of an unresolved `???` or `${…}`, or None."""
    try:
        OmegaConf.resolve(values)
    except OmegaConfBaseException as error:
        return str(error.full_key)
    except (ValueError, RecursionError) as error:
        return type(error).__name__
    return min(OmegaConf.missing_keys(values), default=None)


def _set(config: DictConfig, key: str, value: Any, where: str, problems: list[str]) -> None:
    known = known_keys()
    if key in OTHER_FLAGS:
        problems.append(f"{where}: {OTHER_FLAGS[key]}")
    elif key not in known and not lies_in_open_map(key):
        problems.append(
            f"{where}: there is no such key{suggestion_for(key, known)}"
            if _meant_close(key)
            else f"{where}: there is no such key; --help lists all"
        )
    elif key in sections():
        problems.append(
            f"{where}: {key} is a section: set one of its keys, such as {key}.{dataclasses.fields(sections()[key])[0].name}=…"
        )
    elif (
        isinstance(value, ListConfig)
        and not accepts_any_value(key)
        and any(isinstance(entry, Container) for entry in value)
    ):
        problems.append(f"{where}: its entries must be plain values, not lists or maps")
    else:
        # YAML parses true as a boolean; `compile` takes the words true and false.
        value = str(value).lower() if key == "compile" and isinstance(value, bool) else value
        try:
            OmegaConf.update(config, key, value, merge=False, force_add=lies_in_open_map(key))
        except (OmegaConfBaseException, ValueError, OverflowError) as error:
            problems.append(f"{where}: {_refusal(key, value, str(error).splitlines()[0])}")


def _refusal(key: str, value: Any, reason: str) -> str:
    """Why a value is refused: `reason`, unless it has a list where one value belongs, or the other way round."""
    if "is not a ListConfig" in reason:
        return f"it takes a list, such as [{value}]"
    if key in single_value_keys() and (isinstance(value, ListConfig) or "," in str(value)):
        return "it takes one value; python -m mopo_pl sweep takes several, and trains a run for each"
    return reason


def _meant_close(key: str) -> bool:
    return bool(difflib.get_close_matches(key, known_keys(), 1))


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
    for key, text in [] if is_trusted(arguments) else named_code(config):
        if not is_repeated(key, given):
            problems.append(refusal(folder / "config.yaml", key, text, "add trust=true"))
    stored = _open(config)
    moved = [text for key, text in pairs if key == "dataset"]
    for place in moved:
        if place in choices("dataset") or is_mapping(place):
            problems.append(f"dataset={place}: with resume=, dataset= says where the run's log lies now: give its file")
        OmegaConf.update(stored, MOVED, place)
    rest = [(key, text) for key, text in pairs if key not in ("resume", "dataset")]
    for key, text in rest:
        if not is_within(key, (*CHANGEABLE_ON_RESUME, *CHANGES_ROUNDING)):
            problems.append(
                f"{key}={text}: a resumed run keeps its configuration; only these may be given with resume=: {', '.join((*CHANGEABLE_ON_RESUME, *CHANGES_ROUNDING, 'dataset'))}"
            )
    if problems:
        raise InputError(problems)
    stored = _overridden(_with_loggers(stored, rest, problems), rest, problems)
    stored.resume = str(folder)
    return _checked(stored, problems)
