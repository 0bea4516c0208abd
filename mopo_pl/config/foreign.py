"""Read configuration files that may come from someone else: mapping files, and the `config.yaml` of a run.

Reading one imports no code, resolves no `${…}` and follows no alias. If it names Python code, or a file or an address that only
the user may choose, the command line must allow it, by the same key or by `trust=true`.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from mopo_pl.config.keys import is_within
from mopo_pl.config.schema import Config
from mopo_pl.errors import InputError

LARGEST = 1_000_000
"""Largest size of such a file [bytes]."""
DEEPEST = 20
"""Largest number of nested maps and lists."""
TRUST = "trust"
"""Argument of the command line that allows a stored file to name code. It is not a configuration key, so no file can set it."""
CODE_KEYS = ("env_id", "termination", "reward", "penalty.name", "sac.actor")
"""Keys whose value may name Python code. `callbacks` and `logger` may too, but only training uses them."""
OF_A_FINISHED_RUN = (*CODE_KEYS, "env_kwargs")
"""Keys that name code, files or addresses which a command for a finished run may use."""
OF_THE_ENVIRONMENT = ("env_id", "env_kwargs")
"""The keys of them that are used to open a log or an environment."""
ADD_TRUST = f"add {TRUST}=true"
REPEAT = f"give {{key}}={{text}} on the command line too, or {TRUST}=true"
UNFILLED = "${…} and ??? are not supported; write the value"


def is_trusted(arguments: Sequence[str]) -> bool:
    """Return whether a command line contains `trust=true`; raise InputError for a value other than true and false.

    >>> is_trusted(["resume=runs/latest", "trust=true"]), is_trusted(["resume=runs/latest"])
    (True, False)
    """
    given = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{TRUST}=")]
    wrong = [value for value in given if value not in ("true", "false")]
    if wrong:
        raise InputError(f"{TRUST}={wrong[0]} must be true or false")
    return given[-1:] == ["true"]


def read_yaml(path: Path) -> DictConfig:
    """Return the map in a YAML file, without resolving any value.

    Raises InputError if the file cannot be read, is not a regular file, is larger than 1 MB, has more than 20 nested levels or an alias,
    or is not a YAML map.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError(f"{path} is no regular file: it is no file of settings")
        if size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST} bytes: it is no file of settings")
        text = path.read_text(encoding="utf-8-sig")
        _refuse_bombs(text, path)
        values = OmegaConf.create(text) if text.strip() else OmegaConf.create({})
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # PyYAML, OmegaConf and codecs raise errors without a common class
        raise InputError(f"{path} is not valid YAML: {_cause(error)}") from error
    assert isinstance(values, DictConfig)
    return values


def refuse_unfilled(values: DictConfig, path: Path) -> None:
    """Raise InputError if a value holds `${…}` or `???`. Files may not call resolvers, because `oc.env` reads environment variables."""
    for key, text in texts_of(OmegaConf.to_container(values, resolve=False), ""):
        if "${" in text or text == "???":
            raise InputError(f"{path}: {key}: {UNFILLED}")


def _cause(error: Exception) -> str:
    """Return the message of PyYAML's error, with line and column if it has them."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return (str(error).splitlines() or ["?"])[0]
    where = f"line {mark.line + 1}, column {mark.column + 1}"
    return (
        f"{getattr(error, 'problem', None) or error} in {where}; quote names and texts that hold any of [ ] {{ }} : , #"
    )


def _refuse_bombs(text: str, path: Path) -> None:
    """Raise InputError for aliases, too many nested levels, or a text that is not a map.

    Aliases and nesting let a small file fill the memory, and OmegaConf parses a text value again.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{path}: aliases (*{event.anchor}) are not supported; write the value")
        if depth == 0 and isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent):
            raise InputError(f"{path} must be a map of keys, such as `data: {{source: plant.csv}}`")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path} has more than {DEEPEST} maps and lists inside each other")


def texts_of(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield each text in a nested value with its dotted key. The texts of a list have the key of the list.

    >>> list(texts_of({"a": ["x", {"b": "y"}]}, ""))
    [('a', 'x'), ('a.b', 'y')]
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from texts_of(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_of(inner, key)
    elif isinstance(value, str):
        yield key, value


def reaches_out(text: str) -> bool:
    """Return whether an argument may name a path, an address, or a module.

    >>> [
    ...     reaches_out(text)
    ...     for text in ("rgb_array", "hopper.xml", "/etc/passwd", "..", "~", "http://a", "module:Class")
    ... ]
    [False, False, True, True, True, True, True]
    """
    return re.search(r"[/\\:~$]|\.\.", text) is not None


def arguments_reaching_out(env_kwargs: Any) -> list[str]:
    """Return the arguments of an environment that name a file, an address or a module, as `key=value`."""
    return [f"{key}={text}" for key, text in texts_of(env_kwargs, "env_kwargs") if reaches_out(text)]


def named_code(config: Config) -> list[tuple[str, str]]:
    """Return key and value of each setting that imports code, or gives a path, an address or a module to an environment or a logger.

    >>> named_code(Config(env_id="my_package:Env-v0", env_kwargs={"xml_file": "/tmp/a.xml"}, logger={"os:system": {}}))
    [('env_id', 'my_package:Env-v0'), ('env_kwargs.xml_file', '/tmp/a.xml'), ('logger', 'os:system')]
    """
    names = {key: attrgetter(key)(config) for key in CODE_KEYS}
    found = [(key, text) for key, text in names.items() if isinstance(text, str) and ":" in text]
    found += [("callbacks", name) for name in config.callbacks]
    found += [(key, text) for key, text in texts_of(config.env_kwargs, "env_kwargs") if reaches_out(text)]
    found += [("logger", str(name)) for name in config.logger if ":" in str(name)]
    for name, arguments in config.logger.items():
        found += [(key, text) for key, text in texts_of(arguments, f"logger.{name}") if reaches_out(text)]
    return found


def refuse_named_code(
    path: Path,
    config: Config,
    *,
    trust: bool,
    replaced: Collection[str] = (),
    repeated: Collection[str] = (),
    within: Collection[str] | None = None,
    remedy: str = ADD_TRUST,
) -> None:
    """Raise InputError that lists each setting of a stored configuration that names code, a file or an address and is not allowed.

    Args:
        path: Path of the file that holds the configuration, for messages.
        config: The stored configuration.
        trust: Whether the command line contains `trust=true`, which allows all settings.
        replaced: Keys of the command line. Their values, and those of keys inside them, replace the values of the file.
        repeated: Settings that the command line allows by repeating them, as `key=value`.
        within: The only keys that are checked, because the command uses no others; None: all.
        remedy: Text on how to allow a setting, with `{key}` and `{text}` as placeholders.

    """
    problems = [
        refusal(path, key, text, remedy.format(key=key, text=text))
        for key, text in ([] if trust else named_code(config))
        if (within is None or is_within(key, within))
        and not is_repeated(key, replaced)
        and f"{key}={text}" not in repeated
    ]
    if problems:
        raise InputError(problems)


def refusal(path: Path, key: str, text: str, remedy: str) -> str:
    """Return the message about a setting that a file must not decide without the user's consent."""
    if key.startswith(("env_kwargs", "logger.")):
        return (
            f"{path}: {key}={text} names a file, an address or Python code, which a file must not choose by itself: if you "
            f"trust it, {remedy}"
        )
    return f"{path}: {key}={text} names Python code, which a file must not run by itself: read that code, then {remedy}"


def is_repeated(key: str, given: Collection[str]) -> bool:
    """Return whether the command line sets the key, or a map that contains it, so that the file's value is not used."""
    return any(key == other or key.startswith(f"{other}.") for other in given)
