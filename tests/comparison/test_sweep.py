"""A sweep trains what it says, goes on where it was stopped, and names what failed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mopo_pl.__main__ import main
from mopo_pl.config.compose import compose, to_yaml
from mopo_pl.errors import InputError
from mopo_pl.sweep import jobs
from mopo_pl.sweep.grid import Grid
from mopo_pl.sweep.jobs import Share
from mopo_pl.sweep.plan import Job, jobs_of

Sweep = Callable[..., int]
GRID = ["penalty.coef=0.5,2.5", "seed=0,1", "--folder", "F", "--at-once", "2"]
RUNS = ["coef-0.5_s0", "coef-0.5_s1", "coef-2.5_s0", "coef-2.5_s1"]


def starts(folder: Path) -> dict[str, list[str]]:
    """How often each run was started, and whether anew."""
    files = sorted(folder.rglob("*.starts"))
    return {str(file.relative_to(folder).with_suffix("")): file.read_text().split() for file in files}


def plan(*arguments: str) -> dict[str, str | None]:
    """The ensemble of each policy of a grid."""
    grid = Grid.of(["data.collect_steps=400", *arguments])
    planned, _ = jobs_of(list(grid.combinations()), grid.varied, Path("F"), "F")
    ensembles = {job.name for job in planned if not job.trains_policy}
    found = {job.name: job.needs for job in planned if job.trains_policy}
    assert ensembles == {name for name in found.values() if name is not None}
    return found


# What is trained


def test_the_policies_of_a_seed_share_its_ensemble() -> None:
    assert plan("penalty.coef=0.5,2.5", "rollout.horizon=5,20", "seed=0,1") == {
        f"coef-{coef}_horizon-{horizon}_s{seed}": f"ensembles/s{seed}"
        for coef in ("0.5", "2.5")
        for horizon in (5, 20)
        for seed in (0, 1)
    }


@pytest.mark.parametrize(
    ("arguments", "ensembles"),
    [
        (["dynamics.beta=0,0.5"], {"ensembles/beta-0_s0", "ensembles/beta-0.5_s0"}),
        (["data.history=1,2"], {"ensembles/history-1_s0", "ensembles/history-2_s0"}),
        (
            ["dataset=pendulum,hopper-medium-v2"],
            {"ensembles/dataset-pendulum_s0", "ensembles/dataset-hopper-medium-v2_s0"},
        ),
        (
            ["trainer.precision=32-true,bf16-mixed"],
            {"ensembles/precision-32-true_s0", "ensembles/precision-bf16-mixed_s0"},
        ),
        (["termination=never,learned"], {"ensembles/termination-never_s0", "ensembles/termination-learned_s0"}),
        (["preset=default,mbpo"], {"ensembles/preset-default_s0"}),
        (["evaluation.episodes=5,10", "sac.tau=0.01,0.02", "trainer.max_epochs=5,10"], {"ensembles/s0"}),
        (["report=true,false", "data.device=cpu,training", "trainer.profiler=null,simple"], {"ensembles/s0"}),
        (["preset=bc,offline-sac"], {None}),
        (["preset=default,bc"], {"ensembles/preset-default_s0", None}),
    ],
)
def test_what_changes_an_ensemble_has_one_of_its_own(arguments: list[str], ensembles: set[str | None]) -> None:
    assert set(plan(*arguments).values()) == ensembles


def test_each_run_is_the_command_that_a_user_would_type(fast_runs: Sweep, tmp_path: Path) -> None:
    assert fast_runs(*GRID) == 0
    given = json.loads((tmp_path / "F/coef-2.5_s1/arguments.json").read_text())
    config = compose([argument for argument in given if not argument.startswith("run_dir=")])
    assert (config.penalty.coef, config.seed, config.stage, config.threads) == (2.5, 1, "policy", 1)
    assert (config.dynamics_from, config.dataset, config.group) == ("F/ensembles/s1", "pendulum", "F")
    ensemble = compose(json.loads((tmp_path / "F/ensembles/s1/arguments.json").read_text()))
    assert (ensemble.stage, ensemble.seed, ensemble.penalty.coef) == ("dynamics", 1, 1.0)


def test_a_sweep_says_what_it_trains_and_what_it_came_to(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fast_runs(*GRID) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "sweep folder F: 2 ensembles and 4 policies, of which 0 are finished; 2 at a time, threads=1 each"
    )
    assert {line.split("] ")[1] for line in lines if "coef-2.5" in line} == {
        "coef-2.5_s0  return -1.5, 2 s",
        "coef-2.5_s1  return -1.5, 2 s",
    }
    assert lines[-1] == "compare  python -m mopo_pl compare F"
    manifest = json.loads((tmp_path / "F/sweep.json").read_text())
    assert manifest["runs"] == RUNS
    assert manifest["settings"]["penalty.coef"] == ["0.5", "2.5"]
    assert manifest["command"].endswith("penalty.coef=0.5,2.5 seed=0,1 --folder F --at-once 2")
    assert len(manifest["git_commit"]) == 40


def test_a_dry_run_lists_the_runs_and_writes_nothing(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fast_runs(*GRID, "--dry-run") == 0
    listed = capsys.readouterr().out.splitlines()[1:]
    assert listed == [
        "new       ensembles/s0",
        "new       ensembles/s1",
        *(f"new       {name}  in ensembles/s{name[-1]}" for name in RUNS),
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_named_is_that_of_the_settings(fast_runs: Sweep, tmp_path: Path) -> None:
    assert fast_runs("penalty.coef=0.5,2.5", "preset=mbpo") == 0
    assert fast_runs("preset=mbpo", "penalty.coef=0.5,2.5") == 0
    assert fast_runs("penalty.coef=0.5,3.5", "preset=mbpo") == 0
    folders = sorted((tmp_path / "runs/sweeps").iterdir())
    assert len(folders) == 2
    assert all(set(map(tuple, starts(folder).values())) == {("new",)} for folder in folders)


def test_a_given_ensemble_is_that_of_the_link_when_the_sweep_began(fast_runs: Sweep, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "dynamics.json").touch()
    link = tmp_path / "runs/latest"
    link.symlink_to("first")
    arguments = ["dataset=pendulum", "dynamics_from=runs/latest", "penalty.coef=0.5,2.5", "--folder", "F"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mopo_pl.sweep.command.check_inputs", lambda configs, folder, at_once: [])
        assert fast_runs(*arguments, mishaps={"coef-2.5": "fail"}) == 1
        link.unlink()
        link.symlink_to("second")
        (tmp_path / "F/coef-2.5_s0/config.yaml").unlink()
        assert fast_runs(*arguments) == 0
    assert starts(tmp_path / "F") == {"coef-0.5_s0": ["new"], "coef-2.5_s0": ["new", "new"]}
    given = json.loads((tmp_path / "F/coef-2.5_s0/arguments.json").read_text())
    assert f"dynamics_from={tmp_path / 'runs/first'}" in given


# Going on


def test_a_sweep_killed_by_sigkill_is_continued_by_the_same_command(
    killed_sweep: Callable[..., None], fast_runs: Sweep, tmp_path: Path
) -> None:
    killed_sweep(*GRID[:-1], "1", at="coef-2.5_s0")
    assert set(starts(tmp_path / "F")) == {"ensembles/s0", "ensembles/s1", *RUNS[:3]}
    assert fast_runs(*GRID) == 0
    assert starts(tmp_path / "F") == {
        **{name: ["new"] for name in ("ensembles/s0", "ensembles/s1", "coef-0.5_s0", "coef-0.5_s1", "coef-2.5_s1")},
        "coef-2.5_s0": ["new", "resumed"],
    }
    assert all((tmp_path / "F" / name / "result.json").exists() for name in RUNS)


CODE = ("penalty.name=mine:u", "callbacks=[mine:Watch]", "logger={csv: {save_dir: /tmp/logs}}")


@pytest.mark.parametrize(
    ("settings", "stored", "allowed"),
    [
        *(((code,), (code,), ["trust=true"]) for code in CODE),
        (CODE, CODE, ["trust=true"]),
        ((), (), []),
        ((), CODE[:1], []),  # not of this sweep
        (CODE[:1], CODE[:2], []),
    ],
)
def test_a_run_is_resumed_with_the_code_that_the_sweep_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], stored: list[str], allowed: list[str]
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(jobs, "start_training", lambda arguments, **files: asked.append(arguments))
    job = Job("run", ("penalty.coef=2", *settings))
    (tmp_path / jobs.OUTPUT).mkdir()
    jobs._start(job, tmp_path, 1)
    assert asked == [["threads=1", *job.settings, "seeds=in_turn", f"run_dir={json.dumps(str(tmp_path / 'run'))}"]]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(to_yaml(compose(["penalty.coef=2", *stored])))
    jobs._start(job, tmp_path, 1)
    assert asked[1] == [f"resume={tmp_path / 'run'}", *allowed]
    assert not allowed or compose(asked[1]).penalty.coef == 2
    (tmp_path / "run/config.yaml").write_text("{")
    jobs._start(job, tmp_path, 1)
    assert asked[2] == [f"resume={tmp_path / 'run'}"]


def test_a_signal_reaches_the_runs_that_train_and_no_other_begins(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = [tmp_path / "F" / name for name in RUNS[:2]]

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not all((run / "waits").exists() for run in waiting) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert fast_runs(*GRID, mishaps={"coef-0.5": "wait"}) == 130
    thread.join()
    assert all((run / "saved").exists() for run in waiting)
    assert not (tmp_path / "F" / RUNS[2]).exists()
    assert "stopped; 2 of 6 runs have ended. The same command continues" in capsys.readouterr().out
    assert fast_runs(*GRID) == 0
    assert starts(tmp_path / "F")["coef-0.5_s1"] == ["new", "resumed"]


def test_a_run_that_fails_stops_no_other_and_is_named_at_the_end(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fast_runs(*GRID, mishaps={"coef-0.5_s1": "fail"}) == 1
    said = capsys.readouterr().out
    assert (
        "1 of 6 runs failed:\ncoef-0.5_s1: the loss is not finite (exit code 1; what it said: F/output/coef-0.5_s1.txt)\n"
        in said
    )
    assert [(tmp_path / "F" / name / "result.json").exists() for name in RUNS] == [True, False, True, True]


def test_policies_whose_ensemble_failed_do_not_begin(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fast_runs(*GRID, mishaps={"ensembles/s1": "fail"}) == 1
    said = capsys.readouterr().out
    assert "3 of 6 runs failed:" in said
    assert "coef-2.5_s1: its ensemble ensembles/s1 failed" in said
    assert set(starts(tmp_path / "F")) == {"ensembles/s0", "ensembles/s1", "coef-0.5_s0", "coef-2.5_s0"}


# What is refused


def test_another_grid_in_the_folder_is_refused(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fast_runs("preset=mbpo", "seed=0,1", "--folder", "F") == 0
    assert fast_runs("preset=mbpo", "seed=0,2", "--folder", "F") == 2
    assert capsys.readouterr().err == (
        "error: F holds another sweep (seed is 0,1 there, and 0,2 here): give another --folder, or the same settings, which "
        "continue it\n"
    )
    assert not (tmp_path / "F/s2").exists()


def test_a_damaged_manifest_is_named(fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "F").mkdir()
    (tmp_path / "F/sweep.json").write_text('{"command": ')
    assert fast_runs("seed=0,1", "--folder", "F") == 2
    assert capsys.readouterr().err == (
        "error: F/sweep.json is damaged: restore it, or begin the sweep in another --folder\n"
    )


def test_a_folder_that_is_being_swept_is_refused(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "F").mkdir()
    with FileLock(tmp_path / "F/.lock"):
        assert fast_runs("preset=mbpo", "seed=0,1", "--folder", "F") == 2
    assert capsys.readouterr().err == ("error: F is being swept by another command: wait for its end, or stop it\n")


def test_a_run_of_someone_else_in_the_folder_is_left_alone(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "F/s1").mkdir(parents=True)
    (tmp_path / "F/s1/config.yaml").touch()
    assert fast_runs("preset=mbpo", "seed=0,1", "--folder", "F") == 2
    assert "run_dir=F/s1 holds a run already" in capsys.readouterr().err
    assert not (tmp_path / "F/sweep.json").exists()


def test_every_setting_is_checked_before_anything_starts(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fast_runs("penalty.coef=1,-1,x", "rollout.horizn=1,2", "seed=0,1", "--folder", "F") == 2
    errors = capsys.readouterr().err.splitlines()
    assert [error for error in errors if "did you mean rollout.horizon?" in error] == [
        "error: rollout.horizn=1: there is no such key; did you mean rollout.horizon?",
        "error: rollout.horizn=2: there is no such key; did you mean rollout.horizon?",
    ]
    assert sum("penalty.coef=-1.0 must not be negative" in error for error in errors) == 1
    assert sum(error.startswith("error: penalty.coef=x") for error in errors) == 1
    assert len(errors) == 4
    assert not (tmp_path / "F").exists()


def test_what_is_wrong_with_the_log_is_said_before_anything_starts(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fast_runs("dataset=a.npz,b.npz", "termination=never", "--folder", "F") == 2
    errors = capsys.readouterr().err
    assert "a.npz" in errors
    assert "b.npz" in errors
    assert not (tmp_path / "F").exists()


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("stage=dynamics", "stage=: a sweep trains ensembles and policies by itself"),
        ("run_dir=x", "run_dir=: --folder says where the runs go"),
        ("resume=x", "resume=: the same sweep command continues a sweep"),
        (
            "penalty.coef=0.1..1",
            "penalty.coef=0.1..1 is a range, which needs --search N; values of a grid are parted by commas",
        ),
        ("penalty.coef=1,1.0", "penalty.coef=1.0 is the same run as penalty.coef=1: leave one out"),
        ("--at-once=0", "--at-once 0 must be at least 1"),
    ],
)
def test_what_a_sweep_does_not_take(
    fast_runs: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, problem: str
) -> None:
    assert fast_runs(argument) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert problem.split(" is the same")[0] in said
    assert problem.rpartition(" ")[2] in said
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_over_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["dataset=pendulum"], ["seed=1"]):
        assert main(["sweep", *arguments, "--folder", str(tmp_path / "F")]) == 2
        said = capsys.readouterr().err
        assert "there is nothing to sweep: give a key several values, such as penalty.coef=0.5,2.5 or seed=0,1" in said
    assert list(tmp_path.iterdir()) == []


# Cores


@pytest.mark.parametrize(
    ("runs", "cores", "threads", "at_once", "expected"),
    [
        (12, 2, None, None, (2, 1)),
        (3, 8, None, None, (3, 2)),
        (1, 8, None, None, (1, 8)),
        (12, 8, 2, None, (4, 2)),
        (12, 8, None, 2, (2, 4)),
        (2, 8, None, 5, (2, 4)),
        (4, 1, None, None, (1, 1)),
        (4, 2, 4, None, (1, 4)),
    ],
)
def test_the_cores_are_shared_out(
    runs: int, cores: int, threads: int | None, at_once: int | None, expected: tuple[int, int]
) -> None:
    share = Share.of(runs, cores=cores, threads=threads, at_once=at_once)
    assert (share.at_once, share.threads) == expected


# Real runs


@pytest.mark.slow
def test_real_runs_killed_and_continued_come_to_the_same_bits(tmp_path: Path) -> None:
    tiny = [
        *("dataset=pendulum", "data.collect_steps=400", "compile=false", "trainer.accelerator=cpu", "logger=none"),
        *(
            "dynamics.max_epochs=2",
            "dynamics.hidden_sizes=[16,16]",
            "dynamics.weight_decay=[0,0,0]",
            "rollout.starts=50",
        ),
        *("sac.hidden_sizes=[16,16]", "sac.updates_per_epoch=20", "trainer.max_epochs=3", "evaluation.episodes=2"),
        *("checkpoint.every_minutes=0", "evaluation.final_episodes=2", "penalty.coef=0.5,2.5", "seed=0,1"),
    ]
    command: list[Any] = [sys.executable, "-m", "mopo_pl", "sweep", *tiny, "--at-once", "2", "--folder"]
    for name in ("killed", "whole"):
        if name == "killed":
            process = subprocess.Popen([*command, tmp_path / name])
            deadline = time.monotonic() + 300
            while not list((tmp_path / name).glob("coef*/result.json")):
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
            process.kill()
            process.wait()
            time.sleep(2)  # its runs end within a second
        assert subprocess.run([*command, tmp_path / name], timeout=600).returncode == 0
    for run in RUNS:
        ours, theirs = (
            (tmp_path / name / run / "policy/policy.safetensors").read_bytes() for name in ("killed", "whole")
        )
        assert ours == theirs


def test_the_same_run_twice_is_refused_with_both() -> None:
    with pytest.raises(InputError) as error:
        plan("penalty.coef=1,1.0")
    assert error.value.problems == [
        "data.collect_steps=400 penalty.coef=1.0 is the same run as data.collect_steps=400 penalty.coef=1: leave one out"
    ]


def test_a_sweep_without_returns_does_not_send_its_user_to_compare_them(
    fast_runs: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fast_runs("penalty.coef=1,2", "--folder", "F") == 0
    for result in Path("F").glob("*/result.json"):
        result.write_text(json.dumps({**json.loads(result.read_text()), "final_return": None}))
    capsys.readouterr()
    assert fast_runs("penalty.coef=1,2", "--folder", "F") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "without an environment there are no returns to compare; each run by itself: python -m mopo_pl estimate F/coef-1_s0"
    )
