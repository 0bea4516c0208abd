"""`python -m mopo_pl export` of a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mopo_pl import __main__ as program
from mopo_pl.export import run_policy
from mopo_pl.export.forms import FORMS
from mopo_pl.policy import Policy
from mopo_pl.run.finished import parser


def test_a_run_is_exported_and_compared_on_its_log(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "box"
    assert program.main(["export", str(finished), "--to", "numpy", "--out", str(out), "--licence", "CC-BY-4.0"]) == 0
    printed = capsys.readouterr().out
    assert "compared on 400 states of the log and 512 random ones over twice its range" in printed
    assert "numpy    run_policy.py, policy.npz    largest difference " in printed
    assert {path.name for path in out.iterdir()} == {"run_policy.py", "policy.npz", "vectors.npz", "export.json"}
    told = json.loads((out / "export.json").read_text())
    result = json.loads((finished / "result.json").read_text())
    assert told["dataset"] == {**result["dataset"], "rows": 400}
    assert (told["run"], told["env_id"], told["licence"]) == (finished.name, "Pendulum-v1", "CC-BY-4.0")
    assert told["observations"]["high"][0] <= 1  # the cosine
    runner, policy = run_policy.Policy(out / "policy.npz"), Policy.load(finished)
    states = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    np.testing.assert_allclose(runner(states), policy(states), atol=1e-4)


def test_the_policys_folder_alone_is_compared_on_random_states(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "policy", tmp_path / "policy")
    assert program.main(["export", str(tmp_path / "policy" / "policy.json"), "--to", "numpy"]) == 0
    printed = capsys.readouterr().out
    assert f"{tmp_path} is no run folder: there is no log to compare on" in printed
    assert "compared on 0 states of the log and 512 random ones" in printed
    assert (tmp_path / "export" / "policy.npz").exists()


def test_an_earlier_versions_policy_takes_its_ranges_from_the_log(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    path = run / "policy" / "policy.json"
    described = json.loads(path.read_text())
    signals = described.pop("signals")
    for key in ("dataset", "run", "mopo_pl"):
        described.pop(key)
    path.write_text(json.dumps(described))
    assert Policy.load(run).observations.low is None
    assert program.main(["export", str(run), "--to", "numpy"]) == 0
    told = json.loads((run / "export" / "export.json").read_text())
    assert (told["observations"]["low"], told["trained_by"]) == (signals["observations"]["low"], "mopo_pl before 0.1.0")
    assert told["dataset"]["rows"] == 400


def test_what_cannot_be_exported_is_said(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["export", str(tmp_path)]) == 2
    assert f"error: {tmp_path} holds no policy" in capsys.readouterr().err
    assert program.main(["export", str(finished), "--actor", "mopo_pl.sac.actor:Nothing"]) == 2
    assert "error: --actor mopo_pl.sac.actor:Nothing" in capsys.readouterr().err


def test_the_command_offers_every_form() -> None:
    assert set(parser.FORMS) == FORMS.keys()
