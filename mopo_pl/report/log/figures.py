"""The figures of the page about a log, as SVG in the page's colours."""

from typing import TYPE_CHECKING

import numpy as np

from mopo_pl.data.readers.names import shown
from mopo_pl.report.figures import COLOURS, LONGEST, TEXT, as_svg, drawing
from mopo_pl.report.log.contents import Column, Coverage, Histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADES = 5
"""Of a cell of the map, by the logarithm of its rows."""


def column(name: str, of: Column, title: str) -> str:
    """A small histogram of a column, which stands among others. Of an action, dashed lines are its bounds."""
    with drawing(1.25, 2.1) as (figure, axes):
        _histogram(axes, of.histogram)
        for bound in of.bounds or ():
            axes.axvline(bound, color=TEXT, ls="--", lw=1, alpha=0.7)
        axes.set_xlabel(_title(of), labelpad=2)
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(labelsize=8)
        axes.set_yticks([])
        return as_svg(figure, name, title)


def _title(of: Column) -> str:
    """Name and unit, as far as there is room."""
    title = shown(of.name, LONGEST)
    return f"{title} [{shown(of.unit, 8)}]" if of.unit else title


def histogram(name: str, counted: Histogram, label: str) -> str:
    """A histogram by itself, with the number of episodes."""
    from matplotlib.ticker import MaxNLocator

    with drawing(2.1) as (figure, axes):
        _histogram(axes, counted)
        axes.set(xlabel=label, ylabel="episodes")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        return as_svg(figure, name)


def _histogram(axes: "Axes", counted: Histogram) -> None:
    edges = np.linspace(counted.low, counted.high, len(counted.counts) + 1)
    axes.stairs(counted.counts, edges, fill=True, color=COLOURS[0], alpha=0.8)
    axes.set_ylim(0, 1.05 * max(counted.counts))


def coverage(name: str, visited: Coverage) -> str:
    """A map of the states: a square for each part that the log visits, the stronger the more rows."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    counts = np.array(visited.counts)
    x, y = (np.linspace(*limits, len(counts) + 1) for limits in (visited.x, visited.y))
    shades = np.ceil(SHADES * np.log1p(counts) / np.log1p(counts.max())).astype(int)
    with drawing(3.2) as (figure, axes):
        for shade in range(1, SHADES + 1):
            cells = [
                Path(
                    [(x[i], y[j]), (x[i + 1], y[j]), (x[i + 1], y[j + 1]), (x[i], y[j + 1]), (x[i], y[j])], closed=True
                )
                for i, j in np.argwhere(shades == shade)
            ]
            if cells:
                whole = Path.make_compound_path(*cells)
                axes.add_patch(PathPatch(whole, color=COLOURS[0], alpha=shade / SHADES, lw=0))
        axes.set(xlim=visited.x, ylim=visited.y)
        axes.set(xlabel=shown(visited.labels[0], 40), ylabel=shown(visited.labels[1], 40))
        return as_svg(figure, name)
