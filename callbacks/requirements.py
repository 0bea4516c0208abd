"""Check that a callback is used with the LightningModule and the DataModule that it was written for."""

from typing import Any, TypeVar

import lightning as L

from mopo_pl.errors import InputError

Part = TypeVar("Part")


def require(callback: L.Callback, given: Any, *kinds: type[Part], where: str = "") -> Part:
    """Return `given` if it is an instance of one of `kinds`.

    Otherwise raise an InputError that names the callback, the kinds and the type of `given`. `where` is inserted into this
    message after the names of the kinds.
    """
    if isinstance(given, kinds):
        return given
    wanted = " or ".join(kind.__name__ for kind in kinds)
    found = "none" if given is None else f"{_article(type(given).__name__)} {type(given).__name__}"
    raise InputError(f"{type(callback).__name__} needs {_article(wanted)} {wanted}{where}, and was given {found}")


def _article(noun: str) -> str:
    return "an" if noun[0] in "AEIO" else "a"
