"""Parse `logger=`, which is a choice, a list of choices or a map from names to arguments, given once or several times."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mopo_pl.config.keys import suggestion_for

NONE = "none"
"""The choice without any logger. It also removes the loggers that were given before it."""


def chosen_loggers(texts: Sequence[str], choices: Mapping[str, Path], problems: list[str]) -> dict[str, Any]:
    """Return the arguments of all loggers that the `logger=` arguments name, by logger, with the defaults of each choice.

    `texts`: the values, in order; a later one adds to those before it. Appends one message per mistake to `problems`.
    """
    loggers: dict[str, Any] = {}
    for text in texts:
        if text == NONE:
            loggers = {}
        for name, arguments in _named(text, choices, problems):
            loggers[name] = {**loggers.get(name, {}), **arguments} if isinstance(arguments, dict) else arguments
    return {name: with_defaults(name, arguments, choices) for name, arguments in loggers.items()}


def with_defaults(name: str, arguments: Any, choices: Mapping[str, Path]) -> Any:
    """Return a logger's arguments merged over the defaults of the choice of its name, if there is one.

    A value that is neither a map nor None is returned unchanged.
    """
    if arguments is not None and not isinstance(arguments, dict):
        return arguments
    defaults = OmegaConf.to_container(OmegaConf.load(choices[name])) if name in choices else {}
    assert isinstance(defaults, dict)
    return {**(defaults.get(name) or {}), **(arguments or {})}


def _named(text: str, choices: Mapping[str, Path], problems: list[str]) -> list[tuple[str, Any]]:
    """Return name and arguments of each logger of one `logger=` argument. Append one message per mistake to `problems`."""
    value: Any = text
    if text.startswith(("{", "[")):
        try:
            if "${" in text:  # refused, because a resolver may read environment variables
                raise OmegaConfBaseException
            parsed = OmegaConf.create({"value": OmegaConf.create(text)})
            value = OmegaConf.to_container(parsed, resolve=True, throw_on_missing=True)["value"]  # type: ignore[index, call-overload]
        except OmegaConfBaseException:
            problems.append(f"logger={text}: ${{…}} and ??? are not supported; write the value")
            return []
        except Exception as error:
            problems.append(f"logger={text}: the value is not valid YAML ({str(error).splitlines()[0]})")
            return []
    pairs = value.items() if isinstance(value, dict) else [(name, {}) for name in _as_list(value)]
    found = []
    for name, arguments in pairs:
        if not isinstance(name, str):
            problems.append(f"logger={text}: {name} is not the name of a logger; write a list such as [csv, wandb]")
        elif not isinstance(value, dict) and name not in choices and ":" not in name:
            problems.append(f"logger={text}: there is no such choice{suggestion_for(name, choices)}")
        elif name != NONE:
            found.append((name, {} if arguments is None else arguments))
    return found


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
