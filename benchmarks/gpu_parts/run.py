"""Part 5: the pendulum from end to end, killed once and resumed; then its policy on the CPU."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from gpu_parts.commands import SHORT, accelerator, differing, tail, train
from gpu_parts.findings import Finding, Task
from mopo_pl.storage.checkpoints import ChecksummedCheckpointIO

ACT = """
import sys, numpy, torch
from mopo_pl import Policy
assert not torch.cuda.is_available()
policy = Policy.load(sys.argv[1])
actions = policy(numpy.random.default_rng(0).uniform(-1, 1, (100, 3)).astype(numpy.float32))
assert numpy.isfinite(actions).all() and (abs(actions) <= 2).all(), actions
print(actions.std())
"""


def findings(task: Task) -> Iterator[Finding]:
    """Train twice, the second time with an end in between."""
    arguments = [*SHORT, *accelerator(task)]
    whole, killed, log = task.folder / "whole", task.folder / "killed", task.folder / "runs.log"
    for folder in (whole, killed):
        shutil.rmtree(folder, ignore_errors=True)
    begin = time.monotonic()
    code = train([*arguments, f"run_dir={whole}"], log=log, seconds=task.left()).returncode
    yield Finding.must("the run ends with 0", code == 0, "0" if code == 0 else f"{code}: {tail(log)}")
    if code:
        return
    yield Finding(what="seconds of the run, start and evaluation included", value=time.monotonic() - begin, unit="s")
    code = train([*arguments, f"run_dir={killed}"], log=log, seconds=task.left(), kill="0:70").returncode
    yield Finding.must("the second run is ended in its second epoch", code == -9, str(code))
    if task.fault == "changed-checkpoint":
        change(killed)
    code = train([f"resume={killed}", "trust=true"], log=log, seconds=task.left()).returncode
    yield Finding.must("resumed, it ends with 0", code == 0, "0" if code == 0 else f"{code}: {tail(log)}")
    if code == 0:
        apart = differing(killed, whole)
        yield Finding.must("its weights are those of the first run to the bit", not apart, ", ".join(apart[:3]))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", ACT, str(whole)]
    acted = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=task.left())
    said = "" if acted.returncode == 0 else acted.stderr.splitlines()[-1]
    yield Finding.must("the policy loads and acts where there is no card", acted.returncode == 0, said)


def change(run: Path) -> None:
    """Change a weight in the checkpoints that a resume would take, checksum and all: the fault `changed-checkpoint`."""
    for path in (run / "checkpoints").glob("policy-*.ckpt"):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"]["actor.layers.0.bias"][0] += 1e-3
        ChecksummedCheckpointIO().save_checkpoint(checkpoint, path)
