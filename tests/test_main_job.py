"""The main job at its real size: minutes each, by hand before a release (`pytest -m slow`)."""

import json
from pathlib import Path

import pytest

from mopo_pl import cli


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_policy_learned_from_the_pendulums_log_swings_it_up(tmp_path: Path, seed: int) -> None:
    assert cli.main([f"seed={seed}", f"run_dir={tmp_path / 'run'}"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert -1100 < result["behaviour_return"] < -700
    assert result["final_return"] >= -250
