"""A run that was stopped ends as if it had not been."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mopo_pl.cli import main
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.sac.module import SACModule

Train = Callable[..., Path]
Rows = Callable[[Path], list[dict[str, Any]]]
Same = Callable[[Path, Path, str], bool]
StopAfter = Callable[[int | None], int]

MODEL, POLICY = "dynamics.safetensors", "policy/policy.safetensors"
STOPPER = '''
import signal
from lightning.pytorch.loggers import Logger

class Stopper(Logger):
    """Raises SIGINT when the value of that name is logged for the first time."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    name = version = "stopper"

    def log_hyperparams(self, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        if self.at in metrics:
            self.at = None
            signal.raise_signal(signal.SIGINT)
'''


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Path:
    """The run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main([*tiny, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def stopped(train: Train, stop_after: StopAfter) -> Path:
    """A run that was stopped in the middle of its second policy epoch."""
    stop_after(35)
    folder = train("run", code=130)
    stop_after(None)
    return folder


PLACES = {
    "after the first batch of the ensemble": 1,
    "at the end of the ensemble's first epoch": 5,
    "in the ensemble's last epoch": 8,
    "at the end of the ensemble's last epoch": 10,
    "after the first update": 11,
    "in the policy's first epoch": 19,
    "before the last update of an epoch": 29,
    "at the end of the policy's first epoch": 30,
    "in the policy's last epoch": 44,
    "at the end of the policy's last epoch": 50,
}


@pytest.mark.parametrize("batch", PLACES.values(), ids=PLACES)
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(
    whole: Path, train: Train, stop_after: StopAfter, same_weights: Same, rows: Rows, batch: int
) -> None:
    stop_after(batch)
    folder = train("run", code=130)
    assert not (folder / "result.json").exists()
    assert stop_after(None) == batch
    assert main([f"resume={folder}"]) == 0
    # Started anew it would come to the same weights, only later.
    assert stop_after(None) == 2 * 5 + 2 * 20 - batch

    assert same_weights(folder, whole, MODEL)
    assert same_weights(folder, whole, POLICY)
    assert [(row["stage"], row["update"]) for row in rows(folder)] == [
        ("dynamics", 5),
        ("dynamics", 10),
        ("policy", 20),
        ("policy", 40),
    ]
    assert rows(folder) == rows(whole)
    numbers = ("final_return", "last10_return", "updates", "behaviour_return")
    results = [json.loads((run / "result.json").read_text()) for run in (folder, whole)]
    assert [results[0][key] for key in numbers] == [results[1][key] for key in numbers]


def test_a_run_stopped_twice_in_each_stage_ends_as_if_it_had_not_been(
    whole: Path, train: Train, stop_after: StopAfter, same_weights: Same
) -> None:
    stop_after(3)
    folder = train("run", code=130)
    for batch in (4, 12, 16):
        stop_after(batch)
        assert main([f"resume={folder}"]) == 130
    stop_after(None)
    assert main([f"resume={folder}"]) == 0
    assert same_weights(folder, whole, MODEL)
    assert same_weights(folder, whole, POLICY)


def test_an_early_stop_is_not_undone_by_a_resume(train: Train, stop_after: StopAfter, same_weights: Same) -> None:
    impatient = ("stage=dynamics", "dynamics.max_epochs=30", "dynamics.patience=0", "dynamics.improvement=0.5")
    whole = train("whole", *impatient)
    epochs = json.loads((whole / "dynamics.json").read_text())["epochs"]
    assert epochs < 30
    stop_after(5 * epochs)
    folder = train("run", *impatient, code=130)
    stop_after(None)
    assert main([f"resume={folder}"]) == 0
    assert json.loads((folder / "dynamics.json").read_text())["epochs"] == epochs
    assert same_weights(folder, whole, MODEL)


# Signals


@pytest.mark.parametrize("value", ["dynamics/train_loss", "policy/alpha"])
def test_a_real_sigint_stops_either_stage_and_says_how_to_go_on(
    whole: Path,
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    same_weights: Same,
    capsys: pytest.CaptureFixture[str],
    value: str,
) -> None:
    (tmp_path / "own_stopper.py").write_text(STOPPER)
    monkeypatch.syspath_prepend(tmp_path)
    handler = signal.getsignal(signal.SIGINT)
    folder = train("run", f"logger={{own_stopper:Stopper: {{at: {value}}}}}", code=130)
    assert signal.getsignal(signal.SIGINT) is handler
    command = f"python train.py resume={folder} trust=true"  # its logger is no one's but the test's
    assert f"stopped by SIGINT; saved. Continue with: {command}\n" in capsys.readouterr().out
    assert main([f"resume={folder}", "logger=none"]) == 0
    assert same_weights(folder, whole, POLICY)


def test_sigterm_ends_a_process_with_143_and_the_run_can_go_on(
    train: Train, tmp_path: Path, tiny: list[str], same_weights: Same, rows: Rows
) -> None:
    longer = ["trainer.max_epochs=6", "sac.updates_per_epoch=50", "evaluation.every_n_epochs=6"]
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "mopo_pl", "train", *tiny, *longer, f"run_dir={folder}"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ.copy()
    )
    while process.poll() is None and '"policy"' not in (
        (folder / "metrics.jsonl").read_text() if (folder / "metrics.jsonl").exists() else ""
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143, output
    assert "stopped by SIGTERM; saved" in output
    assert "Traceback" not in output
    assert main([f"resume={folder}"]) == 0
    assert same_weights(folder, train("whole", *longer), POLICY)
    assert [row["update"] for row in rows(folder)] == [5, 10, *range(50, 301, 50)]


def test_a_list_of_seeds_ends_with_the_run_that_was_stopped(
    train: Train, tmp_path: Path, stop_after: StopAfter
) -> None:
    stop_after(3)
    train("run", "seed=[0,1]", code=130)
    assert not (tmp_path / "run_s1").exists()


# What may be resumed, and how


def test_a_finished_run_says_so_and_is_left_alone(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert main([f"resume={finished}"]) == 0
    assert "is finished: nothing to resume" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in finished.rglob("*")}


def test_settings_that_a_finished_run_cannot_take_are_named(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"resume={finished}", "evaluation.final_episodes=100", "health.after=7"]) == 0
    said = capsys.readouterr().out
    assert (
        "nothing to resume; without effect: evaluation.final_episodes, health.after. python -m mopo_pl evaluate" in said
    )


def test_what_a_run_was_killed_before_is_made_up_for(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report is written after result.json, which marks the run as finished."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "report.html").unlink(missing_ok=True)
    assert main([f"resume={run}", "report=true"]) == 0
    said = capsys.readouterr().out
    assert f"report   {run / 'report.html'}" in said
    assert "without effect" not in said
    assert (run / "report.html").stat().st_size > 10_000
    written = (run / "report.html").stat().st_mtime_ns
    assert main([f"resume={run}", "report=true"]) == 0
    assert (run / "report.html").stat().st_mtime_ns == written


def test_a_page_of_the_policy_before_it_learned_on_is_written_again(finished: Path, tmp_path: Path) -> None:
    """A run that got more epochs, and was killed between its new result and its new report."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "report.html").write_text("of the former policy")
    os.utime(run / "report.html", ns=(0, (run / "result.json").stat().st_mtime_ns - 1))
    assert main([f"resume={run}", "report=true"]) == 0
    assert "of the former policy" not in (run / "report.html").read_text()


def test_too_little_memory_on_resume_leaves_the_checkpoint_alone(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(SACModule, "on_train_start", fail)
    assert main([f"resume={stopped}"]) == 1
    said = capsys.readouterr().err
    assert "error: there is not enough memory" in said
    assert "cannot be continued from" not in said


def test_a_folder_without_a_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"resume={tmp_path}"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} holds no run: there is no config.yaml in it\n"


def test_a_run_without_checkpoints_starts_from_the_beginning(
    whole: Path, tmp_path: Path, same_weights: Same, rows: Rows
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(whole / "config.yaml", folder)
    shutil.copy(whole / "metrics.jsonl", folder)
    assert main([f"resume={folder}"]) == 0
    assert same_weights(folder, whole, POLICY)
    assert len(rows(folder)) == 4


@pytest.mark.parametrize("argument", ["seed=1", "penalty.coef=1", "preset=paper", "trainer.devices=2"])
def test_what_would_change_the_run_is_refused_beside_resume(
    whole: Path, capsys: pytest.CaptureFixture[str], argument: str
) -> None:
    assert main([f"resume={whole}", argument]) == 2
    assert capsys.readouterr().err.startswith(f"error: {argument}: a resumed run keeps its configuration")


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("logger=csvv", "did you mean csv?"),
        ("logger={csvv: {}}", "logger csvv is unknown"),
        ("logger={csv: {}", "not valid YAML"),
        ("evaluation.episodes=0", "must be at least 1"),
        ("trainer.max_time=soon", "DD:HH:MM:SS"),
        ("--episodes=3", "without dashes"),
    ],
)
def test_a_wrong_value_beside_resume_is_one_problem(
    whole: Path, capsys: pytest.CaptureFixture[str], argument: str, problem: str
) -> None:
    assert main([f"resume={whole}", argument]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line


def test_a_resumed_run_may_log_and_evaluate_otherwise(
    whole: Path, stopped: Path, same_weights: Same, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = ["logger=csv", "logger.csv.flush_logs_every_n_steps=1", "evaluation.final_episodes=5"]
    assert main([f"resume={stopped}", *beside, "trainer.enable_progress_bar=false"]) == 0
    assert "over 5 deterministic episodes" in capsys.readouterr().out
    assert (stopped / "logs/csv/policy/metrics.csv").exists()
    assert same_weights(stopped, whole, POLICY)


def test_a_longer_run_given_beside_resume_is_kept_for_the_next_resume(stopped: Path, stop_after: StopAfter) -> None:
    stop_after(45)
    assert main([f"resume={stopped}", "trainer.max_epochs=4"]) == 130
    stop_after(None)
    assert main([f"resume={stopped}"]) == 0
    assert json.loads((stopped / "result.json").read_text())["updates"] == 80


def test_a_longer_run_given_beside_resume_keeps_the_schedule_of_the_first(
    train: Train, stop_after: StopAfter, same_weights: Same
) -> None:
    stop_after(3)
    folder = train("run", code=130)
    stop_after(None)
    assert main([f"resume={folder}", "trainer.max_epochs=3"]) == 0
    assert same_weights(folder, train("whole", "trainer.max_epochs=3", "sac.schedule_epochs=2"), POLICY)


def test_a_finished_run_goes_on_where_more_epochs_are_given(train: Train, same_weights: Same, rows: Rows) -> None:
    folder = train("run")
    assert main([f"resume={folder}", "trainer.max_epochs=4"]) == 0
    assert json.loads((folder / "result.json").read_text())["updates"] == 80
    assert same_weights(folder, train("whole", "trainer.max_epochs=4", "sac.schedule_epochs=2"), POLICY)
    assert [row["update"] for row in rows(folder) if row["stage"] == "policy"] == [20, 40, 60, 80]


def test_a_finished_run_that_goes_on_and_is_stopped_again_is_not_finished(
    train: Train, stop_after: StopAfter, same_weights: Same
) -> None:
    folder = train("run")
    stop_after(25)
    assert main([f"resume={folder}", "trainer.max_epochs=4"]) == 130
    stop_after(None)
    assert main([f"resume={folder}"]) == 0
    assert json.loads((folder / "result.json").read_text())["updates"] == 80
    assert same_weights(folder, train("whole", "trainer.max_epochs=4", "sac.schedule_epochs=2"), POLICY)


def test_a_run_that_is_being_trained_cannot_be_resumed_beside(
    stopped: Path, capsys: pytest.CaptureFixture[str], same_weights: Same, whole: Path
) -> None:
    before = (stopped / "config.yaml").stat().st_mtime_ns
    with RunFolder(stopped).locked():
        assert main([f"resume={stopped}"]) == 2
    assert capsys.readouterr().err == (
        f"error: {stopped} is being trained by another process: wait for its end, or stop it\n"
    )
    assert (stopped / "config.yaml").stat().st_mtime_ns == before
    assert main([f"resume={stopped}"]) == 0
    assert same_weights(stopped, whole, POLICY)


def test_a_run_resumed_by_a_link_goes_by_its_own_name(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`latest` may mean another run before this one ends."""
    assert main([f"resume={tmp_path / 'latest'}"]) == 0
    assert f"run folder {stopped}\n" in capsys.readouterr().out


def test_a_finished_ensemble_is_not_written_again(stopped: Path) -> None:
    before = (stopped / MODEL).stat().st_mtime_ns
    assert main([f"resume={stopped}"]) == 0
    assert (stopped / MODEL).stat().st_mtime_ns == before
