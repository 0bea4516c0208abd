"""`preset=paper` and `preset=d4rl-v2` against what the others' code says, value by value."""

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from mopo_pl.config.compose import compose, to_yaml

Printed = Callable[..., DictConfig]
Refused = Callable[..., list[str]]

GIVEN = ("penalty.coef=1", "rollout.horizon=5")
SHARED: dict[str, Any] = {
    # The ensemble: bnn.py and mopo.py of tianheyu927/mopo; run_mopo.py and ensemble_dynamics.py of OfflineRL-Kit.
    "dynamics.members": 7,
    "dynamics.elites": 5,
    "dynamics.hidden_sizes": [200, 200, 200, 200],
    "dynamics.weight_decay": [2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4],
    "dynamics.learning_rate": 1e-3,
    "dynamics.batch_size": 256,
    "dynamics.bound_coef": 0.01,
    "dynamics.normalise_targets": False,
    "dynamics.beta": 0.0,
    "dynamics.huber_delta": None,
    "dynamics.criterion": "mean",
    "dynamics.max_epochs": None,  # while True
    "dynamics.improvement": 0.01,
    "dynamics.holdout_fraction": 0.2,
    "dynamics.holdout_max": 1000,
    # Rollouts: 50 000 branches every 1000 steps, kept for five times.
    "rollout.starts": 50_000,
    "rollout.every_n_epochs": 1,
    "rollout.retain_epochs": 5,
    "rollout.real_ratio": 0.05,
    "rollout.continue_share": 0.0,
    "penalty.name": "max_aleatoric",
    "penalty.relative": False,
    "penalty.free_quantile": None,
    "penalty.value_coef": 0.0,
    "penalty.halt_widths": None,
    # Both load by d4rl.qlearning_dataset, which skips rows at time limits.
    "data.drop_time_limits": True,
    # SAC.
    "algorithm": "sac",
    "sac.actor": "tanh_gaussian",
    "sac.hidden_sizes": [256, 256],
    "sac.critic_lr": 3e-4,
    "sac.discount": 0.99,
    "sac.tau": 0.005,
    "sac.batch_size": 256,
    "sac.alpha_init": 1.0,  # log α = 0
    "sac.log_std_max": 2.0,
    "sac.deterministic_backup": False,
    "sac.gradient_clip_norm": None,
    "sac.critics": 2,
    "sac.critic_layer_norm": False,
    "sac.pessimism": None,
    "sac.bound_targets": False,
    "sac.start_at_log_value": False,
    "sac.actor_average": None,
    "sac.normalise_observations": False,
    "sac.updates_per_epoch": 1000,
    "evaluation.episodes": 10,
    "evaluation.every_n_epochs": 1,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "paper": {
        **SHARED,
        "dynamics.patience": 5,  # epochs_since_update > max_epochs_since_update = 5
        "dynamics.truncated_init": True,  # tf.truncated_normal_initializer
        "data.max_rows": 1_000_000,  # SimpleReplayPool(max_size=1e6): later rows overwrite earlier ones
        "sac.actor_lr": 3e-4,
        "sac.alpha_lr": 3e-4,
        "sac.actor_schedule": "constant",
        "sac.target_entropy": -3.0,  # base.py, for every task
        "sac.alpha_max": None,
        "sac.log_std_min": -20.0,
        "trainer.max_epochs": 1000,
    },
    "d4rl-v2": {
        **SHARED,
        "dynamics.patience": 4,  # cnt >= max_epochs_since_update = 5
        "dynamics.truncated_init": False,  # trunc_normal_(std=...) with its default limits of ±2
        "data.max_rows": None,  # ReplayBuffer(buffer_size=len(dataset))
        "sac.actor_lr": 1e-4,
        "sac.alpha_lr": 1e-4,
        "sac.actor_schedule": "cosine",
        "sac.target_entropy": None,  # -np.prod(action_space.shape)
        "sac.alpha_max": 1.0,
        "sac.log_std_min": -5.0,
        "trainer.max_epochs": 3000,
    },
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_preset_of_others_has_their_values(printed: Printed, preset: str) -> None:
    config = printed("dataset=some-log-v0", f"preset={preset}", *GIVEN)
    table = PUBLISHED[preset]
    assert {key: OmegaConf.select(config, key) for key in table} == table


def test_the_default_is_as_it_was(printed: Printed) -> None:
    config = printed("dataset=some-log-v0")
    assert (config.dynamics.max_epochs, config.dynamics.patience, config.dynamics.truncated_init) == (200, 5, True)
    assert (config.data.drop_time_limits, config.data.max_rows, config.termination) == (False, None, None)


# λ, h and the rule of termination


@pytest.mark.parametrize(
    ("dataset", "rule"),
    [
        *((f"halfcheetah-{level}-v2", "halfcheetah-within-100") for level in ("medium", "medium-replay")),
        *((f"walker2d-{level}-v2", "walker2d-within-100") for level in ("medium", "medium-expert")),
        ("hopper-medium-v2", None),
    ],
)
def test_the_kits_rules_of_termination_are_taken_by_its_preset_alone(
    printed: Printed, dataset: str, rule: str | None
) -> None:
    assert printed(f"dataset={dataset}", "preset=d4rl-v2").termination == rule
    assert printed(f"dataset={dataset}", "preset=paper").termination is None
    assert printed(f"dataset={dataset}").termination is None


def test_a_rule_that_is_given_replaces_the_published_one(printed: Printed) -> None:
    assert printed("dataset=walker2d-medium-v2", "preset=d4rl-v2", "termination=never").termination == "never"


@pytest.mark.parametrize("preset", ["paper", "d4rl-v2"])
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ([], "penalty.coef= and rollout.horizon="),
        (["penalty.coef=1"], "rollout.horizon="),
        (["rollout.horizon=1"], "penalty.coef="),
    ],
)
def test_a_log_without_published_numbers_asks_for_them(
    refused: Refused, preset: str, given: list[str], missing: str
) -> None:
    sentence = f"preset={preset}: no λ and h are published for dataset=my.npz: give {missing}"
    assert refused("dataset=my.npz", f"preset={preset}", *given) == [sentence]


def test_a_random_set_has_numbers_of_the_paper_alone(refused: Refused) -> None:
    (said,) = refused("dataset=walker2d-random-v2", "preset=d4rl-v2")
    assert said.endswith("dataset=walker2d-random-v2: give penalty.coef= and rollout.horizon=")


@pytest.mark.parametrize("arguments", [GIVEN, ("stage=dynamics",), ("rollout.real_ratio=1",), ("algorithm=bc",)])
def test_numbers_that_are_given_or_not_needed_are_not_asked_for(printed: Printed, arguments: tuple[str, ...]) -> None:
    printed("dataset=my.npz", "preset=paper", *arguments)


def test_other_presets_ask_for_nothing(printed: Printed) -> None:
    for preset in ("default", "mbpo", "offline-sac", "bc"):
        printed("dataset=my.npz", f"preset={preset}")


# By name and by path


@pytest.mark.parametrize("preset", ["d4rl-v2", "paper", "default"])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("walker2d-medium-expert-v2", "some/folder/walker2d_medium_expert-v2.hdf5"),
        ("hopper-medium-v2", "hopper-medium-v2.h5"),
    ],
)
def test_the_same_log_by_name_and_by_path_has_the_same_settings(preset: str, name: str, path: str) -> None:
    by_name, by_path = (to_yaml(compose([f"dataset={given}", f"preset={preset}"])) for given in (name, path))
    assert by_name != by_path
    assert by_path.replace(path, name) == by_name


@pytest.mark.parametrize("path", ["walker2d_medium-v2.npz", "my-walker2d_medium-v2.hdf5", "walker2d_medium-v4.hdf5"])
def test_a_file_of_another_name_is_nobodys(printed: Printed, path: str) -> None:
    assert printed(f"dataset={path}").env_id is None
