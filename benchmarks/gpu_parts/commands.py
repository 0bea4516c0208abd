"""Short runs of `mopo_pl train` on the pendulum, as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from gpu_parts.findings import Task
from gpu_parts.kill import WHERE

SHORT = (
    *("dataset=pendulum", "data.collect_steps=600", "compile=false", "logger=none", "checkpoint.every_minutes=0"),
    *("dynamics.max_epochs=2", "dynamics.hidden_sizes=[32,32]", "dynamics.weight_decay=[0,0,0]"),
    *("sac.hidden_sizes=[32,32]", "sac.updates_per_epoch=40", "trainer.max_epochs=2", "rollout.starts=100"),
    *("evaluation.episodes=1", "evaluation.every_n_epochs=2", "evaluation.final_episodes=1", "report=false"),
    "callbacks=[gpu_parts.kill:Kill]",
)
"""A run of some seconds of training."""
RESULTS = ("dynamics.safetensors", "policy/policy.safetensors")


def accelerator(task: Task) -> list[str]:
    """The Trainer's flag for the device, with reproducible kernels."""
    return [f"trainer.accelerator={'cpu' if task.on_cpu else 'gpu'}", "trainer.deterministic=true"]


def train(arguments: list[str], *, log: Path, kill: str | None = None) -> "subprocess.Popen[bytes]":
    """Start `mopo_pl train`; what it prints is added to `log`. `kill`: as `kill.WHERE` takes it."""
    environment = {name: value for name, value in os.environ.items() if name != WHERE}
    environment |= {} if kill is None else {WHERE: kill}
    command = [sys.executable, "-m", "mopo_pl", "train", *arguments]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment)


def tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log, for a failed finding."""
    return " / ".join(log.read_text(errors="replace").splitlines()[-lines:])


def differing(first: Path, second: Path) -> list[str]:
    """The tensors of two runs' results that are not equal to the bit."""
    found = []
    for file in RESULTS:
        ours, theirs = load_file(first / file), load_file(second / file)
        found += [f"{file}: {name}" for name in theirs if name not in ours or not torch.equal(ours[name], theirs[name])]
    return found
