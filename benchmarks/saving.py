"""What saving a run costs at default settings, as a share of the time between two checkpoints.

`python benchmarks/saving.py`: a buffer of the default size in HalfCheetah's shapes, all refreshes new since the checkpoint
before (the worst case: more than five epochs between two), then none new.
"""

import json
import resource
import tempfile
import time
from pathlib import Path

import torch

from mopo_pl.config.schema import Config
from mopo_pl.data.model_buffer import ModelBuffer
from mopo_pl.data.transitions import Transitions
from mopo_pl.storage.buffer_files import RefreshFiles

OBS, ACTION = 17, 6


def peak() -> float:
    """Largest resident memory of this process so far [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Prints seconds, shares and memory."""
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
    found = {"ring_MB": size, "interval_s": interval}
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
