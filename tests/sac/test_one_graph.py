"""The whole update as one function, against the three functions and torch's own Adam."""

from typing import Any
from unittest.mock import patch

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from plain_sac import networks, rows
from test_sac_module import fit, module
from torch.utils._pytree import tree_map

from mopo_pl.sac import one_graph
from mopo_pl.sac.module import SACModule
from mopo_pl.sac.one_graph import OneGraph


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """One function, but eager: its equations alone, without half a minute of compiling."""
    monkeypatch.setattr(one_graph, "compiled_for_itself", lambda method, device: method)


def differing(first: SACModule, second: SACModule, tolerance: float) -> list[str]:
    """Names whose tensors are further apart than that, of the largest in each."""
    theirs = second.state_dict()
    return [
        name
        for name, tensor in first.state_dict().items()
        if (tensor - theirs[name]).abs().max() > tolerance * max(1.0, float(tensor.abs().max()))
    ]


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    "variant",
    [{}, {"soft_backup": False, "alpha_max": None}, {"gradient_clip_norm": 0.05}, {"schedule_epochs": 3}],
    ids=["as by default", "no entropy, no limit of alpha", "limited gradients", "a schedule"],
)
def test_its_updates_are_those_of_the_three_functions(variant: dict[str, Any]) -> None:
    three, one = (module(networks(), compile=flag, **variant) for flag in (False, True))
    trainers = [fit(sac, [rows(16, i) for i in range(6)], epochs=3, block=3) for sac in (three, one)]
    assert differing(three, one, 1e-12) == []
    assert trainers[0].global_step == trainers[1].global_step == 3 * 18
    for name, value in trainers[0].callback_metrics.items():
        assert trainers[1].callback_metrics[name] == pytest.approx(float(value), rel=1e-9), name


@pytest.mark.usefixtures("uncompiled")
def test_either_form_goes_on_where_the_other_stopped(tmp_path: Any) -> None:
    """Three epochs of the three functions, against one of them, one of the one function and one of the three again."""
    batches = [rows(16, i) for i in range(4)]
    whole = module(networks(), schedule_epochs=3)
    fit(whole, batches, epochs=3)
    path = None
    for epoch, compiled in enumerate((False, True, False), 1):
        part = module(networks(seed=epoch - 1), compile=compiled, schedule_epochs=3)
        saving = ModelCheckpoint(dirpath=tmp_path / str(epoch), save_last=True)
        fit(part, batches, epochs=epoch, enable_checkpointing=True, callbacks=[saving], ckpt_path=path)
        path = tmp_path / str(epoch) / "last.ckpt"
    assert part.updates == 12  # pyright: ignore[reportPossiblyUnboundVariable]
    assert differing(whole, part, 1e-12) == []  # pyright: ignore[reportPossiblyUnboundVariable]


@pytest.mark.usefixtures("uncompiled")
def test_a_checkpoint_of_either_form_has_the_same_entries(tmp_path: Any) -> None:
    saved = []
    for compiled in (False, True):
        saving = ModelCheckpoint(dirpath=tmp_path / str(compiled), save_last=True)
        fit(
            module(networks(), compile=compiled),
            [rows(4)] * 3,
            enable_checkpointing=True,
            callbacks=[saving],
            block=3,
        )
        saved.append(torch.load(tmp_path / str(compiled) / "last.ckpt", weights_only=True))
    shapes = [tree_map(lambda x: getattr(x, "shape", None), file["optimizer_states"]) for file in saved]
    assert shapes[0] == shapes[1]
    assert saved[0]["global_step"] == saved[1]["global_step"] == 9
    assert saved[0]["loops"] == saved[1]["loops"]


class Watcher(Callback):
    """Sees every optimiser's gradients before its step."""

    def __init__(self) -> None:
        self.seen = 0

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.seen += all(p.grad is not None for group in optimizer.param_groups for p in group["params"])


def test_a_callback_that_looks_at_gradients_is_shown_them() -> None:
    watcher = Watcher()
    fit(module(compile=True), [rows(4)] * 2, callbacks=[watcher])
    assert watcher.seen == 6


def test_only_plain_adam_fits() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    assert OneGraph.fits([torch.optim.Adam([weight])])
    for other in (
        torch.optim.AdamW([weight]),
        torch.optim.SGD([weight]),
        torch.optim.Adam([weight], weight_decay=0.1),
        torch.optim.Adam([weight], amsgrad=True),
        torch.optim.Adam([weight], maximize=True),
        torch.optim.Adam([{"params": [weight]}, {"params": [torch.nn.Parameter(torch.zeros(1))]}]),
    ):
        assert not OneGraph.fits([torch.optim.Adam([weight]), other])


def test_a_compiler_that_fails_costs_one_line_and_no_update(capfd: pytest.CaptureFixture[str]) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def broken(method: Any, device: torch.device) -> Any:
        def update(*arguments: Any) -> torch.Tensor:
            raise TorchDynamoException("g++ has died\nwith many lines")

        return update

    eager, left = module(networks()), module(networks(), compile=True)
    fit(eager, [rows(8, i) for i in range(4)], block=2)
    with patch.object(one_graph, "compiled_for_itself", broken), patch("torch.compile", lambda function: function):
        left._critic_update, left._actor_update = eager._equations.critic_update, eager._equations.actor_update
        fit(left, [rows(8, i) for i in range(4)], block=2)
    assert differing(eager, left, 0.0) == []
    assert capfd.readouterr().out.count("not compiled: g++ has died") == 1


def test_the_compiled_update_is_the_eager_one() -> None:
    """In float64 they differ by the order of sums alone. Needs a C++ compiler, as compile=true does.

    Two modules of other constants but the same shapes: code compiled for one must not be taken for the other.
    """
    variants: list[dict[str, Any]] = [{}, {"discount": 0.5, "tau": 0.3}]
    for variant in variants:
        eager, compiled = (module(networks(), compile=flag, **variant) for flag in (False, True))
        for sac in (eager, compiled):
            fit(sac, [rows(16, i) for i in range(10)], block=5)
        assert differing(eager, compiled, 1e-9) == []
