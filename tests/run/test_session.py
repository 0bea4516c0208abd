"""A log goes in; a model, a policy and its score come out."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import h5py
import lightning as L
import numpy as np
import pytest
import torch

from mopo_pl import Policy
from mopo_pl import __main__ as program
from mopo_pl.cli import main
from mopo_pl.distributed.launch import join_process_group
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.finished.outcome import final_evaluation
from mopo_pl.sac.actor import TanhGaussianActor

Train = Callable[..., Path]
Rows = Callable[[Path], list[dict[str, Any]]]
Same = Callable[[Path, Path, str], bool]

MODEL, POLICY = "dynamics.safetensors", "policy/policy.safetensors"

OWN = """
import torch

def three(mean, std):
    return torch.full((mean.shape[1],), 3.0)

def paid(observations, actions, next_observations):
    return torch.full((len(observations),), 3.0)

def newest(observations, actions, next_observations):
    # The pendulum's.
    cos, sin, velocity = observations[:, 0], observations[:, 1], observations[:, 2]
    assert observations.shape[1] == next_observations.shape[1] == 3
    return -(torch.atan2(sin, cos) ** 2 + 0.1 * velocity**2 + 0.001 * actions[:, 0] ** 2)

def newest_ends(observations, actions, next_observations):
    assert observations.shape[1] == next_observations.shape[1] == 3
    return (next_observations.abs() > 100).any(-1)

def always(observations, actions, next_observations):
    return torch.ones(len(observations), dtype=torch.bool)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's own module."""
    (tmp_path / "own_rules.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_rules"


# What a run is made of


def test_the_same_seed_gives_the_same_run_and_another_seed_another(train: Train, same_weights: Same) -> None:
    first, again, other = train("a"), train("b"), train("c", "seed=1")
    assert same_weights(first, again, MODEL)
    assert same_weights(first, again, POLICY)
    assert not same_weights(first, other, MODEL)
    assert not same_weights(first, other, POLICY)


def test_evaluation_changes_no_weight(train: Train, same_weights: Same) -> None:
    often, never = train("a"), train("b", "evaluation.every_n_epochs=50")
    assert same_weights(often, never, POLICY)


def test_logging_and_progress_change_no_weight(train: Train, same_weights: Same) -> None:
    shown, silent = train("a", "logger={csv: {}, tensorboard: {}}"), train("b", "trainer.enable_progress_bar=false")
    assert same_weights(shown, silent, MODEL)
    assert same_weights(shown, silent, POLICY)


def test_the_gradient_limit_reaches_the_update(train: Train, same_weights: Same) -> None:
    free, wide, tight = train("a"), train("b", "sac.gradient_clip_norm=1e9"), train("c", "sac.gradient_clip_norm=0.01")
    assert same_weights(free, wide, POLICY)
    assert not same_weights(free, tight, POLICY)


def test_stages_run_apart_make_the_policy_of_a_run_in_one(train: Train, same_weights: Same) -> None:
    whole = train("whole")
    model = train("model", "stage=dynamics")
    policy = train("policy", "stage=policy", f"dynamics_from={model}")
    assert same_weights(whole, model, MODEL)
    assert same_weights(whole, policy, POLICY)
    assert not (model / "policy").exists()
    assert not (policy / MODEL).exists()


def test_dynamics_from_latest_means_the_run_before_this_one(
    tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch, same_weights: Same
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*tiny]) == 0
    first = Path("runs/latest").resolve()
    assert main([*tiny, "stage=policy", "dynamics_from=runs/latest"]) == 0
    second = Path("runs/latest").resolve()
    assert first != second
    assert f"dynamics_from: {first}" in (second / "config.yaml").read_text()
    assert same_weights(first, second, POLICY)


def test_a_sweep_goes_on_from_the_latest_run_though_that_has_no_ensemble_of_its_own(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*tiny, "stage=dynamics"]) == 0
    first = Path("runs/latest").resolve()
    for coef in ("0.5", "1.0"):
        assert main([*tiny, "stage=policy", "dynamics_from=runs/latest", f"penalty.coef={coef}"]) == 0
        assert f"dynamics_from: {first}" in Path("runs/latest/config.yaml").read_text()


def test_an_ensemble_of_another_log_is_refused(
    train: Train, npz_log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = dict(np.load(npz_log))
    np.savez(tmp_path / "other.npz", allow_pickle=False, **{**arrays, "rewards": arrays["rewards"] + 1})
    model = train("model", f"dataset={npz_log}", "termination=never", "stage=dynamics")
    other = (f"dataset={tmp_path / 'other.npz'}", "termination=never", "stage=policy", f"dynamics_from={model}")
    train("policy", *other, code=2)
    assert "was fitted to another log" in capsys.readouterr().err
    assert not (tmp_path / "policy").exists()


def test_offline_sac_trains_without_a_model(train: Train, rows: Rows) -> None:
    folder = train("run", "preset=offline-sac", "trainer.max_epochs=2")
    assert not list(folder.glob("dynamics*"))
    assert [row["stage"] for row in rows(folder)] == ["policy", "policy"]
    assert not any(name.startswith("rollout/") for row in rows(folder) for name in row)


def test_a_list_of_seeds_makes_one_run_of_each(train: Train, tmp_path: Path, same_weights: Same) -> None:
    train("run", "seed=[3,4]")
    alone = train("alone", "seed=4")
    assert not (tmp_path / "run").exists()
    assert same_weights(tmp_path / "run_s4", alone, POLICY)
    assert not same_weights(tmp_path / "run_s3", tmp_path / "run_s4", POLICY)
    assert "\nseed: 3\n" in (tmp_path / "run_s3" / "config.yaml").read_text()


def test_an_own_log_without_environment_trains_and_is_not_scored(
    train: Train, npz_log: Path, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("run", f"dataset={npz_log}", "termination=never")
    assert "policy   not scored: no env_id was given" in capsys.readouterr().out
    assert not any(name.startswith("evaluation/") for row in rows(folder) for name in row)
    assert Policy.load(folder)(np.zeros(3, np.float32)).shape == (2,)


# A user's own parts


def test_an_own_penalty_is_what_is_subtracted(train: Train, own_module: str, rows: Rows) -> None:
    of_u_alone = ["penalty.coef=0.5", "penalty.relative=false", "penalty.value_coef=0", "penalty.free_quantile=null"]
    folder = train("run", f"penalty.name={own_module}:three", *of_u_alone)
    assert [row["rollout/penalty"] for row in rows(folder) if row["stage"] == "policy"] == [1.5, 1.5]


def test_an_own_termination_rule_ends_imagined_episodes(
    train: Train, own_module: str, rows: Rows, tmp_path: Path
) -> None:
    """On a log of single steps, whose ends the rule agrees with."""
    rng = np.random.default_rng(0)
    states, actions = rng.uniform(-1, 1, (400, 3)), rng.uniform(-1, 1, (400, 2))
    after = states + 0.1 * actions @ rng.standard_normal((2, 3))
    rewards, ends = -(states**2).sum(1), np.ones(400, bool)
    np.savez(tmp_path / "steps.npz", obs=states, action=actions, next_obs=after, reward=rewards, done=ends)
    log = [f"dataset={tmp_path / 'steps.npz'}", "env_id=none"]
    folder = train("run", f"termination={own_module}:always", *log)
    assert [row["rollout/length"] for row in rows(folder) if row["stage"] == "policy"] == [1.0, 1.0]


def test_a_known_reward_is_what_imagined_steps_are_paid(
    train: Train, own_module: str, rows: Rows, npz_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A third of the logged rewards are others, so that the ensemble's own would not be 3; that is a warning."""
    log = dict(np.load(npz_log))
    log["rewards"] = np.where(np.arange(400) % 3 == 0, log["rewards"], 3.0)
    np.savez(npz_log, **log)
    settings = [f"dataset={npz_log}", "termination=never", "penalty.name=none", f"reward={own_module}:paid"]
    settings += ["penalty.coef=2.5", "penalty.value_coef=0"]
    folder = train("run", *settings)
    assert [row["rollout/reward"] for row in rows(folder) if row["stage"] == "policy"] == [3.0, 3.0]
    assert (
        f"warning: reward={own_module}:paid differs from the logged reward in 134 of 400 rows"
        in capsys.readouterr().out
    )
    assert main([*settings, "--dry-run"]) == 0
    assert f"λ 2.5 on none, reward {own_module}:paid" in capsys.readouterr().out


def test_a_run_with_a_history_exports_a_policy_that_keeps_it(
    train: Train, own_module: str, rows: Rows, stop_after: Callable[[int | None], int], same_weights: Same
) -> None:
    """Rule and reward see single observations; evaluation, a resume and a later evaluation take the same windows."""
    settings = ["data.history=3", f"reward={own_module}:newest", f"termination={own_module}:newest_ends"]
    whole = train("whole", *settings)
    described = json.loads((whole / "dynamics.json").read_text())["shape"]
    assert (described["obs_dim"], described["newest_dim"]) == (11, 3)
    policy = Policy.load(whole)
    assert (policy.history, policy.obs_dim, policy(np.zeros(3, np.float32)).shape) == (3, 3, (1,))
    result = json.loads((whole / "result.json").read_text())
    assert rows(whole)[-1]["evaluation/length"] == 200
    again = final_evaluation(RunFolder(whole), episodes=3, seed=0, actor=TanhGaussianActor)
    assert again.returns.mean() == result["final_return"]
    stop_after(35)
    stopped = train("stopped", *settings, code=130)
    stop_after(None)
    assert main([f"resume={stopped}", "trust=true"]) == 0
    assert same_weights(stopped, whole, POLICY)


def test_a_known_environments_rule_can_be_named(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    """Hopper's rule reads the first column as a height that must exceed 0.7; a pendulum's is a cosine: the log contradicts it."""
    train("run", "termination=Hopper-v5", code=2)
    assert "termination" in capsys.readouterr().err
    train("other", "termination=Swimmer-v5")


# Flags of the Trainer


@pytest.mark.parametrize(
    "argument",
    [
        "fast_dev_run=true",
        "fast_dev_run=2",
        "limit_train_batches=3",
        "limit_train_batches=0.5",
        "max_time=00:01:00:00",
        "profiler=simple",
        "enable_model_summary=true",
        "precision=bf16-mixed",
        "deterministic=warn",
        "deterministic=true",
        "enable_progress_bar=false",
        "devices=auto",
    ],
)
def test_a_flag_of_the_trainer_goes_through_both_stages(train: Train, argument: str) -> None:
    folder = train("run", f"trainer.{argument}")
    assert (folder / "result.json").exists()


@pytest.mark.parametrize(
    ("capabilities", "pays"), [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)]
)
def test_where_bf16_does_not_pay_a_run_says_so(
    train: Train,
    capabilities: dict[str, bool],
    pays: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    train("run", "trainer.precision=bf16-mixed", "stage=dynamics")
    said = capsys.readouterr().out
    assert ("bf16 is slower than fp32 on this processor" in said) is not pays


def test_limit_train_batches_limits_the_updates(train: Train, rows: Rows) -> None:
    folder = train("run", "preset=offline-sac", "trainer.limit_train_batches=3")
    assert [row["update"] for row in rows(folder)] == [3, 6]


def test_several_updates_in_a_step_change_no_number_of_a_run(train: Train, rows: Rows, same_weights: Same) -> None:
    one, several = (
        train(f"{block}", f"sac.updates_per_step={block}", f"dynamics.updates_per_step={block}") for block in (1, 10)
    )
    assert rows(one) == rows(several)
    assert same_weights(one, several, POLICY)


@pytest.mark.slow
def test_a_compiler_that_does_not_work_costs_one_line(train: Train, tmp_path: Path, tiny: list[str]) -> None:
    """It is there, and fails."""
    command = [sys.executable, "-m", "mopo_pl", "train", *tiny, "compile=true", f"run_dir={tmp_path / 'broken'}"]
    environment = {**os.environ, "CXX": "/bin/false", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the SAC update is not compiled: ") == 1


def test_a_smoke_test_leaves_no_checkpoint(train: Train) -> None:
    assert not list((train("run", "trainer.fast_dev_run=true") / "checkpoints").iterdir())


# After training


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_evaluating_again_gives_the_same_number_and_another_seed_another(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = []
    for seed in ("5", "5", "6"):
        assert program.main(["evaluate", str(finished), "--episodes", "2", "--seed", seed]) == 0
        answers.append(re.findall(r"return +(-?[\d.]+)", said(capsys))[0])
    assert answers[0] == answers[1] != answers[2]


def test_a_run_without_environment_cannot_be_evaluated_and_says_so(
    train: Train, npz_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train("run", f"dataset={npz_log}", "termination=never", "preset=offline-sac")
    assert program.main(["evaluate", str(folder)]) == 2
    assert capsys.readouterr().err == (
        f"error: {folder} was trained without env_id: there is no environment to evaluate in; name one, python -m mopo_pl "
        f"evaluate {folder} env_id=NAME\n"
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["evaluate", "nowhere"], "error: nowhere holds no policy"),
        (["evaluate", "nowhere", "--episodes", "0"], "error: --episodes 0 must be at least 1"),
        (["inspect", "nowhere.npz"], "there is no such file"),
        (["inspect", "pendulum", "data.collect_stepps=3"], "did you mean data.collect_steps?"),
        (["train", "dataset=nowhere.npz"], "there is no such file"),
    ],
)
def test_a_subcommand_reports_wrong_input_like_train(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(arguments) == 2
    assert problem in capsys.readouterr().err


def test_inspect_says_what_a_log_holds(npz_log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = np.load(npz_log)
    assert program.main(["inspect", str(npz_log)]) == 0
    output = said(capsys)
    returns = log["rewards"].reshape(8, 50).sum(1)
    assert "rows      400" in output
    assert "episodes  8; length min 50, median 50, max 50" in output
    assert f"returns   mean {returns.mean():.2f}" in output
    assert "3 observations, 2 actions" in output


def test_the_exported_policy_acts_within_the_environments_bounds(finished: Path) -> None:
    policy = Policy.load(finished)
    actions = policy(torch.randn(200, 3) * 10)
    assert actions.shape == (200, 1)
    assert actions.abs().max() <= 2
    assert policy.meta["env_id"] == "Pendulum-v1"


# Environments and launchers


def test_an_environment_that_the_file_names_can_be_left_out(train: Train, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        file["observations"] = rng.standard_normal((300, 3)).astype(np.float32)
        file["actions"] = rng.uniform(-1, 1, (300, 1)).astype(np.float32)
        file["rewards"] = rng.standard_normal(300).astype(np.float32)
        file["terminals"], file["timeouts"] = np.zeros(300, bool), np.arange(1, 301) % 100 == 0
        file.attrs["env_id"] = "NoSuch-v7"
    log = f"dataset={tmp_path / 'log.hdf5'}"
    train("refused", log, code=2)
    train("no rule", log, "env_id=none", code=2)
    result = json.loads((train("run", log, "env_id=none", "termination=never") / "result.json").read_text())
    assert (result["env_id"], result["final_return"]) == (None, None)


@pytest.mark.parametrize(
    ("variable", "problem"),
    [("WORLD_SIZE", "torchrun started 2 processes"), ("SLURM_NTASKS", "Lightning refuses a flag of trainer")],
)
def test_processes_of_another_launcher_that_the_flags_do_not_mention_are_refused(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, problem: str
) -> None:
    """Each would take itself for the only one, and write into the run of the other."""
    monkeypatch.setenv(variable, "2")
    train("run", code=2)
    assert problem in capsys.readouterr().err


def test_torchrun_within_a_job_of_slurm_counts_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM has started one torchrun on each of two nodes, and these four processes each."""
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    joined = []
    strategy = SimpleNamespace(setup_environment=lambda: joined.append(True))
    trainer = SimpleNamespace(world_size=8, num_nodes=2, num_devices=4, strategy=strategy)
    join_process_group(cast(L.Trainer, trainer))
    assert joined


def test_several_nodes_need_a_launcher(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train("run", "trainer.num_nodes=2", code=2)
    assert "needs torchrun or SLURM" in capsys.readouterr().err
