"""The stages of a run. Each fits a LightningModule with a Trainer, from its newest checkpoint if there is one."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pickle import UnpicklingError
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf

import mopo_pl
from mopo_pl.assembly.batches import build_batches, build_logged_batches
from mopo_pl.assembly.callbacks import build_callbacks, build_evaluation, build_health
from mopo_pl.assembly.ensemble import build_dynamics, build_samples, build_selection
from mopo_pl.assembly.penalised_model import build_penalised_model, build_refresh
from mopo_pl.assembly.policy import as_policy, build_cloning, build_sac
from mopo_pl.assembly.terminals import build_terminal_samples, build_terminals
from mopo_pl.callbacks import Checkpoints, Interrupted, RanksAgree
from mopo_pl.config.schema import ClassifierConfig, Config, DynamicsConfig, TrainerConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.findings import of_level
from mopo_pl.data.signals import signals_of
from mopo_pl.diagnostics.health.run_facts import RunFacts
from mopo_pl.distributed.console import print_once
from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.dynamics.model import TransitionModel, save_model
from mopo_pl.dynamics.terminals.rule import chosen_rule, save_rule
from mopo_pl.errors import Diverged, InputError, PeerLost, Unwritable, is_lack_of_memory
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.files.metrics_file import MetricsFile, forget_unsaved
from mopo_pl.run.loggers import build_loggers, closed_after
from mopo_pl.run.preparation.inputs import Inputs, learned_findings
from mopo_pl.run.trainer import build_trainer
from mopo_pl.storage.checkpoints import REFRESHES, CheckpointFiles

SIGNAL_GRACE = 10.0
"""Time for which an evaluation may continue after a signal [s]."""
PEER_LOST = ("gloo", "NCCL", "closed by peer", "reset by peer")
"""Parts of torch's error messages when another process of the group has ended."""

RESTORE_ERRORS = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, UnpicklingError)
"""Errors that a checkpoint with a correct checksum and unsuitable content raises before the first batch ends."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The settings of one of the stages dynamics, termination and policy."""

    name: str
    max_epochs: int
    """Maximum number of epochs; -1: no limit."""
    at_most: bool
    """Whether the stage may end before `max_epochs`."""
    shown: tuple[str, ...]
    """Names of the logged values that the progress line shows."""


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """The settings and objects that all stages of a run share."""

    folder: RunFolder
    signals: SignalHandler
    trainer: TrainerConfig
    loggers: Mapping[str, Any]
    """Arguments of each logger, by name."""
    hyperparameters: dict[str, Any]
    """The complete configuration as plain values, for loggers."""
    save_every_minutes: float
    dataset: str
    """Label of the dataset, for loggers."""
    group: str | None
    """Name of the group of runs to which this run belongs, for loggers; None: no group."""
    callbacks: list[str]
    """The user's callbacks, each as `module:Class`."""
    log_on_host: bool
    """Whether the log is kept in the host's memory instead of the training device's."""
    resumed: bool
    """Whether an earlier command began the run."""
    shows_figures: bool
    """Whether the loggers of a stage stay open after its end, to receive the figures of the report."""
    loggers_closing: ExitStack
    """Stack that closes these loggers, before the next stage or when the run has ended."""
    opened: list[Logger] = field(default_factory=list)
    """The loggers of the last stage."""

    @classmethod
    def of(
        cls, config: Config, folder: RunFolder, signals: SignalHandler, loggers_closing: ExitStack
    ) -> "StageContext":
        """Return the context of a run with this resolved configuration. The caller closes `loggers_closing` when the run has ended."""
        return cls(
            folder=folder,
            signals=signals,
            trainer=config.trainer,
            loggers={} if config.trainer.fast_dev_run else config.logger,
            hyperparameters=OmegaConf.to_container(OmegaConf.structured(config)),  # type: ignore[arg-type]
            save_every_minutes=config.checkpoint.every_minutes,
            dataset=config.dataset_label,
            group=config.group,
            callbacks=config.callbacks,
            log_on_host=config.data.device == "cpu",
            resumed=config.resume is not None,
            shows_figures=config.report and not config.trainer.fast_dev_run,
            loggers_closing=loggers_closing,
        )


class FirstBatch(L.Callback):
    """A callback that records whether a batch was trained on. Later errors are not caused by an unsuitable checkpoint."""

    def __init__(self) -> None:
        self.done = False

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Record that a batch was trained on."""
        self.done = True


def fit_stage(
    stage: Stage,
    module: L.LightningModule,
    data: L.LightningDataModule,
    callbacks: list[L.Callback],
    context: StageContext,
    best_by: Callable[[], float | None] = lambda: None,
) -> tuple[L.Trainer, float]:
    """Train a stage to its end; return the Trainer and the training time over all resumptions [s].

    Args:
        stage: Name and limits of the stage.
        module: The module to train.
        data: Its training data.
        callbacks: Callbacks of this stage. Those of all stages are added.
        context: What all stages of the run share.
        best_by: Returns the mean return of the current weights, or None if they were not evaluated. The checkpoint with the highest
            mean return is kept.

    Raises InputError if training cannot be continued from the newest checkpoint, PeerLost if another process of the group ended.

    """
    folder, signals = context.folder, context.signals
    files = CheckpointFiles(folder.checkpoints, stage.name)
    saving = Checkpoints(
        files,
        every_minutes=context.save_every_minutes,
        signalled=lambda: signals.received,
        best_by=best_by,
    )
    metrics = MetricsFile(folder.metrics, stage=stage.name)
    newest, first_batch = files.newest_valid(), FirstBatch()
    files.drop_after(newest)
    if newest is not None:
        print_once(f"{stage.name}: continues from {newest.name}")
    elif context.resumed:
        print_once(f"{stage.name}: there is no checkpoint, so that it starts from its beginning")
    context.loggers_closing.close()
    built = build_loggers(
        context.loggers, context.hyperparameters, folder, metrics, dataset=context.dataset, group=context.group
    )
    context.opened[:] = built
    with ExitStack() as closing:
        loggers = closing.enter_context(closed_after(built))
        trainer = build_trainer(
            replace(context.trainer, max_epochs=stage.max_epochs),
            folder,
            stage=stage.name,
            at_most=stage.at_most,
            shown=stage.shown,
            callbacks=[
                *callbacks,
                *build_callbacks(context.callbacks),
                first_batch,
                signals.reinstall_callback(),
                forget_unsaved(metrics),
                RanksAgree(),
                saving,
            ],
            loggers=[*loggers, metrics],
        )
        try:
            trainer.fit(module, datamodule=data, ckpt_path=None if newest is None else str(newest), weights_only=True)
        except RESTORE_ERRORS as error:
            if trainer.world_size > 1 and any(sign in str(error) for sign in PEER_LOST):
                raise PeerLost from error
            told = isinstance(error, InputError | Unwritable | Diverged) or is_lack_of_memory(error)
            if newest is None or first_batch.done or told:
                raise
            raise InputError(
                f"{newest} cannot be continued from ({type(error).__name__}: {' '.join(str(error).split())[:200]}): remove it, and "
                "the run goes on from the checkpoint before it"
            ) from error
        if context.shows_figures:
            context.loggers_closing.push(closing.pop_all())
    return trainer, saving.seconds


def train_dynamics(
    settings: DynamicsConfig, dataset: OfflineDataset, context: StageContext, *, seed: int, compile: bool
) -> None:
    """Run stage 1: fit the ensemble to the log and write `dynamics.*`."""
    stage = Stage(
        name="dynamics",
        max_epochs=settings.max_epochs or -1,
        at_most=True,
        shown=("dynamics/train_loss", "dynamics/holdout_mse_0"),
    )
    samples = build_samples(settings, dataset, seed=seed, on_host=context.log_on_host)
    selection = build_selection(settings)
    module = build_dynamics(settings, samples, seed=seed, compile=compile)
    trainer, seconds = fit_stage(stage, module, samples, [selection], context)
    model = module.model().to("cpu")
    if trainer.is_global_zero:
        best = [] if selection.best is None else selection.best.tolist()
        facts = {"holdout_error": best, "epochs": selection.epochs, "seconds": seconds, "dataset": dataset.hash}
        save_model(model, context.folder.path, facts)
    trainer.strategy.barrier()


def train_termination(settings: ClassifierConfig, dataset: OfflineDataset, context: StageContext, *, seed: int) -> None:
    """Fit the classifier of terminals after stage 1, choose its threshold on held-out rows, and write `termination.*`."""
    stage = Stage(
        name="termination",
        max_epochs=settings.epochs,
        at_most=False,
        shown=("termination/train_loss", "termination/holdout_auc"),
    )
    samples = build_terminal_samples(settings, dataset, seed=seed, on_host=context.log_on_host)
    module = build_terminals(settings, samples, seed=seed)
    trainer, seconds = fit_stage(stage, module, samples, [], context)
    module.to("cpu")
    if trainer.is_global_zero:
        rule, facts = chosen_rule(module.classifier, samples.held_out().to("cpu"))
        save_rule(rule, context.folder.path, {**facts, "seconds": seconds, "dataset": dataset.hash})
        for warning in of_level("WARN", learned_findings(rule, dataset)):
            print_once(f"warning: {warning}")
    trainer.strategy.barrier()


def leaving_if_overdue(signals: SignalHandler) -> Callable[[], None]:
    """Return a function that raises Interrupted if a signal came more than `SIGNAL_GRACE` seconds ago.

    It is called before each step of an evaluation. A short evaluation ends before the time is over, and its epoch is saved. An
    interrupted evaluation is repeated on resume.
    """

    def leave() -> None:
        number = signals.overdue(SIGNAL_GRACE)
        if number is not None:
            raise Interrupted(number)

    return leave


def train_policy(
    config: Config, inputs: Inputs, model: TransitionModel | None, facts: RunFacts, context: StageContext
) -> tuple[int, list[list[float]], float]:
    """Run stage 2: train SAC on the log and, if there is a model, on rollouts, or clone the log's policy; write `policy/`.

    `facts`: facts about the run that the health checks use. Returns the number of updates, the curve ([updates, mean return] of each
    evaluation) and the training time [s].
    """
    stage = Stage(
        name="policy",
        max_epochs=config.trainer.max_epochs,
        at_most=False,
        shown=("evaluation/return", "policy/cloning_error", "policy/q1", "policy/alpha", "rollout/penalty"),
    )
    seed, dataset, on_host = config.seed, inputs.dataset, context.log_on_host
    if config.algorithm == "bc":
        module = build_cloning(config.sac, dataset, seed=seed)
        data = build_logged_batches(config.sac, dataset, seed=seed, on_host=on_host)
    else:
        module = build_sac(config.sac, dataset, inputs.reward, seed=seed, compile="policy" in config.compile)
        refreshes = context.folder.checkpoints / REFRESHES
        data = build_batches(config.sac, config.rollout, dataset, seed=seed, refresh_folder=refreshes, on_host=on_host)
    before_step = leaving_if_overdue(context.signals)
    evaluation = (
        build_evaluation(config.evaluation, dataset, seed=seed, before_step=before_step) if dataset.env_id else None
    )
    callbacks: list[L.Callback] = [] if model is None else [_refresh(config, inputs, model)]
    callbacks += [evaluation] if evaluation else []
    callbacks += [build_health(config.health, facts)]
    best_by = (lambda: evaluation.after(module.updates)) if evaluation else (lambda: None)
    trainer, seconds = fit_stage(stage, module, data, callbacks, context, best_by)
    module.to("cpu")
    if trainer.is_global_zero:
        meta = _meta_of(config, dataset, context.folder)
        if config.algorithm == "bc":
            meta["cloned"] = True  # σ is untrained
        as_policy(module, dataset, meta).save(context.folder.policy)
    trainer.strategy.barrier()
    return module.updates, evaluation.history if evaluation else [], seconds


def _meta_of(config: Config, dataset: OfflineDataset, folder: RunFolder) -> dict[str, Any]:
    """Return the description that is stored with the policy: environment, log, run, and names, units and ranges of the columns."""
    observations, actions = signals_of(dataset, config.data.units)
    return {
        "env_id": dataset.env_id,
        "env_kwargs": dict(dataset.env_kwargs),
        # Not the path of the log: the policy may be given to others.
        "dataset": {"name": config.dataset_label, "hash": dataset.hash, "rows": len(dataset)},
        "run": folder.path.name,
        "mopo_pl": mopo_pl.__version__,
        "signals": {"observations": observations.plain(), "actions": actions.plain()},
    }


def _refresh(config: Config, inputs: Inputs, model: TransitionModel) -> L.Callback:
    assert inputs.rule is not None
    penalised = build_penalised_model(
        config.penalty, model, inputs.rule, inputs.dataset, inputs.reward, discount=config.sac.discount
    )
    if penalised.halt is not None:
        sides, limits = 4 * inputs.dataset.transitions.newest_dim, penalised.halt.known.count
        print_once(
            f"an imagined episode ends where it leaves the log's range: {limits} of {sides} bounds on states and on their changes hold"
        )
    compile = "rollouts" in config.compile
    return build_refresh(config.rollout, penalised, inputs.dataset, seed=config.seed, compile=compile)
