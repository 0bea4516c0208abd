"""Part 6: two ranks make the update of one process on the rows of both, and a rank that ends takes the run with it.

On one card two processes share it over gloo, which a Trainer does not start; on two cards NCCL joins them, and a run with
`trainer.devices=2` is made as well.
"""

import shutil
import signal
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from gpu_parts.commands import SHORT, accelerator, tail, train
from gpu_parts.findings import Finding, Task
from gpu_parts.kill import TRACE
from gpu_parts.rank import main

EXACT = {"cpu": 1e-12, "cuda": 1e-10}
SOON = 60.0
"""Seconds within which the end of one rank must have ended the other."""
RUN_ON_CPU, RUN_ON_GPU = 12.0, 40.0
"""What a run on two devices is taken to need on an idle machine, with its start [s]."""


def findings(task: Task) -> Iterator[Finding]:
    """Two ranks against one; beside them two others, one of which is killed."""
    cards = 0 if task.on_cpu else torch.cuda.device_count()
    backend = "nccl" if cards > 1 else "gloo"
    devices = ["cpu", "cpu"] if task.on_cpu else (["cuda:0", "cuda:1"] if cards > 1 else ["cuda:0", "cuda:0"])
    yield Finding(what="two ranks on", value=f"{', '.join(devices)} over {backend}")
    weights, log = task.folder / "weights", task.folder / "ranks.log"
    log.unlink(missing_ok=True)
    groups = {"whole": begun(task, [devices[:1], devices], weights, backend, task.fault, log)}
    if backend == "gloo":
        groups["killed"] = begun(task, [devices], task.folder / "end", backend, "killed-rank", log)
    ended = together(task, groups)
    codes, _ = ended["whole"]
    said = f"{codes}" + (f" {tail(log)}" if any(codes) else "")
    yield Finding.must("one process and two ranks end with 0", not any(codes), said)
    if not any(codes):
        one, first, second = (torch.load(weights / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
        apart = max(float((one[name] - first[name]).abs().max()) for name in one if one[name].is_floating_point())
        yield Finding.at_most(
            "weights of two ranks against one process, float64, furthest apart", apart, EXACT[task.device.type]
        )
        same = all(torch.equal(first[name], second[name]) for name in first)
        yield Finding.must("both ranks hold the same bits", same)
    if "killed" in ended:
        codes, apart = ended["killed"]
        yield Finding.at_most("seconds until the end of rank 1 has ended rank 0", apart, SOON, "s")
        yield Finding.must("both end as failed", codes[1] == -signal.SIGKILL and codes[0] not in (0, None), str(codes))
    if not task.on_cpu and cards < 2:
        yield Finding(what="a run with trainer.devices=2", value="left out: a Trainer needs two cards for it")
        return
    yield from runs(task, task.folder / "runs.log")


def begun(
    task: Task, groups: list[list[str]], folder: Path, backend: str, fault: str | None, log: Path
) -> list[BaseProcess]:
    """Start a group of processes for each list of devices; they leave what they make in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "store").unlink(missing_ok=True)
    # A server that has imported all forks them sooner than each would import it. A process that knows a GPU cannot be forked.
    context = get_context("forkserver" if task.on_cpu else "spawn")
    if task.on_cpu:
        context.set_forkserver_preload(["gpu_parts.rank"])
    processes: list[BaseProcess] = []
    for devices in groups:
        for rank, device in enumerate(devices):
            arguments = (log, folder, rank, len(devices), device, backend, fault)
            processes.append(context.Process(target=main, args=arguments, daemon=True))  # type: ignore[attr-defined]
            processes[-1].start()
    return processes


def together(task: Task, groups: dict[str, list[BaseProcess]]) -> dict[str, tuple[list[int | None], float]]:
    """Wait for all groups of processes.

    Returns the exit codes of each group, and the seconds between the ends of its first and of its last process. One that
    does not end is killed: its code is None.
    """
    ends: dict[BaseProcess, float] = {}
    while task.left() > 0:
        for processes in groups.values():
            for process in processes:
                if process.exitcode is not None:
                    ends.setdefault(process, time.monotonic())
            first = min((ends[process] for process in processes if process in ends), default=None)
            if first is not None and time.monotonic() - first > 2 * SOON:
                break
        else:
            if len(ends) < sum(map(len, groups.values())):
                time.sleep(0.1)
                continue
        break
    for process in (each for processes in groups.values() for each in processes if each not in ends):
        process.kill()
    found = {}
    for name, processes in groups.items():
        times = [ends.get(process, time.monotonic()) for process in processes]
        codes = [process.exitcode if process in ends else None for process in processes]
        found[name] = (codes, max(times) - min(times))
    return found


def runs(task: Task, log: Path) -> Iterator[Finding]:
    """A whole run on two devices; then one whose second rank is killed."""
    arguments = [*SHORT, *accelerator(task), "trainer.devices=2", "threads=1"]
    for name, kill in (("whole", None), ("killed", "1:30")):
        if not task.has(RUN_ON_CPU if task.on_cpu else RUN_ON_GPU):
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
