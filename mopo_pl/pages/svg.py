"""A figure of matplotlib as one element of a page."""

from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def svg_element(figure: "Figure", *, letters_as_text: bool, **saved: Any) -> str:
    """The figure as an `<svg>` element; the same figure gives the same element.

    Args:
        figure: What is drawn.
        letters_as_text: Whether letters stay text, which is searched and read aloud in the page's font; else they are paths.
        saved: Further arguments of `Figure.savefig`.

    """
    from matplotlib import rc_context

    written = StringIO()
    with rc_context({"svg.hashsalt": "mopo_pl", "svg.fonttype": "none" if letters_as_text else "path"}):
        figure.savefig(written, format="svg", **saved)
    text = written.getvalue()
    return text[text.index("<svg") :]
