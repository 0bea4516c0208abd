"""`data.device=cpu`: a whole run, stopped and resumed."""

from collections.abc import Callable
from pathlib import Path

from tiny import TINY

from mopo_pl.cli import main

MODEL, POLICY = "dynamics.safetensors", "policy/policy.safetensors"


def test_a_run_from_the_host_can_be_stopped_and_has_the_same_ensemble(
    tmp_path: Path, stop_after: Callable[[int | None], int], same_weights: Callable[[Path, Path, str], bool]
) -> None:
    there, whole, stopped = (tmp_path / name for name in ("there", "whole", "stopped"))
    assert main([*TINY, f"run_dir={there}"]) == 0
    assert main([*TINY, "data.device=cpu", f"run_dir={whole}"]) == 0
    stop_after(35)
    assert main([*TINY, "data.device=cpu", f"run_dir={stopped}"]) == 130
    stop_after(None)
    assert main([f"resume={stopped}"]) == 0
    assert same_weights(whole, stopped, MODEL)
    assert same_weights(whole, stopped, POLICY)
    assert same_weights(whole, there, MODEL)
    assert not same_weights(whole, there, POLICY)  # other draws of logged rows
