"""The whole update as one function, against the three functions and torch's own Adam."""

from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from plain_sac import networks, rows
from test_sac_module import fit, module
from torch.utils._pytree import tree_map

from mopo_pl.nn import fused_update
from mopo_pl.nn.functional_adam import JointAdam
from mopo_pl.sac.module import SACModule


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """One function, but eager: its equations alone, without half a minute of compiling."""
    monkeypatch.setattr(fused_update, "compile_without_guards", lambda method, device, name: method)


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
    [
        {},
        {"soft_backup": False, "alpha_max": None},
        {"gradient_clip_norm": 0.05},
        {"schedule_epochs": 3},
        {"actor_average": 0.8, "pessimism": 0.5, "target_bounds": (-0.2, 0.2)},
    ],
    ids=["as by default", "no entropy, no limit of alpha", "limited gradients", "a schedule", "average and bounds"],
)
def test_its_updates_are_those_of_the_three_functions(variant: dict[str, Any]) -> None:
    three, one = (module(networks(), compile=flag, **variant) for flag in (False, True))
    trainers = [fit(sac, [rows(16, i) for i in range(6)], epochs=3, block=3) for sac in (three, one)]
    assert differing(three, one, 1e-12) == []
    assert trainers[0].global_step == trainers[1].global_step == 18
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
    assert saved[0]["global_step"] == saved[1]["global_step"] == 3
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


@pytest.mark.parametrize("watched", [False, True], ids=["one graph", "three functions"])
def test_a_compiler_that_fails_costs_no_update(
    watched: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The three functions are what several devices compile."""
    from torch._dynamo.exc import TorchDynamoException

    def broken(function: Any, **options: Any) -> Any:
        def fail(*arguments: Any) -> Any:
            raise TorchDynamoException("g++ has died")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    eager, compiled = (module(networks(), compile=flag) for flag in (False, True))
    for sac in (eager, compiled):
        fit(sac, [rows(4)] * 2, callbacks=[Watcher()] if watched else [])
    assert differing(eager, compiled, 1e-12) == []
    assert capsys.readouterr().out.count("is not compiled: g++ has died") == (3 if watched else 1)


def test_only_plain_adam_on_just_these_parameters_fits() -> None:
    weight, bias = (torch.nn.Parameter(torch.zeros(2)) for _ in "12")
    moved = [{"weight": weight}, {"weight": weight, "bias": bias}]
    fitting = torch.optim.Adam([weight], fused=True)
    for other in (
        torch.optim.Adam([bias, weight], fused=True),
        torch.optim.Adam([{"params": [weight], "weight_decay": 0.1}, {"params": [bias]}], fused=True),
    ):
        assert JointAdam.supports([fitting, other], moved)
    for other in (
        torch.optim.AdamW([weight, bias], fused=True),
        torch.optim.SGD([weight, bias]),
        torch.optim.Adam([weight, bias]),
        torch.optim.Adam([weight, bias], fused=True, amsgrad=True),
        torch.optim.Adam([weight, bias], fused=True, maximize=True),
        torch.optim.Adam([weight, bias], fused=True, weight_decay=0.1, decoupled_weight_decay=True),
        torch.optim.Adam([weight, bias], capturable=True, differentiable=True),
        torch.optim.Adam([{"params": [weight], "lr": 0.1}, {"params": [bias]}], fused=True),
        torch.optim.Adam([{"params": [weight], "eps": 0.1}, {"params": [bias]}], fused=True),
        torch.optim.Adam([weight], fused=True),
    ):
        assert not JointAdam.supports([fitting, other], moved)
    assert not JointAdam.supports([fitting], moved)
    assert JointAdam.supports([fitting], moved[:1])
    fitting.register_step_post_hook(lambda *arguments: None)
    assert not JointAdam.supports([fitting], moved[:1])


class Graphs(Callback):
    """Whether each training step went by the one graph, which alone leaves no gradients."""

    def __init__(self) -> None:
        self.used: list[bool] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SACModule)
        self.used.append(pl_module._fused is not None and next(pl_module.critic.parameters()).grad is None)
        pl_module.critic.zero_grad()


@pytest.mark.usefixtures("uncompiled")
def test_batches_of_another_shape_take_the_three_functions() -> None:
    eager, mixed, graphs = module(networks()), module(networks(), compile=True), Graphs()
    for sac in (eager, mixed):
        fit(sac, [rows(16), rows(9, 1), rows(16, 2)], callbacks=[] if sac is eager else [graphs])
    assert differing(eager, mixed, 1e-12) == []
    assert graphs.used == [True, False, True]


def test_a_batch_that_is_no_block_is_refused() -> None:
    with pytest.raises(ValueError, match=r"blocks of batches \[K, B, W\].*rows of shape \[4, "):
        module().training_step(rows(4), 0)


@pytest.mark.usefixtures("uncompiled")
def test_a_fit_that_raised_leaves_no_graph_to_the_next() -> None:
    class Raises(Callback):
        def on_train_batch_end(self, *arguments: Any, **named: Any) -> None:
            raise RuntimeError("a callback fails")

    sac, watcher = module(compile=True), Watcher()
    with pytest.raises(RuntimeError, match="a callback fails"):
        fit(sac, [rows(4)] * 2, callbacks=[Raises()])
    fit(sac, [rows(4)] * 2, callbacks=[watcher])
    assert watcher.seen == 6


class OwnStep(SACModule):
    """Leaves gradients as they are, and says so."""

    steps = 0

    def _step(self, optimizer: Any, parameters: Any, gradients: Any) -> None:
        OwnStep.steps += 1
        super()._step(optimizer, parameters, gradients)


def test_a_step_of_ones_own_is_taken() -> None:
    sac = module(compile=True)
    sac.__class__ = OwnStep
    fit(sac, [rows(4)] * 2)
    assert OwnStep.steps == 6


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled but for the last step, machine code: what the compiler makes of the function, in a second."""

    def compiled(method: Any, device: torch.device, name: str) -> Any:
        return torch.compile(method, fullgraph=True, dynamic=False, backend="aot_eager")

    monkeypatch.setattr(fused_update, "compile_without_guards", compiled)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    ("variant", "precision", "tolerance"),
    [
        ({"gradient_clip_norm": 0.05}, None, 1e-12),
        ({"actor_average": 0.8, "pessimism": 0.5, "target_bounds": (-0.2, 0.2)}, None, 1e-12),
        ({"soft_backup": False, "alpha_max": None}, None, 1e-12),
        ({}, "32-true", 1e-5),
        ({}, "bf16-mixed", 1e-4),
    ],
)
def test_every_variant_is_traced_whole(variant: dict[str, Any], precision: Any, tolerance: float) -> None:
    eager, one = (module(networks(), compile=flag, **variant) for flag in (False, True))
    graphs = Graphs()
    batches = [rows(16, i) for i in range(6)]
    if precision is not None:
        eager, one = eager.float(), one.float()
        batches = [batch.to(torch.float32) for batch in batches]
    for sac, callbacks in ((eager, []), (one, [graphs])):
        fit(sac, batches, block=3, precision=precision, callbacks=callbacks)
    assert graphs.used == [True, True]
    assert differing(eager, one, tolerance) == []


@pytest.mark.usefixtures("nothing_falls_back")
def test_the_compiled_update_is_the_eager_one() -> None:
    """In float64 they differ by the order of sums alone. Needs a C++ compiler, as compile=true does.

    Two modules of other constants but the same shapes: code compiled for one must not be taken for the other.
    """
    variants: list[dict[str, Any]] = [{}, {"discount": 0.5, "tau": 0.3, "gradient_clip_norm": 0.05}]
    for variant in variants:
        eager, compiled = (module(networks(), compile=flag, **variant) for flag in (False, True))
        graphs = Graphs()
        fit(eager, [rows(16, i) for i in range(10)], block=5)
        fit(compiled, [rows(16, i) for i in range(10)], block=5, callbacks=[graphs])
        assert graphs.used == [True, True]
        assert differing(eager, compiled, 1e-9) == []
