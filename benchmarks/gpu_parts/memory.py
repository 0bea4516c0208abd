"""Part 7: ten million rows and the default model buffer on the card, what they take, and the log on the host instead."""

import gc
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from speed import ACTION, OBS
from torch import Tensor

from gpu_parts.findings import Finding, Task, synchronised
from gpu_parts.stages import SMALL_NETWORKS, Stages, fill, sac_update, set_up, stages_on
from mopo_pl.assembly import build_batches
from mopo_pl.config.compose import compose
from mopo_pl.data.batches.host_log import HostLog
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.errors import InputError
from mopo_pl.run.preparation.device_memory import bytes_needed, refuse

MEGABYTE = 1e6
ROOM = 4e9
"""Free memory of a card from which on the log has ten million rows, 1.7 GB; else it has one million [bytes]."""


def findings(task: Task) -> Iterator[Finding]:
    """What a run would keep on the card, measured; then with the log on the host."""
    # On a card that others share, or a slice of one, ten million rows and two model buffers may not fit.
    fits = task.on_cpu or torch.cuda.mem_get_info(task.device)[0] > ROOM
    rows = 50_000 if task.on_cpu else (10_000_000 if fits else 1_000_000)
    networks = SMALL_NETWORKS if task.on_cpu else ()
    stages = stages_on(task.device, ("rollout.chunk=2500", *networks), rows=2000)
    stages = replace(stages, batches=cast(OfflineDataModule, None))  # with its model buffer, which would be counted
    large = longer(stages.dataset, rows)
    config = replace(stages.config, stage="policy", dynamics_from="given")
    needed = bytes_needed(config, large)
    yield Finding(what=f"a log of {rows:.0e} rows", value=needed["the log"] / MEGABYTE, unit="MB")
    yield Finding(what="the default model buffer", value=needed["the model buffer"] / MEGABYTE, unit="MB")
    gc.collect()  # what was left in cycles must not be freed between two counts
    before = taken(task)
    data = batches_of(stages, large, on_host=False)
    resident = taken(task) - before
    expected = needed["the model buffer"] + (0 if task.on_cpu else needed["the log"])  # which a CPU holds already
    if task.fault == "more-memory":
        kept = torch.zeros(int(expected) // 4, device=task.device)
        resident += kept.numel() * kept.element_size()
    yield Finding(what="taken by them", value=resident / MEGABYTE, unit="MB")
    yield Finding.at_most("taken by them, over what was foretold", resident / expected, 1.02)
    fill(data, 50_000)
    stages = replace(stages, batches=data)
    peak = peak_of(task, stages) - before
    yield Finding(what="peak with updates and a refresh", value=peak / MEGABYTE, unit="MB")
    if not task.on_cpu:
        yield Finding.at_most("peak, over what was foretold", peak / (sum(needed.values()) + 0.5e9), 1.0)
    resident_speed = updates_per_second(task, stages)
    yield Finding(what="updates with the log on the device, eager", value=resident_speed, unit="updates/s")
    host = batches_of(stages, large, on_host=True)
    fill(host, 50_000)
    kept_there = host.log_rows.rows.device.type == "cpu"
    yield Finding.must("with data.device=cpu the log stays on the host", kept_there)
    speed = updates_per_second(task, replace(stages, batches=host))
    yield Finding(what="updates with the log on the host, eager", value=speed, unit="updates/s")
    yield Finding.must("rows that come from the host are those of the log", the_same(task, large.transitions.rows))
    yield from messages(config, large)


def longer(dataset: OfflineDataset, rows: int) -> OfflineDataset:
    """The log, repeated to so many rows."""
    times = -(-rows // len(dataset))
    logged = Transitions(dataset.transitions.rows.repeat(times, 1)[:rows], OBS, ACTION)
    return replace(dataset, transitions=logged, next_known=torch.ones(rows, dtype=torch.bool))


def batches_of(stages: Stages, dataset: OfflineDataset, *, on_host: bool) -> Any:
    """The DataModule of the policy on the device, its model buffer allocated."""
    data = build_batches(stages.config.sac, stages.config.rollout, dataset, seed=0, on_host=on_host)
    set_up(data, stages.device)
    if stages.device.type == "cpu":
        data.model_buffer.rows.zero_()  # memory of a CPU is taken when it is written
    return data


def taken(task: Task) -> float:
    """Bytes that tensors take on the device; of a CPU, what this process takes."""
    if not task.on_cpu:
        synchronised(task.device)
        return float(torch.cuda.memory_allocated(task.device))
    with open("/proc/self/statm") as file:
        return float(file.read().split()[1]) * resource.getpagesize()


def peak_of(task: Task, stages: Stages) -> float:
    """Bytes at most while there are updates and a refresh."""
    if not task.on_cpu:
        torch.cuda.reset_peak_memory_stats(task.device)
    stages.refresh.refresh(stages.sac, stages.batches)
    updates_per_second(task, stages)
    if not task.on_cpu:
        return float(torch.cuda.max_memory_allocated(task.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def updates_per_second(task: Task, stages: Stages) -> float:
    """Updates by torch's optimisers, with their sampling."""
    blocks, size = (2, 5) if task.on_cpu else (20, 10)
    for timed in (False, True):
        synchronised(task.device)
        begin = time.perf_counter()
        for _ in range(blocks if timed else 2):
            batches = stages.batches.sample(size)
            sac_update(stages, batches, stages.sac.draw_noise(batches))
        synchronised(task.device)
    return blocks * size / (time.perf_counter() - begin)


def the_same(task: Task, rows: Tensor) -> bool:
    """Whether many gathers, more than there are places in pinned memory, come out as they should."""
    generator, host = torch.Generator().manual_seed(0), HostLog(rows, task.device)
    indices = [torch.randint(len(rows), (5, 64), generator=generator) for _ in range(20)]
    fetched = list(host.fetched(indices))
    return all(torch.equal(got.cpu(), rows[index]) for got, index in zip(fetched, indices, strict=True))


def messages(config: Any, dataset: OfflineDataset) -> Iterator[Finding]:
    """What a run says before it trains where there is too little memory, and with the log on the host."""
    needed = bytes_needed(config, dataset)
    try:
        refuse(needed, needed["the log"], config)
        said = ""
    except InputError as error:
        said = str(error)
    yield Finding.must("too little memory is said before training, with a way out", "data.device=cpu" in said, said)
    there = replace(config, data=compose(["data.device=cpu"]).data)
    less = sum(bytes_needed(there, dataset).values())
    yield Finding(what="the same run with data.device=cpu", value=less / MEGABYTE, unit="MB")
