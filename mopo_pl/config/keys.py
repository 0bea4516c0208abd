"""The dotted keys of `Config`: which there are and of what kind."""

import dataclasses
import difflib
import json
from collections.abc import Iterable
from typing import Any, Optional

from mopo_pl.config.schema import Config


def sections() -> dict[str, list[str]]:
    """The nested dataclasses of Config and their fields."""
    nested = {}
    for entry in dataclasses.fields(Config):
        if isinstance(entry.default_factory, type) and dataclasses.is_dataclass(entry.default_factory):
            nested[entry.name] = [inner.name for inner in dataclasses.fields(entry.default_factory)]
    return nested


def known_keys() -> list[str]:
    """Every dotted key."""
    nested = sections()
    plain = [entry.name for entry in dataclasses.fields(Config)]
    return plain + [f"{section}.{inner}" for section, inners in nested.items() for inner in inners]


def text_keys() -> set[str]:
    """Every dotted key whose value is a text."""
    owners = {"": Config} | {f"{section}.": type(getattr(Config(), section)) for section in sections()}
    return {
        f"{prefix}{entry.name}"
        for prefix, owner in owners.items()
        for entry in dataclasses.fields(owner)
        if entry.type in (str, Optional[str])
    }


def accepts_any_value(key: str) -> bool:
    """Whether any value may stand there."""
    return key.split(".")[0] in ("env_kwargs", "logger")


def suggestion_for(word: str, known: Iterable[str]) -> str:
    """What a misspelt word may have meant, or all that there are, to end a sentence with."""
    known = list(known)
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else f" (there are: {', '.join(known)})"


def format_value(value: Any) -> str:
    """As on a command line: null, true, [policy, rollouts]."""
    return json.dumps(value, ensure_ascii=False, default=str).replace('"', "")
