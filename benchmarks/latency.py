"""Measure how long each form of a policy takes for one observation and for 1000, side by side in one run.

`python benchmarks/latency.py [RUN]`: the policy of a run; without one, a policy of HalfCheetah's shapes with two layers of
256. One thread. The forms take turns, so that a machine whose speed wanders changes all of them alike. Needs the extra
`onnx`. Run it on a quiet machine: what other programs take shows in the 99th percentile first.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnxruntime
import torch

from mopo_pl.export import run_policy
from mopo_pl.export.comparison import random_states
from mopo_pl.export.exporting import export_policy
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor

OBS, ACTION = 17, 6
CALLS = {1: 300, 1000: 30}
"""Calls of each form in a turn, by the rows of a call."""


def default_policy() -> Policy:
    """Untrained, with ranges of a log: the time does not depend on the weights."""
    actor = TanhGaussianActor(
        obs_dim=OBS,
        action_dim=ACTION,
        hidden_sizes=(256, 256),
        log_std_min=-5.0,
        log_std_max=2.0,
        normaliser=Normaliser.identity(OBS),
        generator=generator_for(0, "actor"),
    )
    signals = {
        "observations": {
            "names": [str(i) for i in range(OBS)],
            "units": [""] * OBS,
            "low": [-3.0] * OBS,
            "high": [3.0] * OBS,
        },
        "actions": {"names": [str(i) for i in range(ACTION)], "units": [""] * ACTION, "low": None, "high": None},
    }
    return Policy(actor, -np.ones(ACTION), np.ones(ACTION), {"signals": signals}).eval().requires_grad_(False)


def forms_of(policy: Policy, folder: Path) -> dict[str, Callable[[np.ndarray], object]]:
    """Each form as its user calls it with an array [B, D], or [D] where it takes one."""
    export_policy(policy, folder, forms=None, logged=None, distribution=False, licence="not stated")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "policy.onnx"), options, providers=["CPUExecutionProvider"])
    program = torch.export.load(folder / "policy.pt2").module()
    runner = run_policy.Policy(folder / "policy.npz")

    def by_torch(rows: np.ndarray) -> object:
        with torch.no_grad():
            return program(torch.from_numpy(rows))[0].numpy()

    return {
        "run_policy.py": lambda rows: runner(rows[0] if len(rows) == 1 else rows),
        "policy.onnx": lambda rows: session.run(["action"], {"observation": rows}),
        "policy.pt2": by_torch,
        "Policy": lambda rows: policy(rows[0] if len(rows) == 1 else rows),
    }


def measure(forms: dict[str, Callable[[np.ndarray], object]], rows: np.ndarray, turns: int) -> dict[str, list[float]]:
    """Microseconds of each call, by form."""
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(turns + 1):
        for name, call in forms.items():
            for _ in range(CALLS[len(rows)]):
                begin = time.perf_counter()
                call(rows)
                if turn:  # the first one warms up
                    taken[name].append(1e6 * (time.perf_counter() - begin))
    return taken


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    """Print a table and, as JSON, the same numbers [µs]."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a run's folder")
    parser.add_argument("--turns", type=int, default=20, help="of each form (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    policy = default_policy() if options.run is None else Policy.load(options.run)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        forms = forms_of(policy, Path(folder))
        for count in CALLS:
            # Within the range: what lies beyond it is counted, which takes longer.
            rows = random_states(policy, rows=count, seed=0) / 2
            for name, times in measure(forms, rows, options.turns).items():
                p50, p99 = np.percentile(times, [50, 99])
                found.setdefault(name, {}).update({f"p50_{count}": round(p50, 1), f"p99_{count}": round(p99, 1)})
    print(
        f"{processor()}, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, numpy {np.__version__}, one thread"
    )
    print("| form | one observation, p50 | p99 | 1000, p50 | p99 |\n|---|---|---|---|---|")
    for name, row in found.items():
        print(f"| `{name}` | " + " | ".join(f"{value:,.0f} µs".replace(",", " ") for value in row.values()) + " |")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
