"""Part 2: each computation of a run on the device, compared with float64 on the CPU, from the same weights and draws."""

from collections.abc import Callable, Iterator

import torch
from speed import ACTION, OBS
from torch import Tensor, nn
from torch.func import grad

from gpu_parts.findings import Finding, Task
from gpu_parts.graphs import nothing_falls_back
from gpu_parts.stages import SMALL, Stages, drawn, dynamics_step, fused_dynamics, sac_update, stages_on, transitions
from mopo_pl.data.batches.model_buffer import ModelBuffer
from mopo_pl.dynamics.penalised_model import Draws
from mopo_pl.dynamics.penalties import PENALTIES
from mopo_pl.dynamics.rollouts import RolloutStep, Stepper, compiled_step, one_step
from mopo_pl.nn.fused_update import FusedUpdate
from mopo_pl.nn.layers import parameters_of

Tensors = dict[str, Tensor]
UPDATES = 3
EXACT = 1e-10
"""Largest difference of any weight or value in float64, of size 1."""
TOLERANCES = {"fp32": 1e-5, "TF32": 1e-2, "bf16": 5e-2}
"""Largest error of a group of gradients or of imagined rows against float64, relative to its norm."""


def findings(task: Task) -> Iterator[Finding]:
    """Compare; the compiled forms last, since compiling takes longest."""
    options, device, cpu = SMALL if task.on_cpu else (), task.device, torch.device("cpu")
    exact = stages_on(cpu, options, dtype=torch.float64)
    reference = everything(exact)
    there = stages_on(device, options, dtype=torch.float64)
    if task.fault == "wrong-weight":
        with torch.no_grad():
            there.sac.actor.layers[0].weight[0, 0] += 1e-6  # type: ignore[index,operator]
    for name, value in everything(there).items():
        yield Finding.at_most(f"{name}, float64, furthest apart", furthest(value, reference[name]), EXACT)
    yield from model_buffer(task)
    yield from lower_precisions(options, device, reference)
    compiled = {"updates of SAC": sac_fused, "steps of the ensemble": dynamics_fused, "a step of the rollouts": rollout}
    for name, work in compiled.items():
        if not task.can_compile():
            yield Finding.out_of_time(f"{name}, compiled")
            continue
        try:
            with nothing_falls_back(), task.compiling():
                both = [work(stages_on(device, options, dtype=torch.float64), form) for form in (False, True)]
        except Exception as error:  # the next may be compiled all the same
            yield Finding.raised(f"{name}, compiled", error)
            continue
        yield Finding.at_most(f"{name}, float64, compiled against eager", furthest(both[1], both[0]), 1e-9)


def everything(stages: Stages) -> dict[str, Tensors]:
    """Make what a run computes, but for the compiled forms, from numbers that are drawn on the CPU. Changes the weights."""
    return {
        "a step of the rollouts": rollout(stages),
        "penalties": penalties(stages),
        "gradients of SAC": sac_gradients(stages),
        "the gradient of the ensemble": dynamics_gradients(stages),
        "three updates of SAC": sac_steps(stages),
        "three steps of the ensemble": dynamics_steps(stages),
        "cloning's mean action": {"action": stages.sac(observations(stages))},
    }


def observations(stages: Stages) -> Tensor:
    """States [B, D] in the device's dtype."""
    return drawn(stages.config.sac.batch_size, OBS, seed=1).to(stages.batches.log_rows.rows)


def batches_of(stages: Stages) -> tuple[tuple[Tensor, ...], Tensor]:
    """The batches of SAC [K, B, W] and ε [K, 2, B, A] of all comparisons."""
    like, size = stages.batches.log_rows.rows, stages.config.sac.batch_size
    noise = drawn(UPDATES, 2, size, ACTION, seed=2).to(like)
    return (transitions(UPDATES, size, like=like).rows,), noise


def sac_gradients(stages: Stages) -> Tensors:
    """The gradients of the critics, the actor and the temperature, by parameter."""
    (rows,), noise = batches_of(stages)
    batch, sac = transitions(UPDATES, rows.shape[1], like=rows)[0], stages.sac
    weights, equations = sac.weights(), sac._gradients
    critic, _, _ = equations.of_critic(
        weights.critic, weights.target_critic, weights.actor, weights.log_alpha, batch, noise[0, 0]
    )
    actor, _, log_prob = equations.of_actor(weights.actor, weights.critic, weights.log_alpha, batch, noise[0, 1])
    alpha, _ = equations.of_temperature(weights.log_alpha, log_prob)
    named = {f"critic.{name}": value for name, value in critic.items()}
    return named | {f"actor.{name}": value for name, value in actor.items()} | {"log_alpha": alpha}


def dynamics_gradients(stages: Stages) -> Tensors:
    """The gradients of the ensemble, by parameter."""
    return grad(stages.dynamics._equation)(parameters_of(stages.dynamics.ensemble), ensemble_batch(stages, 0))


def ensemble_batch(stages: Stages, seed: int):
    """Rows [E, B, W] of a step of the ensemble."""
    settings = stages.config.dynamics
    return transitions(settings.members, settings.batch_size, like=stages.samples.log_rows.rows, seed=seed)


def sac_steps(stages: Stages) -> Tensors:
    """Weights and reports after updates by torch's optimisers."""
    (rows,), noise = batches_of(stages)
    reports = sac_update(stages, transitions(UPDATES, rows.shape[1], like=rows), noise)
    return weights_of(stages.sac) | {"reports": reports}


def dynamics_steps(stages: Stages) -> Tensors:
    """Weights and losses after steps by torch's optimiser."""
    losses = [dynamics_step(stages, ensemble_batch(stages, seed)) for seed in range(UPDATES)]
    return weights_of(stages.dynamics.ensemble) | {"losses": torch.stack(losses)}


def sac_fused(stages: Stages, compiled: bool) -> Tensors:
    """Weights and reports after updates in one function."""
    (rows,), noise = batches_of(stages)
    fused = stages.sac.fused_update(stages.sac_optimizers)
    rates = stages.sac.average_rates(UPDATES)
    reports = in_form(fused, compiled).run(transitions(UPDATES, rows.shape[1], like=rows), noise, rates)
    return weights_of(stages.sac) | {"reports": reports}


def dynamics_fused(stages: Stages, compiled: bool) -> Tensors:
    """Weights and losses after steps of the ensemble in one function."""
    fused = fused_dynamics(stages.dynamics)
    settings, like = stages.config.dynamics, stages.samples.log_rows.rows
    batches = transitions(UPDATES, settings.members, settings.batch_size, like=like)
    return weights_of(stages.dynamics.ensemble) | {"losses": in_form(fused, compiled).run(batches)}


def in_form(fused: FusedUpdate, compiled: bool) -> FusedUpdate:
    """Return the update, which runs eagerly unless it is to be compiled; a compiled one does not fall back."""
    fused._compiled = fused._compiled._compiled if compiled else fused.one  # type: ignore[attr-defined]
    return fused


def rollout(stages: Stages, compiled: bool = False) -> Tensors:
    """One step of rollouts, with its cost."""
    states = observations(stages)
    step: Stepper = compiled_step(len(states), stages.device) if compiled else one_step
    alive = (drawn(len(states), seed=5) > -1).to(stages.device)
    arguments = stages.model, stages.sac.actor.act, stages.limits, states, states.clone(), alive, draws_for(stages)
    with torch.no_grad():
        made: RolloutStep = step(*arguments)
    return {name: value for name, value in made._asdict().items() if isinstance(value, Tensor)}


def draws_for(stages: Stages) -> Draws:
    """The random numbers of a step of rollouts."""
    states = observations(stages)
    elites = stages.model.transition.elites
    chosen = torch.randint(len(elites), (len(states),), generator=torch.Generator().manual_seed(3)).to(stages.device)
    noise, outcome = drawn(len(states), ACTION, seed=3).to(states), drawn(len(states), 1 + OBS, seed=4).to(states)
    return Draws(noise, elites[chosen], outcome)


def penalties(stages: Stages) -> Tensors:
    """Each built-in u(s, a), by name."""
    states = observations(stages)
    with torch.no_grad():
        inputs = torch.cat([states, drawn(len(states), ACTION, seed=6).tanh().to(states)], -1)
        predicted = stages.model.transition.predict(inputs)
        return {name: penalty(*predicted) for name, penalty in PENALTIES.items()}


def model_buffer(task: Task) -> Iterator[Finding]:
    """The places of stored rows, on the device and on the CPU; then a draw on the device."""
    buffers: list[ModelBuffer] = []
    for device in (torch.device("cpu"), task.device):
        buffer = ModelBuffer(slots=3, capacity=1000, width=4, device=device, dtype=torch.float64)
        for number in range(4):  # the first slot is emptied
            rows = drawn(900, 4, seed=number)
            valid = rows[:, 0] > 0.3 * number
            buffer.begin()
            for part in range(3):
                of_part = slice(300 * part, 300 * (part + 1))
                buffer.append(rows[of_part].to(device), valid[of_part].to(device))
            buffer.end()
        buffers.append(buffer)
    first, second = buffers
    every = torch.arange(len(first))
    there = second.at(every.to(task.device)).cpu()
    if task.fault == "wrong-place":
        there = there.roll(1, 0)
    yield Finding.must("the model buffer holds the same rows at the same places", torch.equal(first.at(every), there))
    size = 100_000
    counts = torch.bincount(second.draw(size, torch.Generator(task.device).manual_seed(0)).cpu(), minlength=len(second))
    expected = size / len(second)
    # χ² with n - 1 degrees of freedom, as a standard normal number.
    score = float(((counts - expected).square().sum() / expected - (len(second) - 1)) / (2 * len(second)) ** 0.5)
    yield Finding.at_most("the draw of the model buffer, χ² as a normal number", abs(score), 5.0)


def lower_precisions(
    options: tuple[str, ...], device: torch.device, reference: dict[str, Tensors]
) -> Iterator[Finding]:
    """Gradients and imagined rows in fp32, TF32 and bf16 against float64."""
    works: dict[str, Callable[[Stages], Tensors]] = {
        "a step of the rollouts": rollout,
        "gradients of SAC": sac_gradients,
        "the gradient of the ensemble": dynamics_gradients,
        "penalties": penalties,
    }
    stages, before = stages_on(device, options), torch.get_float32_matmul_precision()
    for precision, most in TOLERANCES.items():
        if precision == "TF32" and device.type == "cpu":
            yield Finding.not_on_a_cpu("TF32")
            continue
        torch.set_float32_matmul_precision("high" if precision == "TF32" else "highest")
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
                made = {name: work(stages) for name, work in works.items()}
        finally:
            torch.set_float32_matmul_precision(before)
        for name, value in made.items():
            yield Finding.at_most(f"{name}, {precision}, relative error", relative(value, reference[name]), most)


def furthest(first: Tensors, second: Tensors) -> float:
    """The largest difference of any two values, relative to those above 1; inf where one has other entries or a NaN."""
    if first.keys() != second.keys():
        return float("inf")
    apart = [0.0]
    for name, value in first.items():
        ours, theirs = value.detach().double().cpu(), second[name].detach().double().cpu()
        difference = (ours - theirs).abs() / theirs.abs().clamp(min=1)
        apart.append(float(difference.nan_to_num(nan=torch.inf).max()))
    return max(apart)


def relative(first: Tensors, second: Tensors) -> float:
    """‖x - y‖/‖y‖ of all values laid end to end."""
    ours, theirs = (
        torch.cat([values[name].detach().double().cpu().flatten() for name in second]) for values in (first, second)
    )
    return float((ours - theirs).norm() / theirs.norm())


def weights_of(module: nn.Module) -> Tensors:
    """A module's parameters and buffers that are floating point."""
    return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
