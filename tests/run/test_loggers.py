"""Each logger for real: a value written during a run is read back at its update."""

import csv
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Train = Callable[..., Path]
Rows = Callable[[Path], list[dict[str, Any]]]

SHORT = ("preset=offline-sac", "trainer.max_epochs=2")
STEPS = [20, 40]


@pytest.fixture
def alpha(rows: Rows) -> Callable[[Path], list[float]]:
    """α in the rows of metrics.jsonl."""
    return lambda folder: [row["policy/alpha"] for row in rows(folder) if row["stage"] == "policy"]


def test_csv_holds_the_values_at_their_updates(train: Train, alpha: Callable[[Path], list[float]]) -> None:
    folder = train("run", *SHORT, "logger=csv")
    with (folder / "logs/csv/policy/metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [int(row["step"]) for row in found] == STEPS
    assert [float(row["policy/alpha"]) for row in found] == pytest.approx(alpha(folder))


def test_tensorboard_holds_the_values_at_their_updates(train: Train, alpha: Callable[[Path], list[float]]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = train("run", *SHORT, "logger=tensorboard")
    events = EventAccumulator(str(folder / "logs/tensorboard/policy"))
    events.Reload()
    found = events.Scalars("policy/alpha")
    assert [event.step for event in found] == STEPS
    assert [event.value for event in found] == pytest.approx(alpha(folder))


def test_mlflow_holds_the_values_at_their_updates(train: Train, alpha: Callable[[Path], list[float]]) -> None:
    from mlflow.tracking import MlflowClient

    folder = train("run", *SHORT, "logger=mlflow")
    client = MlflowClient(f"sqlite:///{folder}/logs/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    assert (run.info.run_name, run.info.status) == ("policy", "FINISHED")
    found = client.get_metric_history(run.info.run_id, "policy/alpha")
    assert [point.step for point in found] == STEPS
    assert [point.value for point in found] == pytest.approx(alpha(folder))


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


def test_wandb_keeps_one_offline_record_of_each_stage(train: Train, alpha: Callable[[Path], list[float]]) -> None:
    folder = train("run", "logger=wandb")
    records = [list(wandb_rows(file)) for file in sorted(folder.glob("logs/wandb/offline-run-*/run-*.wandb"))]
    stages = {"dynamics/train_loss": [5, 10], "policy/alpha": STEPS}
    assert len(records) == 2
    for record in records:
        (name,) = [name for name in stages if any(name in row for row in record)]
        assert [int(row["trainer/global_step"]) for row in record if name in row] == stages.pop(name)
    values = [float(row["policy/alpha"]) for record in records for row in record if "policy/alpha" in row]
    assert values == pytest.approx(alpha(folder))


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
        ("logger={math:pi: {}}", "cannot be called: it is a float"),
    ],
)
def test_wrong_arguments_of_a_logger_are_one_problem_and_nothing_is_trained(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, problem: str
) -> None:
    train("run", argument, code=2)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert problem in line
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
