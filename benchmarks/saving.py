"""Measure the time to save the model buffer at default settings, as a fraction of the time between two checkpoints.

`python benchmarks/saving.py`: a buffer of the default size with HalfCheetah's shapes. First all refreshes are new since
the last checkpoint (the worst case: more than five epochs between two), then none.
"""

import json
import resource
import tempfile
import time
from pathlib import Path

import torch

from mopo_pl.config.schema import Config
from mopo_pl.data.batches.model_buffer import ModelBuffer
from mopo_pl.data.transitions import Transitions
from mopo_pl.storage.buffer_files import RefreshFiles

OBS, ACTION = 17, 6


def peak() -> float:
    """Return the peak resident memory of this process [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Print times [s], fractions and memory [MB]."""
    config, width = Config(), Transitions.width(OBS, ACTION)
    capacity = config.rollout.starts * config.rollout.horizon
    buffer = ModelBuffer(
        slots=config.rollout.retain_epochs, capacity=capacity, width=width, device="cpu", dtype=torch.float32
    )
    for _ in range(buffer.slots):
        buffer.begin()
        buffer.append(torch.randn(capacity, width), torch.ones(capacity, dtype=torch.bool))
        buffer.end()
    size, before = buffer.rows.nbytes / 1e6, peak()
    interval = 60 * config.checkpoint.every_minutes
    found = {"model_buffer_MB": size, "interval_s": interval}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        files = RefreshFiles(Path(folder))
        for name in ("all_new", "none_new"):
            begin = time.perf_counter()
            buffer.state_dict(files.keep)
            seconds = time.perf_counter() - begin
            found |= {f"{name}_s": seconds, f"{name}_share": seconds / interval}
    found["more_memory_MB"] = peak() - before
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
