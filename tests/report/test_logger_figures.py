"""Which loggers are given the report's figures, by what they offer; and that one that fails does not fail a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from mopo_pl.report.logger_figures import figures_of, sender_of, show_figures
from mopo_pl.report.run.overview import RunOverview, gather
from mopo_pl.report.run.run_files import Trust

Run = Callable[..., Path]
NAMES = ["report/return", "report/model_error_by_horizon", "report/calibration", "report/action_0"]


@pytest.fixture(scope="module")
def overview(whole: Path) -> RunOverview:
    return gather(whole, dataset=None, trust=Trust(frozenset()))


class Given:
    """A logger whose experiment notes what it is given."""

    run_id = "run 1"

    def __init__(self, **offered: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.experiment = type(
            "Experiment", (), {name: staticmethod(call(self.calls)) for name, call in offered.items()}
        )


def as_mlflow(calls: list[Any]) -> Callable[..., None]:
    def log_figure(run_id: str, figure: Any, artifact_file: str, *, save_kwargs: Any = None) -> None:
        calls.append((run_id, figure, artifact_file))

    return log_figure


def as_comet(calls: list[Any]) -> Callable[..., None]:
    def log_figure(
        figure_name: str | None = None, figure: Any = None, overwrite: bool = False, step: Any = None
    ) -> None:
        calls.append((figure_name, figure, step))

    return log_figure


def as_tensorboard(calls: list[Any]) -> Callable[..., None]:
    def add_figure(
        tag: str, figure: Any, global_step: int | None = None, close: bool = True, walltime: Any = None
    ) -> None:
        calls.append((tag, figure, global_step, close))

    return add_figure


def test_each_logger_is_given_them_by_its_own_api(overview: RunOverview) -> None:
    board, flow, comet = Given(add_figure=as_tensorboard), Given(log_figure=as_mlflow), Given(log_figure=as_comet)
    show_figures([board, flow, comet], overview)
    assert [(tag, step, close) for tag, _, step, close in board.calls] == [(name, 20, False) for name in NAMES]
    assert [(run, file) for run, _, file in flow.calls] == [("run 1", f"{name}.png") for name in NAMES]
    assert [(name, step) for name, _, step in comet.calls] == [(name, 20) for name in NAMES]
    # All are given the same figures.
    assert [figure for _, figure, *_ in board.calls] == [figure for _, figure, _ in flow.calls]


def test_a_logger_of_images_is_given_pictures_of_them(overview: RunOverview) -> None:
    class Pictures:
        experiment = None
        seen: ClassVar[list[tuple[str, Image.Image]]] = []

        def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
            assert step is None  # steps of rows that the logger holds are left out
            (image,) = images
            self.seen.append((key, image))

    show_figures([Pictures()], overview)
    assert [key for key, _ in Pictures.seen] == NAMES
    for _, image in Pictures.seen:
        pixels = np.asarray(image.convert("RGB"), int)
        assert pixels.shape[1] == 660
        assert (pixels[0, 0] == 255).all()  # white
        # Drawn in the page's blue, and not in its stand-in.
        assert (abs(pixels - [0x1F, 0x6F, 0xB8]).sum(-1) < 6).sum() > 50
        assert not (abs(pixels - [1, 1, 0xF1]).sum(-1) < 6).any()


def test_loggers_that_show_nothing_are_left_alone_and_nothing_is_drawn(
    overview: RunOverview, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mopo_pl.report.logger_figures.figures_of", pytest.fail)
    show_figures([Given(), object()], overview)
    assert capsys.readouterr().out == ""
    assert sender_of(Given()) is None


def test_an_unscored_run_without_a_model_has_no_such_figures(overview: RunOverview) -> None:
    assert [name for name, _ in figures_of(overview)] == [name.removeprefix("report/") for name in NAMES]
    bare = RunOverview(
        **{**vars(overview), "curves": {"evaluation/return": [(1, None)]}, "model": None, "policy": None}
    )
    assert list(figures_of(bare)) == []


def test_tensorboard_holds_the_figures_of_a_run_beside_its_values(train: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = train("board", "report=true", "logger=tensorboard")
    events = EventAccumulator(str(folder / "logs/tensorboard/policy"))
    events.Reload()
    assert events.Tags()["images"] == NAMES
    for name in NAMES:
        (image,) = events.Images(name)
        assert (image.step, image.width) == (20, 440)
    assert [event.step for event in events.Scalars("policy/alpha")] == [10, 20]


def test_mlflow_and_wandb_keep_them_inside_the_run_folder(
    train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = train("servers", "report=true", "trainer.max_epochs=1", "logger={mlflow: {}, wandb: {}}")
    for place in ("logs/mlflow/*/artifacts/report", "logs/wandb/offline-run-*/files/media/images/report"):
        names = {path.name.partition("_0_")[0].removesuffix(".png") for path in folder.glob(f"{place}/*.png")}
        assert {name.partition("_")[0] for name in names} == {"return", "model", "calibration", "action"}, place
        assert len(list(folder.glob(f"{place}/*.png"))) == len(NAMES)
    assert list(tmp_path.iterdir()) == []


FAILING = """
from lightning.pytorch.loggers import CSVLogger


class Failing(CSVLogger):
    @property
    def experiment(self):
        own = super().experiment
        own.add_figure = self.fail
        return own

    def fail(self, *given, **more):
        raise ConnectionError("the server\\nis gone")
"""


def test_a_logger_that_raises_does_not_fail_the_run(
    train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "failing_logger.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    folder = train(
        "failing",
        "report=true",
        f"logger={{failing_logger:Failing: {{save_dir: {tmp_path}, name: own, version: one}}}}",
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Failing could not show the report's figures (ConnectionError: the server is gone)"
    assert lines[-2].startswith(f"report   {folder / 'report.html'}  (")
    assert (tmp_path / "own/one/metrics.csv").read_text().count("\n") == 3  # closed as ever
