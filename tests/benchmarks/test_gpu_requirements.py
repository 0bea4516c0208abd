"""`benchmarks/gpu-requirements.txt` names all that the package needs beside torch, in the versions of constraints.txt."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def name_of(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text.partition("==")[0]).lower()


def needed(requirement: Requirement, found: dict[str, set[str]]) -> None:
    """Adds a distribution and all that it needs; what torch needs comes with torch."""
    name, extras = name_of(requirement.name), set(requirement.extras)
    if name == "torch" or (name in found and extras <= found[name]):
        return
    found.setdefault(name, set()).update(extras)
    for each in map(Requirement, requires(requirement.name) or []):
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            needed(each, found)


def test_the_wheels_to_carry_are_all_that_is_needed_beside_torch() -> None:
    lines = (ROOT / "benchmarks/gpu-requirements.txt").read_text().splitlines()
    listed = [line for line in lines if not line.startswith("#")]
    found: dict[str, set[str]] = {}
    for dependency in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        needed(Requirement(dependency), found)
    assert {name_of(line) for line in listed} == set(found)
    assert set(listed) <= set((ROOT / "constraints.txt").read_text().splitlines())
