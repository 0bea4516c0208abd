"""A complete run: from a log to an ensemble, a policy and its score."""

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning_utilities.core.rank_zero import rank_zero_only

from mopo_pl.assembly.callbacks import run_facts
from mopo_pl.assembly.policy import actor_class
from mopo_pl.callbacks import Interrupted
from mopo_pl.config.compose import config_from_file, to_yaml
from mopo_pl.config.resolve import resolve
from mopo_pl.config.schema import Config
from mopo_pl.distributed.console import print_once
from mopo_pl.distributed.launch import (
    SHARED_PATH,
    broadcast_from_first,
    exit_with_parent,
    is_child_process,
    is_launched_rank,
    join_process_group,
    restored_environment,
    run_first_then_others,
)
from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.dynamics.model import load_model
from mopo_pl.dynamics.terminals.rule import load_rule, rule_facts
from mopo_pl.report.command import report_at_end
from mopo_pl.run.files.folder import RunFolder, launched_config
from mopo_pl.run.files.provenance import compare, provenance_of
from mopo_pl.run.files.result import build_result, health_of, save_result, summary
from mopo_pl.run.finished.outcome import estimate_at_end, final_evaluation, make_up
from mopo_pl.run.preparation.announcements import announce
from mopo_pl.run.preparation.device_memory import refuse_too_little_memory
from mopo_pl.run.preparation.host_memory import refuse_too_little_room
from mopo_pl.run.preparation.inputs import Inputs, open_inputs
from mopo_pl.run.resuming import is_finished, refuse_epochs_of_a_trained_ensemble, refuse_fewer_epochs, without_effect
from mopo_pl.run.stages import StageContext, leaving_if_overdue, train_dynamics, train_policy, train_termination
from mopo_pl.run.trainer import probe_flags
from mopo_pl.storage.atomic_write import refuse_unwritable, sha256_of
from mopo_pl.storage.run_records import ensemble_folder
from mopo_pl.storage.stored_json import read_json


def run(config: Config) -> int:
    """Train a new run, or resume one, as `config` describes it; return the exit code.

    Raises InputError before any training starts.
    """
    with restored_environment(), ExitStack() as at_exit:
        return _run(config, at_exit)


def _run(config: Config, at_exit: ExitStack) -> int:
    if is_child_process():
        exit_with_parent()
    config = with_named_ensemble(launched_config() or config)
    trainer = probe_flags(config.trainer)
    join_process_group(trainer)
    inputs = run_first_then_others(lambda: open_inputs(config))
    if not is_launched_rank():
        on_gpu = not isinstance(trainer.accelerator, CPUAccelerator)
        place = Path(config.resume or config.run_dir or "runs")
        refuse_too_little_room(config, inputs, on_gpu=on_gpu, folder=place, copies=trainer.num_devices)
    L.seed_everything(config.seed, verbose=False)  # for user functions that draw from global generators
    path, finished = broadcast_from_first(lambda: _prepare(config, inputs, trainer, at_exit))
    folder = RunFolder(path)
    if finished:
        print_once(f"{folder.path} is finished: nothing to resume{without_effect(config, folder)}")
        if getattr(rank_zero_only, "rank", 0) == 0:
            make_up(config, inputs, folder, at_exit)
        return 0
    config = replace(config_from_file(folder.config), resume=config.resume)
    _use_threads(config, trainer)
    refuse_too_little_memory(config, inputs.dataset, trainer.strategy.root_device)
    print_once(f"run folder {folder.path}")
    announce(config, inputs, trainer)
    signals = SignalHandler()
    context = StageContext.of(config, folder, signals, at_exit.enter_context(ExitStack()))
    try:
        with signals.installed():
            result = _stages(config, inputs, context)
    except Interrupted as stop:
        print_once(f"{stop}; saved. Continue with: {folder.resume_command(config)}")
        # Lightning kills the first process where one that it launched ends with another code than 0.
        return 0 if is_launched_rank() else stop.code
    if result is not None:
        again = folder.evaluate_command(config)
        print_once(summary(folder, result, again=again, estimated=estimate_at_end(config, inputs, folder)))
        if config.report and not config.trainer.fast_dev_run:
            report_at_end(folder.path, inputs.dataset, context.opened)
    return 0


def with_named_ensemble(config: Config) -> Config:
    """Return the configuration with links in `dynamics_from` resolved, because `runs/latest` will soon point at this run."""
    if config.dynamics_from is None:
        return config
    return replace(config, dynamics_from=str(ensemble_folder(Path(config.dynamics_from))))


def refuse_occupied(config: Config) -> None:
    """Raise InputError if the folder `run_dir` of a new run contains a run already."""
    if config.run_dir is not None and config.resume is None:
        RunFolder(Path(config.run_dir)).refuse_occupied()


def _prepare(config: Config, inputs: Inputs, trainer: L.Trainer, at_exit: ExitStack) -> tuple[Path, bool]:
    """Create or reopen the run folder and write the configuration and the provenance; return its path and whether the run is finished.

    The folder of an unfinished run is locked until `at_exit` is closed.
    """
    if is_launched_rank():
        return Path(os.environ[SHARED_PATH]), False
    checksum = None
    if config.dynamics_from is not None:
        names = ["dynamics", *(["termination"] if config.termination == "learned" else [])]
        checksums = [sha256_of(Path(config.dynamics_from) / f"{name}.safetensors") for name in names]
        checksum = checksums[0] if len(checksums) == 1 else "+".join(map(str, checksums))
    resolved = resolve(
        config,
        rows=len(inputs.dataset),
        threads=max(1, torch.get_num_threads() // trainer.num_devices),
        device="cuda" if isinstance(trainer.accelerator, CUDAAccelerator) else "cpu",
    )
    provenance = provenance_of(resolved, inputs.dataset, trainer.world_size, checksum)
    if config.resume is None:
        return RunFolder.create(resolved, to_yaml(resolved), provenance, at_exit).path, False
    folder = RunFolder.reopen(Path(config.resume))
    refuse_epochs_of_a_trained_ensemble(config, folder)
    finished = is_finished(config, folder)
    if not finished:
        for place in (folder.path, folder.checkpoints):
            refuse_unwritable(place)
        at_exit.enter_context(folder.locked())
        refuse_fewer_epochs(config, folder)
        compare(folder, provenance)
        folder.take_config(to_yaml(replace(resolved, resume=None)))
    return folder.path, finished


def _use_threads(config: Config, trainer: L.Trainer) -> None:
    assert config.threads is not None
    torch.set_num_threads(config.threads)
    if trainer.world_size > 1:
        # Otherwise Lightning sets it to the number of cores divided by the number of processes.
        os.environ["OMP_NUM_THREADS"] = str(config.threads)


def _stages(config: Config, inputs: Inputs, context: StageContext) -> dict[str, Any] | None:
    """Run all stages in order; return the result in the first process, None in the others."""
    dataset, model, folder, signals = inputs.dataset, inputs.model, context.folder, context.signals
    updates, curve, final = 0, [], None
    seconds: dict[str, float | None] = {"dynamics": None, "policy": None}
    if config.trains_model:
        if not (folder.path / "dynamics.json").exists():
            compile = "ensemble" in config.compile
            train_dynamics(config.dynamics, dataset, context, seed=config.seed, compile=compile)
        model = load_model(folder.path)
        fitted = read_json(folder.path / "dynamics.json").get("seconds")
        seconds["dynamics"] = fitted if isinstance(fitted, int | float) else None
    ends = facts = None
    if config.learns_termination:
        if not (folder.path / "termination.json").exists():
            train_termination(config.classifier, dataset, context, seed=config.seed)
        inputs = replace(inputs, rule=load_rule(folder.path))
        learned = rule_facts(folder.path)
        seconds["termination"] = learned["seconds"]
        ends = {name: learned[name] for name in ("threshold", "holdout")}
    if config.stage != "dynamics":
        model = model if config.uses_model else None
        real_ratio, known_reward = config.rollout.real_ratio, config.reward is not None
        facts = run_facts(config.sac, dataset, real_ratio=real_ratio, known_reward=known_reward)
        updates, curve, seconds["policy"] = train_policy(config, inputs, model, facts, context)
    if getattr(rank_zero_only, "rank", 0) != 0:
        return None
    if config.stage != "dynamics" and dataset.env_id is not None:
        episodes, actor = config.evaluation.final_episodes, actor_class(config.sac.actor)
        before_step = leaving_if_overdue(signals)
        final = final_evaluation(folder, episodes=episodes, seed=config.seed, actor=actor, before_step=before_step)
    result = build_result(dataset=dataset, seed=config.seed, updates=updates, seconds=seconds, curve=curve, final=final)
    if ends is not None:
        result["termination"] = ends
    result["health"] = health_of(
        folder,
        facts,
        after=config.health.after,
        elites=config.dynamics.elites,
        criterion=config.dynamics.criterion,
        final=final,
    )
    save_result(folder, result)
    return result
