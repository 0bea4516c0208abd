"""Drawing of figures for the report: as SVG that adopts the page's colours, light or dark, and as images for loggers."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from io import BytesIO
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec

from mopo_pl.pages.svg import svg_element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")


@dataclass(frozen=True)
class Paper:
    """Colours of a figure."""

    text: str
    """Colour of text and axes."""
    colours: tuple[str, ...]
    """Colours of the lines, in this order."""


PAGE = Paper("#010101", ("#0101f1", "#0101f2", "#0101f3", "#0101f4", "#0101f5"))
"""Placeholder colours, which are replaced by the colours of the page."""
WHITE = Paper("#1b2127", ("#1f6fb8", "#c25a12", "#2b8a55", "#8250c4", "#b3307a"))
"""The page's light colours."""
REPLACED = {PAGE.text: "currentColor", **{colour: f"var(--c{i})" for i, colour in enumerate(PAGE.colours, 1)}}
RESOLUTION = 150
"""Resolution of images [dots per inch]."""


class Drawing(Generic[P]):
    """Callable that makes a figure with a drawing function, as SVG or as a matplotlib figure."""

    def __init__(self, draw: Callable[Concatenate[Paper, P], "Figure"]) -> None:
        """Wrap `draw`, a function that returns a new figure, drawn in the colours of the given paper."""
        self._draw = draw
        update_wrapper(self, draw)

    def __call__(self, name: str, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the figure as one transparent SVG element. `name` is the prefix of the ids in it; further arguments go to the function."""
        return self.under(name, name, *args, **kwargs)

    def under(self, title: str, name: str, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the SVG element of a figure that shares its title with others; `title` is the prefix of that title's id."""
        with styled(PAGE):
            figure = self._draw(PAGE, *args, **kwargs)
            figure.patch.set_alpha(0)
            for axes in figure.axes:
                axes.patch.set_alpha(0)
            return _svg(figure, name, title)

    def figure(self, *args: P.args, **kwargs: P.kwargs) -> "Figure":
        """Return the figure on white; it should be rendered within `styled(WHITE)`."""
        with styled(WHITE):
            return self._draw(WHITE, *args, **kwargs)


@contextmanager
def styled(paper: Paper) -> Iterator[None]:
    """Apply the report's style to figures that are drawn or saved in this context."""
    from matplotlib import rc_context

    style: dict[Any, Any] = {
        "text.parse_math": False,  # names of columns may hold a $
        "font.family": "sans-serif",
        "font.size": 9.0,
        "axes.labelsize": 9.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": "cycler('color', ['{}'])".format("', '".join(paper.colours)),
        "legend.frameon": False,
        "legend.fontsize": 8.0,
        "lines.linewidth": 1.5,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), paper.text),
    }
    with rc_context(style), warnings.catch_warnings():
        # matplotlib measures letters that its font lacks as boxes; the page shows them in its font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def sheet(height: float = 2.7, width: float = 4.4) -> tuple["Figure", "Axes"]:
    """Return a figure without pyplot state and its axes; at the default width [inch] a phone shows it without shrinking the text much."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def as_png(figure: "Figure") -> bytes:
    """Return a figure of `Drawing.figure` as a PNG file."""
    content = BytesIO()
    with styled(WHITE):
        figure.savefig(content, format="png", dpi=RESOLUTION)
    return content.getvalue()


def _svg(figure: "Figure", name: str, title: str) -> str:
    """Return the figure as one SVG element with unique ids, without the parts that only a separate SVG file needs."""
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    svg = svg_element(figure, letters_as_text=True, metadata=metadata)
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, _, body = svg.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(xlink:)?href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    for drawn, own in REPLACED.items():
        body = body.replace(drawn, own)
    return f'<svg {box[0]} role="img" aria-labelledby="{title}-title">{body}'


def legend_above(axes: "Axes") -> None:
    """Place the legend above the axes, where it hides no curve."""
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.0)


def make_logarithmic(axes: "Axes") -> None:
    """Make the vertical axis logarithmic, with plain numbers as labels; matplotlib's default labels are formulas."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    finest, fine = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0)
    subs = finest if high < 8 * low else fine if high < 200 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
