"""Choices by name, and `module:function` for a user's own."""

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any


def resolve(kind: str, name: str, choices: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The choice of that name, or the object that `module:function` names.

    Raises ValueError that says what exists, or what could not be imported.
    """
    if name in choices:
        return choices[name]
    if ":" not in name:
        near = difflib.get_close_matches(name, choices, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"no {kind} is called {name!r}.{hint} Known: {', '.join(choices)}; or module:function")
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # whatever a user's module does when it is imported
        raise ValueError(f"{kind} {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"{kind} {name!r} cannot be called: it is a {type(found).__name__}")
    return found
