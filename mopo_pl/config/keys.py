"""The dotted keys of `Config`: which there are and of what kind."""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from mopo_pl.config.schema import Config


def sections() -> dict[str, type]:
    """The nested dataclasses of Config by their dotted keys, an outer one before those inside it."""
    return dict(_sections(Config, ""))


def _sections(owner: type, prefix: str) -> Iterator[tuple[str, type]]:
    for entry in dataclasses.fields(owner):
        inner = entry.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield f"{prefix}{entry.name}", inner
            yield from _sections(inner, f"{prefix}{entry.name}.")


def known_keys() -> list[str]:
    """Every dotted key."""
    return [f"{prefix}{entry.name}" for prefix, entry in _entries()]


def text_keys() -> set[str]:
    """Every dotted key whose value is a text."""
    return {f"{prefix}{entry.name}" for prefix, entry in _entries() if entry.type in (str, Optional[str])}


def _entries() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Each field with the dotted prefix of its section."""
    for prefix, owner in {"": Config, **{f"{name}.": owner for name, owner in sections().items()}}.items():
        yield from ((prefix, entry) for entry in dataclasses.fields(owner))


def is_free(key: str) -> bool:
    """Whether any value may stand there."""
    return key.split(".")[0] in ("env_kwargs", "logger")


def meant(word: str, known: Iterable[str]) -> str:
    """What a misspelt word may have meant, or all that there are, to end a sentence with."""
    known = list(known)
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else f" (there are: {', '.join(known)})"


def as_typed(value: Any) -> str:
    """As on a command line: null, true, [policy, rollouts]."""
    return json.dumps(value, ensure_ascii=False, default=str).replace('"', "")
