"""Readers that leave, full disks, closed streams and terminals of ASCII stop nothing; words mean what was typed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mopo_pl import cli
from mopo_pl.__main__ import main
from mopo_pl.config.compose import compose
from mopo_pl.errors import InputError
from mopo_pl.run.files.folder import RunFolder, _link_latest

PROGRAM = """
import sys
from mopo_pl import cli
def act(options, arguments):
    for number in range(3000):
        print("λ" * 50, flush=number % 100 == 0)
    print("µ", file=sys.stderr)
    open(arguments[0], "w").write("to its end")
    if len(arguments) > 1:
        cli.show("λ")
    return 0
cli._act = act
raise SystemExit(cli.main(sys.argv[1:]))
"""


def shell(tmp_path: Path, redirection: str, *words: str, **environment: str) -> tuple[int, str]:
    """Exit code and standard error of a command that prints much, under a shell's redirection."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = shlex.join([sys.executable, str(program), str(tmp_path / "done"), *words])
    ended = subprocess.run(
        ["bash", "-c", f"{command} {redirection}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
    )
    assert (tmp_path / "done").read_text() == "to its end"
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("redirection", ["| head -1", ">/dev/full", ">&-", "2>&-", ">&- 2>&-", "2>/dev/full"])
def test_a_command_goes_on_where_nobody_reads(tmp_path: Path, redirection: str) -> None:
    code, errors = shell(tmp_path, redirection)
    assert code == 0
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


def test_a_terminal_of_ascii_is_written_to(tmp_path: Path) -> None:
    code, errors = shell(tmp_path, "| cat >/dev/null", PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0")
    assert (code, errors) == (0, "\\xb5\n")


def test_what_was_asked_for_and_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    code, errors = shell(tmp_path, ">/dev/full", "show")
    assert code == 1
    assert "error: standard output cannot be written (No space left on device)" in errors


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_a_lack_of_memory_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: Any) -> int:
        raise error

    monkeypatch.setattr(cli, "_act", fail)
    assert cli.main([]) == 1
    assert capsys.readouterr().err.startswith("error: there is not enough memory")
    monkeypatch.setattr(cli, "is_lack_of_memory", lambda error: False)
    with pytest.raises(type(error)):
        cli.main([])


# Words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("run_dir=out #1", "out #1"),
        ("run_dir=&x", "&x"),
        ("run_dir={a} b", "{a} b"),
        ("run_dir=a: b", "a: b"),
        ("run_dir=[1]", "[1]"),
        ("run_dir=!a", "!a"),
        ("run_dir='a b'", "a b"),
        ('run_dir="a\\"b"', 'a"b'),
        ("run_dir=1_000", "1_000"),
        ("run_dir=true", "true"),
        ("run_dir=null", None),
        ("run_dir=", None),
        ("termination=a #1", "a #1"),
        ("data.columns.observation=temp #1", "temp #1"),
        ("data.columns.observation=[a, 'b #1']", ["a", "b #1"]),
        ("env_kwargs={a: 1}", {"a": 1}),
        ("logger={'mine:Logger'}", {"mine:Logger": {}}),
    ],
)
def test_words_mean_what_was_typed(word: str, value: Any) -> None:
    made: Any = compose([word])
    for name in word.partition("=")[0].split("."):
        made = getattr(made, name)
    assert made == value


@pytest.mark.parametrize(
    "words",
    [
        ["train", f"dataset={'9' * 300}"],
        ["train", f"dataset={'a' * 300}.npz"],
        ["train", "dataset=log.npz", "termination=never", f"dynamics_from={'a' * 300}"],
        ["inspect", "a/" * 2500 + "log.csv"],
        ["report", "x" * 5000],
        ["compare", "x" * 5000],
        ["evaluate", "x" * 300],
        ["train", "dataset=~nobody-of-that-name/log.npz", "termination=never"],
        ["export", "~nobody-of-that-name/run"],
        ["report", "~nobody-of-that-name/run"],
    ],
)
def test_a_name_that_no_file_can_have_is_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


def test_another_error_of_the_system_is_no_long_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(cli, "_act", fail)
    with pytest.raises(OSError, match="Input/output error"):
        cli.main([])


def test_a_colon_without_a_blank_is_said() -> None:
    with pytest.raises(InputError) as error:
        compose(["env_kwargs={a:1}"])
    assert error.value.problems == ["env_kwargs={a:1}: a:1 is one name without a value; write a blank after the colon"]


# Folders --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["dynamics.safetensors", "termination.json", "metrics.jsonl", "result.json", "policy/policy.json", "logs/a",
     "checkpoints/policy-mine.ckpt", "provenance.json"],
)  # fmt: skip
def test_a_new_run_takes_no_folder_that_holds_what_it_would_overwrite(tmp_path: Path, name: str) -> None:
    file = tmp_path / "run" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(InputError) as error:
        RunFolder(tmp_path / "run").refuse_occupied()
    assert error.value.problems == [
        f"run_dir={tmp_path}/run holds {name.partition('/')[0]}, which this run would continue or overwrite, and no "
        "config.yaml: choose another folder, or move them away"
    ]


def test_a_folder_of_other_files_or_of_a_run_that_never_began_is_taken(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "provenance.json").write_text('{"dataset": "a", "processes": 1, "config": {}}')
    RunFolder(tmp_path).refuse_occupied()


def test_a_file_called_latest_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latest").write_text("mine")
    (tmp_path / "run").mkdir()
    _link_latest(tmp_path / "run")
    assert (tmp_path / "latest").read_text() == "mine"
    assert capsys.readouterr().out == (
        f"{tmp_path}/latest is no link, and is left as it is: it does not point at this run\n"
    )
