"""The script that collects finished runs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "curves.py"


def test_a_finished_run_becomes_a_row_and_a_curve(train: Callable[..., Path], tmp_path: Path) -> None:
    folder, file = train("run", "trainer.max_epochs=2"), tmp_path / "curves.json"
    command = [sys.executable, str(SCRIPT), str(folder), "--json", str(file)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    (run,) = json.loads(file.read_text())
    result = json.loads((folder / "result.json").read_text())
    assert len(printed) == 3
    assert f"| {result['final_return']:.0f} ± " in printed[2]
    assert run["result"]["final_return"] == result["final_return"]
    assert run["settings"]["compile"] == []
    assert len(run["curve"]) == 2
