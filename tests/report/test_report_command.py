"""What the command measures on each kind of run, and how it refuses."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mopo_pl import __main__ as program
from mopo_pl.assembly import build_samples, open_log
from mopo_pl.config.compose import config_from_file
from mopo_pl.diagnostics.one_step import OneStep, Predictions, one_step
from mopo_pl.dynamics.losses import model_target
from mopo_pl.dynamics.model import load_model
from mopo_pl.dynamics.penalties import PENALTIES
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.report.command import report_at_end
from mopo_pl.report.run.measured import model as measured_model
from mopo_pl.report.run.overview import RunOverview, gather
from mopo_pl.report.run.run_files import EVERYTHING, Trust
from mopo_pl.sac.module import SACModule

Run = Callable[..., Path]
Captured = pytest.CaptureFixture[str]

NOTHING = Trust(frozenset())


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """The whole run, to be changed."""
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def measured(folder: Path) -> RunOverview:
    return gather(folder, dataset=None, trust=NOTHING)


def refused(captured: Captured, *arguments: str | Path) -> str:
    """The one sentence of a command that ends with exit code 2."""
    assert program.main(["report", *map(str, arguments)]) == 2
    printed = captured.readouterr()
    assert printed.out == ""
    (sentence,) = printed.err.splitlines()
    return sentence


# What is measured


def test_a_run_writes_its_report_and_says_where(train: Run, whole: Path, capsys: Captured) -> None:
    folder = train("told", "stage=dynamics", "report=true")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"report   {folder / 'report.html'}  (")
    assert "This run trained an ensemble, and no policy." in (folder / "report.html").read_text()
    found = measured(folder)
    assert found.policy is None
    assert found.model is not None
    assert "value_spread" not in [each.name for each in found.model.one_step.rankings]
    assert found.notes == []


def test_errors_are_those_on_the_rows_that_the_ensemble_held_out(whole: Path) -> None:
    """Derived once more, from the split that MOPO's ensemble draws: rows that it never saw."""
    found = measured(whole).model
    assert found is not None
    config = config_from_file(whole / "config.yaml")
    log = open_log(config).transitions
    dataset = open_log(config)
    usable = dataset.next_known.nonzero().squeeze(-1)
    assert (found.held_out, found.one_step.rows) == (True, int(0.2 * len(usable)))
    model = load_model(whole)

    def rmse_over(rows: Tensor) -> Tensor:
        mean = model.predict(log[rows].inputs)[0][model.elites].mean(0)
        return (model_target(log[rows]) - mean).double().square().mean(0).sqrt()

    order = usable[torch.randperm(len(usable), generator=generator_for(0, "holdout"))]
    expected = rmse_over(order[: found.one_step.rows])
    assert [column.rmse for column in found.one_step.columns] == pytest.approx(expected.tolist(), rel=1e-4)
    assert found.open_loop.starts[0] == found.one_step.rows
    assert len(found.open_loop.median) == 10  # the rollouts have 4 steps, fewer than are looked at


def test_the_policy_is_the_exported_one(whole: Path, names: list[str]) -> None:
    found = measured(whole).policy
    assert found is not None
    log = open_log(config_from_file(whole / "config.yaml")).transitions
    acted = Policy.load(whole)(log.observations)
    assert found.rows == len(log) == 400
    (torque,) = found.actions
    assert (torque.name, torque.low, torque.high) == ("torque", -2.0, 2.0)
    assert torque.chosen[2] == pytest.approx(float(acted.double().quantile(0.5)), abs=1e-5)
    assert torque.distance == pytest.approx(float((acted / 2 - log.actions).abs().mean()), abs=1e-5)
    assert found.distance == pytest.approx(torque.distance)  # of one column
    assert found.uncertainty is not None
    assert found.visited is not None
    assert (found.visited.starts, found.visited.horizon) == (400, 4)
    assert [column.name for column in found.visited.columns] == names


@pytest.mark.parametrize("preset", ["offline-sac", "bc"])
def test_a_run_without_a_model_is_compared_with_the_log_alone(train: Run, preset: str) -> None:
    found = measured(
        train(
            preset,
            f"preset={preset}",
            "trainer.max_epochs=1",
            "env_id=none",
            "data.action_low=[-2]",
            "data.action_high=[2]",
        )
    )
    assert found.model is None
    assert found.policy is not None
    assert (found.policy.uncertainty, found.policy.visited) == (None, None)
    assert found.notes == []
    assert found.result is not None
    assert found.result["final_return"] is None


def test_a_run_on_another_runs_ensemble_knows_what_that_one_held_out(train: Run, whole: Path) -> None:
    folder = train(
        "policy", "stage=policy", f"dynamics_from={whole}", "seed=5", "trainer.max_epochs=1", "data.history=1"
    )
    ours, theirs = measured(folder).model, measured(whole).model
    assert ours is not None
    assert theirs is not None
    assert (ours.folder, ours.held_out) == (str(whole), True)
    assert ours.one_step.columns == theirs.one_step.columns
    assert ours.open_loop == theirs.open_loop


def test_states_of_several_observations_are_reported_by_the_newest(train: Run, names: list[str]) -> None:
    found = measured(train("history", "data.history=2", "trainer.max_epochs=1"))
    assert found.model is not None
    assert [column.name for column in found.model.one_step.columns] == ["reward", *(f"Δ {name}" for name in names)]
    assert list(found.model.open_loop.columns) == names
    assert found.policy is not None
    assert found.policy.visited is not None
    assert [column.name for column in found.policy.visited.columns] == names


def test_an_ensemble_whose_run_is_gone_is_judged_on_sampled_episodes(copied: Path, tmp_path: Path) -> None:
    lonely = tmp_path / "ensemble"
    lonely.mkdir()
    for name in ("dynamics.json", "dynamics.safetensors"):
        shutil.move(copied / name, lonely / name)
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("dynamics_from: null", f"dynamics_from: {lonely}"))
    found = measured(copied).model
    assert found is not None
    assert (found.held_out, found.one_step.rows) == (False, 392)  # all rows but the last of each episode


# Python code that a folder names


def test_code_is_imported_only_where_the_command_line_names_it(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text(
        "import pathlib\npathlib.Path('ran').touch()\n\ndef u(mean, std):\n    return std.amax((0, 2))\n\n"
        "def rule(s, a, t):\n    return t[:, 0] > 9\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = (copied / "config.yaml").read_text().replace("name: ensemble_std", "name: theirs:u")
    (copied / "config.yaml").write_text(text.replace("termination: null", "termination: theirs:rule"))
    found = measured(copied)
    assert not (tmp_path / "ran").exists()
    assert [note.partition(",")[0] for note in found.notes] == [
        "its penalty theirs:u is Python code",
        "its rule of termination theirs:rule is Python code",
    ]
    assert found.policy is not None
    assert found.policy.uncertainty is None
    trusted = gather(copied, dataset=None, trust=Trust(frozenset({"theirs:u", "theirs:rule"})))
    assert (tmp_path / "ran").exists()
    assert trusted.notes == []
    assert trusted.model is not None
    assert "theirs:u" in [each.name for each in trusted.model.one_step.rankings]


@pytest.fixture
def paid(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run, as if its imagined steps had been paid by a reward of one's own, 100·s₀·a² + s'₂."""
    (tmp_path / "paying.py").write_text("def r(s, a, t):\n    return 100 * s[:, 0] * a[:, 0] ** 2 + t[:, 2]\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = (copied / "config.yaml").read_text()
    assert "\nreward: null\n" in text
    (copied / "config.yaml").write_text(text.replace("\nreward: null\n", "\nreward: paying:r\n"))
    return copied


def test_the_spread_of_values_is_that_of_the_runs_own_reward(paid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """std_i [r(s, a, s'_i) + γV(s'_i)] over the elites, by hand, a in the log's units."""
    seen: list[Predictions] = []

    def noted(predicted: Predictions, *arguments: Any, **more: Any) -> OneStep:
        seen.append(predicted)
        return one_step(predicted, *arguments, **more)

    monkeypatch.setattr(measured_model, "one_step", noted)
    found = gather(paid, dataset=None, trust=Trust(frozenset({"paying:r"})))
    assert found.notes == []
    config = config_from_file(paid / "config.yaml")
    dataset, model = open_log(config), load_model(paid)
    rows = dataset.transitions[build_samples(config.dynamics, dataset, seed=config.seed).holdout]
    newest = max((paid / "checkpoints").glob("policy-*.ckpt"))
    critics = SACModule.load_from_checkpoint(newest, map_location="cpu", weights_only=True).eval()
    with torch.no_grad():
        mean, _ = model.predict(torch.cat([rows.observations, rows.actions], -1))
        after = rows.observations + mean[model.elites][..., 1:]
        low, high = torch.from_numpy(dataset.action_low), torch.from_numpy(dataset.action_high)
        torques = low + (rows.actions + 1) / 2 * (high - low)
        reward = 100 * rows.observations[:, 0] * torques[:, 0] ** 2 + after[..., 2]
        worth = reward + 0.99 * torch.stack([critics.value(states) for states in after])
    (predicted,) = seen
    spread = worth.std(0, unbiased=False)
    torch.testing.assert_close(predicted.penalties["value_spread"].float(), spread, rtol=1e-3, atol=1e-4)


def test_a_reward_that_may_not_be_run_leaves_out_the_spread_of_values(paid: Path) -> None:
    found = measured(paid)
    assert found.notes == [
        "its reward paying:r is Python code, which is not run, so that the spread of values is left out: read it, then python -m "
        f"mopo_pl report {paid} reward=paying:r"
    ]
    assert found.model is not None
    assert "value_spread" not in [each.name for each in found.model.one_step.rankings]


@pytest.mark.parametrize(("stage", "told"), [("all", True), ("dynamics", False)])
def test_a_rule_that_is_not_found_is_told_of_unless_the_run_needs_none(copied: Path, stage: str, told: bool) -> None:
    text = (copied / "config.yaml").read_text()
    assert "termination: null" in text
    assert "stage: all" in text
    text = text.replace("termination: null", "termination: gone_with_it:rule").replace("stage: all", f"stage: {stage}")
    (copied / "config.yaml").write_text(text)
    found = gather(copied, dataset=None, trust=Trust(frozenset({"gone_with_it:rule"})))
    assert [note.partition(": ")[0] for note in found.notes] == [
        "its rule of termination is not there, so that imagined episodes are not ended here"
    ] * told
    assert all("termination=gone_with_it:rule: " in note for note in found.notes)


def test_an_environment_that_is_code_must_be_named(copied: Path, capsys: Captured) -> None:
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("env_id: Pendulum-v1", "env_id: theirs:World-v0"))
    assert refused(capsys, copied) == (
        f"error: {copied / 'config.yaml'}: env_id=theirs:World-v0 names Python code, which a file must not run by itself: "
        "read that code, then give env_id=theirs:World-v0 on the command line too, or trust=true"
    )


# How it refuses


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: Captured) -> None:
    assert (
        refused(capsys, tmp_path / "none") == f"error: {tmp_path / 'none'} holds no run: there is no config.yaml in it"
    )


def test_a_log_that_was_moved_is_asked_for_and_taken(
    copied: Path, table: Path, tmp_path: Path, capsys: Captured
) -> None:
    moved = tmp_path / "moved.csv"
    shutil.copy(table, moved)
    gone = tmp_path / "nowhere" / "gone.csv"
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace(str(table), str(gone)))
    assert refused(capsys, copied) == (
        f"error: the log of {copied} cannot be opened (dataset={gone}: there is no such file); "
        f"if it was moved: python -m mopo_pl report {copied} dataset=PATH"
    )
    assert program.main(["report", str(copied), f"dataset={moved}", "--json"]) == 0
    assert '"rows": 400' in capsys.readouterr().out


def test_a_log_that_has_changed_is_refused(copied: Path, table: Path, tmp_path: Path, capsys: Captured) -> None:
    lines = table.read_text().splitlines(keepends=True)
    other = tmp_path / "other.csv"
    other.write_text("".join(lines[:-20]))
    sentence = refused(capsys, copied, f"dataset={other}")
    assert sentence.startswith(f"error: the log of {copied} has changed: the hash of ")
    assert sentence.endswith(f"or give the right one: python -m mopo_pl report {copied} dataset=PATH")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("result.json", "result.json is damaged"),
        ("provenance.json", "provenance.json is damaged"),
        ("dynamics.safetensors", "holds a damaged model"),
        ("policy/policy.json", "holds a damaged policy"),
    ],
)
def test_a_damaged_file_is_one_sentence(copied: Path, capsys: Captured, file: str, sentence: str) -> None:
    (copied / file).write_text("[")
    assert sentence in refused(capsys, copied)


def test_other_settings_are_refused(whole: Path, capsys: Captured) -> None:
    assert refused(capsys, whole, "seed=1", "penalty.coef=2") == (
        "error: seed, penalty.coef: only these may be given to report: dataset, env_id, termination, reward, penalty.name, "
        "sac.actor, env_kwargs, trust"
    )
    assert refused(capsys, whole, "penalty.name=mine:u") == (
        f"error: penalty.name=mine:u is not what {whole} was trained with: penalty.name=ensemble_std"
    )


def test_unreadable_critics_are_left_out(copied: Path) -> None:
    for checkpoint in (copied / "checkpoints").glob("policy-*.ckpt"):
        checkpoint.write_bytes(b"no checkpoint")
    found = measured(copied)
    assert found.model is not None
    assert "value_spread" not in [each.name for each in found.model.one_step.rankings]
    (note,) = found.notes
    assert note.startswith("the critics of policy-")


def test_a_report_that_fails_does_not_fail_a_finished_run(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    dataset = open_log(config_from_file(copied / "config.yaml"))
    before = (copied / "report.html").read_text()

    def full(*arguments: object, **more: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("mopo_pl.report.command.render", full)
    report_at_end(copied, dataset, [])
    assert capsys.readouterr().out == (
        "the run is finished, but its report could not be written (OSError: no space left); "
        f"try python -m mopo_pl report {copied}\n"
    )
    assert (copied / "report.html").read_text() == before


def test_everything_is_trusted_in_the_process_that_trained() -> None:
    assert EVERYTHING.allows("mine:u")
    assert not NOTHING.allows("mine:u")
    assert NOTHING.allows(None)
    assert NOTHING.allows({"bounds": {"x:y": [0, 1]}})


def test_the_program_of_the_guide_prints_each_penaltys_rank_correlation(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "latest").symlink_to(whole)
    monkeypatch.chdir(tmp_path)
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "report.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    exec(example, {})
    assert set(eval(capsys.readouterr().out)) == {*PENALTIES, "value_spread"}
