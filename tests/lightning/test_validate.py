"""`Trainer.validate`, `test` and `predict`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import lightning as L
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from small_stages import (
    differing,
    selection,
    small_batches,
    small_dynamics,
    small_refresh,
    small_sac,
    small_samples,
    weights,
)

from mopo_pl.callbacks import PolicyEvaluation
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.errors import InputError
from mopo_pl.nn.random_streams import generator_for

Make = Callable[..., OfflineDataset]
Trainers = Callable[..., L.Trainer]


class ThreeSteps(gymnasium.Env):
    """Lasts three steps, each rewarded by 2."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 3
        return np.zeros(3, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return np.zeros(3, np.float32), 2.0, self.left == 0, False, {}


@pytest.fixture
def evaluation(monkeypatch: pytest.MonkeyPatch) -> PolicyEvaluation:
    spec = EnvSpec("ThreeSteps-v0", entry_point=lambda **arguments: ThreeSteps())
    monkeypatch.setitem(gymnasium.registry, "ThreeSteps-v0", spec)
    return PolicyEvaluation(
        policy_of=lambda module: lambda observations: np.zeros((len(observations), 2), np.float32),
        env_id="ThreeSteps-v0",
        env_kwargs={},
        episodes=4,
        every_n_epochs=1,
        seed=0,
        score=lambda value: None,
    )


@pytest.mark.parametrize("way", ["validate", "test"])
def test_the_ensembles_holdout_errors_are_returned(make_dataset: Make, own_trainer: Trainers, way: str) -> None:
    dataset = make_dataset()
    module, samples = small_dynamics(dataset), small_samples(dataset)
    (values,) = getattr(own_trainer(), way)(module, datamodule=samples, verbose=False)
    assert values.keys() == {f"dynamics/holdout_{name}_{i}" for name in ("mse", "geometric", "nll") for i in range(3)}
    assert values["dynamics/holdout_mse_1"] == pytest.approx(float(module.holdout_mse[1]))


@pytest.mark.parametrize("way", ["validate", "test", "predict"])
def test_an_ensemble_is_fitted_after_it_was_looked_at(make_dataset: Make, own_trainer: Trainers, way: str) -> None:
    dataset = make_dataset()
    learned = []
    for looked_at in (False, True):
        module, samples, trainer = small_dynamics(dataset), small_samples(dataset), own_trainer(selection())
        if looked_at:
            getattr(trainer, way)(module, datamodule=samples)
        trainer.fit(module, datamodule=samples)
        learned.append(weights(module))
    assert differing(*learned) == []


@pytest.mark.parametrize("way", ["validate", "test", "predict"])
def test_a_policy_is_fitted_after_it_was_looked_at(make_dataset: Make, own_trainer: Trainers, way: str) -> None:
    dataset = make_dataset()
    learned = []
    for looked_at in (False, True):
        module, data, trainer = small_sac(dataset), small_batches(dataset), own_trainer(small_refresh(dataset))
        if looked_at:
            getattr(trainer, way)(module, datamodule=data)
        trainer.fit(module, datamodule=data)
        getattr(trainer, way)(module, datamodule=data)
        learned.append(weights(module))
    assert differing(*learned) == []


def test_validating_after_training_gives_the_errors_of_the_selected_weights(
    make_dataset: Make, own_trainer: Trainers
) -> None:
    dataset = make_dataset()
    module, samples, chosen = small_dynamics(dataset), small_samples(dataset), selection()
    trainer = own_trainer(chosen, max_epochs=4)
    trainer.fit(module, datamodule=samples)
    (values,) = trainer.validate(module, datamodule=samples, verbose=False)
    assert chosen.best is not None
    assert [values[f"dynamics/holdout_geometric_{i}"] for i in range(3)] == pytest.approx(
        chosen.best.tolist(), rel=1e-4
    )
    assert chosen.epochs == 4


@pytest.mark.parametrize("way", ["validate", "test"])
def test_of_the_policy_figures_on_the_log_are_returned(make_dataset: Make, own_trainer: Trainers, way: str) -> None:
    """Each by hand, with the noise the module says it draws."""
    dataset = make_dataset()
    module, data = small_sac(dataset), small_batches(dataset)
    (values,) = getattr(own_trainer(), way)(module, datamodule=data, verbose=False)
    assert values.keys() == {"policy/logged_q", "policy/logged_bellman_error", "policy/logged_entropy"}
    rows = dataset.transitions
    q = module.critic(rows.observations, rows.actions).detach()
    assert values["policy/logged_q"] == pytest.approx(float(q.amin(0).mean()), rel=1e-5)
    noise = torch.randn(2, 400, 2, generator=generator_for(0, "validation"))
    with torch.no_grad():
        action, log_prob = module.actor(rows.next_observations, noise[0])
        value = module.target_critic(rows.next_observations, action).amin(0) - log_prob  # alpha 1
        target = rows.rewards + 0.9 * value  # no terminals
        error = (q - target).square().sum(0).mean()
        entropy = -module.actor(rows.observations, noise[1])[1].mean()
    assert values["policy/logged_bellman_error"] == pytest.approx(float(error), rel=1e-5)
    assert values["policy/logged_entropy"] == pytest.approx(float(entropy), rel=1e-5)


@pytest.mark.parametrize("way", ["validate", "test"])
def test_with_an_environment_the_policy_is_scored_by_episodes(
    make_dataset: Make, own_trainer: Trainers, evaluation: PolicyEvaluation, way: str
) -> None:
    dataset = make_dataset()
    trainer = own_trainer(evaluation)
    (values,) = getattr(trainer, way)(small_sac(dataset), datamodule=small_batches(dataset), verbose=False)
    assert values["evaluation/return"] == 6.0
    assert values["evaluation/length"] == 3.0
    assert evaluation.history == []


def test_validating_between_two_fits_changes_no_weight(
    make_dataset: Make, own_trainer: Trainers, evaluation: PolicyEvaluation
) -> None:
    dataset, learned = make_dataset(), []
    for asks in (False, True):
        module, data, refresh = small_sac(dataset), small_batches(dataset), small_refresh(dataset)
        trainer = own_trainer(refresh, evaluation)
        trainer.fit(module, datamodule=data)
        if asks:
            trainer.validate(module, datamodule=data, verbose=False)
            trainer.test(module, datamodule=data, verbose=False)
            trainer.predict(module, datamodule=data)
        trainer.fit_loop.max_epochs = 4
        trainer.fit(module, datamodule=data)
        learned.append(weights(module))
    assert differing(*learned) == []


def test_validating_the_policy_without_transitions_says_what_is_missing(
    make_dataset: Make, own_trainer: Trainers
) -> None:
    with pytest.raises(InputError, match="needs logged transitions"):
        own_trainer().validate(small_sac(make_dataset()))


def test_training_the_policy_validates_nothing(make_dataset: Make, own_trainer: Trainers) -> None:
    """The epoch's row and the evaluation hold what there is to know."""
    dataset, asked = make_dataset(), []

    class Asked(L.Callback):
        def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            asked.append(trainer.current_epoch)

    own_trainer(small_refresh(dataset), Asked()).fit(small_sac(dataset), datamodule=small_batches(dataset))
    assert asked == []


def test_predicting_gives_the_mean_actions_of_the_logged_states(make_dataset: Make, own_trainer: Trainers) -> None:
    dataset = make_dataset()
    module = small_sac(dataset)
    batches = own_trainer().predict(module, datamodule=small_batches(dataset))
    assert batches is not None
    actions = torch.cat(batches)  # type: ignore[arg-type]
    torch.testing.assert_close(actions, module.actor.mean_action(dataset.transitions.observations).detach())


def test_predicting_gives_means_and_deviations_of_the_ensemble(make_dataset: Make, own_trainer: Trainers) -> None:
    dataset = make_dataset()
    module = small_dynamics(dataset)
    batches = own_trainer().predict(module, datamodule=small_samples(dataset))
    assert batches is not None
    mean, std = (torch.cat(parts, 1) for parts in zip(*batches, strict=True))  # type: ignore[arg-type]
    assert mean.shape == std.shape == (3, 400, 4)
    assert (std > 0).all()


def test_a_selection_without_validation_says_that_it_selects_nothing(
    make_dataset: Make, own_trainer: Trainers, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_dataset()
    own_trainer(selection(), limit_val_batches=0).fit(small_dynamics(dataset), datamodule=small_samples(dataset))
    assert "MemberSelection selects nothing without validation (limit_val_batches=0" in capsys.readouterr().out


def test_a_part_of_the_holdout_is_a_whole_one(make_dataset: Make, own_trainer: Trainers, tmp_path: Path) -> None:
    """It is a single batch: a share of it would be none."""
    dataset = make_dataset()
    module = small_dynamics(dataset)
    (values,) = own_trainer(limit_val_batches=5).validate(module, datamodule=small_samples(dataset), verbose=False)
    assert len(values) == 9
