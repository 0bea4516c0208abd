"""An extension of mkdocstrings: docstrings are plain text, in which [S, A] is a shape and no link, and * is a product."""

import re
from typing import Any

from griffe import Extension, Object


class PlainDocstrings(Extension):
    """Puts a backslash before the signs that Markdown would take for its own; `code` and examples are left as they are."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Called once for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = "\n".join(map(_plain, obj.docstring.value.split("\n")))


def _plain(line: str) -> str:
    if line.lstrip().startswith((">>>", "...")):
        return line
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if part.startswith("`") else re.sub(r"([\[\]*<])", r"\\\1", part) for part in parts)
