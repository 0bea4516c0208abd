"""Part 6: two ranks make the update of one process on the rows of both, and a rank that ends takes the run with it.

On one card two processes share it over gloo, which a Trainer does not start; on two cards NCCL joins them, and a run with
`trainer.devices=2` is made as well.
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from gpu_parts.commands import SHORT, accelerator, tail, train
from gpu_parts.findings import Finding, Task
from gpu_parts.kill import TRACE

EXACT = {"cpu": 1e-12, "cuda": 1e-10}
SOON = 60.0
"""Seconds within which the end of one rank must have ended the other."""
RUN = 40.0
"""What a run on two devices is taken to need on an idle machine, with its start [s]."""


def findings(task: Task) -> Iterator[Finding]:
    """Two ranks against one; then one of them is killed."""
    cards = 0 if task.on_cpu else torch.cuda.device_count()
    backend = "nccl" if cards > 1 else "gloo"
    devices = ["cpu", "cpu"] if task.on_cpu else (["cuda:0", "cuda:1"] if cards > 1 else ["cuda:0", "cuda:0"])
    yield Finding(what="two ranks on", value=f"{', '.join(devices)} over {backend}")
    log = task.folder / "ranks.log"
    log.unlink(missing_ok=True)
    codes, _ = together(task, [devices[:1], devices], backend, task.fault, log)
    yield Finding.must(
        "one process and two ranks end with 0", not any(codes), f"{codes}" + (f" {tail(log)}" if any(codes) else "")
    )
    if not any(codes):
        one, first, second = (
            torch.load(task.folder / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")
        )
        apart = max(float((one[name] - first[name]).abs().max()) for name in one if one[name].is_floating_point())
        yield Finding.at_most(
            "weights of two ranks against one process, float64, furthest apart", apart, EXACT[task.device.type]
        )
        same = all(torch.equal(first[name], second[name]) for name in first)
        yield Finding.must("both ranks hold the same bits", same)
    if backend == "gloo":
        codes, apart = together(task, [devices], backend, "killed-rank", log)
        yield Finding.at_most("seconds until the end of rank 1 has ended rank 0", apart, SOON, "s")
        yield Finding.must("both end as failed", codes[1] == -signal.SIGKILL and codes[0] != 0, str(codes))
    if not task.on_cpu and cards < 2:
        yield Finding(what="a run with trainer.devices=2", value="left out: a Trainer needs two cards for it")
        return
    yield from runs(task, log)


def together(
    task: Task, groups: list[list[str]], backend: str, fault: str | None, log: Path
) -> tuple[list[int], float]:
    """Start a group of processes for each list of devices, all at once.

    Returns their exit codes, and the seconds between the ends of the first and of the last. One that does not end is killed.
    """
    (task.folder / "store").unlink(missing_ok=True)
    processes: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as file:
        for devices in groups:
            for rank, device in enumerate(devices):
                command = [sys.executable, "-m", "gpu_parts.rank", str(task.folder), str(rank), str(len(devices))]
                command += [device, backend, fault or "none"]
                processes.append(subprocess.Popen(command, stdout=file, stderr=file))
    first, until = None, time.monotonic() + task.left()
    while any(process.poll() is None for process in processes) and time.monotonic() < until:
        if first is None and any(process.poll() is not None for process in processes):
            first, until = time.monotonic(), min(until, time.monotonic() + 2 * SOON)
        time.sleep(0.1)
    apart = time.monotonic() - (first or time.monotonic())
    for process in processes:
        process.kill()
        process.wait()
    return [process.returncode for process in processes], apart


def runs(task: Task, log: Path) -> Iterator[Finding]:
    """A whole run on two devices; then one whose second rank is killed."""
    arguments = [*SHORT, *accelerator(task), "trainer.devices=2", "threads=1"]
    for name, kill in (("whole", None), ("killed", "1:30")):
        if not task.has(RUN):
            yield Finding.out_of_time(f"a run with trainer.devices=2, {name}")
            continue
        folder = task.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        code = train([*arguments, f"run_dir={folder}"], log=log, kill=kill).wait(task.left())
        ended = time.time()
        if kill is None:
            said = "0" if code == 0 else f"{code}: {tail(log)}"
            yield Finding.must(
                "a run with trainer.devices=2 ends with 0, its ranks equal at each epoch", code == 0, said
            )
            continue
        trace = folder / TRACE
        said = str(code) if trace.exists() else f"{code}, and rank 1 was not killed: {tail(log)}"
        yield Finding.must("killed in rank 1, it does not end with 0", code != 0 and trace.exists(), said)
        if trace.exists():
            apart = ended - trace.stat().st_mtime
            yield Finding.at_most("seconds until the end of rank 1 has ended the run", apart, SOON, "s")
