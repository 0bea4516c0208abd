"""A search trains as many trials as were asked for, whatever happens to its workers."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from filelock import FileLock
from optuna.storages.journal import JournalFileBackend

from mopo_pl.distributed.signals import block_signals
from mopo_pl.errors import InputError
from mopo_pl.run.child_processes import start_command
from mopo_pl.sweep import objective, study
from mopo_pl.sweep.objective import objective_of

Sweep = Callable[..., int]
SEARCH = ["penalty.coef=0.1..10 (log)", "rollout.horizon=1..20", "penalty.name=max_aleatoric,ensemble_std", "seed=0,1"]
HERE = ["--folder", "F"]


def trials(folder: Path) -> list[Any]:
    """All trials of the journal, as Optuna reads them."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "search.journal")))
    return optuna.load_study(study_name=folder.name, storage=storage).trials


def counted(folder: Path) -> list[Any]:
    return [trial for trial in trials(folder) if not trial.user_attrs.get("dropped")]


def starts(folder: Path) -> dict[str, list[str]]:
    """How each run of each trial was started, by trial and seed."""
    files = sorted(folder.glob("trials/*/*.starts"))
    return {f"{file.parent.name} {file.stem[-2:]}": file.read_text().split() for file in files}


# Trials


def test_a_search_trains_each_trial_on_every_seed_and_tells_their_mean(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fast_runs(*SEARCH, *HERE, "--search", "4") == 0
    said = capsys.readouterr().out
    found = trials(tmp_path / "F")
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 4
    assert starts(tmp_path / "F") == {f"{trial} s{seed}": ["new"] for trial in range(4) for seed in (0, 1)}
    assert len(list((tmp_path / "F/ensembles").glob("*.starts"))) == 2
    for trial in found:
        coef, horizon = trial.params["penalty.coef"], trial.params["rollout.horizon"]
        assert 0.1 <= coef <= 10
        assert horizon in range(1, 21)
        assert trial.value == pytest.approx(-abs(coef - 1), abs=1e-4)
        (folder,) = tmp_path.glob(f"F/trials/{trial.number}/*_s1")
        given = json.loads((folder / "arguments.json").read_text())
        assert {f"rollout.horizon={horizon}", f"penalty.name={trial.params['penalty.name']}", "seed=1"} <= set(given)
        assert f"penalty.coef={coef:.6g}" in given
    best = max(found, key=lambda trial: trial.value)
    assert "4 trials, of which 0 failed\nbest     return " in said
    assert f"(trial {best.number}; the best of 4 is optimistic: train it again with new seeds)" in said


def test_the_same_command_adds_nothing_and_a_larger_number_goes_on(fast_runs: Sweep, tmp_path: Path) -> None:
    for number, expected in (("2", 2), ("2", 2), ("3", 3)):
        assert fast_runs(*SEARCH, *HERE, "--search", number) == 0
        assert len(trials(tmp_path / "F")) == expected
    assert set(map(tuple, starts(tmp_path / "F").values())) == {("new",)}


def test_a_trial_that_fails_is_counted_and_a_search_of_failures_alone_fails(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fast_runs(*SEARCH, *HERE, "--search", "2", mishaps={"trials/0/": "fail"}) == 0
    assert [trial.state.name for trial in trials(tmp_path / "F")] == ["FAIL", "COMPLETE"]
    assert "the loss is not finite" in trials(tmp_path / "F")[0].user_attrs["reason"]
    assert "2 trials, of which 1 failed" in capsys.readouterr().out
    assert fast_runs(*SEARCH, "--folder", "G", "--search", "1", mishaps={"ensembles/s1": "fail"}) == 1
    assert starts(tmp_path / "G") == {}


def test_searched_settings_of_the_dynamics_have_ensembles_that_trials_share(fast_runs: Sweep, tmp_path: Path) -> None:
    arguments = ["dynamics.beta=0,0.5", "penalty.coef=0.1..10", *HERE, "--search", "5"]
    assert fast_runs(*arguments) == 0
    drawn = {trial.params["dynamics.beta"] for trial in trials(tmp_path / "F")}
    made = {file.stem: file.read_text().split() for file in (tmp_path / "F/ensembles").glob("*.starts")}
    assert made == {f"beta-{value}_s0": ["new"] for value in drawn}


def test_a_dry_run_says_what_is_searched(fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fast_runs(*SEARCH, *HERE, "--search", "4", "--at-once", "2", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "search folder F: 4 trials in journal:F/search.journal, objective=return, seeds 0, 1; 2 runs at a time, threads=1 each",
        "  penalty.coef  from 0.1 to 10, logarithmic",
        "  rollout.horizon  from 1 to 20",
        "  penalty.name  one of max_aleatoric  ensemble_std",
    ]
    assert list(tmp_path.iterdir()) == []


# Workers that die


def test_a_trial_whose_worker_was_killed_is_queued_again_and_resumed(
    killed_sweep: Callable[..., None], fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SEARCH, *HERE, "--at-once", "1"]
    killed_sweep(*arguments, "--search", "3", at="trials/1/")
    lost = trials(tmp_path / "F")[1]
    assert lost.state.name == "RUNNING"
    assert fast_runs(*arguments, "--search", "3") == 0
    assert "trial 1: its worker has ended; it is queued again" in capsys.readouterr().out
    found = counted(tmp_path / "F")
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 3
    (again,) = [trial for trial in found if trial.user_attrs["place"] == "1"]
    assert again.params == lost.params
    assert again.number == 2
    assert starts(tmp_path / "F")["1 s0"] == ["new", "resumed"]


def test_a_signal_queues_the_trial_for_the_next_command(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("F/trials/0/*/waits")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    arguments = [*SEARCH, *HERE, "--at-once", "1", "--search", "2"]
    assert fast_runs(*arguments, mishaps={"trials/0/": "wait"}) == 130
    thread.join()
    assert "stopped: the trial is queued again. The same command continues" in capsys.readouterr().out
    assert [trial.state.name for trial in trials(tmp_path / "F")] == ["FAIL", "WAITING"]
    assert fast_runs(*arguments) == 0
    assert len(counted(tmp_path / "F")) == 2
    assert starts(tmp_path / "F")["0 s0"] == ["new", "resumed"]


def test_a_worker_is_dead_when_its_process_is_gone_or_its_sign_of_life_is_old() -> None:
    now, child = time.time(), subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    here = study._worker().rpartition("|")[0]
    assert not study._is_lost({"worker": study._worker(), "alive": now}, now)
    assert study._is_lost({"worker": f"{here}|{child.pid}", "alive": now}, now)
    assert not study._is_lost({"worker": f"elsewhere|x|{child.pid}", "alive": now}, now)
    assert study._is_lost({"worker": f"elsewhere|x|{child.pid}", "alive": now - study.STALE - 1}, now)
    assert study._is_lost({"worker": study._worker(), "alive": now - study.STALE - 1}, now)
    assert not study._is_lost({}, now)
    assert study._is_lost({}, now - study.STALE - 1)


def test_a_worker_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = study.open_study(f"journal:{tmp_path / 'j'}", "x", {"penalty.coef": ("1", "2")}, {})
    trial = opened.next(1)
    assert trial is not None
    assert opened.next(1) is None
    began = opened.study.trials[0].user_attrs["alive"]
    opened.heartbeat(trial)()
    assert opened.study.trials[0].user_attrs["alive"] == began
    monkeypatch.setattr(study, "BEAT", 0.0)
    opened.heartbeat(trial)()
    assert opened.study.trials[0].user_attrs["alive"] > began


def test_two_workers_that_find_the_same_dead_one_queue_its_trial_once(tmp_path: Path) -> None:
    first, second = (
        study.open_study(f"journal:{tmp_path / 'j'}", "x", {"penalty.coef": ("1", "2")}, {}) for _ in range(2)
    )
    trial = first.next(5)
    assert trial is not None
    (seen,) = second._in_state("RUNNING")
    first.queue_again(trial)
    assert not second._drop(seen)
    second.queue_lost()
    assert len(second._waiting()) == 1


@pytest.mark.slow
def test_workers_killed_at_random_train_every_trial_once(tmp_path: Path) -> None:
    """Two workers on a database. Whenever three more runs were started one of the two is killed, and another begun."""
    script, number = Path(__file__).with_name("sweeping.py"), 16
    command = [sys.executable, str(script), "sweep", "data.collect_steps=400", *SEARCH, *HERE, "--search", str(number)]
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    command.append(f"storage={storage}")
    drawn, killed = random.Random(0), 0
    workers = [subprocess.Popen(command, cwd=tmp_path) for _ in range(2)]
    deadline = time.monotonic() + 500
    while any(worker.poll() is None for worker in workers):
        assert time.monotonic() < deadline
        if sum(map(len, starts(tmp_path / "F").values())) >= 3 * (killed + 1) and killed < 4:
            lost = drawn.randrange(2)
            workers[lost].kill()
            workers[lost].wait()
            workers[lost] = subprocess.Popen(command, cwd=tmp_path)
            killed += 1
        time.sleep(0.01)
    assert killed == 4
    assert [worker.returncode for worker in workers] == [0, 0]
    found = optuna.load_study(study_name="F", storage=storage).trials
    kept = [trial for trial in found if not trial.user_attrs.get("dropped")]
    assert [trial.state.name for trial in kept] == ["COMPLETE"] * number
    assert len({trial.user_attrs["place"] for trial in kept}) == number
    ensembles = [file.read_text().split() for file in (tmp_path / "F/ensembles").glob("*.starts")]
    assert [words.count("new") for words in ensembles] == [1, 1]


def test_an_ensemble_that_another_worker_trains_is_waited_for(
    fast_runs: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mopo_pl.sweep.search.WAIT", 0.02)
    ensemble = tmp_path / "F/ensembles/s0"
    ensemble.mkdir(parents=True)
    other = FileLock(ensemble.with_name(".s0.lock"), thread_local=False)
    other.acquire()

    def train() -> None:
        deadline = time.monotonic() + 60
        journal = tmp_path / "F/search.journal"
        while not (journal.exists() and '"alive"' in journal.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        (ensemble / "result.json").write_text("{}")
        other.release()

    thread = threading.Thread(target=train)
    thread.start()
    assert fast_runs("penalty.coef=0.1..10", *HERE, "--search", "1") == 0
    thread.join()
    assert starts(tmp_path / "F") == {"0 s0": ["new"]}
    assert not list((tmp_path / "F/ensembles").glob("*.starts"))


# Objectives


def test_the_objectives_of_a_run(make_run: Callable[..., Path]) -> None:
    run = make_run("run", ["penalty.coef=1"], returns=[-200.0, -100.0])
    assert objective_of(run, "return") == -150
    with pytest.raises(InputError) as error:
        objective_of(run, "estimate")
    assert error.value.problems == [f"{run} has no estimate: python -m mopo_pl estimate {run} writes one"]
    (run / "estimates.json").write_text(
        json.dumps({"model": {"policy": {"return": {"elites": [-120.0, -180.0, -90.0]}}}})
    )
    assert objective_of(run, "estimate") == -180


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("{}", "holds no returns of the elites: estimate the run again"),
        ('{"model": {"policy": {"return": {"elites": []}}}}', "holds no returns of the elites: estimate the run again"),
        ('{"model": {"policy": {"return": {"elites": [1, NaN]}}}}', "holds a return that is no number"),
    ],
)
def test_estimates_that_are_none_are_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "estimates.json").write_text(content)
    with pytest.raises(InputError, match=problem):
        objective_of(tmp_path, "estimate")


def test_estimates_of_another_policy_are_no_objective(tmp_path: Path) -> None:
    estimates = {"model": {"policy": {"return": {"elites": [1.0]}}}, "policy_sha256": "0" * 64}
    (tmp_path / "estimates.json").write_text(json.dumps(estimates))
    with pytest.raises(
        InputError, match=r"estimates\.json is of another policy than .*policy: python -m mopo_pl estimate"
    ):
        objective_of(tmp_path, "estimate")


def test_a_search_by_estimates_lets_each_policy_be_estimated(
    fast_runs: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def start(arguments: list[str], *, threads: int, **files: Any) -> subprocess.Popen:
        asked.append([*arguments, threads])
        estimates = {"model": {"policy": {"return": {"elites": [float(arguments[1][-1]), 5.0]}}}}
        Path(arguments[1], "estimates.json").write_text(json.dumps(estimates))
        return subprocess.Popen([sys.executable, "-S", "-c", ""], **files)

    monkeypatch.setattr(objective, "start_command", start)
    code = ["termination=tests_of_a_search:never", "env_id=Pendulum-v1", "env_kwargs.render_mode=/of/a/file"]
    monkeypatch.setattr("mopo_pl.sweep.search.check_inputs", lambda configs, folder, at_once: [])
    module = "import torch\ndef never(s, a, n): return torch.zeros(len(s), dtype=torch.bool)\n"
    (tmp_path / "tests_of_a_search.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["penalty.coef=0.1..10", "seed=0,1", *code, "threads=1", "objective=estimate", *HERE, "--search", "1"]
    assert fast_runs(*arguments) == 0
    assert [words[0] for words in asked] == ["estimate", "estimate"]
    assert all(words[2:] == [code[0], code[2], 1] for words in asked)
    assert trials(tmp_path / "F")[0].value == 0.5  # seeds 0 and 1 in this fake


def test_a_process_takes_no_more_threads_than_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    given = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: given.append(how["env"]["OMP_NUM_THREADS"]))
    start_command(["estimate", "run"], threads=3)
    start_command(["estimate", "run"])
    block_signals(signal.SIG_UNBLOCK)
    assert given == ["3", "7"]


# What is refused


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["seed=0,1"], "--search needs a key with a range or several values, such as 'penalty.coef=0.1..10 (log)'"),
        ([*SEARCH, "objective=loss"], "objective=loss must be one of return, estimate"),
        ([*SEARCH, "dataset=a.npz,b.npz"], "dataset: a search is on one log; sweep without --search takes several"),
        ([*SEARCH, "run_dir=x"], "run_dir=: --folder says where the runs go"),
        (["penalty.coef=-1..1"], "penalty.coef=-1.0 must not be negative"),
        ([*SEARCH, "storage=search.db"], "storage=search.db must be journal:FILE, or a database's URL such as sqlite:///search.db"),
        (["sac.tau=0.001..0.01", "preset=mbpo", "env_id=none"], "objective=return: the log names no environment to measure it in: give env_id=, or objective=estimate"),
        (["sac.tau=0.001..0.01", "preset=bc", "objective=estimate"], "objective=estimate: a policy is estimated in its ensemble: leave out settings that train without one"),
    ],
)  # fmt: skip
def test_what_a_search_does_not_take(
    fast_runs: Sweep, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    if "env_id=none" in arguments:
        arguments = [*arguments, "termination=never"]
    assert fast_runs(*arguments, *HERE, "--search", "2") == 2
    assert capsys.readouterr().err.splitlines() == [f"error: {problem}"]


def test_a_storage_with_another_search_of_that_name_is_refused(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = f"storage=journal:{tmp_path / 'shared.journal'}"
    assert fast_runs("penalty.coef=0.1..10", shared, "--folder", "a/F", "--search", "1") == 0
    capsys.readouterr()
    assert fast_runs("penalty.coef=0.1..5", shared, "--folder", "b/F", "--search", "1") == 2
    assert capsys.readouterr().err == (
        f"error: {shared} holds another search called F: give another --folder, whose name it takes\n"
    )


def test_without_optuna_the_extra_is_named(
    fast_runs: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert fast_runs(*SEARCH, *HERE, "--search", "1") == 2
    assert capsys.readouterr().err == ("error: --search needs Optuna: pip install -c constraints.txt -e '.[sweep]'\n")
