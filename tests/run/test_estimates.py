"""`python -m mopo_pl estimate RUN`, and what the end of a run says of it."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

from mopo_pl import cli
from mopo_pl.__main__ import main
from mopo_pl.config.compose import config_from_file
from mopo_pl.diagnostics.estimates.logged_returns import LoggedReturns, logged_returns
from mopo_pl.diagnostics.estimates.verdict import Evidence
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.run.finished import estimates, outcome
from mopo_pl.run.finished.estimates import Effort
from mopo_pl.run.finished.estimates_text import as_text, summary_lines

SMALL = Effort(imagined_rows=2000, least_rollouts=2, most_rollouts=3, values=5, clone_updates=20, fqe_updates=10)


@pytest.fixture(autouse=True)
def little_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "EFFORT", SMALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an environment, whose true return is therefore known."""
    folder = tmp_path_factory.mktemp("estimated") / "run"
    assert cli.main([*TINY, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def first(trained: Path) -> dict[str, Any]:
    """What the command writes for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "EFFORT", SMALL)
        assert main(["estimate", str(trained)]) == 0
    found = json.loads((trained / "estimates.json").read_text())
    del found["seconds"]
    return found


def estimated(run: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["estimate", str(run), "--json", *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((run / "estimates.json").read_text())
    del found["seconds"]
    return found


def test_its_figures_agree_with_one_another(trained: Path, first: dict[str, Any]) -> None:
    found = first
    result = json.loads((trained / "result.json").read_text())
    log, model, fqe, bound = found["log"], found["model"], found["fqe"], found["bound"]
    assert found["protocol"] == {
        "starts": "episodes",
        "steps": 200,
        "discount": 0.99,
        "rollouts_per_elite": 2,  # 2000 rows hold 2 rollouts of 200 steps in 5 elites
        "elites": 5,
    }
    assert log["return"] == pytest.approx(result["behaviour_return"], rel=1e-6)
    assert found["true_return"] == result["final_return"]
    assert bound["holds"] == (result["final_return"] >= bound["lower"])
    # Two orders of summation: they agree but for the last bit.
    assert bound["lower"] == pytest.approx(model["policy"]["bound"]["mean"], rel=1e-12)
    assert model["policy"]["bound"]["mean"] <= model["policy"]["penalised"]["mean"]
    assert model["policy"]["penalised"]["mean"] <= model["policy"]["return"]["mean"]
    lost = model["policy"]["discounted"]["mean"] - model["policy"]["discounted_bound"]["mean"]
    assert bound["penalty"] == pytest.approx(lost, rel=1e-6)
    assert len(model["policy"]["return"]["elites"]) == 5
    assert len(fqe["policy"]["values"]) == len(fqe["clone"]["values"]) == 3
    assert fqe["bias"] == pytest.approx(fqe["clone"]["mean"] - log["forever"])
    assert [reason["name"] for reason in found["verdict"]["reasons"]][:2] == ["model return", "fitted Q"]


def test_the_same_seed_says_the_same_and_another_does_not(
    trained: Path, first: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert estimated(trained, capsys) == first
    other = estimated(trained, capsys, "--seed", "1")
    assert first["model"]["policy"]["return"] != other["model"]["policy"]["return"]
    assert first["fqe"]["policy"] != other["fqe"]["policy"]
    assert first["log"] == other["log"]


def test_the_table_says_what_decided(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["estimate", str(trained)]) == 0
    found = json.loads((trained / "estimates.json").read_text())
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    told = re.sub(r"\(after \d+ s\)", "(after n s)", printed.err)
    assert told.splitlines() == [
        f"estimate  {i}/5  {part}  (after n s)"
        for i, part in enumerate(
            (
                *("u over the log", "a clone of the log's policy", "the policy in each elite"),
                *("the clone in each elite", "fitted Q evaluation"),
            ),
            1,
        )
    ]
    assert [line.split()[0] for line in lines if line and line[0] != " "] == [
        *("run", "log", "model", "bound", "fitted", "verdict")
    ]
    assert f"verdict    {found['verdict']['sentence']}" in lines
    assert f"return {found['model']['policy']['return']['mean']:.1f}: elites" in lines[2]
    model, log = found["model"], found["log"]
    assert next(line for line in lines if line.startswith("  check ")) == (
        f"  check    the log's own policy earned {model['log']:.1f}, and its clone is estimated at "
        f"{model['clone']['return']['mean']:.1f}: the error {model['bias']:+.1f} is "
        + (
            f"at most one standard deviation of the log's returns ({log['std']:.1f}), so that the estimate above counts"
            if abs(model["bias"]) <= log["std"]
            else f"more than one standard deviation of the log's returns ({log['std']:.1f}), so that the estimate above does not count"
        )
    )
    above = "above" if found["bound"]["holds"] else "below"
    assert f"the true return {found['true_return']:.1f} is {above} it" in "\n".join(lines)
    for reason in found["verdict"]["reasons"]:
        assert f"  {reason['weight']:<19}{reason['name']}: {reason['text']}" in lines
    objections = [reason for reason in found["verdict"]["reasons"] if reason["weight"] == "objects"]
    said = summary_lines(found)
    assert all(f"{reason['name']}, objects: {reason['text']}" in said for reason in objections)
    assert "no objection" not in said


def test_it_takes_the_threads_of_the_run_and_no_settings(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a second thread waits for the first."""
    counts: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", counts.append)
    assert main(["estimate", str(trained)]) == 0
    assert counts == [config_from_file(trained / "config.yaml").threads]


def test_windows_of_logged_states_say_nothing_of_whether_the_bound_holds(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The true return is of whole episodes."""
    monkeypatch.setattr(
        estimates, "logged_returns", lambda *given: replace(logged_returns(*given), whole_episodes=False)
    )
    found = estimated(trained, capsys)
    assert (found["bound"]["holds"], found["protocol"]["starts"]) == (None, "logged states")
    assert found["true_return"] is not None
    assert "true return" not in as_text(trained, found)


def test_the_elites_are_compared_with_the_log_from_their_own_starts(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the log's two starts is drawn; what the other earned changes neither the comparison nor the bias."""
    logs: list[LoggedReturns] = []

    def of_log(*given: Any) -> LoggedReturns:
        logs.append(logged_returns(*given))
        return logs[-1]

    monkeypatch.setattr(estimates, "EFFORT", replace(SMALL, imagined_rows=1, least_rollouts=1))
    monkeypatch.setattr(estimates, "logged_returns", of_log)
    model = estimated(trained, capsys)["model"]
    found = json.loads((trained / "estimates.json").read_text())
    (log,) = logs
    assert model["log"] == float(log.returns[log.drawn(1, generator_for(0, "estimated starts"))])
    assert model["log"] != found["log"]["return"]
    assert Evidence.of(found).model.log == model["log"]
    assert model["bias"] == model["clone"]["return"]["mean"] - model["log"]


def test_health_of_the_result_is_evidence(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((trained / "result.json").read_text())
    try:
        (trained / "result.json").write_text(json.dumps(result | {"health": {"level": "STOP", "findings": []}}))
        found = estimated(trained, capsys)
    finally:
        (trained / "result.json").write_text(json.dumps(result))
    assert found["verdict"]["says"] == "do not deploy"
    assert found["verdict"]["reasons"][-1]["text"] == "the training's health is STOP"


def test_a_run_without_an_environment_ends_with_what_was_estimated(
    train: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("run", "env_id=none", "termination=never", "data.history=2", "estimate=true")
    printed = capsys.readouterr().out
    at_the_end = json.loads((folder / "estimates.json").read_text())
    earned = at_the_end["model"]["policy"]["return"]["mean"]
    assert f"\nestimate {earned:.1f} in the model (elites " in printed
    assert f"\nverdict  {at_the_end['verdict']['sentence']}\n" in printed
    assert (at_the_end["true_return"], at_the_end["bound"]["holds"]) == (None, None)
    del at_the_end["seconds"]
    assert estimated(folder, capsys) == at_the_end


def test_an_estimate_that_fails_does_not_take_the_summary_with_it(
    train: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(outcome, "write_estimates", fail)
    folder = train("run", "env_id=none", "termination=never", "estimate=true")
    printed = capsys.readouterr().out
    assert (
        f"estimate could not be made (RuntimeError: out of memory); try python -m mopo_pl estimate {folder}" in printed
    )
    assert "\nlog      mean return" in printed
    assert (folder / "result.json").exists()


def test_a_run_with_an_environment_is_not_estimated_by_itself(trained: Path, train: Callable[..., Path]) -> None:
    folder = train("run", "estimate=true", "trainer.max_epochs=1", "sac.updates_per_epoch=1")
    assert not (folder / "estimates.json").exists()


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["estimate", *arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            ["algorithm=bc"],
            "error: {run} was trained without an ensemble, in which its policy could be estimated: give a run with algorithm=sac "
            "and rollout.real_ratio below 1\n",
        ),
        (
            ["stage=dynamics"],
            "error: {run} holds no policy: it is a run of stage=dynamics; give a run that trained one\n",
        ),
    ],
)
def test_runs_without_a_policy_or_an_ensemble_are_refused(
    settings: list[str], problem: str, train: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("run", "trainer.max_epochs=1", "sac.updates_per_epoch=1", *settings)
    assert refused([str(folder)], capsys) == problem.format(run=folder)


def test_what_is_no_run_or_no_setting_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused([str(tmp_path)], capsys) == (f"error: {tmp_path} holds no run: there is no config.yaml in it\n")
    assert refused([str(trained), "--seed", "-1"], capsys) == "error: --seed -1 must lie in [0, 2**31)\n"
    assert refused([str(trained), "penalty.coef=3"], capsys) == (
        "error: penalty.coef: only env_id, termination, reward, penalty.name, sac.actor, env_kwargs, trust may be given to estimate\n"
    )


def test_code_that_a_runs_file_names_is_run_only_when_repeated(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    text = (trained / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("termination: null", "termination: rule_of_a_test:ends"))
    for name in ("dynamics.json", "dynamics.safetensors"):
        (copy / name).write_bytes((trained / name).read_bytes())
    (tmp_path / "rule_of_a_test.py").write_text("from mopo_pl.dynamics.termination import never as ends\n")
    monkeypatch.chdir(tmp_path)
    assert "config.yaml: termination=rule_of_a_test:ends names Python code" in refused([str(copy)], capsys)
    assert "termination=rule_of_a_test:ends names" in refused([str(copy), "termination=another:rule"], capsys)
    for allowed in ("termination=rule_of_a_test:ends", "trust=true"):
        problem = refused([str(copy), allowed], capsys)
        assert problem.startswith(f"error: {copy} holds no policy: policy.json and policy.safetensors must be there")


@pytest.mark.parametrize("text", ["[1]", "{", '{"final_return": "high"}'])
def test_a_damaged_result_is_one_sentence(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    (copy / "result.json").write_text(text)
    problem = refused([str(copy)], capsys)
    assert problem.startswith(f"error: {copy / 'result.json'} is damaged (")
    assert problem.endswith("): restore it from a copy, or remove it\n")
