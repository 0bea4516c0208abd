"""LightningModule 2 through a real Trainer."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from plain_sac import ACTIONS, PlainSAC, networks, rows
from torch import Tensor, nn

from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.losses import temperature
from mopo_pl.sac.module import SACModule

Make = Callable[..., OfflineDataset]
CONSTANTS: dict[str, Any] = {
    "actor_lr": 1e-2,
    "critic_lr": 2e-2,
    "alpha_lr": 5e-2,
    "alpha_init": 1.2,
    "alpha_max": 1.0,
    "target_entropy": -2.0,
    "discount": 0.9,
    "tau": 0.1,
    "soft_backup": True,
}


PLAIN: dict[str, Any] = {"gradient_clip_norm": None, "pessimism": None, "target_bounds": None, "actor_average": None}


def module(
    nets: tuple[nn.Module, nn.Module] | None = None, *, schedule_epochs: int | None = None, **replaced: Any
) -> SACModule:
    actor, critic = nets or networks()
    arguments: dict[str, Any] = {**CONSTANTS, **PLAIN, "seed": 3, "compile": False, **replaced}
    return SACModule(actor, critic, schedule_epochs=schedule_epochs, **arguments).double()  # type: ignore[arg-type]


def pair(**replaced: Any) -> tuple[PlainSAC, SACModule]:
    """A plain SAC and the module, of the same weights."""
    actor, critic = networks()
    plain, sac = PlainSAC(actor, critic, **{**CONSTANTS, **replaced}), module((actor, critic), **replaced)
    plain.log_alpha.data.copy_(sac.log_alpha.detach())  # the module takes the logarithm in single precision
    return plain, sac


class Blocks:
    """The same batches every epoch, so many in a block, as a sized iterable."""

    def __init__(self, batches: list[Transitions], size: int) -> None:
        parts = [batches[i : i + size] for i in range(0, len(batches), size)]
        self.blocks = [replace(part[0], rows=torch.stack([batch.rows for batch in part])) for part in parts]

    def __len__(self) -> int:
        return len(self.blocks)

    def __iter__(self) -> Iterator[Transitions]:
        return iter(self.blocks)


def fit(
    sac: SACModule,
    batches: list[Transitions],
    epochs: int = 1,
    block: int = 1,
    ckpt_path: Path | None = None,
    **flags: Any,
) -> L.Trainer:
    silent: dict[str, Any] = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    trainer = L.Trainer(accelerator="cpu", devices=1, max_epochs=epochs, **{**silent, **flags})
    trainer.fit(sac, Blocks(batches, block), ckpt_path=ckpt_path)
    return trainer


class EachEpoch(Callback):
    """Notes a value after every epoch."""

    def __init__(self, value: Callable[[L.Trainer, SACModule], Any]) -> None:
        self.value, self.values = value, []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SACModule)
        self.values.append(self.value(trainer, pl_module))


# Equal to a plain SAC -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant",
    [{}, {"soft_backup": False}, {"alpha_max": None}, {"tau": 1.0}],
    ids=["as by default", "deterministic backup", "no limit of alpha", "no slow copy"],
)
def test_five_updates_are_those_of_a_plain_sac_with_the_same_noise(variant: dict[str, Any]) -> None:
    plain, sac = pair(**variant)
    batches = [rows(7, seed) for seed in range(5)]
    fit(sac, batches)
    generator = generator_for(3, "updates")
    for batch in batches:
        plain.update(batch, torch.randn((2, 7, ACTIONS), generator=generator, dtype=torch.float64))
    fast = [*sac.actor.parameters(), *sac.critic.parameters()]
    for ours, theirs in zip(fast, PlainSAC.arranged(plain.actor, plain.critics, False), strict=True):
        torch.testing.assert_close(ours.detach(), theirs, rtol=0, atol=1e-9)
    slow = list(sac.target_critic.parameters())
    expected = PlainSAC.arranged(nn.Sequential(), plain.target, False)
    for ours, theirs in zip(slow, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    assert sac.log_alpha.item() == pytest.approx(plain.log_alpha.item(), abs=1e-10)


def test_the_report_of_an_epoch_is_the_mean_over_its_updates() -> None:
    plain, sac = pair()
    batches = [rows(7, seed) for seed in range(3)]
    logged = fit(sac, batches).callback_metrics
    generator = generator_for(3, "updates")
    reports = [
        plain.update(batch, torch.randn((2, 7, ACTIONS), generator=generator, dtype=torch.float64)) for batch in batches
    ]
    for name in reports[0]:
        expected = sum(report[name] for report in reports) / 3
        assert logged[f"policy/{name}"].item() == pytest.approx(expected, rel=1e-5), name


def test_the_target_critics_begin_as_a_copy_and_are_never_optimised() -> None:
    sac = module()
    pairs = zip(sac.critic.parameters(), sac.target_critic.parameters(), strict=True)
    assert all(torch.equal(fast, slow) and fast is not slow for fast, slow in pairs)
    optimizers, _ = sac.configure_optimizers()
    optimised = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in [*sac.critic.parameters(), *sac.actor.parameters(), sac.log_alpha]}


def test_polyak_averaging_trails_the_critic_by_tau() -> None:
    sac = module(tau=0.25)
    before = [parameter.clone() for parameter in sac.target_critic.parameters()]
    fit(sac, [rows(7)])
    for old, slow, fast in zip(before, sac.target_critic.parameters(), sac.critic.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.75 * old + 0.25 * fast.detach())


def test_log_alpha_goes_on_learning_while_alpha_is_at_its_limit() -> None:
    """A policy asked for entropy it cannot have: log α climbs by Adam's step, and α is used as 1."""
    sac = module(target_entropy=50.0)
    fit(sac, [rows(7, seed) for seed in range(4)])
    assert sac.log_alpha.item() == pytest.approx(math.log(1.2) + 4 * 5e-2, rel=1e-3)
    assert temperature(sac.log_alpha.detach(), 1.0).item() == 1.0


def test_the_average_of_the_actor_is_the_one_written_out() -> None:
    """ā ← ā + ρ_t (a - ā) after each update, with ρ_t = max(1 - decay, 1/(1 + t/5))."""
    single, batches = module(actor_average=0.7), [rows(7, seed) for seed in range(9)]
    expected = {name: parameter.detach().clone() for name, parameter in single.actor.named_parameters()}
    for t in range(1, len(batches) + 1):
        after = module()
        fit(after, batches[:t])
        rate = max(1 - 0.7, 1 / (1 + t / 5))
        for name, parameter in after.actor.named_parameters():
            expected[name] += rate * (parameter.detach() - expected[name])
    fit(single, batches)
    assert single.average_actor is not None
    for name, parameter in single.average_actor.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=0, atol=1e-12, msg=name)
    assert single.deployed_actor is single.average_actor


def test_averaging_the_actor_changes_nothing_that_is_learned() -> None:
    plain, averaged = module(), module(actor_average=0.99)
    for sac in (plain, averaged):
        fit(sac, [rows(7, seed) for seed in range(5)])
    theirs = averaged.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in plain.state_dict().items())
    assert plain.deployed_actor is plain.actor


# Steps, schedules, files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 5])
def test_lightnings_count_of_steps_is_one_of_updates(block: int) -> None:
    sac = module()
    trainer = fit(sac, [rows(4)] * 5, epochs=2, block=block)
    assert sac.updates == trainer.global_step == 10


@pytest.mark.parametrize("block", [2, 3, 6])
def test_several_updates_in_a_step_are_those_of_one_each_to_the_bit(block: int) -> None:
    """Seven columns of noise and odd batches, of which a generator could not draw several at once alike."""
    batches = [rows(7, seed) for seed in range(6)]
    one, several = module(), module()
    logged = [fit(sac, batches, epochs=2, block=size).callback_metrics for sac, size in ((one, 1), (several, block))]
    for name, tensor in one.state_dict().items():
        assert torch.equal(several.state_dict()[name], tensor), name
    assert logged[0] == logged[1]
    assert one.updates == several.updates == 12


def test_the_cosine_schedule_moves_the_actors_step_size_alone() -> None:
    def rates(trainer: L.Trainer, sac: SACModule) -> list[float]:
        return [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]

    seen = EachEpoch(rates)
    fit(module(schedule_epochs=4), [rows(4)] * 2, epochs=4, callbacks=[seen])
    for epoch, (critic, actor, alpha) in enumerate(seen.values):
        assert actor == pytest.approx(0.5e-2 * (1 + math.cos(math.pi * epoch / 4)))
        assert (critic, alpha) == (2e-2, 5e-2)


def test_the_cosine_stays_at_its_end() -> None:
    seen = EachEpoch(lambda trainer, sac: trainer.optimizers[1].param_groups[0]["lr"])
    fit(module(schedule_epochs=2), [rows(4)] * 2, epochs=5, callbacks=[seen])
    assert seen.values[2:] == pytest.approx([0.0] * 3)


def test_without_a_schedule_no_step_size_moves() -> None:
    seen = EachEpoch(lambda trainer, sac: [o.param_groups[0]["lr"] for o in trainer.optimizers])
    fit(module(), [rows(4)] * 2, epochs=3, callbacks=[seen])
    assert seen.values == [[2e-2, 1e-2, 5e-2]] * 3


def test_lightnings_own_model_checkpoint_saves_and_its_file_loads(tmp_path: Path) -> None:
    sac = module()
    checkpoint = ModelCheckpoint(dirpath=tmp_path, save_last=True)
    fit(sac, [rows(4)] * 3, epochs=2, enable_checkpointing=True, callbacks=[checkpoint])
    again = module(networks(seed=9))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    again.load_state_dict(saved["state_dict"])
    again.on_load_checkpoint(saved)
    assert again.updates == 6
    for name, tensor in sac.state_dict().items():
        if not name.startswith("means."):  # emptied at the epoch's end
            assert torch.equal(tensor, again.state_dict()[name]), name


def test_the_action_noise_does_not_depend_on_the_global_generator() -> None:
    first, second = module(), module()
    torch.manual_seed(1)
    fit(first, [rows(4)] * 2)
    torch.manual_seed(2)
    fit(second, [rows(4)] * 2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_another_seed_draws_other_noise() -> None:
    first, second = module(seed=0), module(seed=1)
    fit(first, [rows(4)])
    fit(second, [rows(4)])
    assert not torch.equal(next(first.actor.parameters()), next(second.actor.parameters()))


def test_a_stock_trainer_with_its_defaults_trains_from_the_data_module(make_dataset: Make, tmp_path: Path) -> None:
    """Single precision, Lightning's own logger, checkpoint and progress bar; real rows only, so no callback either."""
    dataset = make_dataset()
    actor, critic = networks()
    sac = SACModule(actor, critic, **CONSTANTS, **PLAIN, schedule_epochs=None, seed=0, compile=False).float()
    data = OfflineDataModule(
        dataset,
        batch_size=16,
        real_ratio=1.0,
        updates_per_epoch=4,
        updates_per_step=2,
        retain=1,
        capacity=0,
        refresh_folder=None,
        seed=0,
    )
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", default_root_dir=tmp_path)
    trainer.fit(sac, datamodule=data)
    assert sac.updates == 8
    assert list(tmp_path.rglob("*.ckpt"))


def test_the_norm_of_each_group_of_gradients_is_limited() -> None:
    """Critics and actor each to 0.1; a step of plain gradient descent shows the gradient that was used."""
    networks_before = networks()
    sac = module(networks_before, gradient_clip_norm=0.1, actor_lr=0.0, critic_lr=0.0)
    fit(sac, [rows(4)])
    for network in (sac.actor, sac.critic):
        norm = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None]).norm()
        assert norm.item() == pytest.approx(0.1, rel=1e-4)


# Learning -------------------------------------------------------------------------------------------------------------


def bandit(size: int, generator: torch.Generator) -> Transitions:
    """One step, no state to speak of: r = -(a - 0.3)², and the episode ends."""
    nothing = torch.zeros(size, 1, dtype=torch.float64)
    actions = 2 * torch.rand(size, 1, generator=generator, dtype=torch.float64) - 1
    rewards = -(actions.squeeze(-1) - 0.3).square()
    return Transitions.pack(nothing, actions, nothing, rewards, torch.ones(size))


@pytest.fixture(scope="module")
def learned() -> tuple[SACModule, Tensor]:
    generator = generator_for(0, "bandit")
    nets = networks(obs_dim=1, action_dim=1, hidden=(32,))
    sac = module(nets, target_entropy=-2.0, actor_lr=3e-3, critic_lr=1e-2, alpha_lr=1e-2, alpha_init=0.1, discount=0.99)
    fit(sac, [bandit(64, generator) for _ in range(1200)])
    return sac, torch.zeros(1, 1, dtype=torch.float64)


def test_the_best_action_of_a_bandit_is_found(learned: tuple[SACModule, Tensor]) -> None:
    sac, state = learned
    assert sac.actor.mean_action(state).item() == pytest.approx(0.3, abs=0.05)


def test_both_critics_of_a_bandit_come_to_its_reward(learned: tuple[SACModule, Tensor]) -> None:
    """Nothing follows a terminal step: no bootstrap, no entropy, though the discount is 0.99."""
    sac, state = learned
    actions = torch.linspace(-0.8, 0.8, 9, dtype=torch.float64).unsqueeze(-1)
    q = sac.critic(state.expand(9, 1), actions)
    expected = -(actions.squeeze(-1) - 0.3).square()
    torch.testing.assert_close(q, expected.expand(2, 9), rtol=0, atol=0.1)


def test_the_temperature_brings_the_entropy_to_its_target(learned: tuple[SACModule, Tensor]) -> None:
    sac, state = learned
    noise = torch.randn(5000, 1, dtype=torch.float64, generator=generator_for(0, "entropy"))
    _, log_prob = sac.actor(state.expand(5000, 1), noise)
    assert -log_prob.mean().item() == pytest.approx(-2.0, abs=0.3)
