"""No update and no rollout step waits for the device or sends it a number: on a GPU either would stall its queue."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from gpu_parts.host_waits import InTrainingSteps, counted
from small_stages import (
    quiet_trainer,
    selection,
    small_batches,
    small_dynamics,
    small_refresh,
    small_sac,
    small_samples,
)

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.terminals.samples import TerminalDataModule
from mopo_pl.nn import fused_update
from mopo_pl.sac.cloning import CloningModule
from mopo_pl.sac.module import SACModule

Make = Callable[..., OfflineDataset]


def test_the_count_sees_what_waits() -> None:
    x = torch.arange(3.0)
    with counted() as found:
        x.sum().item()
        x[x > 1]
        torch.tensor(1.0)
        bool((x > 0).all())
        x.add_(1)
    assert found == {"_local_scalar_dense": 2, "index": 1, "lift_fresh": 1}


@pytest.mark.parametrize("limit", [None, 0.1], ids=["", "limited gradients"])
@pytest.mark.parametrize("compiled", [False, True], ids=["three functions", "one graph"])
def test_no_update_of_the_policy_waits(
    make_dataset: Make, compiled: bool, limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_update, "compile_without_guards", lambda method, device, name: method)
    dataset, steps = make_dataset(), InTrainingSteps()
    sac = small_sac(dataset, compile=compiled, gradient_clip_norm=limit)
    data = small_batches(dataset, updates_per_epoch=6, updates_per_step=2)
    quiet_trainer([small_refresh(dataset), steps], 1).fit(sac, datamodule=data)
    assert steps.mode.found == {}


class Impatient(SACModule):
    """Looks at a loss after each block of updates."""

    def training_step(self, batch: Transitions, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        self.means.total[0].item()


def test_an_update_that_looks_at_its_loss_is_caught(make_dataset: Make) -> None:
    dataset, steps = make_dataset(), InTrainingSteps()
    sac, data = small_sac(dataset), small_batches(dataset, updates_per_epoch=6, updates_per_step=2)
    sac.__class__ = Impatient
    quiet_trainer([small_refresh(dataset), steps], 1).fit(sac, datamodule=data)
    assert steps.mode.found == {"_local_scalar_dense": 2}


def test_drawing_batches_does_not_wait(make_dataset: Make) -> None:
    dataset = make_dataset()
    data = small_batches(dataset)
    data.model_buffer.begin()
    data.model_buffer.append(dataset.transitions.rows[:20], torch.ones(20, dtype=torch.bool))
    data.model_buffer.end()
    with counted() as found:
        data.sample(3)
    assert found == {}


def test_a_refresh_waits_when_it_is_done_however_many_chunks_it_has(make_dataset: Make) -> None:
    dataset, counts = make_dataset(), []
    for chunk in (40, 8, 1):
        refresh = small_refresh(dataset, chunk=chunk)
        refresh._generator = torch.Generator().manual_seed(0)
        with counted() as found:
            refresh.refresh(small_sac(dataset), small_batches(dataset))
        counts.append(found)
    assert counts[0] == counts[1] == counts[2]


def test_no_step_of_the_ensemble_waits(make_dataset: Make) -> None:
    dataset, steps = make_dataset(), InTrainingSteps()
    quiet_trainer([steps, selection()], 1).fit(small_dynamics(dataset), datamodule=small_samples(dataset))
    assert steps.mode.found == {}


def test_no_update_of_cloning_waits(make_dataset: Make) -> None:
    dataset, steps = make_dataset(), InTrainingSteps()
    cloning = CloningModule(small_sac(dataset).actor, actor_lr=1e-3, schedule_epochs=None)
    data = small_batches(dataset, real_ratio=1.0, updates_per_epoch=6, updates_per_step=2)
    quiet_trainer([steps], 1).fit(cloning, datamodule=data)
    assert steps.mode.found == {}


def test_a_batch_of_the_classifier_is_sent_without_waiting(make_dataset: Make) -> None:
    """On `meta`, which stands for a GPU."""
    dataset = make_dataset(terminals=np.arange(400) % 3 == 0)
    data = TerminalDataModule(dataset, batch_size=8, updates_per_epoch=2, holdout_fraction=0.2, seed=0)
    data.rows = data.rows.to("meta")
    with counted() as found:
        assert [batch.rows.device.type for batch in data] == ["meta", "meta"]
    assert found == {}
