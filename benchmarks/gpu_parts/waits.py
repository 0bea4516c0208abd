"""Part 3: nothing in an update, a draw or a step of the rollouts waits for the device; how many kernels an update launches."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lightning as L
import torch
from torch.profiler import ProfilerActivity, profile

from gpu_parts.findings import Finding, Task, synchronised
from gpu_parts.graphs import nothing_falls_back
from gpu_parts.host_waits import InTrainingSteps, Waits, counted, refused_by_cuda
from gpu_parts.stages import SMALL, Stages, dynamics_step, fill, fused_dynamics, sac_update, stages_on
from mopo_pl.callbacks import MemberSelection
from mopo_pl.dynamics.rollouts import RolloutStatistics, branch, compiled_step, one_step
from mopo_pl.sac.module import SACModule

Loops = dict[str, Callable[[], Any]]
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cuGraphLaunch")
"""How the names begin that the profiler gives the launch of a kernel, or of a graph of kernels."""
ONE_FUNCTION = (
    "an update of SAC in one function",
    "a step of the ensemble in one function",
    "a step of the rollouts",
)
"""Names of the loops that a run compiles."""


class Impatient(SACModule):
    """Looks at a loss in each update: the fault `item`."""

    def update(self, optimizers: Any, batch: Any, noise: torch.Tensor, average_rate: torch.Tensor) -> torch.Tensor:
        """As the class it derives from does, but for a look at the report."""
        report = super().update(optimizers, batch, noise, average_rate)
        report[0].item()
        return report


def findings(task: Task) -> Iterator[Finding]:
    """Call each loop once, so that what is sent once is sent, and then watched."""
    options = SMALL if task.on_cpu else ()
    stages = stages_on(task.device, (*options, "dynamics.updates_per_step=1"))
    if task.fault == "item":
        stages.sac.__class__ = Impatient
    fill(stages.batches, 500)
    for name, work in loops(stages).items():
        yield watched(name, work, task.device)
    yield from in_trainers(task, options)
    yield from launches(task, loops(stages), "eager")
    yield from compiled(task, stages)


def loops(stages: Stages) -> Loops:
    """What a run does again and again between two epochs, by name."""
    sac, data, model = stages.sac, stages.batches, stages.model
    # In one function, as it would be compiled.
    fused, dynamics_fused = sac.fused_update(stages.sac_optimizers), fused_dynamics(stages.dynamics)
    fused._compiled, dynamics_fused._compiled = fused.one, dynamics_fused.one
    blocks = iter(stages.samples)
    block = next(blocks)
    generator, starts, statistics = (
        stages.refresh._generator,
        data.log_rows.observations[:64],
        RolloutStatistics(stages.device),
    )
    assert generator is not None
    alive = torch.ones(len(starts), dtype=torch.bool, device=stages.device)
    rolled = branch(model, sac.actor.act, starts, 2, stages.limits, generator)
    data.model_buffer.begin()

    def update_in_one_function() -> None:
        batches = data.sample(2)
        fused.run(batches, sac.draw_noise(batches), sac.average_rates(2))

    def update_by_optimisers() -> None:
        batches = data.sample(2)
        sac_update(stages, batches, sac.draw_noise(batches))

    def step_of_rollouts() -> None:
        with torch.no_grad():
            one_step(model, sac.actor.act, stages.limits, starts, starts, alive, model.draw(starts, generator))

    def rows_into_the_buffer() -> None:
        data.model_buffer.append(rolled.transitions.rows.flatten(0, 1), rolled.valid.flatten())
        statistics.add(rolled)

    found: Loops = {
        "a batch of SAC": lambda: data.sample(2),
        "an update of SAC by torch's optimisers": update_by_optimisers,
        ONE_FUNCTION[0]: update_in_one_function,
        "a batch of the ensemble": lambda: next(blocks),
        "a step of the ensemble by torch's optimiser": lambda: dynamics_step(stages, block[0]),
        ONE_FUNCTION[1]: lambda: dynamics_fused.run(block[:1]),
        "the starts of rollouts": lambda: data.sample_starts(64, generator),
        ONE_FUNCTION[2]: step_of_rollouts,
        "imagined rows into the model buffer": rows_into_the_buffer,
    }
    return found


def watched(name: str, work: Callable[[], Any], device: torch.device) -> Finding:
    """Call a loop once freely, once with its operations counted and, on a GPU, once under CUDA's own eye."""
    work()
    synchronised(device)
    with counted() as found:
        work()
    seen = [f"{count} x {each}" for each, count in found.items()]
    if device.type == "cuda":
        seen += seen_by_cuda(work)
    return Finding.must(f"{name} waits for nothing", not seen, ", ".join(seen))


def seen_by_cuda(work: Callable[[], Any]) -> list[str]:
    """What CUDA says where the host would wait in a loop, which it has met before; nothing where it would not."""
    try:
        with refused_by_cuda():
            work()
    except RuntimeError as error:
        return [f"CUDA: {str(error).splitlines()[0]}"]
    return []


def compiled(task: Task, stages: Stages) -> Iterator[Finding]:
    """The compiled loops under CUDA's own eye: their operations cannot be counted, since a count keeps torch from compiling."""
    if task.on_cpu:
        yield Finding.not_on_a_cpu("compiled loops under CUDA's own eye")
        return
    for name, work in compiled_loops(stages).items():
        if not task.can_compile():
            yield Finding.out_of_time(f"{name}, compiled")
            continue
        try:
            with nothing_falls_back(), task.compiling():
                work()
        except Exception as error:  # the next may be compiled all the same
            yield Finding.raised(f"{name}, compiled", error)
            continue
        work()
        synchronised(task.device)
        seen = seen_by_cuda(work)
        yield Finding.must(f"{name}, compiled, waits for nothing", not seen, ", ".join(seen))
        yield from launches(task, {name: work}, "compiled")


def compiled_loops(stages: Stages) -> Loops:
    """The loops that a run compiles."""
    sac, data, model = stages.sac, stages.batches, stages.model
    fused, dynamics_fused = sac.fused_update(stages.sac_optimizers), fused_dynamics(stages.dynamics)
    block = next(iter(stages.samples))
    starts, generator = data.log_rows.observations[:64].contiguous(), stages.refresh._generator
    alive = torch.ones(len(starts), dtype=torch.bool, device=stages.device)
    step = compiled_step(len(starts), stages.device)
    assert generator is not None

    def update() -> None:
        batches = data.sample(2)
        fused.run(batches, sac.draw_noise(batches), sac.average_rates(2))

    def step_of_rollouts() -> None:
        with torch.no_grad():
            draws = model.draw(starts, generator)
            step(model, sac.actor.act, stages.limits, starts, starts.clone(), alive, draws)

    return {
        ONE_FUNCTION[0]: update,
        ONE_FUNCTION[1]: lambda: dynamics_fused.run(block[:1]),
        ONE_FUNCTION[2]: step_of_rollouts,
    }


def in_trainers(task: Task, options: tuple[str, ...]) -> Iterator[Finding]:
    """Both stages in a Trainer, as a run makes them: within its training steps nothing waits."""
    stages = stages_on(torch.device("cpu"), (*options, "sac.updates_per_epoch=20", "sac.updates_per_step=5"))
    if task.fault == "item":
        stages.sac.__class__ = Impatient
    fits: dict[str, tuple[L.LightningModule, L.LightningDataModule, list[L.Callback]]] = {
        "the policy": (stages.sac, stages.batches, [stages.refresh]),
        "the ensemble": (
            stages.dynamics,
            stages.samples,
            [MemberSelection(patience=5, improvement=0.01, geometric=True)],
        ),
    }
    for name, (module, data, callbacks) in fits.items():
        watch = InTrainingSteps()
        accelerator = "cpu" if task.on_cpu else "gpu"
        silent: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=1,
            callbacks=[*callbacks, watch],
            enable_checkpointing=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **silent,
        )
        said = ""
        try:
            trainer.fit(module, datamodule=data)
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            said = str(error).splitlines()[0]
        finally:
            watch.stop()
        seen = ", ".join(
            [*(f"{count} x {each}" for each, count in watch.mode.found.items()), *([said] if said else [])]
        )
        yield Finding.must(f"{name} in a Trainer: no training step waits", not seen, seen)


def launches(task: Task, made: Loops, form: str) -> Iterator[Finding]:
    """Kernels launched by an update; on a CPU the operations of torch that would launch them."""
    for name in filter(made.__contains__, ONE_FUNCTION):
        work, updates = made[name], 2 if "SAC" in name else 1
        work()
        if task.on_cpu:
            with Waits() as mode:
                work()
            yield Finding(what=f"{name}, {form}: operations", value=mode.operations / updates)
            continue
        synchronised(task.device)
        try:
            with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
                work()
                synchronised(task.device)
            events = profiler.key_averages()
        except RuntimeError as error:
            yield Finding(what=f"{name}, {form}: launches", value=f"left out: {str(error).splitlines()[0]}")
            continue
        yield launched(f"{name}, {form}: launches", events, updates)


def launched(what: str, events: Iterable[Any], updates: int) -> Finding:
    """Launches by the profiler's events; none are seen where CUPTI is missing or refused, as in many containers."""
    count = sum(event.count for event in events if event.key.startswith(LAUNCHES))
    return Finding(what=what, value=count / updates if count else "left out: the profiler saw none (is CUPTI allowed?)")
