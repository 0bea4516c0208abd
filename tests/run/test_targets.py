"""Where commands write, and finished runs in which something was replaced: one sentence, and one rule of exit codes."""

import hashlib
import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mopo_pl import __main__ as program
from mopo_pl.errors import InputError
from mopo_pl.nn.layers import Normaliser
from mopo_pl.policy import Policy
from mopo_pl.run.finished import card as of_card
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.storage.atomic_write import refuse_unwritable

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, in a folder whose name has a blank."""
    return Path(shutil.copytree(finished, tmp_path / "a run"))


def said(*arguments: str, code: int = 2, printed: Printed) -> list[str]:
    printed.readouterr()
    assert program.main(list(arguments)) == code
    return printed.readouterr().err.splitlines()


# Targets


@pytest.mark.parametrize("below", ["file", "file/below", "file/far/below"])
@pytest.mark.parametrize("command", ["export", "compare", "theory", "collect", "relabel", "sweep"])
def test_a_target_that_is_a_file_or_below_one_is_wrong_input(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed, command: str, below: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    words = {
        "export": ["export", str(finished), "--to", "numpy", "--out", below],
        "compare": ["compare", str(finished), "--out", below],
        "theory": ["theory", "--figure", below],
        "collect": ["collect", "Pendulum-v1", "log.npz", "--steps", "10", "--folder", below],
        "relabel": ["relabel", "log.npz", f"{below}/log.npz", "--reward", "ant-angle"],
        "sweep": ["sweep", "seed=0,1", "--folder", below],
    }[command]
    named = {"theory": "--figure ", "collect": "--folder ", "sweep": "--folder ", "relabel": ""}.get(command, "--out ")
    assert said(*words, printed=capsys) == [
        f"error: {named}{below} cannot be written (Not a directory): choose another folder"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("command", ["report", "estimate", "push", "export", "compare"])
def test_a_run_that_cannot_be_written_into_is_wrong_input(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed, command: str
) -> None:
    """For the superuser, who runs some tests, no folder is read-only."""
    before = sorted(run.rglob("*"))
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: False if mode & os.W_OK else real(path, mode))
    more = {"export": ["--to", "numpy"], "compare": ["--out", str(run)]}.get(command, [])
    (line,) = said(command, str(run), *more, printed=capsys)
    where = {"export": f"--out {run}/export", "compare": f"--out {run}", "push": f"{run}/policy"}.get(command, str(run))
    assert line == f"error: {where} cannot be written (Permission denied): choose another folder"
    assert sorted(run.rglob("*")) == before


def test_a_run_that_cannot_be_written_into_is_not_resumed(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """One that is finished is not written into."""
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: False if mode & os.W_OK else real(path, mode))
    (line,) = said("train", f"resume={run}", "trainer.max_epochs=13", printed=capsys)
    assert line == f"error: {run} cannot be written (Permission denied): choose another folder"
    assert program.main(["train", f"resume={run}"]) == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize(("name", "why"), [("a\0b", "Invalid argument"), ("x" * 300, "File name too long")])
def test_a_name_that_no_folder_has_is_refused(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(InputError) as error:
        refuse_unwritable(tmp_path / name, "--out")
    assert error.value.problems == [f"--out {tmp_path / name} cannot be written ({why}): choose another folder"]


def test_a_folder_that_is_yet_to_be_made_is_no_fault(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_in_the_end_is_a_failure(run: Path, capsys: Printed) -> None:
    """A folder stands where the page goes: found when it is written."""
    (run / "policy" / "README.md").mkdir()
    (line,) = said("push", str(run), code=1, printed=capsys)
    assert line == f"error: {run}/policy/README.md cannot be written (Is a directory)"


# Licences


@pytest.mark.parametrize("licence", ["MIT\ntags: [x]", "", " ", "MIT\r", "\x1b[31m", "a\u2028b"])
@pytest.mark.parametrize("command", ["push", "export"])
def test_a_licence_of_several_lines_is_refused(run: Path, capsys: Printed, command: str, licence: str) -> None:
    assert said(command, str(run), "--licence", licence, printed=capsys) == [
        f"error: --licence {licence!r} must be the name of a licence, in one line: such as MIT or CC-BY-4.0"
    ]
    assert not (run / "policy" / "README.md").exists()


@pytest.mark.parametrize("licence", ["Ours: all #1", "[x", "true", "1e3", "Eigene Lizenz", "- a", "'", "null", "ﬀ"])
def test_any_other_licence_is_a_text_of_the_cards_head(run: Path, licence: str) -> None:
    assert program.main(["push", str(run), "--licence", licence]) == 0
    head = yaml.safe_load((run / "policy" / "README.md").read_text().split("---\n")[1])
    assert (head["license"], head["license_name"], head["library_name"]) == ("other", licence, "mopo_pl")


# Replaced files


def other_policy(folder: Path, *, observations: int = 5, actions: int = 2) -> None:
    actor = TanhGaussianActor(
        obs_dim=observations,
        action_dim=actions,
        hidden_sizes=[4],
        log_std_min=-5.0,
        log_std_max=2.0,
        normaliser=Normaliser.identity(observations),
        generator=torch.Generator().manual_seed(0),
    )
    Policy(actor, -np.ones(actions), np.ones(actions), {"env_id": "Pendulum-v1", "env_kwargs": {}}).save(folder)


@pytest.mark.parametrize("command", ["report", "estimate", "export"])
def test_a_policy_of_another_shape_is_told(run: Path, capsys: Printed, command: str) -> None:
    shutil.rmtree(run / "policy")
    other_policy(run / "policy")
    assert said(command, str(run), printed=capsys) == [
        f"error: {run}/policy is of 5 observation and 2 action dimensions, the log of the run has 3 and 1: put the policy of "
        "that run back"
    ]


VERDICT = {"says": "deploy", "certified": True, "sentence": "deploy it", "reasons": []}


def test_estimates_of_another_policy_are_not_shown_as_those_of_this_one(run: Path, capsys: Printed) -> None:
    (run / "estimates.json").write_text(json.dumps({"verdict": VERDICT, "policy_sha256": "0" * 64}))
    sentence = (
        f"{run}/estimates.json is of another policy than {run}/policy: python -m mopo_pl estimate {shlex.quote(str(run))} "
        "estimates this one"
    )
    assert said("push", str(run), printed=capsys) == [f"error: {sentence}"]
    assert program.main(["report", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["estimates"]) == (None, {})
    assert sentence in told["notes"]


def test_estimates_of_this_policy_and_of_earlier_versions_are_shown(run: Path) -> None:
    checksum = hashlib.sha256((run / "policy" / "policy.safetensors").read_bytes()).hexdigest()
    for more in ({"policy_sha256": checksum}, {}):
        (run / "estimates.json").write_text(json.dumps({"verdict": VERDICT, **more}))
        assert program.main(["push", str(run)]) == 0
        assert "- Estimates: deploy it.\n" in (run / "policy" / "README.md").read_text()


# Words and commands


@pytest.mark.parametrize("word", ["foo", "trust", "dataset", "env_kwargs"])
@pytest.mark.parametrize("command", ["report", "estimate", "evaluate", "push", "export"])
def test_a_second_word_where_one_folder_is_asked_for_ends_in_a_sentence(
    run: Path, capsys: Printed, command: str, word: str
) -> None:
    (line, *_) = said(command, str(run), word, printed=capsys)
    assert line.startswith("error: ")
    assert word in line
    assert not (run / "report.html").exists()


def test_printed_commands_can_be_pasted(run: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    quoted = shlex.quote(str(run))
    assert program.main(["export", str(run), "--to", "numpy"]) == 0
    assert f"again    python {shlex.quote(f'{run}/export/run_policy.py')} --check" in capsys.readouterr().out
    monkeypatch.setattr(of_card, "repository_of", lambda place: place)
    monkeypatch.setattr(of_card, "upload", lambda folder, place, *, public: "offline")
    assert program.main(["push", str(run), "--to", "hub:me/a"]) == 1
    assert f"hf upload me/a {shlex.quote(f'{run}/policy')}" in capsys.readouterr().err
    (run / "result.json").unlink()
    (line,) = said("push", str(run), printed=capsys)
    assert line.endswith(f"finish the run first, python train.py {shlex.quote(f'resume={run}')}")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("source: collect:pendulum", "source: gone.npz"))
    (line,) = said("report", str(run), printed=capsys)
    assert line.endswith(f"if it was moved: python -m mopo_pl report {quoted} dataset=PATH")
