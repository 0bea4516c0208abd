"""From arguments to values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

import mopo_pl
from mopo_pl.config.keys import format_value

CONF = Path(mopo_pl.__file__).parent / "conf"
CHOICES = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml"))]
PRESETS = [choice for group, choice in CHOICES if group == "preset"]

Printed = Callable[..., DictConfig]
Refused = Callable[..., list[str]]

D4RL_V2 = {  # OfflineRL-Kit: λ, h
    "halfcheetah-medium": (0.5, 5),
    "hopper-medium": (5.0, 5),
    "walker2d-medium": (0.5, 5),
    "halfcheetah-medium-replay": (0.5, 5),
    "hopper-medium-replay": (2.5, 5),
    "walker2d-medium-replay": (2.5, 1),
    "halfcheetah-medium-expert": (2.5, 5),
    "hopper-medium-expert": (5.0, 5),
    "walker2d-medium-expert": (2.5, 1),
}
PAPER = {  # the authors' configurations: λ, h
    "halfcheetah-random": (0.5, 5),
    "hopper-random": (1.0, 5),
    "walker2d-random": (1.0, 1),
    "halfcheetah-medium": (1.0, 1),
    "hopper-medium": (5.0, 5),
    "walker2d-medium": (5.0, 5),
    "halfcheetah-medium-replay": (1.0, 5),
    "hopper-medium-replay": (1.0, 5),
    "walker2d-medium-replay": (1.0, 1),
    "halfcheetah-medium-expert": (5.0, 5),
    "hopper-medium-expert": (1.0, 5),
    "walker2d-medium-expert": (2.0, 1),
}


# Shipped choices


def test_each_group_has_choices() -> None:
    assert {group for group, _ in CHOICES} == {"dataset", "preset", "trainer", "logger"}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_shipped_choice_composes(printed: Printed, group: str, choice: str) -> None:
    printed(f"{group}={choice}", *(GIVEN if choice in ("d4rl-v2", "paper") else ()))


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_shipped_choice_says_what_it_is_in_its_first_line(group: str, choice: str) -> None:
    assert (CONF / group / f"{choice}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("dataset", D4RL_V2)
def test_the_d4rl_preset_takes_the_numbers_published_for_v2(printed: Printed, dataset: str) -> None:
    config = printed(f"dataset={dataset}-v2", "preset=d4rl-v2")
    assert (config.penalty.coef, config.rollout.horizon) == D4RL_V2[dataset]


@pytest.mark.parametrize("dataset", PAPER)
def test_the_paper_preset_takes_the_numbers_of_the_authors_code(printed: Printed, dataset: str) -> None:
    config = printed(f"dataset={dataset}-v2", "preset=paper")
    assert (config.penalty.coef, config.rollout.horizon) == PAPER[dataset]


def test_the_tables_name_every_shipped_d4rl_dataset() -> None:
    shipped = {choice.removesuffix("-v2") for group, choice in CHOICES if group == "dataset"} - {"pendulum"}
    assert shipped == set(PAPER) == set(D4RL_V2) | {f"{body}-random" for body in ("halfcheetah", "hopper", "walker2d")}


@pytest.mark.parametrize("dataset", ["hopper-medium-v2", "walker2d-medium-expert-v2"])
def test_the_default_preset_takes_no_published_numbers(printed: Printed, dataset: str) -> None:
    config = printed(f"dataset={dataset}")
    assert (config.penalty.coef, config.rollout.horizon) == (1.0, 20)


@pytest.mark.parametrize("preset", PRESETS)
def test_published_numbers_are_no_key_of_the_configuration(printed: Printed, preset: str) -> None:
    assert "published" not in printed("dataset=hopper-medium-v2", f"preset={preset}")


GIVEN = ("penalty.coef=2.5", "rollout.horizon=5")
PRESET_FACTS: dict[str, dict[str, Any]] = {
    "default": {
        "penalty.name": "ensemble_std",
        "penalty.coef": 1.0,
        "penalty.relative": True,
        "penalty.free_quantile": 0.5,
        "penalty.value_coef": 0.5,
        "penalty.halt_widths": 0.0,
        "penalty.halt_share": 0.001,
        "rollout.horizon": 20,
        "rollout.starts": 2500,
        "rollout.continue_share": 0.8,
        "rollout.retain_epochs": 5,
        "rollout.real_ratio": 0.5,
        "sac.normalise_observations": True,
        "sac.actor_average": 0.9997,
        "sac.critics": 2,
        "sac.critic_layer_norm": False,
        "sac.start_at_log_value": True,
        "sac.bound_targets": True,
        "sac.alpha_init": 0.1,
        "sac.actor_lr": 3e-4,
        "sac.critic_lr": 3e-4,
        "sac.alpha_lr": 1e-4,
        "sac.actor_schedule": "cosine",
        "sac.alpha_max": 1.0,
        "sac.log_std_min": -5.0,
        "sac.target_entropy": None,
        "sac.updates_per_epoch": 1000,
        "dynamics.members": 7,
        "dynamics.elites": 5,
        "dynamics.normalise_targets": True,
        "dynamics.beta": 0.75,
        "dynamics.huber_delta": 3.0,
        "trainer.max_epochs": 1000,
    },
    "d4rl-v2": {
        "dynamics.normalise_targets": False,
        "dynamics.beta": 0.0,
        "trainer.max_epochs": 3000,
        "sac.actor_lr": 1e-4,
        "sac.actor_schedule": "cosine",
        "sac.alpha_max": 1.0,
    },
    "paper": {
        "dynamics.normalise_targets": False,
        "dynamics.beta": 0.0,
        "sac.actor_lr": 3e-4,
        "sac.critic_lr": 3e-4,
        "sac.alpha_lr": 3e-4,
        "sac.actor_schedule": "constant",
        "sac.alpha_max": None,
        "sac.log_std_min": -20.0,
        "sac.log_std_max": 2.0,
        "sac.target_entropy": -3.0,
        "trainer.max_epochs": 1000,
    },
    "mbpo": {
        "penalty.coef": 0.0,
        "penalty.name": "none",
        "penalty.value_coef": 0.0,
        "penalty.halt_widths": None,
        "rollout.real_ratio": 0.5,
    },
    "offline-sac": {"rollout.real_ratio": 1.0},
    "bc": {"algorithm": "bc", "sac.actor_lr": 3e-4, "sac.normalise_observations": True, "trainer.max_epochs": 100},
}


@pytest.mark.parametrize("preset", PRESET_FACTS)
def test_a_preset_is_what_it_is_named_after(printed: Printed, preset: str) -> None:
    config = printed("dataset=some-log-v0", f"preset={preset}", *(GIVEN if preset in ("d4rl-v2", "paper") else ()))
    facts = PRESET_FACTS[preset]
    assert {key: OmegaConf.select(config, key) for key in facts} == facts


def test_every_preset_that_is_shipped_has_its_facts() -> None:
    assert set(PRESETS) == set(PRESET_FACTS)


# Order


def test_a_dataset_overrides_a_default(printed: Printed) -> None:
    assert printed("dataset=log.npz").trainer.max_epochs == 1000
    assert printed("dataset=pendulum").trainer.max_epochs == 15


def test_a_preset_overrides_a_dataset(printed: Printed) -> None:
    assert printed("dataset=pendulum").trainer.max_epochs == 15
    assert printed("dataset=pendulum", "preset=bc").trainer.max_epochs == 100


def test_the_command_line_overrides_everything_wherever_it_stands(printed: Printed) -> None:
    config = printed("penalty.coef=7", "trainer.max_epochs=4", "dataset=hopper-medium-v2", "preset=d4rl-v2")
    assert (config.penalty.coef, config.trainer.max_epochs) == (7.0, 4)


def test_a_trainer_choice_overrides_a_dataset_but_not_its_other_flags(printed: Printed) -> None:
    trainer = printed("dataset=pendulum", "trainer=ddp").trainer
    assert (trainer.strategy, trainer.devices, trainer.max_epochs) == ("ddp", "auto", 15)


def test_the_last_of_two_values_counts(printed: Printed) -> None:
    assert printed("seed=1", "seed=2").seed == 2
    assert printed("preset=paper", "preset=default").sac.alpha_lr == 1e-4


def test_a_printed_configuration_names_its_choices(printed: Printed) -> None:
    config = printed("dataset=hopper-medium-v2", "preset=paper")
    assert (config.dataset, config.preset) == ("hopper-medium-v2", "paper")


# Values


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("sac.hidden_sizes=[16, 8]", "sac.hidden_sizes", [16, 8]),
        ("dynamics.weight_decay=[0,0,1e-4,0,0]", "dynamics.weight_decay", [0.0, 0.0, 1e-4, 0.0, 0.0]),
        ("seed=[0,1]", "seed", [0, 1]),
        ("data.action_low=[-2.0]", "data.action_low", [-2.0]),
        ("sac.alpha_max=null", "sac.alpha_max", None),
        ("env_id=", "env_id", None),
        ("env_id='Hopper-v5'", "env_id", "Hopper-v5"),
        ('run_dir="a: b, c"', "run_dir", "a: b, c"),
        ("run_dir=a,b", "run_dir", "a,b"),
        ("run_dir=a=b", "run_dir", "a=b"),
        ("run_dir=2026-01-01", "run_dir", "2026-01-01"),
        ("run_dir=1_000", "run_dir", "1_000"),
        ("run_dir=true", "run_dir", "true"),
        ("trainer.max_time=10:00:00:00", "trainer.max_time", "10:00:00:00"),
        ("penalty.coef=3", "penalty.coef", 3.0),
        ("sac.actor_lr=1e-5", "sac.actor_lr", 1e-5),
        ("compile=true", "compile", "true"),
        ("compile=False", "compile", "false"),
        ("compile=[rollouts, policy]", "compile", ["rollouts", "policy"]),
        ("compile=[]", "compile", []),
        ("trainer.devices=[0]", "trainer.devices", [0]),
        ("trainer.limit_train_batches=0.5", "trainer.limit_train_batches", 0.5),
        ("termination=never", "termination", "never"),
        ("termination=module:rule", "termination", "module:rule"),
        ("termination={bounds: {0: [0, 90]}}", "termination", {"bounds": {"0": [0, 90]}}),
        ("termination.bounds.joint_*=[null, 1.5]", "termination", {"bounds": {"joint_*": [None, 1.5]}}),
        ("env_kwargs.xml_file=walker2d.xml", "env_kwargs", {"xml_file": "walker2d.xml"}),
        ("env_kwargs={a: 1, b: [2]}", "env_kwargs", {"a": 1, "b": [2]}),
        # provenance.json holds texts as keys: numbers would differ from them on resume.
        ("env_kwargs={a: {1: [{2: 3}]}}", "env_kwargs", {"a": {"1": [{"2": 3}]}}),
    ],
)
def test_a_value_is_read_as_it_is_meant(printed: Printed, argument: str, key: str, value: Any) -> None:
    assert OmegaConf.select(printed(argument), key) == value


@pytest.mark.parametrize(
    ("arguments", "loggers"),
    [
        ([], {"csv": {}}),
        (["logger=none"], {}),
        (["logger=tensorboard"], {"tensorboard": {}}),
        (["logger={}"], {}),
        (["logger={csv: {}, tensorboard: {}}"], {"csv": {}, "tensorboard": {}}),
        (["logger.csv.flush_logs_every_n_steps=3"], {"csv": {"flush_logs_every_n_steps": 3}}),
        (["logger=wandb", "logger.wandb.offline=false"], {"wandb": {"project": "mopo_pl", "offline": False}}),
        (["logger.csv.x=1", "logger={csv: {y: 2}}"], {"csv": {"x": 1, "y": 2}}),
        (["logger.mlflow.tags.a=b", "logger=mlflow"], {"mlflow": {"tags": {"a": "b"}}}),
        (["logger={package.module:Own: {a: 1}}"], {"package.module:Own": {"a": 1}}),
    ],
)
def test_loggers_are_a_choice_or_a_map_and_take_arguments(
    printed: Printed, arguments: list[str], loggers: dict[str, Any]
) -> None:
    assert printed(*arguments).logger == loggers


# Types


@pytest.mark.parametrize(
    "argument",
    [
        "penalty.coef=high",
        "dynamics.members=two",
        "dynamics.members=2.5",
        "dynamics.members=true",
        "sac.hidden_sizes=256",
        "sac.hidden_sizes=[wide]",
        "sac.hidden_sizes=[256.5]",
        "sac.hidden_sizes=",
        "trainer.max_epochs=null",
        "data.clip_actions=perhaps",
        "stage=both",
        "compile=maybe",
        "compile=1",
        "compile=",
        "compile=[policy, actor]",
        "compile=[policy, policy]",
        "compile={policy: 1}",
        "env_kwargs=3",
        "sac.hidden_sizes=[1,2",
        "run_dir=${nowhere}",
        "sac.hidden_sizes=['${nowhere}']",
        "sac.hidden_sizes=[???]",
        "sac.hidden_sizes=[[256]]",
        "dynamics.weight_decay=[{a: 1}]",
        "penalty.coef=???",
        "dynamics.hidden_sizes=['???']",
        "seed=['???']",
        "seed={a: '???'}",
        "seed=${value}",
        "env_kwargs={a: '${nowhere}'}",
        "env_kwargs={a: '???'}",
        "env_kwargs.a=['${nowhere}']",
        "logger={csv: {a: '${nowhere}'}}",
        *(
            f"{group}={value}"
            for group in ("dataset", "preset", "trainer", "logger")
            for value in ("${nowhere}", "???")
        ),
        "logger={csv: {}",
        "logger={1: {}}",
        "logger={csv: 3}",
        "logger.csv.x=[1",
    ],
)
def test_a_value_of_the_wrong_kind_is_one_problem_that_repeats_it(refused: Refused, argument: str) -> None:
    problems = refused(argument)
    assert len(problems) == 1
    assert problems[0].startswith(argument) or "logger.csv=3" in problems[0]


# Unknown names


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("dynamics.memebers=3", "did you mean dynamics.members?"),
        ("penalty.coeff=3", "did you mean penalty.coef?"),
        ("tau=0.1", "there is no such key"),
        ("preset=papr", "did you mean paper?"),
        ("dataset=pendulm", "did you mean pendulum?"),
        ("trainer=xla", "(there are: cpu, ddp, default, gpu)"),
        ("logger=tensorbord", "did you mean tensorboard?"),
        ("logger={tensorbord: {}}", "logger tensorbord is unknown: use one of csv, tensorboard, wandb, mlflow"),
        (
            "penalty.name=max_aleatorik",
            "use one of max_aleatoric, ensemble_std, disagreement, none, or module:function",
        ),
        ("dynamics=3", "dynamics is a section: set one of its keys, such as dynamics.members=…"),
        ("members", "write key=value, or group=choice"),
        ("=3", "there is no such key"),
    ],
)
def test_an_unknown_name_is_answered_with_what_may_be_meant(refused: Refused, argument: str, meant: str) -> None:
    problems = refused(argument)
    assert len(problems) == 1
    assert meant in problems[0]


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("--seed=3", "write seed=…"),
        ("--sac.tau=0.1", "write sac.tau=…"),
        ("-s", "write s=…"),
        ("--dryrun", "--dry-run"),
    ],
)
def test_an_argument_with_dashes_is_told_to_do_without(refused: Refused, argument: str, instead: str) -> None:
    (problem,) = refused(argument)
    assert problem.startswith(argument)
    assert instead in problem


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("gradient_clip_val", "manual optimisation"),
        ("accumulate_grad_batches", "sac.batch_size"),
        ("max_steps", "trainer.max_epochs"),
    ],
)
def test_a_flag_that_cannot_work_here_is_answered_with_the_reason(refused: Refused, flag: str, reason: str) -> None:
    (problem,) = refused(f"trainer.{flag}=1")
    assert reason in problem


def test_all_problems_are_reported_at_once_and_nothing_is_left_on_disk(refused: Refused, workplace: Path) -> None:
    problems = refused(
        "preset=papr",  # no such choice
        "dynamics.memebers=3",  # no such key
        "penalty.coef=high",  # no number
        "--seed=3",  # dashes
        "sac.discount=1.5",  # out of range
        "dynamics.elites=9",  # contradicts members
        f"run_dir={workplace}/run",
        "trainer.fast_dev_run=true",
    )
    said = "\n".join(problems)
    assert len(problems) == 6
    for word in ("did you mean paper?", "did you mean dynamics.members?", "high", "--seed", "1.5", "elites=9"):
        assert word in said


def test_every_wrong_key_of_one_section_is_reported(refused: Refused) -> None:
    assert len(refused("sac.taw=1", "sac.discountt=1", "sac.actor_lr=fast")) == 3


# The parts of a run's configuration that are read back


def test_a_printed_configuration_fed_back_composes_to_itself(printed: Printed, tmp_path: Path) -> None:
    first = printed(
        *("dataset=walker2d-medium-v2", "preset=paper", "seed=3", "logger={csv: {}, tensorboard: {}}"),
        *("data.action_low=[-1.0]", "sac.hidden_sizes=[8]", "compile=true", 'run_dir="a: b"'),
    )
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(first))
    second = printed(f"resume={tmp_path}")
    assert second.pop("resume") == str(tmp_path)
    assert first.pop("resume") is None
    assert second == first


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n"])
def test_an_empty_configuration_of_a_run_is_said_to_be_empty(refused: Refused, tmp_path: Path, text: str) -> None:
    """Its defaults would be taken for the run's settings."""
    (tmp_path / "config.yaml").write_text(text)
    assert refused(f"resume={tmp_path}") == [f"{tmp_path}/config.yaml is empty: restore it from a copy of the run"]


def test_an_unknown_key_in_a_runs_configuration_is_named_with_its_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("sac: {tauu: 0.1}\n")
    (problem,) = refused(f"resume={tmp_path}")
    assert str(tmp_path / "config.yaml") in problem
    assert "did you mean sac.tau?" in problem


def test_a_damaged_configuration_of_a_run_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("sac: {tau: 0.1\n")
    (problem,) = refused(f"resume={tmp_path}")
    assert f"{tmp_path / 'config.yaml'} is not valid YAML" in problem


@pytest.mark.parametrize(
    "line", ["compile: 3", "compile:", "dynamics: {updates_per_step: 0}", "trainer: {precision: 64}"]
)
def test_what_cannot_be_in_a_runs_configuration_is_named_with_its_file(
    refused: Refused, tmp_path: Path, line: str
) -> None:
    (tmp_path / "config.yaml").write_text(f"{line}\n")
    (problem,) = refused(f"resume={tmp_path}")
    assert problem.count(str(tmp_path / "config.yaml")) == 1


@pytest.mark.parametrize(
    ("value", "key"),
    [("???", "env_kwargs"), ("${nowhere}", "env_kwargs"), ("{a: [1, '???']}", "env_kwargs.a")],
)
def test_what_is_left_to_fill_in_in_a_runs_configuration_is_named(
    refused: Refused, tmp_path: Path, value: str, key: str
) -> None:
    (tmp_path / "config.yaml").write_text(f"env_kwargs: {value}\n")
    (problem,) = refused(f"resume={tmp_path}")
    assert problem.startswith(f"{tmp_path / 'config.yaml'}: {key}: ")


def test_a_number_where_a_list_belongs_is_shown_as_one(refused: Refused) -> None:
    (problem,) = refused("data.action_low=-2")
    assert problem == "data.action_low=-2: it takes a list, such as [-2]"


def test_an_empty_value_is_named(refused: Refused) -> None:
    (problem,) = refused("penalty.coef=")
    assert problem == "penalty.coef=: it is empty; give a value"


@pytest.mark.parametrize(
    ("value", "typed"),
    [
        (None, "null"),
        (True, "true"),
        (["policy", "rollouts"], "[policy, rollouts]"),
        ("für/später", "für/später"),
        (0.5, "0.5"),
    ],
)
def test_a_value_is_shown_as_it_is_typed(value: object, typed: str) -> None:
    assert format_value(value) == typed
