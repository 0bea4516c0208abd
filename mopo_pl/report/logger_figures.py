"""Main figures of the report, sent to the loggers of a run that can show images."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from mopo_pl.distributed.console import print_once
from mopo_pl.report import figures
from mopo_pl.report.drawing import WHITE, as_png, styled
from mopo_pl.report.run.overview import RunOverview

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Send = Callable[[str, "Figure", int], object]
"""Function that sends one figure to a logger: name, figure, number of updates."""
MOST_ACTIONS = 8
"""Largest number of action columns that have a figure."""


def figures_of(overview: RunOverview) -> Iterator[tuple[str, "Figure"]]:
    """Yield name and figure of all that is available: learning curve, errors of the model by horizon, calibration, actions."""
    scored = overview.curves.get("evaluation/return")
    if scored and any(value is not None for _, value in scored):
        levels = {"mean of the log": overview.log.numbers["mean_return"]}
        bands = {"policy": overview.curves.get("evaluation/return_std", [])}
        yield "return", figures.curve.figure({"policy": scored}, label="return", levels=levels, bands=bands)
    if overview.model is not None:
        yield "model_error_by_horizon", figures.horizon.figure(overview.model.open_loop)
        yield "calibration", figures.calibration.figure(overview.model.one_step)
    if overview.policy is not None:
        for i, column in enumerate(overview.policy.actions[:MOST_ACTIONS]):
            yield f"action_{i}", figures.actions.figure(column)


def show_figures(loggers: Sequence[Any], overview: RunOverview) -> None:
    """Send the figures to each logger that can show them; if one fails, its name is printed and the run goes on."""
    drawn: list[tuple[str, Figure]] = []
    for logger in loggers:
        try:
            if (send := sender_of(logger)) is None:
                continue
            drawn = drawn or list(figures_of(overview))
            with styled(WHITE):
                for name, figure in drawn:
                    send(f"report/{name}", figure, overview.updates)
            if callable(close := getattr(logger.experiment, "close", None)):
                close()  # for TensorBoard, which otherwise keeps the figures in memory
        except Exception as error:  # a logger may raise anything
            print_once(
                f"{type(logger).__name__} could not show the report's figures ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]})"
            )


def sender_of(logger: Any) -> Send | None:
    """Return a function that sends a figure to a logger, depending on the logger and its experiment; None where it takes no figures.

    TensorBoard has `add_figure`, MLflow has `log_figure` with a run id, Comet has `log_figure` of its experiment, and W&B takes images.
    """
    experiment = getattr(logger, "experiment", None)
    if callable(add := getattr(experiment, "add_figure", None)):
        return lambda name, figure, updates: add(name, figure, global_step=updates, close=False)
    if callable(log := getattr(experiment, "log_figure", None)):
        if "run_id" in inspect.signature(log).parameters:
            return lambda name, figure, updates: log(logger.run_id, figure, f"{name}.png")
        return lambda name, figure, updates: log(figure_name=name, figure=figure, step=updates)
    if callable(image := getattr(logger, "log_image", None)):
        return lambda name, figure, updates: image(key=name, images=[Image.open(BytesIO(as_png(figure)))])
    return None
