"""Learning curves of a comparison."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mopo_pl.comparison.groups import Block, Setting
from mopo_pl.comparison.page import title
from mopo_pl.pages.svg import svg_element

MOST_CURVES = 10
"""Largest number of settings that are drawn for a block, those of the highest IQM: matplotlib has ten colours."""
GREY = "#808080"
"""Colour of text and axes, legible on white and on black."""


def draw(blocks: Sequence[Block]) -> Figure:
    """Draw one panel for each block: the mean over seeds of each setting, and the range of its seeds."""
    figure = Figure(figsize=(9, 4.2 * len(blocks)), layout="constrained")
    for axes, block in zip(figure.subplots(len(blocks), squeeze=False)[:, 0], blocks, strict=True):
        for order, setting in enumerate(block.settings[:MOST_CURVES], 1):
            updates, low, mean, high = seed_curves(setting)
            (line,) = axes.plot(updates, mean, label=f"{order}  {setting.label}", linewidth=1.8)
            axes.fill_between(updates, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.axhline(block.of_the_log, color=GREY, linestyle="--", linewidth=1)
        more = len(block.settings) - MOST_CURVES
        axes.set_title(title(block) + (f", without {more} of lower IQM" if more > 0 else ""), color=GREY, fontsize=10)
        axes.set_xlabel("updates", color=GREY)
        axes.set_ylabel("return", color=GREY)
        axes.tick_params(colors=GREY)
        for spine in axes.spines.values():
            spine.set_color(GREY)
        axes.legend(fontsize=8, labelcolor=GREY, framealpha=0)
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    return figure


def seed_curves(setting: Setting) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the updates after which every run was evaluated, and the lowest, mean and highest return there, float64 [k] each."""
    curves = [dict(run.curve) for run in setting.runs]
    updates = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([[curve[update] for update in updates] for curve in curves]).reshape(len(curves), len(updates))
    return np.array(updates), values.min(0), values.mean(0), values.max(0)


def png(figure: Figure) -> bytes:
    """Return the figure on white as a PNG file."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=150, facecolor="white")
    return written.getvalue()


def svg(figure: Figure) -> str:
    """Return the figure without a background as SVG; the same figure gives the same text."""
    return svg_element(figure, letters_as_text=False, metadata={"Date": None}, transparent=True)
