"""The number by which a search judges a run."""

import json
from math import isfinite
from pathlib import Path

from mopo_pl.errors import InputError

OBJECTIVES = ("return", "estimate")
"""return: mean return of the final episodes, which needs the environment. estimate: that of `estimates.json`, which does not."""


def objective_of(run: Path, objective: str) -> float:
    """What a finished run came to. Raises InputError where it has no such number."""
    if objective == "return":
        value = json.loads((run / "result.json").read_text())["final_return"]
        if value is None or not isfinite(value):
            raise InputError(f"{run} has no return: its policy gave no numbers, or it has no environment")
        return float(value)
    raise NotImplementedError
