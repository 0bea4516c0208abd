"""Values out of range, and values that exclude each other."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from mopo_pl.config.checks import COMPILED_PARTS, LOGGERS, PENALTIES

Printed = Callable[..., DictConfig]
Refused = Callable[..., list[str]]

AT_LEAST_ONE = [
    *("dynamics.members", "dynamics.elites", "dynamics.batch_size", "dynamics.max_epochs", "dynamics.holdout_max"),
    *("rollout.horizon", "rollout.starts", "rollout.every_n_epochs", "rollout.retain_epochs", "rollout.chunk"),
    *("sac.batch_size", "sac.updates_per_epoch", "sac.schedule_epochs"),
    *("evaluation.episodes", "evaluation.every_n_epochs", "evaluation.final_episodes"),
    *("classifier.epochs", "classifier.updates_per_epoch"),
    *("trainer.max_epochs", "data.collect_steps", "data.time_limit", "data.history", "threads"),
]


@pytest.mark.parametrize("key", AT_LEAST_ONE)
def test_a_count_of_zero_is_refused(refused: Refused, key: str) -> None:
    assert f"{key}=0 must be at least 1" in refused(f"{key}=0")


REFUSED = [
    (["rollout.real_ratio=1.1"], "rollout.real_ratio=1.1 must lie in [0, 1]"),
    (["rollout.real_ratio=-0.1"], "rollout.real_ratio=-0.1 must lie in [0, 1]"),
    (["dynamics.holdout_fraction=0"], "dynamics.holdout_fraction=0.0 must lie between 0 and 1"),
    (["dynamics.holdout_fraction=1"], "dynamics.holdout_fraction=1.0 must lie between 0 and 1"),
    (["dynamics.improvement=1"], "dynamics.improvement=1.0 must lie in [0, 1)"),
    (["sac.discount=1"], "sac.discount=1.0 must lie in [0, 1)"),
    (["sac.discount=.nan"], "sac.discount=nan must lie in [0, 1)"),
    (["threads=1025"], "threads=1025 is more than 1024"),
    (["sac.tau=0"], "sac.tau=0.0 must lie in (0, 1]"),
    (["penalty.value_coef=-1"], "penalty.value_coef=-1.0 must not be negative"),
    (["sac.critics=1"], "sac.critics=1 must be at least 2 and below 1024: their minimum is the value"),
    (["sac.tau=2"], "sac.tau=2.0 must lie in (0, 1]"),
    *[
        ([f"{key}=0"], f"{key}=0.0 must be positive")
        for key in ("dynamics.learning_rate", "sac.actor_lr", "sac.critic_lr", "sac.alpha_lr", "sac.alpha_init")
    ],
    (["sac.alpha_max=0"], "sac.alpha_max=0.0 must be positive"),
    (["penalty.coef=-1"], "penalty.coef=-1.0 must not be negative"),
    (["penalty.coef=.nan"], "penalty.coef=nan must not be negative"),
    (["dynamics.patience=-1"], "dynamics.patience=-1 must not be negative"),
    (["dynamics.bound_coef=-1"], "dynamics.bound_coef=-1.0 must not be negative"),
    (["checkpoint.every_minutes=-1"], "checkpoint.every_minutes=-1.0 must not be negative"),
    (["dynamics.weight_decay=[0,0,-1,0,0]"], "dynamics.weight_decay[2]=-1.0 must not be negative"),
    (["sac.hidden_sizes=[]"], "sac.hidden_sizes=[] must be a list of layer widths, each at least 1"),
    (["sac.hidden_sizes=[8,0]"], "sac.hidden_sizes=[8, 0] must be a list of layer widths, each at least 1"),
    (["dynamics.elites=8"], "dynamics.elites=8 is more than dynamics.members=7"),
    (
        ["dynamics.hidden_sizes=[8,8]"],
        "dynamics.weight_decay has 5 coefficients, but dynamics.hidden_sizes give 3 layers",
    ),
    (["penalty.halt_share=0"], "penalty.halt_share=0.0 must lie between 0 and 1"),
    (["sac.log_std_min=2"], "sac.log_std_min=2.0 must be less than sac.log_std_max=2.0"),
    (["stage=policy"], "stage=policy needs dynamics_from=<run folder>"),
    (["stage=dynamics", "dynamics_from=x"], "stage=dynamics trains an ensemble: remove dynamics_from"),
    (["algorithm=bc", "stage=dynamics"], "stage=dynamics trains an ensemble, which algorithm=bc does not use"),
    (["algorithm=bc", "dynamics_from=x"], "dynamics_from=x is not used by algorithm=bc: remove it"),
    (["algorithm=bc", "sac.actor_average=0.9"], "sac.actor_average=0.9 is for algorithm=sac: algorithm=bc has none"),
    (["algorithm=bc", "sac.gradient_clip_norm=1"], "sac.gradient_clip_norm=1.0 is for algorithm=sac"),
    (["data.action_low=[1]", "data.action_high=[1,2]"], "data.action_low has 1 dimensions, but data.action_high has 2"),
    (
        ["termination=off"],
        "termination=false must be never, learned, module:function, an environment id, or limits of observation columns, "
        "such as {bounds: {temp: [0, 90]}}",
    ),
    (["termination={box: {temp: [0, 90]}}"], "termination={box: {temp: [0, 90]}} must be never"),
    (["termination={bounds: {}}"], "termination={bounds: {}} must be never"),
    (["termination=[never]"], "termination=[never] must be never"),
    *[
        (
            [f"termination.bounds.temp={limits}"],
            f"termination.bounds.temp={limits} must be a lower and a higher number, such as [0, 90]; null stands for none",
        )
        for limits in (
            "[90, 0]",
            "[0, 0]",
            "[null, null]",
            "[0]",
            "7",
            "[0, high]",
            "[0, true]",
            f"[0, 1{'0' * 400}]",
            "[-4e+38, 0]",
        )
    ],
    (
        ["termination={bounds: {temp: [.nan, 1]}}"],
        "termination.bounds.temp=[NaN, 1] must be a lower and a higher number",
    ),
    *[
        ([f"classifier.batch_size={size}"], f"classifier.batch_size={size} must be even and at least 2")
        for size in (0, 1, 7)
    ],
    (["classifier.holdout_fraction=1"], "classifier.holdout_fraction=1.0 must lie between 0 and 1"),
    (["classifier.learning_rate=0"], "classifier.learning_rate=0.0 must be positive"),
    (["classifier.weight_decay=-1"], "classifier.weight_decay=-1.0 must not be negative"),
    (["classifier.hidden_sizes=[0]"], "classifier.hidden_sizes=[0] must be a list of layer widths"),
    (["reward=mine"], "reward=mine must name a function of (s, a, s') as module:function"),
    (["trainer.strategy=fsdp"], "trainer.strategy=fsdp is not supported"),
    (["trainer.strategy=ddp_static_graph"], "trainer.strategy=ddp_static_graph is not supported"),
    (["trainer.precision=16-mixed"], "trainer.precision=16-mixed is not supported: use one of 32-true, 32, bf16-mixed"),
    (["trainer.precision=64-true"], "trainer.precision=64-true is not supported: use one of 32-true, 32, bf16-mixed"),
    (["seed=-1"], "seed=-1 must be an integer from 0 to 4294967295"),
    (["seed=1.5"], "seed=1.5 must be an integer from 0 to 4294967295"),
    (["seed=true"], "seed=True must be an integer from 0 to 4294967295"),
    (["seed=null"], "seed=None must be an integer from 0 to 4294967295"),
    (["seed=[]"], "seed=[] must be an integer from 0 to 4294967295, or a list of them"),
    (["seed=[1,x]"], "seed=[1, 'x'] must be an integer from 0 to 4294967295, or a list of them"),
    (["seed=[1,2,1]"], "seed=[1, 2, 1] lists a seed twice"),
    (["seed=[1,2]", "trainer.devices=2"], "seed=[1, 2] is a list, which needs trainer.devices=1"),
]


@pytest.mark.parametrize(("arguments", "problem"), REFUSED, ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_a_problem_is_reported_in_one_message(refused: Refused, arguments: list[str], problem: str) -> None:
    (said,) = refused(*arguments)
    assert said.startswith(problem)


@pytest.mark.parametrize(
    "arguments",
    [
        ["rollout.real_ratio=1"],
        ["rollout.real_ratio=0"],
        ["sac.discount=0"],
        ["sac.tau=1"],
        ["dynamics.elites=7"],
        ["dynamics.patience=0"],
        ["stage=policy", "dynamics_from=x", "dataset=pendulum"],
        ["stage=policy", "preset=offline-sac"],
        ["stage=policy", "preset=bc"],
        ["stage=policy", "rollout.real_ratio=1"],
        ["trainer.strategy=ddp_find_unused_parameters_true"],
        ["trainer.precision=bf16-mixed"],
        ["seed=[3]", "trainer.devices=2"],
        ["penalty.name=package.module:function"],
        ["sac.alpha_max=null"],
    ],
    ids=" ".join,
)
def test_a_value_on_the_edge_is_accepted(printed: Printed, arguments: list[str]) -> None:
    printed(*arguments)


def test_the_names_known_without_torch_are_those_of_the_registries() -> None:
    from mopo_pl.config import resolve
    from mopo_pl.dynamics import penalties
    from mopo_pl.run import loggers

    assert tuple(penalties.PENALTIES) == PENALTIES
    assert tuple(loggers.LOGGERS) == LOGGERS
    assert tuple(resolve.COMPILE_THRESHOLDS) == COMPILED_PARTS
