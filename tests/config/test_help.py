"""--help, --print-config, --dry-run."""

import dataclasses
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mopo_pl
from mopo_pl.cli import main
from mopo_pl.config.help import field_docs, help_text
from mopo_pl.config.schema import Config

CONF = Path(mopo_pl.__file__).parent / "conf"
TRAIN = Path(__file__).parents[2] / "train.py"


def fields(owner: type = Config, prefix: str = "") -> Iterator[tuple[type, str, str]]:
    """Owner, name and dotted key of every value."""
    for entry in dataclasses.fields(owner):
        if isinstance(entry.default_factory, type) and dataclasses.is_dataclass(entry.default_factory):
            yield from fields(entry.default_factory, f"{prefix}{entry.name}.")
        else:
            yield owner, entry.name, f"{prefix}{entry.name}"


KEYS = list(fields())


@pytest.mark.parametrize(("owner", "name", "key"), KEYS, ids=[key for _, _, key in KEYS])
def test_every_key_is_listed_with_its_docstring(owner: type, name: str, key: str) -> None:
    lines = help_text().split("\nKeys\n")[1].splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith(f"  {key}="))
    wrapped = textwrap.wrap(field_docs(owner)[name], 112, initial_indent=" " * 6, subsequent_indent=" " * 6)
    assert wrapped
    assert lines[place + 1 : place + 1 + len(wrapped)] == wrapped


@pytest.mark.parametrize("group", ["dataset", "preset", "trainer", "logger"])
def test_every_choice_of_a_group_is_listed_with_its_first_comment(group: str) -> None:
    section = help_text().split(f"  {group}=\n")[1]
    for path in (CONF / group).glob("*.yaml"):
        line = next(line for line in section.splitlines() if line.split()[:1] == [path.stem])
        assert line.endswith(path.read_text().splitlines()[0].removeprefix("# "))


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_printed_whatever_else_is_asked(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert main(["nonsense", option]) == 0
    assert capsys.readouterr().out == help_text() + "\n"


def test_defaults_are_shown_as_they_are_typed() -> None:
    lines = help_text().splitlines()
    for shown in ("  env_id=null", "  data.clip_actions=false", "  sac.tau=0.005", "  dataset=pendulum", "  seed=0"):
        assert shown in lines


def run_train(*arguments: str) -> tuple[str, float]:
    """Output of train.py in a process of its own, with the modules it imported behind it, and its seconds."""
    script = textwrap.dedent(f"""
        import runpy, sys
        sys.argv = ["train.py", *{list(arguments)!r}]
        try:
            runpy.run_path({str(TRAIN)!r}, run_name="__main__")
        except SystemExit as end:
            print("code", end.code, "heavy", sorted({{"torch", "lightning", "gymnasium", "numpy"}} & set(sys.modules)))
    """)
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, time.monotonic() - start


@pytest.mark.parametrize("option", ["--help", "--print-config"])
def test_an_answer_comes_at_once_and_without_torch(option: str) -> None:
    output, seconds = run_train(option)
    assert output.endswith("code 0 heavy []\n")
    assert seconds < 5


def test_a_mistake_is_answered_without_torch() -> None:
    assert run_train("sac.taw=1")[0].endswith("code 2 heavy []\n")


def test_a_reader_that_leaves_early_sees_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen([sys.executable, str(TRAIN), "--help"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 0


def test_a_dry_run_opens_the_data_and_writes_no_run(
    capsys: pytest.CaptureFixture[str], workplace: Path, npz_log: Path
) -> None:
    before = set(npz_log.parent.iterdir())
    assert main([f"dataset={npz_log}", "termination=never", "trainer.max_epochs=3", "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "400 rows, 8 episodes, 3 observations, 2 actions" in plan
    assert "7 members" in plan
    assert "3000 updates" in plan
    assert "the policy will not be scored" in plan
    assert list(workplace.iterdir()) == []
    assert set(npz_log.parent.iterdir()) == before


def test_a_dry_run_of_several_seeds_prints_each_plan(capsys: pytest.CaptureFixture[str], npz_log: Path) -> None:
    assert main([f"dataset={npz_log}", "termination=never", "seed=[0,1]", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("400 rows, 8 episodes") == 2


DRY_PROBLEMS = [
    (["dataset=missing.npz", "termination=never"], "there is no such file"),
    (["dataset=LOG"], "no termination rule: termination is not set"),
    (["dataset=LOG", "termination=nevr"], "Did you mean never?"),
    (["dataset=LOG", "termination=nowhere:rule"], "No module named 'nowhere'"),
    (["dataset=LOG", "termination=never", "penalty.name=math:nothing"], "has no attribute 'nothing'"),
    (["dataset=LOG", "termination=never", "penalty.name=math:pi"], "is not callable: it is a float"),
    (["dataset=LOG", "termination=never", "penalty.name=:x"], "cannot be imported"),
    (["dataset=LOG", "env_id=Nowhere-v0"], "env_id=Nowhere-v0 cannot be created"),
    (["dataset=LOG", "termination=never", "dynamics_from=nowhere"], "nowhere holds no trained model"),
    (["dataset=LOG", "termination=never", "dynamics.holdout_fraction=0.001"], "too few to hold out 0"),
    (["dataset=LOG", "termination=never", "trainer.accelerator=tpuu"], "accelerator='tpuu'"),
    (["dataset=LOG", "termination=never", "trainer.max_time=soon"], "DD:HH:MM:SS"),
    (["dataset=LOG", "termination=never", "trainer.devices=0", "trainer.accelerator=cpu"], "devices=0"),
    (["dataset=LOG", "termination=never", "trainer.profiler=fast"], "profiler"),
]


@pytest.mark.parametrize("option", ["--dry-run", "trainer.fast_dev_run=true"])
@pytest.mark.parametrize(("arguments", "problem"), DRY_PROBLEMS, ids=[problem for _, problem in DRY_PROBLEMS])
def test_what_can_be_known_before_training_is_said_before_a_run_folder_is_made(
    refused: Callable[..., list[str]], npz_log: Path, arguments: list[str], problem: str, option: str
) -> None:
    (said,) = refused(*[argument.replace("LOG", str(npz_log)) for argument in arguments], option)
    assert problem in said
