r"""Compares the speed of this checkout with that of an older one, phase by phase.

    git worktree add /tmp/old COMMIT
    python benchmarks/against_commit.py /tmp/old [--settings preset=d4rl-v2 penalty.coef=2.5] [--rounds 3] [--json FILE]

The checkouts alternate: in each round each one's own `benchmarks/speed.py` measures a phase in a process of its own, in turns that change
from round to round. A ratio is new / old of the same round; above 1 the new one is faster. `--settings` are those of the new checkout
alone, whose default may be another. No other work may run on the machine meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mopo_pl.storage.atomic_write import atomic_write

NEW = Path(__file__).parents[1]
PHASES = ("sac", "rollout", "dynamics")


def measured(checkout: Path, phase: str, repetitions: int, settings: Sequence[str]) -> float:
    """Units of work a second of a phase, by the benchmark of a checkout."""
    with tempfile.TemporaryDirectory() as place:
        found = Path(place) / "speed.json"
        options = ["--phase", phase, "--repetitions", str(repetitions), "--folder", place, "--json", str(found)]
        given = ["--settings", *settings] if settings else []
        command = [sys.executable, str(checkout / "benchmarks" / "speed.py"), *options, *given]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        # Its exit code is 1 where a floor is missed, which is not asked here.
        subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL, check=False)
        rates = json.loads(found.read_text())[phase]
    return next(value for name, value in rates.items() if name.endswith("/s"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("--settings", nargs="*", default=[])
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    report = {}
    print("| phase | old [1/s] | new [1/s] | new / old, each round |\n|---|---|---|---|")
    for phase in given.phases:
        old, new = [], []
        for number in range(given.rounds):
            turns = [(old, given.old, ()), (new, NEW, given.settings)]
            for rates, checkout, settings in turns if number % 2 == 0 else reversed(turns):
                rates.append(measured(checkout.resolve(), phase, given.repetitions, settings))
        ratios = [after / before for before, after in zip(old, new, strict=True)]
        report[phase] = {"old": old, "new": new, "ratios": ratios}
        middle = (f"{statistics.median(rates):.0f}" for rates in (old, new))
        print(f"| {phase} | {' | '.join(middle)} | {', '.join(f'{ratio:.3f}' for ratio in ratios)} |", flush=True)
    if given.json:
        with atomic_write(given.json) as aside:
            aside.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
