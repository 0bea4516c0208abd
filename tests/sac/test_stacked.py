"""Several seeds' updates as one graph, against each seed's own."""

import threading
from typing import Any

import pytest
import torch
from plain_sac import networks, rows
from test_one_graph import differing
from test_sac_module import fit, module

from mopo_pl.data.transitions import Transitions
from mopo_pl.sac import one_graph, stacked
from mopo_pl.sac.meeting import Meeting
from mopo_pl.sac.module import SACModule

SEEDS = 3


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (one_graph, stacked):
        monkeypatch.setattr(place, "compiled_for_itself", lambda method, device: method)


def blocks(seed: int, epochs_rows: int = 6) -> list[Transitions]:
    return [rows(16, 100 * seed + i) for i in range(epochs_rows)]


def alone(seed: int, **variant: Any) -> SACModule:
    sac = module(networks(seed), compile=True, seed=seed, **variant)
    fit(sac, blocks(seed), epochs=2, block=3)
    return sac


def together(variant: dict[str, Any], ends: dict[int, int] | None = None, compiled: bool = True) -> list[SACModule]:
    """One module of each seed, all fitted in one meeting; `ends`: epochs of some, if not two."""
    meeting = Meeting(SEEDS)
    modules = [module(networks(seed), compile=compiled, seed=seed, **variant) for seed in range(SEEDS)]
    failed: list[BaseException] = []

    def train(seed: int) -> None:
        try:
            with meeting.attended():
                modules[seed].meet(meeting, seed)
                fit(modules[seed], blocks(seed), epochs=(ends or {}).get(seed, 2), block=3)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in range(SEEDS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    return modules


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    "variant",
    [{}, {"soft_backup": False, "alpha_max": None}, {"gradient_clip_norm": 0.05, "schedule_epochs": 3}],
    ids=["as by default", "no entropy, no limit of alpha", "limited gradients and a schedule"],
)
def test_each_seed_comes_to_what_it_comes_to_alone(variant: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    run = stacked.StackedGraph.run
    monkeypatch.setattr(stacked.StackedGraph, "run", lambda *a: made.append(len(a[1])) or run(*a))
    for seed, sac in enumerate(together(variant)):
        expected = alone(seed, **variant)
        assert differing(expected, sac, 1e-12) == []
        assert sac.updates == expected.updates == 12
        assert sac.trainer.global_step == 3 * 12
    assert made == [SEEDS] * 4


@pytest.mark.usefixtures("uncompiled")
def test_when_one_ends_the_others_go_on_by_themselves() -> None:
    for seed, sac in enumerate(together({}, ends={1: 1})):
        if seed != 1:
            assert differing(alone(seed), sac, 1e-12) == []


def test_networks_that_are_not_alike_are_refused() -> None:
    graphs = []
    for scale in (1.0, 2.0):
        sac = module(networks(), compile=True)
        sac.actor.normaliser.std.mul_(scale)
        graphs.append(
            one_graph.OneGraph(
                sac._equations,
                moved=[
                    dict(sac.critic.named_parameters()),
                    dict(sac.actor.named_parameters()),
                    {"log_alpha": sac.log_alpha},
                ],
                slow_critic=sac.slow_critic,
                optimizers=sac.configure_optimizers()[0],
                tau=0.1,
                gradient_clip_norm=None,
                compiled=False,
            )
        )
    with pytest.raises(ValueError, match=r"normaliser\.std differ"):
        stacked.StackedGraph(graphs)


def test_compiled_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled but for machine code."""

    def traced(method: Any, device: torch.device) -> Any:
        return torch.compile(method, fullgraph=True, dynamic=False, backend="aot_eager")

    monkeypatch.setattr(one_graph, "compiled_for_itself", lambda method, device: method)
    expected = [alone(seed, gradient_clip_norm=0.05) for seed in range(SEEDS)]
    monkeypatch.setattr(stacked, "compiled_for_itself", traced)
    for sac, single in zip(together({"gradient_clip_norm": 0.05}), expected, strict=True):
        assert differing(single, sac, 1e-12) == []
