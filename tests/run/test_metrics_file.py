"""`metrics.jsonl`."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mopo_pl.run.files.metrics_file import MetricsFile

Rows = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture
def file(tmp_path: Path) -> MetricsFile:
    """Of the stage "policy"."""
    return MetricsFile(tmp_path / "metrics.jsonl", stage="policy")


def test_a_run_writes_one_row_for_each_epoch_of_each_stage(finished: Path, rows: Rows) -> None:
    found = [(row["stage"], row["update"]) for row in rows(finished)]
    assert found == [("dynamics", 5), ("dynamics", 10), *(("policy", 5 * epoch) for epoch in range(1, 13))]


def test_the_rows_hold_what_the_readme_names(finished: Path, rows: Rows) -> None:
    *_, model, policy = [row for row in rows(finished) if row["update"] == 10]
    assert {"dynamics/train_loss", "dynamics/holdout_mse_0", "dynamics/holdout_nll_6"} <= set(model)
    assert {"policy/critic_loss", "policy/q1", "policy/alpha", "policy/entropy"} <= set(policy)
    assert {"rollout/penalty", "rollout/length", "evaluation/return", "evaluation/score"} <= set(policy)


def test_updates_increase_strictly_within_a_stage(finished: Path, rows: Rows) -> None:
    for stage in ("dynamics", "policy"):
        updates = [row["update"] for row in rows(finished) if row["stage"] == stage]
        assert all(first < second for first, second in pairwise(updates))


def test_what_is_not_finite_becomes_null(file: MetricsFile, tmp_path: Path, rows: Rows) -> None:
    file.log_metrics({"a": math.nan, "b": math.inf, "c": 1.5}, step=7)
    assert rows(tmp_path) == [{"stage": "policy", "update": 7, "a": None, "b": None, "c": 1.5}]
    json.loads(file.path.read_text(), parse_constant=lambda word: pytest.fail(word))


def test_forgetting_drops_later_rows_of_this_stage_alone(file: MetricsFile, tmp_path: Path, rows: Rows) -> None:
    other = MetricsFile(file.path, stage="dynamics")
    for logger, update in ((other, 30), (file, 10), (file, 20), (file, 30)):
        logger.log_metrics({"a": 1.0}, step=update)
    file.forget_after(20)
    assert [(row["stage"], row["update"]) for row in rows(tmp_path)] == [
        ("dynamics", 30),
        ("policy", 10),
        ("policy", 20),
    ]


def test_a_torn_last_line_is_dropped(file: MetricsFile, tmp_path: Path, rows: Rows) -> None:
    file.log_metrics({"a": 1.0}, step=10)
    with file.path.open("a") as handle:
        handle.write('{"stage": "policy", "upd')
    file.forget_after(20)
    assert [row["update"] for row in rows(tmp_path)] == [10]


def test_forgetting_before_the_first_row_is_no_error(file: MetricsFile) -> None:
    file.forget_after(0)
    assert not file.path.exists()
