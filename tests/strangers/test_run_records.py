"""Files that say what a run came to, damaged or made by someone else."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mopo_pl.errors import InputError
from mopo_pl.storage.run_records import read_estimates, read_record, read_result, read_rows

FINDING = {"level": "WARN", "name": "q_above_bound", "text": "Q is 12", "fix": "penalty.coef"}
RESULT: dict[str, Any] = {
    "behaviour_return": -850.0,
    "final_return": None,
    "final_returns": [1.0, None],
    "updates": 100,
    "seconds": {"dynamics": None, "policy": 2.5},
    "dataset": {"name": "log.npz", "hash": "abc"},
    "versions": {"torch": "2.13.0"},
    "env_id": None,
    "seed": 0,
    "health": {"level": "WARN", "findings": [FINDING]},
}
VERDICT = {
    "says": "cannot tell",
    "certified": False,
    "sentence": "…",
    "reasons": [{"name": "fqe", "says": "cannot tell", "text": "…"}],
}


def write(run: Path, name: str, content: Any) -> Path:
    (run / name).write_text(json.dumps(content))
    return run


def test_what_a_run_writes_is_read_back(tmp_path: Path) -> None:
    assert read_result(write(tmp_path, "result.json", RESULT)) == RESULT
    assert read_estimates(write(tmp_path, "estimates.json", {"verdict": VERDICT})) == {"verdict": VERDICT}


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert (read_result(tmp_path), read_estimates(tmp_path), read_record(tmp_path / "x.json")) == (None, None, None)
    assert list(read_rows(tmp_path / "metrics.jsonl")) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("behaviour_return", value) for value in (None, "1", [1], True)),
        *(("final_return", value) for value in ("1", {}, False)),
        *(("seconds", value) for value in (3, [1], {"policy": "long"})),
        *(("dataset", value) for value in ("log.npz", {"name": "a"}, {"name": "a\0", "hash": "b"})),
        *(("env_id", value) for value in (["A"], {"A": 1}, 5)),
        *(("versions", value) for value in ("2", {"torch": 2})),
        *(
            ("health", value)
            for value in ("OK", {}, {"level": "FINE", "findings": []}, {"level": "OK", "findings": [1]})
        ),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"result.json is damaged \({key} is of a wrong type\): restore it"):
        read_result(write(tmp_path, "result.json", {**RESULT, key: value}))


@pytest.mark.parametrize("content", ["", "[1]", "null", '"a"', '{"updates": 1', "[" * 5000, "{}"])
def test_what_is_no_result_ends_in_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError, match=r"result\.json is damaged"):
        read_result(tmp_path)


@pytest.mark.parametrize("verdict", ["deploy", {}, {**VERDICT, "reasons": [1]}, {**VERDICT, "says": None}])
def test_a_verdict_of_another_form_is_refused(tmp_path: Path, verdict: Any) -> None:
    with pytest.raises(InputError, match="verdict is of a wrong type"):
        read_estimates(write(tmp_path, "estimates.json", {"verdict": verdict}))


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_whole_number_beyond_any_float_is_damage(tmp_path: Path, sign: str) -> None:
    """What reads it would overflow wherever it is turned into a float."""
    largest = int(sys.float_info.max)
    write(tmp_path, "result.json", {**RESULT, "updates": int(f"{sign}{largest}")})
    assert read_result(tmp_path) is not None
    write(tmp_path, "result.json", {**RESULT, "updates": int(f"{sign}{2 * largest}")})
    with pytest.raises(InputError, match=r"result\.json is damaged \(the whole number .* is larger than any float\)"):
        read_result(tmp_path)


@pytest.mark.parametrize("number", ["1e999", "-2.5e400"])
def test_a_number_beyond_any_float_is_damage(tmp_path: Path, number: str) -> None:
    """It would be read as infinity, which no file of a run may hold."""
    text = json.dumps({**RESULT, "behaviour_return": 1.25}).replace("1.25", number)
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(InputError, match=rf"result\.json is damaged \(the number {number} is larger than any float\)"):
        read_result(tmp_path)


def test_a_pipe_is_not_waited_for_and_a_folder_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "result.json")
    (tmp_path / "estimates.json").mkdir()
    os.mkfifo(tmp_path / "metrics.jsonl")
    for read in (read_result, read_estimates):
        with pytest.raises(InputError, match="is damaged"):
            read(tmp_path)
    with pytest.raises(InputError, match="is no regular file"):
        list(read_rows(tmp_path / "metrics.jsonl"))


def test_a_row_that_was_cut_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"update": 1}\n[3]\n{"update": 2}\n{"upda')
    assert list(read_rows(tmp_path / "metrics.jsonl")) == [{"update": 1}, {"update": 2}]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(replaced=st.dictionaries(st.sampled_from(sorted(RESULT)), plain, min_size=1, max_size=3))
def test_any_values_are_read_as_they_are_or_refused(tmp_path: Path, replaced: dict[str, Any]) -> None:
    run = write(tmp_path, "result.json", {**RESULT, **replaced})
    with suppress(InputError):
        found = read_result(run)
        assert found is not None
        assert isinstance(found["dataset"]["hash"], str)
        assert all(isinstance(value, float | int | None) for value in found["seconds"].values())
