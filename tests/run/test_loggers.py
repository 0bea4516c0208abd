"""Each logger for real: a value written during a run is read back at its update."""

import csv
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mopo_pl.cli import main

Train = Callable[..., Path]
Rows = Callable[[Path], list[dict[str, Any]]]

SHORT = ("preset=offline-sac", "trainer.max_epochs=2")
STEPS = [20, 40]


@pytest.fixture
def alpha(rows: Rows) -> Callable[[Path], list[float]]:
    """α in the rows of metrics.jsonl."""
    return lambda folder: [row["policy/alpha"] for row in rows(folder) if row["stage"] == "policy"]


def csv_points(folder: Path) -> list[tuple[int, float]]:
    with (folder / "logs/csv/policy/metrics.csv").open() as file:
        return [(int(row["step"]), float(row["policy/alpha"])) for row in csv.DictReader(file)]


def tensorboard_points(folder: Path) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "logs/tensorboard/policy"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("policy/alpha")]


def mlflow_run(folder: Path, stage: str) -> tuple[Any, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/logs/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = [run for run in client.search_runs(experiments) if run.info.run_name == stage]
    return client, run


def mlflow_points(folder: Path) -> list[tuple[int, float]]:
    client, run = mlflow_run(folder, "policy")
    assert run.info.status == "FINISHED"
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "policy/alpha")]


def wandb_rows(file: Path) -> Iterator[dict[str, str]]:
    """The logged values of an offline record, by name. The file is a LevelDB log, which wandb has no reader for."""
    from wandb.proto import wandb_internal_pb2

    content, place, message = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        room = 32768 - place % 32768
        if room < 7:  # the rest of a block that no header fits into
            place += room
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        message += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record.FromString(message)  # type: ignore[attr-defined]
            message = b""
            if record.WhichOneof("record_type") == "history":
                yield {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}


def wandb_points(folder: Path) -> list[tuple[int, float]]:
    """Of all records of the run: a resumed one has two, which wandb joins by their id."""
    files = sorted(folder.glob("logs/wandb/offline-run-*/run-*.wandb"))
    found = [row for file in files for row in wandb_rows(file) if "policy/alpha" in row]
    return [(int(row["trainer/global_step"]), float(row["policy/alpha"])) for row in found]


READERS = {"csv": csv_points, "tensorboard": tensorboard_points, "mlflow": mlflow_points, "wandb": wandb_points}


@pytest.mark.parametrize("logger", READERS)
def test_a_logger_holds_the_values_at_their_updates(
    train: Train, alpha: Callable[[Path], list[float]], logger: str
) -> None:
    folder = train("run", *SHORT, f"logger={logger}")
    points = READERS[logger](folder)
    assert [step for step, _ in points] == STEPS
    assert [value for _, value in points] == pytest.approx(alpha(folder))


@pytest.mark.parametrize("logger", READERS)
def test_after_a_resume_no_row_is_lost_and_none_is_there_twice(
    train: Train, alpha: Callable[[Path], list[float]], stop_after: Callable[[int | None], int], logger: str
) -> None:
    """The rows of 20, 40 and 60 updates were sent when the run ended, and the checkpoint that is left is that of 20."""
    stop_after(65)
    often = ("checkpoint.every_minutes=0", "trainer.max_epochs=5")
    folder = train("run", *SHORT, *often, f"logger={logger}", code=130)
    for path in sorted((folder / "checkpoints").glob("policy-*.ckpt"))[-1:]:
        path.unlink()
    stop_after(None)
    assert main([f"resume={folder}"]) == 0
    points = READERS[logger](folder)
    assert [step for step, _ in points] == [20, 40, 60, 80, 100]
    assert [value for _, value in points] == pytest.approx(alpha(folder))


@pytest.mark.parametrize("logger", READERS)
def test_a_run_stopped_again_before_it_made_up_for_lost_rows_sends_none_twice(
    train: Train, stop_after: Callable[[int | None], int], logger: str
) -> None:
    stop_after(65)
    folder = train(*("run", *SHORT, "checkpoint.every_minutes=0", "trainer.max_epochs=4", f"logger={logger}"), code=130)
    for path in sorted((folder / "checkpoints").glob("policy-*.ckpt"))[-1:]:
        path.unlink()
    stop_after(3)
    assert main([f"resume={folder}"]) == 130
    stop_after(None)
    assert main([f"resume={folder}"]) == 0
    assert [step for step, _ in READERS[logger](folder)] == [20, 40, 60, 80]


@pytest.mark.parametrize("logger", READERS)
def test_a_logger_that_joins_at_a_resume_is_told_the_rows_so_far(
    train: Train, alpha: Callable[[Path], list[float]], stop_after: Callable[[int | None], int], logger: str
) -> None:
    stop_after(25)
    folder = train("run", *SHORT, "logger=none", code=130)
    stop_after(None)
    assert main([f"resume={folder}", f"logger={logger}"]) == 0
    points = READERS[logger](folder)
    assert [step for step, _ in points] == STEPS
    assert [value for _, value in points] == pytest.approx(alpha(folder))


def test_every_logger_holds_the_same_names(train: Train, rows: Rows) -> None:
    folder = train("run", *SHORT, "logger={csv: {}, tensorboard: {}, mlflow: {}, wandb: {}}")
    names = {name for name in rows(folder)[-1] if name not in ("stage", "update")}
    with (folder / "logs/csv/policy/metrics.csv").open() as file:
        assert set(next(csv.reader(file))) - {"step"} == names
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "logs/tensorboard/policy"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == names
    _, run = mlflow_run(folder, "policy")
    assert set(run.data.metrics) == names
    (record,) = folder.glob("logs/wandb/offline-run-*/run-*.wandb")
    written = {name for row in wandb_rows(record) for name in row if not name.startswith("_")}
    assert written - {"trainer/global_step"} == names


def test_the_settings_are_logged_as_hyperparameters(train: Train) -> None:
    folder = train("run", *SHORT, "logger={csv: {}, mlflow: {}}", "penalty.coef=0.75")
    assert "coef: 0.75" in (folder / "logs/csv/policy/hparams.yaml").read_text()
    _, run = mlflow_run(folder, "policy")
    assert run.data.params["penalty/coef"] == "0.75"


def test_wandb_keeps_one_offline_record_of_each_stage(train: Train) -> None:
    folder = train("run", "logger=wandb")
    records = [list(wandb_rows(file)) for file in sorted(folder.glob("logs/wandb/offline-run-*/run-*.wandb"))]
    stages = {"dynamics/train_loss": [5, 10], "policy/alpha": STEPS}
    assert len(records) == 2
    for record in records:
        (name,) = [name for name in stages if any(name in row for row in record)]
        assert [int(row["trainer/global_step"]) for row in record if name in row] == stages.pop(name)


def test_several_loggers_write_side_by_side_one_record_per_stage(train: Train) -> None:
    folder = train("run", "logger={csv: {}, tensorboard: {}}")
    for stage in ("dynamics", "policy"):
        assert (folder / f"logs/csv/{stage}/metrics.csv").exists()
        assert list((folder / f"logs/tensorboard/{stage}").glob("events.*"))


def test_none_leaves_metrics_jsonl_alone(train: Train, rows: Rows) -> None:
    folder = train("run", *SHORT, "logger=none")
    assert not list((folder / "logs").iterdir())
    assert len(rows(folder)) == 2


def test_a_logger_writes_where_it_is_told(train: Train, tmp_path: Path) -> None:
    train("run", *SHORT, f"logger={{csv: {{save_dir: {tmp_path}/elsewhere, name: mine}}}}")
    assert (tmp_path / "elsewhere/mine/policy/metrics.csv").exists()


def test_a_logger_of_the_users_own_is_used(train: Train, tmp_path: Path) -> None:
    own = f"logger={{lightning.pytorch.loggers:CSVLogger: {{save_dir: {tmp_path}, name: own, version: one}}}}"
    train("run", *SHORT, own)
    assert (tmp_path / "own/one/metrics.csv").exists()


def test_a_smoke_test_opens_no_logger(train: Train) -> None:
    folder = train("run", "logger=tensorboard", "trainer.fast_dev_run=true")
    assert not list(folder.rglob("events.*"))


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("logger.csv.colour=red", "logger.csv cannot be made: "),
        ("logger={tensorboard: {colour: red}}", "logger.tensorboard cannot be made: "),
        ("logger={mlflow: {colour: red}}", "logger.mlflow cannot be made: "),
        ("logger={wandb: {offline: true, colour: red}}", "logger.wandb cannot be made: "),
        ("logger={nowhere.at_all:Logger: {}}", "No module named 'nowhere'"),
        ("logger={math:pi: {}}", "is not callable: it is a float"),
    ],
)
def test_wrong_arguments_of_a_logger_are_one_problem_and_nothing_is_trained(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, problem: str
) -> None:
    train("run", argument, code=2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert problem in line
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
