"""Part 5: the pendulum from end to end, killed once and resumed; then its policy on the CPU."""

import os
import shutil
import signal
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
    """Train twice, the second time with an end in between; the two train side by side, which starts Python sooner."""
    arguments = [*SHORT, *accelerator(task)]
    whole, killed = task.folder / "whole", task.folder / "killed"
    logs = {run: run.with_suffix(".log") for run in (whole, killed)}
    for run, log in logs.items():
        shutil.rmtree(run, ignore_errors=True)
        log.unlink(missing_ok=True)
    begin = time.monotonic()
    first = train([*arguments, f"run_dir={whole}"], log=logs[whole])
    second = train([*arguments, f"run_dir={killed}"], log=logs[killed], kill="0:70")
    code = first.wait(task.left())
    yield Finding.must("the run ends with 0", code == 0, "0" if code == 0 else f"{code}: {tail(logs[whole])}")
    if code:
        return
    seconds = time.monotonic() - begin
    yield Finding(what="seconds of the run, start and evaluation included, beside another", value=seconds, unit="s")
    code = second.wait(task.left())
    said = str(code) if code == -signal.SIGKILL else f"{code}: {tail(logs[killed])}"
    yield Finding.must("the second run is ended in its second epoch", code == -signal.SIGKILL, said)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    acting = subprocess.Popen([sys.executable, "-c", ACT, str(whole)], stderr=subprocess.PIPE, env=environment)
    if task.fault == "changed-checkpoint":
        change(killed)
    code = train([f"resume={killed}", "trust=true"], log=logs[killed]).wait(task.left())
    yield Finding.must("resumed, it ends with 0", code == 0, "0" if code == 0 else f"{code}: {tail(logs[killed])}")
    if code == 0:
        apart = differing(killed, whole)
        yield Finding.must("its weights are those of the first run to the bit", not apart, ", ".join(apart[:3]))
    _, errors = acting.communicate(timeout=task.left())
    said = "" if acting.returncode == 0 else errors.decode(errors="replace").splitlines()[-1]
    yield Finding.must("the policy loads and acts where there is no card", acting.returncode == 0, said)


def change(run: Path) -> None:
    """Change a weight in the checkpoints that a resume would take, checksum and all: the fault `changed-checkpoint`."""
    for path in (run / "checkpoints").glob("policy-*.ckpt"):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"]["actor.layers.0.bias"][0] += 1e-3
        ChecksummedCheckpointIO().save_checkpoint(checkpoint, path)
