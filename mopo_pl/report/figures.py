"""The figures of a report, as SVG to be put into a page: text and lines take the page's colours, light or dark."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING, Any

from mopo_pl.data.readers.names import shown
from mopo_pl.diagnostics.model_error import OneStep, OpenLoop
from mopo_pl.diagnostics.policy_actions import ActionColumn, UncertaintyThere, Visited
from mopo_pl.pages.svg import svg_element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[int, float | None]]
"""Updates and values; a value that is None is left out."""

TEXT = "#010101"
COLOURS = ("#0101f1", "#0101f2", "#0101f3", "#0101f4", "#0101f5")
"""What matplotlib draws with; the page's own colours take their place."""
REPLACED = {TEXT: "currentColor", **{colour: f"var(--c{i})" for i, colour in enumerate(COLOURS, 1)}}
LONGEST = 18
"""Letters of a column's name in a figure."""
MOST_COLUMNS = 16
"""Columns that a figure shows, the first ones; tables hold all."""
STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names of columns may hold a $
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": "cycler('color', ['{}'])".format("', '".join(COLOURS)),
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.5,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), TEXT),
}


@contextmanager
def drawing(height: float = 2.7, width: float = 4.4) -> Iterator[tuple["Figure", "Axes"]]:
    """A transparent figure without pyplot's state, of a width that a phone shows without shrinking its letters much."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE), warnings.catch_warnings():
        # Letters that matplotlib's own font lacks are measured as boxes; the page shows them in its font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        yield figure, axes


def as_svg(figure: "Figure", name: str, title: str | None = None) -> str:
    """The figure as one SVG element, with ids of its own and without what an SVG file needs and a page does not.

    `title`: the name of the title that it shares with other figures.
    """
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
    return f'<svg {box[0]} role="img" aria-labelledby="{title or name}-title">{body}'


def curve(
    name: str,
    series: Mapping[str, Points],
    *,
    label: str,
    levels: Mapping[str, float | None] | None = None,
    bands: Mapping[str, Points] | None = None,
    logarithmic: bool = False,
) -> str:
    """Values by update.

    Args:
        name: Prefix of the ids in the SVG.
        series: Points of each line by its name.
        label: Of the vertical axis.
        levels: Horizontal lines by name.
        bands: Half the height of a band around a line, by the line's name.
        logarithmic: Whether the vertical axis is; for values that are all positive.

    """
    from matplotlib.ticker import MaxNLocator

    with drawing() as (figure, axes):
        for colour, (title, points) in zip(COLOURS, series.items(), strict=False):
            known = [(x, y) for x, y in points if y is not None]
            xs, ys = [x for x, _ in known], [y for _, y in known]
            axes.plot(xs, ys, color=colour, label=title, marker="." if len(xs) < 30 else None)
            half = dict((bands or {}).get(title, ()))
            spread = [half.get(x) or 0.0 for x in xs]
            if any(spread):
                low, high = ([y + sign * s for y, s in zip(ys, spread, strict=True)] for sign in (-1, 1))
                axes.fill_between(xs, low, high, color=colour, alpha=0.2, lw=0)
        for title, level in (levels or {}).items():
            if level is not None:
                axes.axhline(level, color=TEXT, ls="--", lw=1, alpha=0.7, label=title)
        positive = [y for points in series.values() for _, y in points if y is not None]
        if logarithmic and positive and min(positive) > 0:
            _logarithmic(axes)
        axes.set(xlabel="updates", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.ticklabel_format(axis="x", style="plain")
        if len(series) + len(levels or {}) > 1:
            _legend_above(axes)
        return as_svg(figure, name)


def _legend_above(axes: "Axes") -> None:
    """Where it hides no curve."""
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.0)


def _logarithmic(axes: "Axes") -> None:
    """Make the vertical axis logarithmic, with numbers as they are written: matplotlib's own labels are formulas."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    finest, fine = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0)
    subs = finest if high < 8 * low else fine if high < 200 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def actions(name: str, column: ActionColumn) -> str:
    """How often each action was logged, and is chosen."""
    bins = len(column.logged_histogram)
    width = (column.high - column.low) / bins
    edges = [column.low + i * width for i in range(bins + 1)]
    with drawing(2.1) as (figure, axes):
        axes.stairs(column.logged_histogram, edges, fill=True, color=TEXT, alpha=0.25, label="log")
        axes.stairs(column.chosen_histogram, edges, color=COLOURS[0], lw=1.5, label="policy")
        axes.set(xlabel=shown(column.name, LONGEST), ylabel="share of the states", xlim=(column.low, column.high))
        _legend_above(axes)
        return as_svg(figure, name)


def uncertainty(name: str, there: UncertaintyThere) -> str:
    """Quantiles of u on logged actions and on the policy's."""
    with drawing(1.5) as (figure, axes):
        for place, (values, colour) in enumerate(((there.chosen, COLOURS[0]), (there.logged, TEXT))):
            _quantiles(axes, place, values, colour)
        axes.set_yticks([0, 1], ["policy", "log"])
        axes.set(xlabel=f"u ({shown(there.name, LONGEST)}) on logged states", ylim=(-0.6, 1.6))
        return as_svg(figure, name)


def states(name: str, seen: Visited) -> str:
    """Quantiles of each column in the log and in imagined rollouts, scaled by those of the log."""
    columns = seen.columns[:MOST_COLUMNS]
    with drawing(0.7 + 0.32 * len(columns)) as (figure, axes):
        for place, column in enumerate(columns):
            low, _, middle, _, high = column.logged
            scale = (high - low) / 2 or 1.0
            _quantiles(axes, place - 0.15, [(value - middle) / scale for value in column.logged], TEXT)
            _quantiles(axes, place + 0.15, [(value - middle) / scale for value in column.imagined], COLOURS[0])
        axes.set_yticks(range(len(columns)), [shown(column.name, LONGEST) for column in columns])
        axes.invert_yaxis()
        axes.set_xlabel("in half the log's 5 to 95 % range")
        return as_svg(figure, name)


def _quantiles(axes: "Axes", place: float, values: Sequence[float], colour: str) -> None:
    """5 to 95 % as a thin line, 25 to 75 % as a thick one, the median as a dot."""
    axes.plot([values[0], values[4]], [place, place], color=colour, lw=1)
    axes.plot([values[1], values[3]], [place, place], color=colour, lw=4, solid_capstyle="butt", alpha=0.6)
    axes.plot([values[2]], [place], color=colour, marker="o", ms=4)


def column_errors(name: str, found: OneStep) -> str:
    """Relative one-step error of each target."""
    columns = found.columns[:MOST_COLUMNS]
    with drawing(0.7 + 0.22 * len(columns)) as (figure, axes):
        axes.barh([shown(column.name, LONGEST) for column in columns], [column.relative for column in columns])
        axes.axvline(1.0, color=TEXT, ls="--", lw=1, alpha=0.7)
        axes.invert_yaxis()
        axes.set_xlabel("one-step error [standard deviations of the target]")
        return as_svg(figure, name)


def calibration(name: str, found: OneStep) -> str:
    """Coverage of central intervals against their probability, before and after the z-scale."""
    with drawing(3.0) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=TEXT, ls="--", lw=1, alpha=0.7, label="calibrated")
        axes.plot(found.levels, found.coverage, marker=".", color=COLOURS[1], label="σ as predicted")
        axes.plot(found.levels, found.scaled_coverage, marker=".", color=COLOURS[0], label="σ after scaling")
        axes.set(xlabel="probability of the interval", ylabel="share of errors in it", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend()
        return as_svg(figure, name)


def ranking(name: str, found: OneStep) -> str:
    """Mean true error of each tenth of the rows, by each u."""
    with drawing(3.0) as (figure, axes):
        drawn = [each for each in found.rankings if each.deciles]
        for colour, each in zip(COLOURS, drawn, strict=False):
            places = range(1, len(each.deciles) + 1)
            axes.plot(places, each.deciles, marker=".", color=colour, label=shown(each.name, LONGEST))
        if all(min(each.deciles) > 0 for each in drawn):
            _logarithmic(axes)
        axes.set(xlabel="tenth of the held-out rows, by u", ylabel="mean true error")
        axes.set_xticks(range(1, 11))
        if drawn:
            _legend_above(axes)
        return as_svg(figure, name)


def horizon(name: str, found: OpenLoop) -> str:
    """Open-loop error by the number of steps."""
    from matplotlib.ticker import MaxNLocator

    # A model that explodes is drawn as far as its errors are numbers.
    last = next((h for h, error in enumerate(found.high) if not isfinite(error)), len(found.high))
    steps, low, high = range(1, last + 1), found.low[:last], found.high[:last]
    median, standing = found.median[:last], found.standing[:last]
    with drawing(3.0) as (figure, axes):
        axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.2, lw=0, label="10 to 90 %")
        for elite in found.elites:
            axes.plot(steps, elite[:last], color=COLOURS[0], lw=0.7, alpha=0.5)
        axes.plot(steps, median, color=COLOURS[0], label="median; thin: each elite")
        axes.plot(steps, standing, color=TEXT, ls="--", lw=1, alpha=0.7, label="if nothing changed")
        if last and min(*low, *standing) > 0:
            _logarithmic(axes)
        axes.set(xlabel="steps h", ylabel="error [std of the log's states]")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_above(axes)
        return as_svg(figure, name)
