"""Early stopping of an ensemble whose members each have a best epoch of their own."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from small_stages import quiet_trainer, saver, small_dynamics, small_samples
from torch import Tensor

from mopo_pl.callbacks import MemberSelection
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.losses import model_target
from mopo_pl.dynamics.module import DynamicsModule

Make = Callable[..., OfflineDataset]
Script = list[list[float]]


class Scripted(DynamicsModule):
    """Errors as written in `script`, one row an epoch; every parameter holds the number of its epoch, from 1."""

    script: Script

    def training_step(self, batch: Transitions, batch_idx: int) -> Any:
        for parameter in self.parameters():
            torch.nn.init.constant_(parameter, self.trainer.current_epoch + 1.0)

    def validation_step(self, batch: Transitions, batch_idx: int) -> None:
        return

    def on_validation_epoch_end(self) -> None:
        self.holdout_mse = torch.tensor(self.script[self.trainer.current_epoch], dtype=torch.float64)
        self.holdout_geometric = self.holdout_mse.flip(0)

    def on_train_epoch_end(self) -> None:
        return


def play(
    dataset: OfflineDataset,
    script: Script,
    *,
    patience: int = 5,
    epochs: int | None = None,
    folder: Path | None = None,
    resume: Path | None = None,
) -> tuple[MemberSelection, Scripted]:
    """A fit whose errors are known beforehand."""
    module = small_dynamics(dataset, Scripted)
    module.script = script
    chosen = MemberSelection(patience=patience, improvement=0.01, geometric=False)
    callbacks: list[Callback] = [chosen] if folder is None else [chosen, saver(folder)]
    trainer = quiet_trainer(callbacks, epochs or len(script))
    trainer.fit(module, datamodule=small_samples(dataset, batch_size=1000), ckpt_path=resume)
    return chosen, module


def epochs_of(module: Scripted) -> dict[str, list[float]]:
    """The epoch each member's parameters come from, by parameter; one value each, or the test is at fault."""
    found = {}
    for name, parameter in module.ensemble.named_parameters():
        flat = parameter.detach().flatten(1)
        assert (flat == flat[:, :1]).all()
        found[name] = flat[:, 0].tolist()
    return found


# In a training loop ---------------------------------------------------------------------------------------------------


def test_each_member_gets_back_every_parameter_of_its_own_best_epoch(make_dataset: Make) -> None:
    script = [[5.0, 1.0, 9.0], [4.0, 2.0, 8.0], [6.0, 3.0, 2.0], [7.0, 4.0, 3.0]]
    _, module = play(make_dataset(), script)
    restored = epochs_of(module)
    assert {"min_log_var", "max_log_var", "layers.0.weight", "layers.0.bias"} <= restored.keys()
    assert all(epochs == [2.0, 1.0, 3.0] for epochs in restored.values())


def test_elites_are_the_members_of_lowest_best_error_best_first(make_dataset: Make) -> None:
    """Member 2 is worst in the end, but its best was the best of all."""
    chosen, module = play(make_dataset(), [[5.0, 4.0, 1.0], [3.0, 3.9, 9.0]])
    assert module.elites.tolist() == [2, 0]
    assert chosen.best is not None
    assert chosen.best.tolist() == [3.0, 3.9, 1.0]


@pytest.mark.parametrize(("patience", "epochs"), [(0, 2), (1, 3), (5, 7)])
def test_training_stops_after_more_stale_epochs_than_the_patience(
    make_dataset: Make, patience: int, epochs: int
) -> None:
    chosen, _ = play(make_dataset(), [[1.0, 1.0, 1.0]] * 12, patience=patience)
    assert chosen.epochs == epochs


def test_one_improving_member_keeps_all_of_them_in_training(make_dataset: Make) -> None:
    script = [[1.0, 1.0, 2.0**-epoch] for epoch in range(5)] + [[1.0, 1.0, 1.0]] * 5
    chosen, _ = play(make_dataset(), script, patience=1)
    assert chosen.epochs == 7


def test_the_last_epoch_counts_like_any_other(make_dataset: Make) -> None:
    _, module = play(make_dataset(), [[9.0, 9.0, 9.0], [1.0, 2.0, 3.0]])
    assert epochs_of(module)["layers.0.weight"] == [2.0, 2.0, 2.0]
    assert module.elites.tolist() == [0, 1]


def test_the_sanity_check_before_training_is_no_epoch(make_dataset: Make) -> None:
    module = small_dynamics(make_dataset(), Scripted)
    module.script = [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
    chosen = MemberSelection(patience=5, improvement=0.01, geometric=False)
    trainer = quiet_trainer([chosen], 2, num_sanity_val_steps=2)
    trainer.fit(module, datamodule=small_samples(make_dataset(), batch_size=1000))
    assert chosen.epochs == 2
    assert epochs_of(module)["layers.0.weight"] == [1.0, 1.0, 1.0]


def test_without_any_validation_the_last_weights_stay(make_dataset: Make) -> None:
    module = small_dynamics(make_dataset())
    chosen = MemberSelection(patience=5, improvement=0.01, geometric=False)
    trainer = quiet_trainer([chosen], 2, limit_val_batches=0)
    trainer.fit(module, datamodule=small_samples(make_dataset()))
    assert chosen.best is None
    assert module.elites.tolist() == [0, 1]
    assert math.isfinite(trainer.callback_metrics["dynamics/train_loss"].item())


# Resumption -----------------------------------------------------------------------------------------------------------

LONG: Script = [
    [5.0, 1.0, 9.0],
    [4.0, 2.0, 8.0],
    [4.0, 2.0, 9.0],
    [3.0, 2.0, 9.0],
    [4.0, 2.0, 1.0],
    [4.0, 2.0, 2.0],
    [4.0, 2.0, 2.0],
    [4.0, 2.0, 2.0],
    [1.0, 1.0, 1.0],
]


@pytest.mark.parametrize("stopped_after", range(1, 8))
def test_training_that_was_broken_off_ends_as_if_it_had_not_been(
    make_dataset: Make, tmp_path: Path, stopped_after: int
) -> None:
    """The unbroken one stops after its seventh epoch by itself: two stale ones, where one is bearable."""
    unbroken, expected = play(make_dataset(), LONG, patience=1)
    assert unbroken.epochs == 7
    play(make_dataset(), LONG, patience=1, epochs=stopped_after, folder=tmp_path)
    newest = max(tmp_path.glob("*.ckpt"))
    resumed, module = play(make_dataset(), LONG, patience=1, resume=newest)
    assert resumed.epochs == unbroken.epochs
    assert epochs_of(module) == epochs_of(expected)
    assert module.elites.tolist() == expected.elites.tolist()


def test_a_run_broken_off_after_its_last_epoch_still_gets_its_best_weights_back(
    make_dataset: Make, tmp_path: Path
) -> None:
    script = [[3.0, 1.0, 2.0], [4.0, 4.0, 4.0]]
    play(make_dataset(), script, folder=tmp_path)
    _, module = play(make_dataset(), script, resume=max(tmp_path.glob("*.ckpt")))
    assert epochs_of(module)["layers.0.weight"] == [1.0, 1.0, 1.0]
    assert module.elites.tolist() == [1, 2]


def test_the_callback_of_a_fit_begins_anew_with_the_next_ensemble(make_dataset: Make) -> None:
    """The first stops early with errors that the second never comes near."""
    chosen, samples = (
        MemberSelection(patience=0, improvement=0.01, geometric=False),
        small_samples(make_dataset(), batch_size=1000),
    )
    for script in ([[1.0, 1.0, 1.0]] * 3, [[9.0, 9.0, 9.0], [8.0, 9.0, 7.0], [9.0, 9.0, 9.0]]):
        module = small_dynamics(make_dataset(), Scripted)
        module.script = script
        quiet_trainer([chosen], len(script)).fit(module, datamodule=samples)
    assert chosen.epochs == 3
    assert epochs_of(module)["layers.0.weight"] == [2.0, 1.0, 2.0]  # pyright: ignore[reportPossiblyUnboundVariable]


def test_a_trainer_that_goes_on_keeps_what_was_selected(make_dataset: Make) -> None:
    module = small_dynamics(make_dataset(), Scripted)
    module.script = [[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [3.0, 3.0, 1.0]]
    chosen = MemberSelection(patience=5, improvement=0.01, geometric=False)
    trainer = quiet_trainer([chosen], 2)
    samples = small_samples(make_dataset(), batch_size=1000)
    trainer.fit(module, datamodule=samples)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(module, datamodule=samples)
    assert chosen.epochs == 3
    assert epochs_of(module)["layers.0.weight"] == [1.0, 2.0, 3.0]


# The rule of improvement ----------------------------------------------------------------------------------------------


def test_weights_and_elites_may_be_chosen_by_the_geometric_mean(make_dataset: Make) -> None:
    """Here it is that of another member, in the same epoch."""
    module = small_dynamics(make_dataset(), Scripted)
    module.script = [[0.9, 0.5, 0.1], [0.8, 0.6, 0.2]]
    for geometric, elites in ((False, [2, 1]), (True, [0, 1])):
        chosen = MemberSelection(patience=5, improvement=0.01, geometric=geometric)
        quiet_trainer([chosen], 2).fit(module, datamodule=small_samples(make_dataset()))
        assert module.elites.tolist() == elites


def observed(errors: Script, patience: int = 5) -> MemberSelection:
    chosen = MemberSelection(patience=patience, improvement=0.01, geometric=False)
    for epoch, row in enumerate(errors):
        chosen.observe(torch.tensor(row, dtype=torch.float64), {"epoch": torch.full((len(row), 2), float(epoch))})
    return chosen


@pytest.mark.parametrize(
    ("best", "now", "improves"),
    [
        (100.0, 98.9, True),
        (100.0, 99.1, False),
        (100.0, 101.0, False),
        (-100.0, -101.1, True),
        (-100.0, -100.9, False),
        (-100.0, -98.0, False),
        (0.0, -0.001, True),
        (0.0, 0.0, False),
        (1.0, math.nan, False),
        (1.0, math.inf, False),
    ],
)
def test_an_improvement_is_a_fall_by_more_than_one_percent_of_the_bests_size(
    best: float, now: float, improves: bool
) -> None:
    chosen = observed([[best], [now]])
    assert chosen.best is not None
    assert chosen.best.item() == (now if improves else best)
    assert chosen.stale == (0 if improves else 1)
    assert chosen.snapshot["epoch"].tolist() == [[float(improves)] * 2]


def test_small_improvements_add_up_against_the_last_that_counted() -> None:
    chosen = observed([[100.0], [99.5], [98.9]])
    assert chosen.best is not None
    assert chosen.best.item() == 98.9


def test_a_member_that_diverged_from_the_start_may_still_recover() -> None:
    chosen = observed([[math.nan, 1.0], [3.0, 1.0]])
    assert chosen.best is not None
    assert chosen.best.tolist() == [3.0, 1.0]
    assert chosen.snapshot["epoch"].tolist() == [[1.0] * 2, [0.0] * 2]


def test_a_snapshot_is_a_copy_that_training_does_not_reach() -> None:
    chosen = MemberSelection(patience=5, improvement=0.01, geometric=False)
    parameter = torch.ones(2, 3)
    chosen.observe(torch.ones(2), {"weight": parameter})
    parameter += 5
    chosen.observe(torch.ones(2), {"weight": parameter})
    assert (chosen.snapshot["weight"] == 1).all()


@given(
    errors=st.integers(1, 4).flatmap(
        lambda members: st.lists(
            st.lists(st.floats(-10, 10), min_size=members, max_size=members), min_size=1, max_size=12
        )
    )
)
@settings(max_examples=60, deadline=None)
def test_the_rule_is_that_of_a_loop_over_members(errors: Script) -> None:
    members = len(errors[0])
    best: list[float] = [math.inf] * members
    kept, stale = [0.0] * members, 0
    for epoch, row in enumerate(errors):
        improved = False
        for i, error in enumerate(row):
            if best[i] == math.inf or best[i] - error > 0.01 * abs(best[i]):
                best[i], kept[i], improved = error, float(epoch), True
        stale = 0 if improved else stale + 1
    chosen = observed(errors)
    assert chosen.best is not None
    assert chosen.best.tolist() == best
    assert chosen.stale == stale
    assert chosen.snapshot["epoch"][:, 0].tolist() == kept


# A real fit -----------------------------------------------------------------------------------------------------------

NOISE = torch.tensor([0.2, 0.1, 0.3], dtype=torch.float64)
"""Standard deviations of the reward and of both coordinates."""
PATIENCE = 10


@pytest.fixture(scope="module")
def linear_log() -> OfflineDataset:
    """(r, Δs) = C (s, a) + NOISE·ε in 2500 independent rows: what is best is known in closed form."""
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.uniform(-1, 1, (2500, 3)))
    gain = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.4, -0.6], [0.5, 0.1, 0.2]], dtype=torch.float64)
    outcome = inputs @ gain + NOISE * torch.from_numpy(rng.standard_normal((2500, 3)))
    states, actions = inputs[:, :2].float(), inputs[:, 2:].float()
    after, rewards = states + outcome[:, 1:].float(), outcome[:, 0].float()
    rows = Transitions.pack(states, actions, after, rewards, torch.zeros(2500))
    all_true, one = torch.ones(2500, dtype=torch.bool), np.ones(1, np.float32)
    return OfflineDataset("linear", "-", rows, torch.tensor([2500]), all_true[:1], all_true, -one, one)


@pytest.fixture(scope="module")
def fitted(linear_log: OfflineDataset) -> tuple[MemberSelection, DynamicsModule, Transitions, int]:
    """A fit of a hundred epochs at most, its holdout, and the epochs it took."""
    module, data = small_dynamics(linear_log), small_samples(linear_log, batch_size=32)
    chosen = MemberSelection(patience=PATIENCE, improvement=0.001, geometric=False)
    trainer = quiet_trainer([chosen], 100)
    trainer.fit(module, datamodule=data)
    (holdout,) = data.val_dataloader()
    return chosen, module, holdout, trainer.current_epoch


@torch.no_grad()
def predicted(module: DynamicsModule, rows: Transitions) -> tuple[Tensor, Tensor, Tensor]:
    """Errors and deviations [E, B, T], and the log-likelihood per row [E]."""
    mean, log_var = module.ensemble.in_raw_units(rows.inputs)
    target, std = model_target(rows).double(), (0.5 * log_var.double()).exp()
    likelihood = torch.distributions.Normal(mean.double(), std).log_prob(target).sum(-1).mean(-1)
    return mean.double() - target, std, likelihood


def test_the_holdout_error_comes_down_to_the_variance_of_the_noise(
    fitted: tuple[MemberSelection, DynamicsModule, Transitions, int],
) -> None:
    _, module, holdout, _ = fitted
    error, _, _ = predicted(module, holdout)
    floor = NOISE.square().mean().item()
    for mse in error.square().mean((1, 2)).tolist():
        assert 0.8 * floor < mse < 1.25 * floor


def test_the_predicted_deviation_is_that_of_the_noise_in_each_dimension(
    fitted: tuple[MemberSelection, DynamicsModule, Transitions, int],
) -> None:
    _, module, holdout, _ = fitted
    _, std, _ = predicted(module, holdout)
    for member in std.mean(1):
        torch.testing.assert_close(member, NOISE, rtol=0.15, atol=0)


def test_the_likelihood_comes_near_that_of_the_true_law(
    fitted: tuple[MemberSelection, DynamicsModule, Transitions, int],
) -> None:
    _, module, holdout, _ = fitted
    _, _, likelihood = predicted(module, holdout)
    entropy = (NOISE.log() + 0.5 * math.log(2 * math.pi * math.e)).sum().item()
    assert likelihood.min().item() > -entropy - 0.15


def test_a_fit_that_has_learned_its_task_stops_early(
    fitted: tuple[MemberSelection, DynamicsModule, Transitions, int],
) -> None:
    chosen, _, _, epochs = fitted
    assert chosen.stale == PATIENCE + 1
    assert chosen.epochs == epochs < 100


def test_the_restored_weights_make_exactly_the_errors_they_were_kept_for(
    fitted: tuple[MemberSelection, DynamicsModule, Transitions, int],
) -> None:
    chosen, module, holdout, _ = fitted
    error, _, _ = predicted(module, holdout)
    assert chosen.best is not None
    torch.testing.assert_close(error.square().mean((1, 2)), chosen.best, rtol=1e-5, atol=0)
    assert module.elites.tolist() == chosen.best.argsort()[:2].tolist()


def test_an_ensemble_can_learn_a_handful_of_rows_by_heart(linear_log: OfflineDataset) -> None:
    """Eight rows to train on, no early stop: the training error falls far below the noise."""
    known = torch.zeros(2500, dtype=torch.bool)
    known[:10] = True
    few = dataclasses.replace(linear_log, next_known=known)
    module, data = small_dynamics(few, learning_rate=2e-2), small_samples(few)
    quiet_trainer([], 600, limit_val_batches=0).fit(module, datamodule=data)
    mean, _ = module.ensemble.in_raw_units(data.log_rows[data.bootstrap].inputs)
    error = (mean - model_target(data.log_rows[data.bootstrap])).square().mean((1, 2))
    assert error.max().item() < 0.25 * NOISE.square().mean().item()
