"""Figures of a report. `drawing.py` turns them into SVG elements and images."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from mopo_pl.data.readers.names import shown
from mopo_pl.diagnostics.one_step import OneStep
from mopo_pl.diagnostics.open_loop import OpenLoop
from mopo_pl.diagnostics.policy_actions import ActionColumn, UncertaintyOnLog, Visited
from mopo_pl.report.drawing import PAGE, Drawing, Paper, legend_above, make_logarithmic, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Sequence[tuple[int, float | None]]
"""Pairs of updates and values; a value that is None is left out."""

MOST_LINES = len(PAGE.colours)
"""Largest number of lines in a figure: one for each colour."""
LONGEST = 18
"""Largest number of letters of a column's name in a figure."""
MOST_COLUMNS = 16
"""Largest number of columns in a figure, which shows the first ones; tables contain all."""


@Drawing
def curve(
    paper: Paper,
    series: Mapping[str, Points],
    *,
    label: str,
    levels: Mapping[str, float | None] | None = None,
    bands: Mapping[str, Points] | None = None,
    logarithmic: bool = False,
) -> "Figure":
    """Draw values by update.

    Args:
        paper: Colours of the figure.
        series: Points of each line by its name.
        label: Label of the vertical axis.
        levels: Horizontal lines by name.
        bands: Half the height of a band around a line, by the line's name.
        logarithmic: Whether the vertical axis is logarithmic, which has an effect only if all values are positive.

    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = sheet()
    for place, (colour, (title, points)) in enumerate(zip(paper.colours, series.items(), strict=False)):
        known = [(x, y) for x, y in points if y is not None]
        xs, ys = [x for x, _ in known], [y for _, y in known]
        wide = place == 0 and _coincide(list(series.values()))  # one line covers the other: both must be visible
        marker = "." if len(xs) < 30 else None
        axes.plot(xs, ys, color=colour, label=title, marker=marker, lw=3.0 if wide else 1.5)
        half = dict((bands or {}).get(title, ()))
        spread = [half.get(x) or 0.0 for x in xs]
        if any(spread):
            low, high = ([y + sign * s for y, s in zip(ys, spread, strict=True)] for sign in (-1, 1))
            axes.fill_between(xs, low, high, color=colour, alpha=0.2, lw=0)
    for title, level in (levels or {}).items():
        if level is not None:
            axes.axhline(level, color=paper.text, ls="--", lw=1, alpha=0.7, label=title)
    positive = [y for points in series.values() for _, y in points if y is not None]
    if logarithmic and positive and min(positive) > 0:
        make_logarithmic(axes)
    axes.set(xlabel="updates", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(axis="x", style="plain")
    if len(series) + len(levels or {}) > 1:
        legend_above(axes)
    return figure


def _coincide(lines: Sequence[Points]) -> bool:
    """Return whether there are two lines that differ nowhere by more than a hundredth of their range, as those of two critics may."""
    if len(lines) != 2:
        return False
    second = dict(lines[1])
    both = [(y, other) for x, y in lines[0] if y is not None and (other := second.get(x)) is not None]
    values = [y for pair in both for y in pair]
    return bool(both) and max(abs(y - other) for y, other in both) <= 0.01 * (max(values) - min(values))


@Drawing
def actions(paper: Paper, column: ActionColumn) -> "Figure":
    """Draw how often each action was logged, and how often the policy chooses it."""
    bins = len(column.logged_histogram)
    width = (column.high - column.low) / bins
    edges = [column.low + i * width for i in range(bins + 1)]
    figure, axes = sheet(2.1)
    axes.stairs(column.logged_histogram, edges, fill=True, color=paper.text, alpha=0.25, label="log")
    axes.stairs(column.chosen_histogram, edges, color=paper.colours[0], lw=1.5, label="policy")
    axes.set(xlabel=shown(column.name, LONGEST), ylabel="share of the states", xlim=(column.low, column.high))
    legend_above(axes)
    return figure


@Drawing
def uncertainty(paper: Paper, there: UncertaintyOnLog) -> "Figure":
    """Draw quantiles of u for logged actions and for the policy's actions."""
    figure, axes = sheet(1.5)
    for place, (values, colour) in enumerate(((there.chosen, paper.colours[0]), (there.logged, paper.text))):
        _quantiles(axes, place, values, colour)
    axes.set_yticks([0, 1], ["policy", "log"])
    axes.set(xlabel=f"u ({shown(there.name, LONGEST)}) on logged states", ylim=(-0.6, 1.6))
    return figure


@Drawing
def states(paper: Paper, seen: Visited) -> "Figure":
    """Draw quantiles of each column in the log and in imagined rollouts, scaled by those of the log."""
    columns = seen.columns[:MOST_COLUMNS]
    figure, axes = sheet(0.7 + 0.32 * len(columns))
    for place, column in enumerate(columns):
        low, _, middle, _, high = column.logged
        scale = (high - low) / 2 or 1.0
        _quantiles(axes, place - 0.15, [(value - middle) / scale for value in column.logged], paper.text)
        _quantiles(axes, place + 0.15, [(value - middle) / scale for value in column.imagined], paper.colours[0])
    axes.set_yticks(range(len(columns)), [shown(column.name, LONGEST) for column in columns])
    axes.invert_yaxis()
    axes.set_xlabel("in half the log's 5 to 95 % range")
    return figure


def _quantiles(axes: "Axes", place: float, values: Sequence[float], colour: str) -> None:
    """Draw the 5 to 95 % range as a thin line, the 25 to 75 % range as a thick one, and the median as a dot."""
    axes.plot([values[0], values[4]], [place, place], color=colour, lw=1)
    axes.plot([values[1], values[3]], [place, place], color=colour, lw=4, solid_capstyle="butt", alpha=0.6)
    axes.plot([values[2]], [place], color=colour, marker="o", ms=4)


@Drawing
def column_errors(paper: Paper, found: OneStep) -> "Figure":
    """Draw the relative one-step error of each target."""
    columns = found.columns[:MOST_COLUMNS]
    figure, axes = sheet(0.7 + 0.22 * len(columns))
    axes.barh([shown(column.name, LONGEST) for column in columns], [column.relative for column in columns])
    axes.axvline(1.0, color=paper.text, ls="--", lw=1, alpha=0.7)
    axes.invert_yaxis()
    axes.set_xlabel("one-step error [standard deviations of the target]")
    return figure


@Drawing
def calibration(paper: Paper, found: OneStep) -> "Figure":
    """Draw the coverage of central intervals against their probability, before and after the z-scale."""
    figure, axes = sheet(3.0)
    axes.plot([0, 1], [0, 1], color=paper.text, ls="--", lw=1, alpha=0.7, label="calibrated")
    axes.plot(found.levels, found.coverage, marker=".", color=paper.colours[1], label="σ as predicted")
    axes.plot(found.levels, found.scaled_coverage, marker=".", color=paper.colours[0], label="σ after scaling")
    axes.set(xlabel="probability of the interval", ylabel="share of errors in it", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend()
    return figure


@Drawing
def ranking(paper: Paper, found: OneStep) -> "Figure":
    """Draw the mean true error of each tenth of the rows, ordered by the u of each penalty."""
    figure, axes = sheet(3.0)
    drawn = [each for each in found.rankings if each.deciles]
    for colour, each in zip(paper.colours, drawn, strict=False):
        places = range(1, len(each.deciles) + 1)
        axes.plot(places, each.deciles, marker=".", color=colour, label=shown(each.name, LONGEST))
    if all(min(each.deciles) > 0 for each in drawn):
        make_logarithmic(axes)
    axes.set(xlabel="tenth of the held-out rows, by u", ylabel="mean true error")
    axes.set_xticks(range(1, 11))
    if drawn:
        legend_above(axes)
    return figure


@Drawing
def horizon(paper: Paper, found: OpenLoop) -> "Figure":
    """Draw the open-loop error by the number of steps."""
    from matplotlib.ticker import MaxNLocator

    # If the model diverges, the curves end before the first error that is not finite.
    last = next((h for h, error in enumerate(found.high) if not isfinite(error)), len(found.high))
    steps, low, high = range(1, last + 1), found.low[:last], found.high[:last]
    median, standing = found.median[:last], found.standing[:last]
    figure, axes = sheet(3.0)
    axes.fill_between(steps, low, high, color=paper.colours[0], alpha=0.2, lw=0, label="10 to 90 %")
    for elite in found.elites:
        axes.plot(steps, elite[:last], color=paper.colours[0], lw=0.7, alpha=0.5)
    axes.plot(steps, median, color=paper.colours[0], label="median; thin: each elite")
    axes.plot(steps, standing, color=paper.text, ls="--", lw=1, alpha=0.7, label="if nothing changed")
    if last and min(*low, *standing) > 0:
        make_logarithmic(axes)
    axes.set(xlabel="steps h", ylabel="error [std of the log's states]")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(axes)
    return figure
