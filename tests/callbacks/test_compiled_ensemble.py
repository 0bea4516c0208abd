"""The ensemble's step by compiled code."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_stages import differing, quiet_trainer, selection, small_dynamics, small_samples, weights

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics import module as dynamics_module

Make = Callable[..., OfflineDataset]


def test_compiled_training_is_the_eager_one_and_the_rest_of_an_epoch_is_eager(make_dataset: Make) -> None:
    """160 rows in batches of 64: two whole ones and a rest. In float64 only the order of sums may differ."""
    dataset, trained = make_dataset(200), []
    for compiled in (False, True):
        module, samples = small_dynamics(dataset, beta=0.5, compile=compiled).double(), small_samples(dataset)
        samples.log_rows = samples.log_rows.to(torch.float64)
        quiet_trainer([selection()], 3).fit(module, datamodule=samples)
        trained.append(weights(module))
    assert samples.bootstrap.shape[1] % samples.batch_size  # pyright: ignore[reportPossiblyUnboundVariable]
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor, rtol=1e-9, atol=1e-9, msg=name)


def test_a_compiler_that_fails_costs_one_line_and_no_step(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def broken(method: Any, device: torch.device) -> Any:
        def fail(batch: Any) -> torch.Tensor:
            raise TorchDynamoException("g++ has died\nwith many lines")

        return fail

    monkeypatch.setattr(dynamics_module, "compiled_for_itself", broken)
    dataset, trained = make_dataset(200), []
    for compiled in (False, True):
        module = small_dynamics(dataset, compile=compiled)
        quiet_trainer([selection()], 2).fit(module, datamodule=small_samples(dataset))
        trained.append(weights(module))
    assert differing(*trained) == []
    assert capfd.readouterr().out.count("not compiled: g++ has died") == 1
