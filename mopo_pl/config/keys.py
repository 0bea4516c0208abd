"""The dotted keys of `Config`, such as `sac.tau`, and their types."""

import dataclasses
import difflib
import json
from collections.abc import Iterable
from typing import Any, Optional

from mopo_pl.config.schema import Config


def sections() -> dict[str, list[str]]:
    """Return the field names of each nested dataclass of Config, by the name of the section."""
    nested = {}
    for entry in dataclasses.fields(Config):
        if isinstance(entry.default_factory, type) and dataclasses.is_dataclass(entry.default_factory):
            nested[entry.name] = [inner.name for inner in dataclasses.fields(entry.default_factory)]
    return nested


def known_keys() -> list[str]:
    """Return all dotted keys."""
    nested = sections()
    plain = [entry.name for entry in dataclasses.fields(Config)]
    return plain + [f"{section}.{inner}" for section, inners in nested.items() for inner in inners]


def text_keys() -> set[str]:
    """Return the dotted keys whose value is a string."""
    owners = {"": Config} | {f"{section}.": type(getattr(Config(), section)) for section in sections()}
    return {
        f"{prefix}{entry.name}"
        for prefix, owner in owners.items()
        for entry in dataclasses.fields(owner)
        if entry.type in (str, Optional[str])
    }


def accepts_any_value(key: str) -> bool:
    """Return whether the key lies in a section without a schema."""
    return key.split(".")[0] in ("env_kwargs", "logger")


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
