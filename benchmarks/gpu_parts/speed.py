"""Part 4: the three phases in all forms beside the plain forms of `benchmarks/speed.py`, and several seeds on one device.

Random data with HalfCheetah's shapes, and default sizes; on a CPU, where the check itself is tried, small ones. Forms are
measured in turn; a value is the median of its repetitions.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import lightning as L
import torch
from speed import WORK, PlainEnsemble, PlainSAC, started
from torch._inductor import config as inductor

from gpu_parts.findings import Finding, Task, synchronised
from gpu_parts.graphs import FORMS, graphs_are_replayed, in_form, nothing_falls_back
from gpu_parts.stages import SMALL, Stages, fill, fused_dynamics, stages_on
from mopo_pl.assembly import build_dynamics, build_refresh, build_sac
from mopo_pl.callbacks import StageProgress
from mopo_pl.dynamics.rollouts import one_step
from mopo_pl.nn.fused_update import FusedUpdate
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.module import SACModule

Works = dict[str, Callable[[], Any]]
BLOCK = 10
"""K: updates of a block, as in a run."""
TRAINED = 5.0
"""What the epochs in a Trainer are taken to need on an idle machine [s]."""
REPEATED = 3.0
"""What the repetitions of a form are taken to need on an idle machine [s]."""


def findings(task: Task) -> Iterator[Finding]:
    """In order of value; what the time is too short for is left out."""
    products = {}
    for name, value in product_speeds(task).items():
        if not task.on_cpu:
            products[name] = value
        yield Finding(what=f"fastest square product, {name}", value=value / 1e12, unit="TFLOP/s")
    yield from policy(task, 64 if task.on_cpu else 256, products)
    yield from ensemble(task, products)
    yield from rollouts(task, products)
    yield from seeds(task)
    yield from in_a_trainer(task)
    for batch in () if task.on_cpu else (1024, 4096):
        if task.can_compile(REPEATED):
            yield from policy(task, batch, products)
        else:
            yield Finding.out_of_time(f"SAC, batches of {batch}")


def sizes(task: Task) -> tuple[str, ...]:
    """Default sizes; small ones on a CPU."""
    return SMALL if task.on_cpu else ()


def product_speeds(task: Task) -> dict[str, float]:
    """Operations per second of the fastest square product of each kind."""
    before, found = torch.get_float32_matmul_precision(), {}
    for name, precision, dtype in (
        ("fp32", "highest", torch.float32),
        ("TF32", "high", torch.float32),
        ("bf16", "highest", torch.bfloat16),
    ):
        if task.on_cpu and name != "fp32":
            continue
        torch.set_float32_matmul_precision(precision)
        speeds = []
        for size in (1024,) if task.on_cpu else (2048, 4096, 8192):
            square = torch.randn(size, size, device=task.device, dtype=dtype)
            works = {"product": lambda square=square: [torch.matmul(square, square) for _ in range(3)]}
            speeds.append(3 * 2 * size**3 / medians(works, task, 3)["product"])
        found[name] = max(speeds)
    torch.set_float32_matmul_precision(before)
    return found


def medians(works: Works, task: Task, repetitions: int) -> dict[str, float]:
    """Seconds of each, called in turn; the first call of each only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repetitions + 1):
        for name, work in works.items():
            synchronised(task.device)
            begin = time.perf_counter()
            work()
            synchronised(task.device)
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def variants(task: Task) -> list[tuple[str, bool]]:
    """The forms that this device has, each with whether it computes in bf16."""
    forms = [(form, False) for form in FORMS if not (task.on_cpu and form == "reduce-overhead")]
    return forms if task.on_cpu else [*forms, ("compiled", True)]


def made_in_forms(
    task: Task, name: str, works: Works, make: Callable[[str, bool], Callable[[], Any]]
) -> Iterator[Finding]:
    """Add what `make` returns for each form, called once, to the works; say what fails, and what the time is too short for."""
    for form, bf16 in variants(task):
        label = f"{form}, bf16" if bf16 else form
        if form != "eager" and not task.can_compile(REPEATED):
            yield Finding.out_of_time(f"{name}, {label}")
            continue
        try:
            with (
                nullcontext() if form == "eager" else task.compiling(),
                graphs_are_replayed(form),
                precision(task, bf16),
            ):
                work = make(form, bf16)
                work()
        except Exception as error:  # one form may fail where the others run
            yield Finding.raised(f"{name}, {label}", error)
        else:
            works[label] = work


def policy(task: Task, batch: int, products: dict[str, float]) -> Iterator[Finding]:
    """Updates with their sampling in each form, beside plain SAC."""
    stages = stages_on(task.device, (*sizes(task), f"sac.batch_size={batch}"), rows=5000)
    data = stages.batches
    fill(data, 50_000)
    with torch.device(task.device):
        plain = PlainSAC(data, stages.config.sac.hidden_sizes)
    calls = 2 if task.on_cpu else 20
    works: Works = {"plain": lambda: [plain.update() for _ in range(BLOCK * calls)]}
    name = f"SAC, batches of {batch}"

    def make(form: str, bf16: bool) -> Callable[[], None]:
        module = policy_of(stages)
        fused = module.fused_update(module.configure_optimizers()[0])
        return updating(task, module, data, fused, form, calls, bf16)

    yield from made_in_forms(task, name, works, make)
    seconds = medians(works, task, 3)
    yield from reported(name, "updates/s", BLOCK * calls, WORK["sac"] * batch / 256, seconds, products)
    yield fastest(name, seconds)


def policy_of(stages: Stages) -> SACModule:
    """A policy of its own on the device."""
    module = build_sac(stages.config.sac, stages.dataset, seed=0, compile=False).to(stages.device)
    module._noise = generator_for(0, "updates", 0, stages.device)
    return module


def precision(task: Task, bf16: bool) -> Any:
    """Autocast as a Trainer of this precision has it."""
    if not bf16:
        return nullcontext()
    return torch.autocast(task.device.type, torch.bfloat16, cache_enabled=False)


def updating(
    task: Task, module: SACModule, data: Any, fused: FusedUpdate, form: str, calls: int, bf16: bool
) -> Callable[[], None]:
    """Blocks of updates with their sampling in one form."""

    def inputs() -> tuple[Any, ...]:
        batches = data.sample(BLOCK)
        return batches, module.draw_noise(batches), module.average_rates(BLOCK)

    run = in_form(fused, form, *inputs())

    def work() -> None:
        with precision(task, bf16):
            for _ in range(calls):
                if task.fault == "slow-update":
                    time.sleep(0.5)
                run(*inputs())

    return work


def reported(
    name: str, unit: str, units: int, work: float, seconds: dict[str, float], products: dict[str, float]
) -> Iterator[Finding]:
    """The speed of each form, and its share of the fastest products, which are measured for networks of default sizes."""
    for form, value in seconds.items():
        yield Finding(what=f"{name}, {form}", value=units / value, unit=unit)
    best = min(seconds, key=lambda form: seconds[form])
    for kind, product in products.items():
        share = work * units / seconds[best] / product
        yield Finding(what=f"{name}, {best}: share of the {kind} product", value=100 * share, unit="%")


def fastest(name: str, seconds: dict[str, float]) -> Finding:
    """The best of this project's forms over the plain one: faster, where a compiled form was measured.

    An eager update in one function takes gradients by torch.func, which costs small networks up to half of the speed.
    """
    ours = {form: value for form, value in seconds.items() if form != "plain"}
    least = 1.0 if ours.keys() - {"eager"} else 0.4
    return Finding.at_least(
        f"{name}: the fastest form over the plain one", seconds["plain"] / min(ours.values()), least
    )


def ensemble(task: Task, products: dict[str, float]) -> Iterator[Finding]:
    """Steps of the ensemble in each form, beside a loop over seven networks."""
    stages = stages_on(task.device, (*sizes(task), f"dynamics.updates_per_step={BLOCK}"), rows=10_000)
    blocks = [block for block in stages.samples if len(block) == BLOCK][: 1 if task.on_cpu else 3]
    assert blocks
    with torch.device(task.device):
        plain = PlainEnsemble(stages.config.dynamics.hidden_sizes)

    def plain_steps() -> None:
        with torch.device(task.device):
            plain.steps(blocks)  # type: ignore[arg-type]

    works: Works = {"plain": plain_steps}
    name = f"ensemble, 7 x {stages.config.dynamics.batch_size} transitions"

    def make(form: str, bf16: bool) -> Callable[[], None]:
        module = build_dynamics(stages.config.dynamics, stages.samples, seed=0, compile=False).to(task.device)
        run = in_form(fused_dynamics(module), form, blocks[0])

        def work() -> None:
            with precision(task, bf16):
                for block in blocks:
                    run(block)

        return work

    yield from made_in_forms(task, name, works, make)
    seconds = medians(works, task, 3)
    yield from reported(name, "steps/s", BLOCK * len(blocks), WORK["dynamics"], seconds, products)
    yield fastest(name, seconds)


def rollouts(task: Task, products: dict[str, float]) -> Iterator[Finding]:
    """Whole refreshes of the model buffer, eager and compiled."""
    shapes = [(500, 5)] if task.on_cpu else [(2500, 20), (50_000, 5)]
    for starts, horizon in shapes:
        options = (*sizes(task), f"rollout.starts={starts}", f"rollout.horizon={horizon}", "rollout.chunk=50000")
        stages = stages_on(task.device, options, rows=5000)
        works: Works = {"eager": lambda stages=stages: stages.refresh.refresh(stages.sac, stages.batches)}
        name = f"rollouts of {starts} starts and {horizon} steps"
        if task.can_compile(REPEATED):
            settings = stages.config.rollout
            compiled = build_refresh(settings, stages.model, stages.dataset, seed=0, compile=True)
            started(compiled, stages.sac)
            assert compiled._step is not one_step
            works["compiled"] = lambda compiled=compiled, stages=stages: compiled.refresh(stages.sac, stages.batches)
        else:
            yield Finding.out_of_time(f"{name}, compiled")
        with nothing_falls_back():
            works["eager"]()
            if "compiled" in works:
                try:
                    with task.compiling():
                        works["compiled"]()
                except Exception as error:  # the other form runs all the same
                    del works["compiled"]
                    yield Finding.raised(f"{name}, compiled", error)
            seconds = medians(works, task, 3)
        yield from reported(name, "transitions/s", starts * horizon, WORK["rollout"], seconds, products)


def in_a_trainer(task: Task) -> Iterator[Finding]:
    """Updates in a Trainer with progress and logging, by the compiled update where the time allows."""
    if not task.has(TRAINED):
        yield Finding.out_of_time("SAC in a Trainer")
        return
    compiled = task.can_compile(TRAINED)
    per_epoch = 100 if task.on_cpu else 1000
    options = (*sizes(task), f"sac.updates_per_epoch={per_epoch}", "rollout.real_ratio=1")
    stages = stages_on(torch.device("cpu"), options, rows=5000)
    clock, silent = Clock(), {"logger": False, "enable_model_summary": False, "enable_checkpointing": False}
    module = build_sac(stages.config.sac, stages.dataset, seed=0, compile=compiled)
    progress = StageProgress(stage="policy", shown=(), at_most=False, every_seconds=5.0)
    trainer = L.Trainer(
        accelerator="cpu" if task.on_cpu else "gpu",
        devices=1,
        max_epochs=3,
        callbacks=[clock, progress],
        **silent,  # type: ignore[arg-type]
    )
    trainer.fit(module, datamodule=stages.batches)
    value = per_epoch / min(clock.seconds[1:])
    form = "compiled" if compiled else "by torch's optimisers"
    yield Finding(what=f"SAC in a Trainer, {form}, logged rows alone", value=value, unit="updates/s")


class Clock(L.Callback):
    """The seconds of each epoch's training steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin."""
        synchronised(pl_module.device)
        self.begin = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End."""
        synchronised(pl_module.device)
        self.seconds.append(time.perf_counter() - self.begin)


def seeds(task: Task) -> Iterator[Finding]:
    """Updates per second of several processes on one device, in all."""
    numbers, form = ((1, 2), "eager") if task.on_cpu else ((1, 2, 4, 8), "compiled")
    if not task.has(12 if task.on_cpu else 90):
        yield Finding.out_of_time("several seeds side by side")
        return
    spawn, orders, processes = get_context("spawn"), [], []
    for seed in range(max(numbers)):
        ours, theirs = spawn.Pipe()
        arguments = (seed, str(task.device), form, theirs)
        processes.append(spawn.Process(target=seed_process, args=arguments, daemon=True))
        processes[-1].start()
        theirs.close()  # so that the end of the process is noticed
        orders.append(ours)
    try:
        yield from side_by_side(task, orders, numbers, form)
    except (EOFError, OSError) as error:  # one has ended, for want of memory or of a card that several may share
        yield Finding.raised("several seeds side by side (the log says why one ended)", error)
    finally:
        for process in processes:  # else they would use the device beside what comes next
            process.kill()
            process.join()


def side_by_side(task: Task, orders: list[Connection], numbers: tuple[int, ...], form: str) -> Iterator[Finding]:
    """The speed of more and more of the processes at once. Raises EOFError or OSError where one has ended."""
    for order in orders:
        if not order.poll(max(0.0, task.left() - 20)):
            yield Finding.out_of_time("several seeds side by side")
            return
        order.recv()
    alone = None
    for number in numbers:
        for order in orders[:number]:
            order.send(1.0 if task.on_cpu else 3.0)
        total = sum(order.recv() for order in orders[:number])
        alone = alone or total
        what = f"SAC, {form}, {number} processes side by side, in all"
        yield Finding(what=what, value=total, unit="updates/s")
        yield Finding(what="the same, over one process", value=total / alone)


def seed_process(seed: int, device: str, form: str, orders: Connection) -> None:
    """Make one seed's updates for as many seconds as each order says; answer with the updates per second."""
    torch.set_num_threads(1)
    # Else each process starts a pool of its own, of all cores. Its environment variable is read on import, which is over.
    inductor.compile_threads = 1
    task = Task(device=torch.device(device), folder=None, seconds=600)  # type: ignore[arg-type]
    stages = stages_on(task.device, (*sizes(task), f"seed={seed}"), rows=5000)
    fill(stages.batches, 5000)
    fused = stages.sac.fused_update(stages.sac_optimizers)
    work = updating(task, stages.sac, stages.batches, fused, form, 1, False)
    work()
    orders.send("ready")
    while seconds := orders.recv():
        synchronised(task.device)
        begin, blocks = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            work()
            synchronised(task.device)
            blocks += 1
        orders.send(blocks * BLOCK / (time.perf_counter() - begin))
