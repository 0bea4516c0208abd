"""The ensemble's step as one graph, against autograd and torch's own Adam."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from small_stages import differing, quiet_trainer, selection, small_dynamics, small_samples, weights

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.bootstrap import EnsembleDataModule
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.nn import fused_update
from mopo_pl.nn.compilation import CompiledOrEager

Make = Callable[..., OfflineDataset]


def doubled(dataset: OfflineDataset) -> EnsembleDataModule:
    """Samples in float64, in which only the order of sums may differ."""
    samples = small_samples(dataset)
    samples.log_rows = samples.log_rows.to(torch.float64)
    return samples


@pytest.mark.usefixtures("nothing_falls_back")
def test_compiled_training_is_the_eager_one_and_the_rest_of_an_epoch_is_eager(make_dataset: Make) -> None:
    """160 rows in batches of 64: two whole ones and a rest."""
    dataset, trained = make_dataset(200), []
    for compiled in (False, True):
        module, samples = (
            small_dynamics(dataset, beta=0.5, weight_decay=(0.1, 0.3), compile=compiled).double(),
            doubled(dataset),
        )
        quiet_trainer([selection()], 3).fit(module, datamodule=samples)
        trained.append(weights(module))
    assert samples.bootstrap.shape[1] % samples.batch_size  # pyright: ignore[reportPossiblyUnboundVariable]
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor, rtol=1e-9, atol=1e-9, msg=name)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """One function, but eager."""
    monkeypatch.setattr(fused_update, "compile_without_guards", lambda method, device, name: method)


@pytest.mark.usefixtures("uncompiled")
def test_either_form_goes_on_where_the_other_stopped(make_dataset: Make, tmp_path: Path) -> None:
    """Three epochs of autograd, against one of it, one of the one graph and one of autograd again."""
    dataset = make_dataset(200)
    whole = small_dynamics(dataset).double()
    quiet_trainer([selection()], 3).fit(whole, datamodule=doubled(dataset))
    path, part = None, whole
    for epochs, compiled in enumerate((False, True, False), 1):
        part = small_dynamics(dataset, compile=compiled).double()
        saving = ModelCheckpoint(dirpath=tmp_path / str(epochs), save_last=True)
        trainer = quiet_trainer([selection(), saving], epochs)
        trainer.fit(part, datamodule=doubled(dataset), ckpt_path=path, weights_only=True)
        path = str(tmp_path / str(epochs) / "last.ckpt")
        assert trainer.global_step == part.updates == 3 * epochs
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(part)[name], tensor, rtol=1e-9, atol=1e-12, msg=name)


class Watcher(Callback):
    """Sees every gradient before the optimiser's step."""

    seen = 0

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.seen += all(p.grad is not None for group in optimizer.param_groups for p in group["params"])


@pytest.mark.usefixtures("uncompiled")
def test_a_callback_that_looks_at_gradients_is_shown_them(make_dataset: Make) -> None:
    dataset, watcher = make_dataset(200), Watcher()
    quiet_trainer([selection(), watcher], 1).fit(
        small_dynamics(dataset, compile=True), datamodule=small_samples(dataset)
    )
    assert watcher.seen == 3


class OwnLoss(DynamicsModule):
    """Twice the loss."""

    def loss(self, batch: Any) -> torch.Tensor:
        return 2 * super().loss(batch)


@pytest.mark.usefixtures("uncompiled")
def test_a_loss_of_ones_own_is_taken(make_dataset: Make) -> None:
    dataset, trained = make_dataset(200), []
    for compiled in (False, True):
        module = small_dynamics(dataset, OwnLoss, compile=compiled)
        quiet_trainer([selection()], 1).fit(module, datamodule=small_samples(dataset))
        trained.append(weights(module))
    assert differing(*trained) == []


class OwnStep(DynamicsModule):
    """Steps as ever, and counts."""

    steps = 0

    def _step(self, optimizer: Any, batch: Any) -> torch.Tensor:
        OwnStep.steps += 1
        return super()._step(optimizer, batch)


@pytest.mark.usefixtures("uncompiled")
def test_a_step_of_ones_own_is_taken(make_dataset: Make) -> None:
    dataset = make_dataset(200)
    quiet_trainer([selection()], 1).fit(
        small_dynamics(dataset, OwnStep, compile=True), datamodule=small_samples(dataset)
    )
    assert OwnStep.steps == 3


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-5), ("bf16-mixed", 1e-3)])
def test_the_step_is_traced_whole_in_either_precision(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch, precision: Any, tolerance: float
) -> None:
    """Compiled but for the last step, machine code."""
    traced = []

    def compiled(method: Any, device: torch.device, name: str) -> Any:
        traced.append(name)
        return torch.compile(method, fullgraph=True, dynamic=False, backend="aot_eager")

    monkeypatch.setattr(fused_update, "compile_without_guards", compiled)
    dataset, trained = make_dataset(200), []
    for flag in (False, True):
        module = small_dynamics(dataset, beta=0.5, compile=flag)
        quiet_trainer([selection()], 2, precision=precision).fit(module, datamodule=small_samples(dataset))
        trained.append(weights(module))
    assert len(traced) == 1
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor, rtol=tolerance, atol=tolerance, msg=name)


def test_a_compiler_that_fails_costs_one_line_and_no_step(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fail(*arguments: Any) -> torch.Tensor:
        raise TorchDynamoException("g++ has died\nwith many lines")

    monkeypatch.setattr(
        fused_update, "compile_without_guards", lambda method, device, name: CompiledOrEager(method, fail, name)
    )
    dataset, trained = make_dataset(200), []
    for compiled in (False, True):
        module = small_dynamics(dataset, compile=compiled).double()
        quiet_trainer([selection()], 2).fit(module, datamodule=doubled(dataset))
        trained.append(weights(module))
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor, rtol=1e-9, atol=1e-9, msg=name)
    assert capfd.readouterr().out.count("not compiled: g++ has died") == 1
