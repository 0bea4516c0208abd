"""Behaviour cloning through a real Trainer."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from small_stages import differing, quiet_trainer, saver, small_batches, weights
from torch import Tensor

from mopo_pl.assembly import build_cloning, build_logged_batches
from mopo_pl.config.schema import SACConfig
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.errors import Diverged, InputError
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.cloning import CloningModule
from mopo_pl.sac.losses import cloning_error

Make = Callable[..., OfflineDataset]


def actor(**replaced: Any) -> TanhGaussianActor:
    arguments: dict[str, Any] = {"obs_dim": 3, "action_dim": 2, "hidden_sizes": (16,), **replaced}
    return TanhGaussianActor(
        **arguments,
        log_std_min=-5.0,
        log_std_max=2.0,
        normaliser=Normaliser.identity(arguments["obs_dim"]),
        generator=generator_for(0, "actor"),
    )


def module(**replaced: Any) -> CloningModule:
    return CloningModule(actor(), **{"actor_lr": 1e-2, "schedule_epochs": None, **replaced})


def batches(dataset: OfflineDataset, **replaced: Any) -> OfflineDataModule:
    return small_batches(dataset, real_ratio=1.0, capacity=0, **replaced)


def fit(cloning: CloningModule, data: OfflineDataModule, epochs: int = 2, *callbacks: Any, **flags: Any) -> L.Trainer:
    path = flags.pop("ckpt_path", None)
    trainer = quiet_trainer(list(callbacks), epochs, **flags)
    trainer.fit(cloning, datamodule=data, ckpt_path=path, weights_only=True if path else None)
    return trainer


def test_the_error_is_the_squared_distance_summed_over_dimensions() -> None:
    actions, logged = torch.tensor([[1.0, 0.0], [0.2, -0.4]]), torch.tensor([[0.5, 0.5], [0.2, 0.6]])
    torch.testing.assert_close(cloning_error(actions, logged), torch.tensor([0.5, 1.0]))


def test_updates_are_those_of_a_plain_loop(make_dataset: Make) -> None:
    """tanh μ(s) of a network written out, mean over rows of the squared distance, Adam."""
    dataset = make_dataset()
    cloning, plain = module(), actor().double()
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2)
    seen: list[Tensor] = []

    class Rows(L.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            seen.extend(batch.rows)

    trainer = fit(cloning, batches(dataset, updates_per_epoch=6, updates_per_step=3), 1, Rows())
    losses = []
    for rows in seen:
        states, actions = rows[:, :3].double(), rows[:, 3:5].double()
        first, last = plain.layers
        hidden = torch.relu(states @ first.weight.mT + first.bias)  # type: ignore[operator,union-attr]
        means = torch.tanh((hidden @ last.weight.mT + last.bias)[:, :2])  # type: ignore[operator,union-attr]
        loss = ((means - actions) ** 2).sum() / len(rows)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(seen) == cloning.updates == trainer.global_step == 6
    for ours, theirs in zip(cloning.actor.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-5)
    assert trainer.callback_metrics["policy/cloning_error"].item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_linear_policy_is_cloned(make_dataset: Make) -> None:
    """Of noisy actions it is their mean: the noise of variance 0.01 in each of two dimensions is all that stays."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (4000, 3)).astype(np.float32)
    gain = np.array([[0.5, -0.2], [0.1, 0.3], [-0.3, 0.2]], np.float32)
    means = states @ gain
    logged = (means + 0.1 * rng.choice([-1.0, 1.0], means.shape)).astype(np.float32)
    zeros = {"rewards": np.zeros(4000, np.float32), "terminals": np.zeros(4000, bool), "timeouts": np.ones(4000, bool)}
    dataset = make_dataset(4000, observations=states, actions=logged, next_observations=states, **zeros)
    settings = SACConfig(hidden_sizes=[32], actor_lr=1e-2, schedule_epochs=5, updates_per_epoch=150)
    cloning = build_cloning(settings, dataset, seed=0)
    fit(cloning, build_logged_batches(settings, dataset, seed=0), 5)
    fresh = torch.from_numpy(rng.uniform(-1, 1, (1000, 3)).astype(np.float32))
    error = cloning(fresh) - fresh @ torch.from_numpy(gain)
    assert error.square().mean().sqrt().item() < 0.02
    (values,) = quiet_trainer([], 1).validate(cloning, datamodule=batches(dataset), verbose=False)
    assert values.keys() == {"policy/logged_cloning_error"}
    assert values["policy/logged_cloning_error"] == pytest.approx(0.02, rel=0.05)
    expected = cloning_error(cloning(dataset.transitions.observations), dataset.transitions.actions).mean().item()
    assert values["policy/logged_cloning_error"] == pytest.approx(expected, rel=1e-5)


def test_every_logged_row_is_of_use_also_where_its_next_state_is_not_known(make_dataset: Make) -> None:
    """50 steps an episode, whose last has no known next state: soft actor-critic leaves it out."""
    dataset = make_dataset(next_observations=None)
    data = build_logged_batches(SACConfig(), dataset, seed=0)
    assert torch.equal(data.log_rows.rows, dataset.transitions.rows)
    assert len(batches(dataset).log_rows) == 400 - 8


def test_the_schedule_is_a_cosine_that_stays_at_its_end(make_dataset: Make) -> None:
    rates: list[float] = []

    class Rates(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    fit(module(schedule_epochs=4), batches(make_dataset()), 6, Rates())
    expected = [0.5e-2 * (1 + math.cos(math.pi * min(epoch, 4) / 4)) for epoch in range(6)]
    assert rates == pytest.approx(expected)


def test_blocks_change_no_bit(make_dataset: Make) -> None:
    dataset = make_dataset()
    one, five = module(), module()
    fit(one, batches(dataset, updates_per_epoch=10, updates_per_step=1))
    fit(five, batches(dataset, updates_per_epoch=10, updates_per_step=5))
    assert differing(weights(one), weights(five)) == []


def test_a_fit_that_continues_from_a_checkpoint_ends_in_the_same_bits(make_dataset: Make, tmp_path: Path) -> None:
    dataset = make_dataset()
    whole = module(schedule_epochs=3)
    fit(whole, batches(dataset), 3, saver(tmp_path))
    again = module(schedule_epochs=3)
    fit(again, batches(dataset), 3, saver(tmp_path / "again"), ckpt_path=tmp_path / "stage-000001-000005.ckpt")
    assert differing(weights(whole), weights(again)) == []
    assert again.updates == whole.updates == 15


def test_a_module_is_rebuilt_from_its_checkpoint_alone(make_dataset: Make, tmp_path: Path) -> None:
    cloning = module(schedule_epochs=7)
    fit(cloning, batches(make_dataset()), 1).save_checkpoint(tmp_path / "bc.ckpt")
    loaded = CloningModule.load_from_checkpoint(tmp_path / "bc.ckpt")
    assert differing(weights(cloning), weights(loaded)) == []
    assert loaded.hparams == cloning.hparams
    assert loaded.hparams["actor"]["hidden_sizes"] == [16]
    assert (loaded.updates, loaded.schedule_epochs) == (5, 7)


def test_another_modules_checkpoint_and_batches_are_refused(make_dataset: Make, tmp_path: Path) -> None:
    fit(module(), batches(make_dataset()), 1).save_checkpoint(tmp_path / "bc.ckpt")
    from mopo_pl.sac.module import SACModule

    with pytest.raises(InputError, match=r"holds a CloningModule, not a SACModule"):
        SACModule.load_from_checkpoint(tmp_path / "bc.ckpt")
    with pytest.raises(InputError, match=r"CloningModule takes Transitions in blocks of batches \[K, B, W\]"):
        quiet_trainer([], 1).fit(module(), train_dataloaders=[torch.zeros(3)])


def test_an_error_that_is_no_number_ends_the_fit(make_dataset: Make) -> None:
    cloning = module()
    with torch.no_grad():
        next(cloning.actor.parameters()).fill_(torch.nan)
    with pytest.raises(Diverged, match=r"policy/cloning_error.*not finite at update 5; try a lower sac.actor_lr"):
        fit(cloning, batches(make_dataset()), 1)


def test_predictions_are_the_mean_actions_of_all_rows(make_dataset: Make) -> None:
    dataset, cloning = make_dataset(), module()
    predicted = quiet_trainer([], 1).predict(cloning, datamodule=batches(dataset))
    assert predicted is not None
    assert torch.equal(torch.cat(predicted), cloning.actor.mean_action(dataset.transitions.observations))  # type: ignore[arg-type]
