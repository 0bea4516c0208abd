"""Look up a function by its registered name, or by `module:function` for a user's function."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any


def lookup(kind: str, name: str, choices: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """Return `choices[name]`, or import the object that `module:function` names. `kind`: kind of the object, for messages.

    Raises ValueError if the name is unknown, the import fails, or the object is not callable.

    >>> lookup("penalty", "math:hypot", {})(3.0, 4.0)
    5.0
    """
    if name in choices:
        return choices[name]
    if ":" not in name:
        near = difflib.get_close_matches(name, choices, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"there is no {kind} named {name!r}.{hint} Available: {', '.join((*choices, 'module:function'))}"
        )
    module, _, attribute = name.partition(":")
    add_current_folder()
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a user's module may raise anything when it is imported
        raise ValueError(f"{kind} {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"{kind} {name!r} is not callable: it is a {type(found).__name__}")
    return found


def add_current_folder() -> None:
    """Let modules be imported from the current folder.

    It comes last in `sys.path`, because a file there must not hide a module of Python or of a package.
    """
    with suppress(OSError):  # the folder was removed
        folder = os.getcwd()
        if folder not in map(os.path.abspath, sys.path):
            sys.path.append(folder)
