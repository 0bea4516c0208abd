"""Conversion of a matplotlib figure to an SVG element of a page."""

from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def svg_element(figure: "Figure", *, letters_as_text: bool, **saved: Any) -> str:
    """Return the figure as an `<svg>` element; the same figure gives the same element.

    Args:
        figure: Figure to convert.
        letters_as_text: Whether letters stay text, which can be searched and read aloud and uses the page's font; otherwise they become paths.
        saved: Further arguments of `Figure.savefig`.

    """
    from matplotlib import rc_context

    written = StringIO()
    with rc_context({"svg.hashsalt": "mopo_pl", "svg.fonttype": "none" if letters_as_text else "path"}):
        figure.savefig(written, format="svg", **saved)
    text = written.getvalue()
    return text[text.index("<svg") :]
