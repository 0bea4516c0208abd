"""Kill runs with SIGKILL at random moments, resume them, and compare the results with a run that was not interrupted.

`python benchmarks/faults.py --kills 100`: half of the kills on one process, half on two. Each run is killed a few times
before it is trained to its end; all processes of a run are killed at once. The exit code is 1 if any final hash
differs.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = [
    *("dataset=pendulum", "data.collect_steps=2000", "threads=1", "compile=false", "trainer.accelerator=cpu"),
    *("dynamics.max_epochs=60", "dynamics.patience=100", "dynamics.hidden_sizes=[32,32]"),
    *("dynamics.weight_decay=[0,0,0]", "sac.hidden_sizes=[32,32]", "sac.updates_per_epoch=50", "trainer.max_epochs=20"),
    *("rollout.starts=500", "evaluation.episodes=4", "evaluation.every_n_epochs=4", "evaluation.final_episodes=4"),
    *("logger=csv", "checkpoint.every_minutes=0"),
]
UPDATES_PER_EPOCH = {"dynamics": 25, "policy": 50}
EARLY = 0.2
"""Fraction of the kills that may hit a process while it starts."""
PER_RUN = 5
"""Kills per run before it is trained to its end."""


@dataclasses.dataclass
class Tally:
    """Counts of the kills on one number of processes."""

    processes: int
    kills: int = 0
    stages: dict[str, int] = dataclasses.field(default_factory=lambda: {"dynamics": 0, "policy": 0, "outside": 0})
    inside_a_write: int = 0
    resumes: int = 0
    runs: int = 0
    equal: int = 0
    lost: list[int] = dataclasses.field(default_factory=list)
    """Updates that were in metrics.jsonl and had to be repeated."""
    recovery: list[float] = dataclasses.field(default_factory=list)
    """Times from the start of a resumed process to its first new row of metrics [s]."""

    def row(self) -> str:
        """Format the counts as a row of the table."""
        lost = f"{statistics.median(self.lost):.0f}, {max(self.lost)}" if self.lost else "none"
        recovery = f"{statistics.median(self.recovery):.1f}, {max(self.recovery):.1f}" if self.recovery else "none"
        stages = ", ".join(f"{number} {name}" for name, number in self.stages.items())
        return (
            f"| {self.processes} | {self.kills} ({stages}) | {self.inside_a_write} | {self.resumes} | "
            f"{self.equal} of {self.runs} | {lost} | {recovery} |"
        )


HEADER = (
    "| processes | kills (in stage) | inside a write | resumes | equal final hashes | updates lost (median, max) | "
    "seconds to the next row (median, max) |\n|---|---|---|---|---|---|---|"
)


def launch(arguments: list[str], log: Path) -> subprocess.Popen:
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "mopo_pl", "train", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def rows(folder: Path) -> list[dict]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []


def fingerprint(folder: Path) -> str:
    """Hash the final weights, the metrics rows, those of the CSV logger too, and the returns of a run."""
    hashed = hashlib.sha256()
    logged = [f"logs/csv/{stage}/metrics.csv" for stage in UPDATES_PER_EPOCH]
    for name in ("dynamics.safetensors", "policy/policy.safetensors", "metrics.jsonl", *logged):
        hashed.update((folder / name).read_bytes())
    result = json.loads((folder / "result.json").read_text())
    hashed.update(json.dumps([result[key] for key in ("final_return", "last10_return", "updates")]).encode())
    return hashed.hexdigest()


def saved_update(folder: Path, stage: str) -> int:
    """Return the number of updates in the newest complete checkpoint of a stage."""
    complete = [path for path in (folder / "checkpoints").glob(f"{stage}-*.ckpt") if path.with_suffix(".json").exists()]
    if not complete:
        return 0
    match = re.search(r"-(\d+)-(\d+)$", max(complete).stem)
    assert match is not None
    return int(match[1]) * UPDATES_PER_EPOCH[stage] + int(match[2])


def kill_after(process: subprocess.Popen, folder: Path, delay: float, tally: Tally, known: int) -> bool:
    """Wait for the first new metrics row and then `delay` seconds, then kill.

    Return whether the process was still running.

    A negative `delay` counts from the start of the process, whatever it does by then.
    """
    begin = time.monotonic()
    while delay >= 0 and process.poll() is None and len(rows(folder)) <= known and time.monotonic() - begin < 60:
        time.sleep(0.01)
    if delay >= 0 and known and process.poll() is None:
        tally.recovery.append(time.monotonic() - begin)
    try:
        process.wait(abs(delay))
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return True


def survive(folder: Path, settings: list[str], kills: int, span: float, tally: Tally, luck: random.Random) -> None:
    """Kill and resume one run `kills` times, then let it end."""
    log = folder.with_suffix(".log")
    arguments = [*settings, f"run_dir={folder}"]
    for _ in range(kills):
        known = len(rows(folder))
        delay = luck.uniform(-10, 0) if luck.random() < EARLY and folder.exists() else luck.uniform(0, span)
        if not kill_after(launch(arguments, log), folder, delay, tally, known):
            break
        tally.kills += 1
        written = rows(folder)
        stage = written[-1]["stage"] if written else "dynamics"
        done = (folder / "policy/policy.json").exists()
        tally.stages["outside" if done else stage] += 1
        tally.inside_a_write += any(folder.rglob("*.part"))
        if written and not done:
            tally.lost.append(max(0, written[-1]["update"] - saved_update(folder, stage)))
        arguments = [f"resume={folder}"]
        tally.resumes += 1
    process = launch(arguments, log)
    if process.wait(300):
        print(log.read_text()[-3000:], file=sys.stderr)


def main() -> int:
    """Print the table; return 0 if all hashes are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0, help="seed of the kill times")
    parser.add_argument("--folder", type=Path, help="folder that keeps the runs (default: a temporary one)")
    options = parser.parse_args()
    luck, tallies = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as temporary:
        base = options.folder or Path(temporary)
        base.mkdir(parents=True, exist_ok=True)
        for processes in options.processes:
            tallies.append(tally := Tally(processes))
            settings = [*SETTINGS, f"trainer.devices={processes}", f"dynamics.batch_size={64 // processes}"]
            uninterrupted = base / f"{processes}-uninterrupted"
            begin = time.monotonic()
            if launch([*settings, f"run_dir={uninterrupted}"], uninterrupted.with_suffix(".log")).wait(600):
                print(uninterrupted.with_suffix(".log").read_text()[-3000:], file=sys.stderr)
                return 1
            result = json.loads((uninterrupted / "result.json").read_text())
            # Kills are spread over both stages and a little beyond their end.
            span = sum(result["seconds"].values()) / PER_RUN * 1.5
            print(
                f"{processes} processes: a run takes {time.monotonic() - begin:.0f} s, stages {result['seconds']}",
                file=sys.stderr,
            )
            while tally.kills < options.kills // len(options.processes):
                folder = base / f"{processes}-{tally.runs}"
                left = options.kills // len(options.processes) - tally.kills
                survive(folder, settings, min(PER_RUN, left), span, tally, luck)
                tally.runs += 1
                tally.equal += (folder / "result.json").exists() and fingerprint(folder) == fingerprint(uninterrupted)
                print(tally.row(), file=sys.stderr, flush=True)
    print("\n".join([HEADER, *(tally.row() for tally in tallies)]))
    return int(any(tally.equal < tally.runs for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
