"""What `compile` comes to for runs of several lengths: compiling takes longer than a short run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mopo_pl.cli import main
from mopo_pl.config import resolve
from mopo_pl.config.compose import compose
from mopo_pl.run import stages

SHORT = ["termination=never", "sac.updates_per_epoch=1000", "rollout.starts=50000", "rollout.horizon=5"]


def compiled(options: list[str], rows: int = 512) -> list[str]:
    """The parts that would be."""
    return sorted(resolve.resolve(compose([*SHORT, *options]), rows=rows, threads=1, device="cpu").compile)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["trainer.max_epochs=4"], []),
        (["trainer.max_epochs=5"], ["policy"]),
        (["trainer.max_epochs=19"], ["policy"]),
        (["trainer.max_epochs=20"], ["policy", "rollouts"]),
        (["trainer.max_epochs=20", "rollout.starts=49999"], ["policy"]),
        (["trainer.max_epochs=20", "rollout.every_n_epochs=2"], ["policy"]),
        (["trainer.max_epochs=39", "rollout.every_n_epochs=2"], ["policy", "rollouts"]),
        (["trainer.max_epochs=4", "dynamics.max_epochs=9999"], []),
        (["trainer.max_epochs=4", "dynamics.max_epochs=10000"], ["ensemble"]),
        (["trainer.max_epochs=20", "dynamics.max_epochs=10000"], ["ensemble", "policy", "rollouts"]),
        (["trainer.max_epochs=20", "dynamics.max_epochs=10000", "compile=false"], []),
        (["trainer.max_epochs=20", "dynamics.max_epochs=10000", "compile=[policy]"], ["policy"]),
        (["trainer.max_epochs=1", "compile=true"], ["ensemble", "policy", "rollouts"]),
        (["trainer.max_epochs=1", "compile=[rollouts,ensemble]"], ["ensemble", "rollouts"]),
        (["trainer.max_epochs=20", "dynamics.max_epochs=10000", "stage=dynamics"], ["ensemble"]),
        (
            ["trainer.max_epochs=20", "dynamics.max_epochs=10000", "dynamics_from=RUN", "dataset=log.npz"],
            ["policy", "rollouts"],
        ),
        (["trainer.max_epochs=20", "dynamics.max_epochs=10000", "rollout.real_ratio=1"], ["policy"]),
        (["trainer.max_epochs=1", "rollout.real_ratio=1", "compile=true"], ["policy"]),
    ],
)
def test_parts_are_compiled_where_it_pays(
    monkeypatch: pytest.MonkeyPatch, options: list[str], parts: list[str]
) -> None:
    monkeypatch.setattr(resolve, "_missing", lambda device: None)
    assert compiled(options) == parts


def test_nothing_is_compiled_by_itself_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_missing", lambda device: "a C++ compiler")
    assert compiled(["trainer.max_epochs=1000", "dynamics.max_epochs=100000"]) == []


def test_a_longer_run_goes_on_with_what_was_compiled(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would not end in the bits of a run that was as long from the start."""
    monkeypatch.setattr(resolve, "_missing", lambda device: None)
    folder = train("run", "trainer.max_epochs=1")
    assert OmegaConf.load(folder / "config.yaml").compile == []
    for part in resolve.COMPILE_THRESHOLDS:
        monkeypatch.setitem(resolve.COMPILE_THRESHOLDS, part, 0)
    assert main([f"resume={folder}", "trainer.max_epochs=2"]) == 0
    assert OmegaConf.load(folder / "config.yaml").compile == []


def test_the_parts_of_a_run_are_those_that_the_resolved_configuration_names(
    train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: dict[str, bool] = {}
    for name, part in (("build_dynamics", "ensemble"), ("build_sac", "policy"), ("build_refresh", "rollouts")):
        original = getattr(stages, name)

        def build(*arguments: Any, original: Any = original, part: str = part, compile: bool, **named: Any) -> Any:
            built[part] = compile
            return original(*arguments, compile=False, **named)

        monkeypatch.setattr(stages, name, build)
    monkeypatch.setattr(resolve, "_missing", lambda device: None)
    train("run", "compile=[rollouts,policy]")
    assert built == {"ensemble": False, "policy": True, "rollouts": True}
