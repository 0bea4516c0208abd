"""The dotted keys of `Config`, such as `sac.tau`, and their types."""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Optional, get_origin

from mopo_pl.config.schema import Config

WITHOUT_EFFECT = (
    *("run_dir", "group", "logger", "report", "estimate", "health", "checkpoint", "threads"),
    *("data.cache", "data.device"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.profiler"),
)
"""Keys whose value changes neither an ensemble nor a policy, except for rounding (`threads`)."""


def sections() -> dict[str, type]:
    """Return the nested dataclasses of Config by their dotted keys, an outer one before those inside it."""
    return dict(_sections(Config, ""))


def _sections(owner: type, prefix: str) -> Iterator[tuple[str, type]]:
    for entry in dataclasses.fields(owner):
        inner = entry.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield f"{prefix}{entry.name}", inner
            yield from _sections(inner, f"{prefix}{entry.name}.")


def known_keys() -> list[str]:
    """Return all dotted keys."""
    return [f"{prefix}{entry.name}" for prefix, entry in _entries()]


def is_within(key: str, parents: Iterable[str]) -> bool:
    """Return whether a dotted key is one of `parents`, or a key inside one of them."""
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def text_keys() -> set[str]:
    """Return the dotted keys whose value is a string."""
    return {f"{prefix}{entry.name}" for prefix, entry in _entries() if entry.type in (str, Optional[str])}


def single_value_keys() -> set[str]:
    """Return the dotted keys that take one number, word or flag, and `seed`. Several values of such a key mean several runs."""
    plain = {f"{prefix}{entry.name}" for prefix, entry in _entries() if _is_plain(entry.type)}
    return plain | set(number_keys()) | {"seed"}


def _is_plain(kind: Any) -> bool:
    return kind in (str, bool, Optional[str], Optional[bool]) or get_origin(kind) is Literal


def number_keys() -> dict[str, type]:
    """Return the dotted keys that take one number, each with its type, int or float.

    A key of another type, such as Any, is included if its default is a float.
    """
    kinds = {int: int, Optional[int]: int, float: float, Optional[float]: float}
    named = {f"{prefix}{entry.name}": entry for prefix, entry in _entries()}
    found = {key: kinds.get(entry.type, type(entry.default)) for key, entry in named.items()}
    return {key: kind for key, kind in found.items() if kind is float or named[key].type in kinds}


def _entries() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Yield each field with the dotted prefix of its section."""
    for prefix, owner in {"": Config, **{f"{name}.": owner for name, owner in sections().items()}}.items():
        yield from ((prefix, entry) for entry in dataclasses.fields(owner))


def accepts_any_value(key: str) -> bool:
    """Return whether the key lies in a section without a schema."""
    return key.split(".")[0] in ("env_kwargs", "logger", "termination")


def lies_in_open_map(key: str) -> bool:
    """Return whether the key is one of a map that takes any names."""
    return key.startswith(("data.units.", "env_kwargs.", "logger.", "termination.bounds."))


def suggestion_for(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about a misspelt word: the closest known word, or all of them.

    >>> suggestion_for("papers", ["default", "paper"])
    '; did you mean paper?'
    >>> suggestion_for("x", ["default", "paper"])
    ' (there are: default, paper)'
    """
    known = list(known)
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else f" (there are: {', '.join(known)})"


def format_value(value: Any) -> str:
    """Format a value as on a command line.

    >>> format_value(None), format_value(["policy", "rollouts"])
    ('null', '[policy, rollouts]')
    """
    return json.dumps(value, ensure_ascii=False, default=str).replace('"', "")
