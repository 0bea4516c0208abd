"""Several seeds' updates as one graph, against each seed's own."""

import threading
from collections.abc import Sequence
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from plain_sac import networks, rows
from test_one_graph import differing
from test_sac_module import fit, module

from mopo_pl.data.transitions import Transitions
from mopo_pl.nn.compilation import OrEager
from mopo_pl.sac import one_graph, stacked
from mopo_pl.sac.module import SACModule
from mopo_pl.sac.rendezvous import Rendezvous
from mopo_pl.sac.stacked import StackedGraph

SEEDS = 3


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (one_graph, stacked):
        monkeypatch.setattr(place, "compiled_for_itself", lambda method, device, name: method)


def blocks(seed: int, epochs_rows: int = 6) -> list[Transitions]:
    return [rows(16, 100 * seed + i) for i in range(epochs_rows)]


class Halves(Callback):
    """Changes weights and a step size between blocks, as a callback of a user's own may."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SACModule)
        with torch.no_grad():
            for parameter in pl_module.critic.parameters():
                parameter.mul_(0.5)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] *= 0.9


def alone(seed: int, callbacks: Sequence[Callback] = (), **variant: Any) -> SACModule:
    sac = module(networks(seed), compile=True, seed=seed, **variant)
    fit(sac, blocks(seed), epochs=2, block=3, callbacks=list(callbacks))
    return sac


def together(
    variant: dict[str, Any], ends: dict[int, int] | None = None, callbacks: Sequence[Callback] = ()
) -> list[SACModule]:
    """One module of each seed, all fitted in one rendezvous; `ends`: epochs of some, if not two."""
    rendezvous = Rendezvous(SEEDS, stopping=lambda: False)
    modules = [module(networks(seed), compile=True, seed=seed, **variant) for seed in range(SEEDS)]
    failed: list[BaseException] = []

    def train(seed: int) -> None:
        try:
            with rendezvous.turn():
                modules[seed].stack(rendezvous, seed)
                rendezvous.gather(seed)
                fit(modules[seed], blocks(seed), epochs=(ends or {}).get(seed, 2), block=3, callbacks=list(callbacks))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=train, args=(seed,), daemon=True) for seed in range(SEEDS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert not failed
    return modules


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Runs in each stacked graph that is built, and in each block of updates."""
    seen: dict[str, list[int]] = {"built": [], "run": []}
    build, run = StackedGraph.__init__, StackedGraph.run
    monkeypatch.setattr(
        StackedGraph, "__init__", lambda self, graphs: seen["built"].append(len(graphs)) or build(self, graphs)
    )
    monkeypatch.setattr(
        StackedGraph, "run", lambda self, *given: seen["run"].append(len(given[0])) or run(self, *given)
    )
    return seen


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    "variant",
    [{}, {"soft_backup": False, "alpha_max": None}, {"gradient_clip_norm": 0.05, "schedule_epochs": 3}],
    ids=["as by default", "no entropy, no limit of alpha", "limited gradients and a schedule"],
)
def test_each_seed_comes_to_what_it_comes_to_alone(variant: dict[str, Any], sizes: dict[str, list[int]]) -> None:
    for seed, sac in enumerate(together(variant)):
        expected = alone(seed, **variant)
        assert differing(expected, sac, 1e-12) == []
        assert sac.updates == expected.updates == 12
        assert sac.trainer.global_step == 3 * 12
    assert sizes == {"built": [SEEDS], "run": [SEEDS] * 4}


@pytest.mark.usefixtures("uncompiled")
def test_what_changes_weights_between_blocks_is_seen() -> None:
    for seed, sac in enumerate(together({}, callbacks=[Halves()])):
        assert differing(alone(seed, [Halves()]), sac, 1e-12) == []


@pytest.mark.usefixtures("uncompiled")
def test_when_one_ends_the_others_go_on_together(sizes: dict[str, list[int]]) -> None:
    for seed, sac in enumerate(together({}, ends={1: 1})):
        if seed != 1:
            assert differing(alone(seed), sac, 1e-12) == []
    assert sizes == {"built": [3, 2], "run": [3, 3, 2, 2]}


@pytest.mark.usefixtures("uncompiled")
def test_the_last_one_goes_on_by_itself(sizes: dict[str, list[int]]) -> None:
    assert differing(alone(2), together({}, ends={0: 1, 1: 1})[2], 1e-12) == []
    assert sizes["run"] == [3, 3]


@pytest.mark.usefixtures("uncompiled")
def test_a_compiler_that_fails_costs_no_update(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fail(*arguments: Any) -> Any:
        raise TorchDynamoException("g++ has died")

    monkeypatch.setattr(stacked, "compiled_for_itself", lambda method, device, name: OrEager(method, fail, name))
    for seed, sac in enumerate(together({})):
        assert differing(alone(seed), sac, 1e-12) == []
    assert capsys.readouterr().out.count("the SAC update of all seeds is not compiled: g++ has died") == 1


@pytest.mark.usefixtures("uncompiled")
def test_a_run_whose_gradients_are_watched_makes_its_updates_alone(
    monkeypatch: pytest.MonkeyPatch, sizes: dict[str, list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    watched = SACModule._gradients_are_watched
    monkeypatch.setattr(SACModule, "_gradients_are_watched", lambda sac: sac.seed == 1 or watched(sac))
    for seed, sac in enumerate(together({})):
        assert differing(alone(seed), sac, 1e-12) == []
    assert "its updates are made alone" in capsys.readouterr().out
    assert sizes["run"] == [2] * 4


@pytest.mark.parametrize(
    "variant",
    [{"discount": 0.5}, {"tau": 0.3}, {"target_entropy": -9.0}, {"gradient_clip_norm": 1.0}, {"alpha_max": 0.1}],
    ids=lambda variant: next(iter(variant)),
)
def test_runs_that_are_not_alike_are_refused(variant: dict[str, Any]) -> None:
    graphs = []
    for changed in ({}, variant):
        sac = module(networks(), **changed)
        graphs.append(sac.graph(sac.configure_optimizers()[0]))
    with pytest.raises(ValueError, match=f"runs that differ in {next(iter(variant))} cannot be stacked"):
        StackedGraph(graphs)


def test_networks_that_are_not_alike_are_refused() -> None:
    graphs = []
    for scale in (1.0, 2.0):
        sac = module(networks())
        sac.actor.normaliser.std.mul_(scale)
        graphs.append(sac.graph(sac.configure_optimizers()[0]))
    with pytest.raises(ValueError, match=r"actor\.normaliser\.std.* cannot be stacked"):
        StackedGraph(graphs)


def test_compiled_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled but for machine code."""

    def traced(method: Any, device: torch.device, name: str) -> Any:
        return torch.compile(method, fullgraph=True, dynamic=False, backend="aot_eager")

    monkeypatch.setattr(one_graph, "compiled_for_itself", lambda method, device, name: method)
    expected = [alone(seed, gradient_clip_norm=0.05) for seed in range(SEEDS)]
    monkeypatch.setattr(stacked, "compiled_for_itself", traced)
    for sac, single in zip(together({"gradient_clip_norm": 0.05}), expected, strict=True):
        assert differing(single, sac, 1e-12) == []


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_falls_back")
def test_compiled_to_machine_code_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs a C++ compiler, as compile=true does."""
    made = together({})
    monkeypatch.setattr(one_graph, "compiled_for_itself", lambda method, device, name: method)
    for seed, sac in enumerate(made):
        assert differing(alone(seed), sac, 1e-9) == []
