"""Figures of the page about a log, as SVG in the page's colours."""

from typing import TYPE_CHECKING

import numpy as np

from mopo_pl.data.readers.names import shown
from mopo_pl.report.drawing import Drawing, Paper, sheet
from mopo_pl.report.figures import LONGEST
from mopo_pl.report.log.contents import Column, Coverage, Histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHADES = 5
"""Number of shades of a cell of the map, by the logarithm of its number of rows."""


@Drawing
def column(paper: Paper, of: Column) -> "Figure":
    """Draw a small histogram of a column, to be shown among others; for an action, dashed lines show its bounds."""
    figure, axes = sheet(1.25, 2.1)
    _histogram(axes, paper, of.histogram)
    for bound in of.bounds or ():
        axes.axvline(bound, color=paper.text, ls="--", lw=1, alpha=0.7)
    axes.set_xlabel(_title(of), labelpad=2)
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(labelsize=8)
    axes.set_yticks([])
    return figure


def _title(of: Column) -> str:
    """Return name and unit of a column, shortened to the available room."""
    title = shown(of.name, LONGEST)
    return f"{title} [{shown(of.unit, 8)}]" if of.unit else title


@Drawing
def histogram(paper: Paper, counted: Histogram, label: str) -> "Figure":
    """Draw a histogram of episodes, with their number on the vertical axis."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = sheet(2.1)
    _histogram(axes, paper, counted)
    axes.set(xlabel=label, ylabel="episodes")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return figure


def _histogram(axes: "Axes", paper: Paper, counted: Histogram) -> None:
    edges = np.linspace(counted.low, counted.high, len(counted.counts) + 1)
    axes.stairs(counted.counts, edges, fill=True, color=paper.colours[0], alpha=0.8)
    axes.set_ylim(0, 1.05 * max(counted.counts))


@Drawing
def coverage(paper: Paper, visited: Coverage) -> "Figure":
    """Draw a map of the states: a square for each visited part, stronger where there are more rows."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    counts = np.array(visited.counts)
    x, y = (np.linspace(*limits, len(counts) + 1) for limits in (visited.x, visited.y))
    shades = np.ceil(SHADES * np.log1p(counts) / np.log1p(counts.max())).astype(int)
    figure, axes = sheet(3.2)
    for shade in range(1, SHADES + 1):
        cells = [
            Path([(x[i], y[j]), (x[i + 1], y[j]), (x[i + 1], y[j + 1]), (x[i], y[j + 1]), (x[i], y[j])], closed=True)
            for i, j in np.argwhere(shades == shade)
        ]
        if cells:
            whole = Path.make_compound_path(*cells)
            axes.add_patch(PathPatch(whole, color=paper.colours[0], alpha=shade / SHADES, lw=0))
    axes.set(xlim=visited.x, ylim=visited.y)
    axes.set(xlabel=shown(visited.labels[0], 40), ylabel=shown(visited.labels[1], 40))
    return figure
