"""Train soft actor-critic in an environment, and keep its replay buffer and its intermediate policies."""

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from mopo_pl.assembly.callbacks import evaluation_seed
from mopo_pl.assembly.policy import build_sac
from mopo_pl.callbacks import OnlineSteps, PolicyEvaluation, PolicySnapshots
from mopo_pl.config.compose import to_yaml
from mopo_pl.config.resolve import resolve
from mopo_pl.config.schema import Config
from mopo_pl.data.batches.replay_buffer import ReplayDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.packing import assemble
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.distributed.signals import SignalHandler
from mopo_pl.environments.scores import normalised_score
from mopo_pl.environments.stepping import SteppedEnvironment
from mopo_pl.errors import InputError
from mopo_pl.policy import Policy
from mopo_pl.run.files.folder import RunFolder
from mopo_pl.run.stages import Stage, StageContext, fit_stage
from mopo_pl.storage.checkpoints import REFRESHES

SAC_SETTINGS = (
    # Values of Haarnoja et al. 2018 (arXiv:1812.05905), appendix D, for all tasks.
    *("sac.actor_lr=3e-4", "sac.alpha_lr=3e-4", "sac.actor_schedule=constant", "sac.alpha_max=null"),
    *("sac.alpha_init=1", "sac.log_std_min=-20", "sac.critic_layer_norm=false", "sac.actor_average=null"),
    # These settings would need a log.
    *("sac.normalise_observations=false", "sac.bound_targets=false", "sac.start_at_log_value=false"),
    *("logger=none", "evaluation.every_n_epochs=5"),
)
"""Settings of the configuration that `collect` sets. Settings on the command line override them."""
MEDIUM_SHARE = 1 / 3
"""Return of D4RL's `medium` policies, as the share of the way from a random policy's return to the final policy's."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The result of training in an environment."""

    rows: np.ndarray
    """All steps [N, R], the random ones first."""
    start_steps: int
    """Number of random steps before the first update. After them, each update comes with one step."""
    history: list[list[float]]
    """[updates, mean return] of each evaluation."""
    returns: np.ndarray
    """Returns of the random episodes that ended."""
    final: Policy
    snapshots: PolicySnapshots

    def medium(self, wanted: float | None) -> int:
        """Return the number of updates after which an evaluation first reached the return `wanted`.

        None: a third of the way from the mean return of the random episodes to that of the last ten evaluations. Without random episodes,
        the first evaluation takes their place. Raises InputError if no evaluation reached it.
        """
        way = "--medium-return"
        if wanted is None:
            low = float(self.returns.mean()) if len(self.returns) else self.history[0][1]
            high = float(np.mean([value for _, value in self.history[-10:]]))
            wanted = low + MEDIUM_SHARE * (high - low)
            way = f"a third of the way from {low:.1f} (random) to {high:.1f} (final),"
        reached = next((int(updates) for updates, value in self.history if value >= wanted), None)
        if reached is None:
            best = max(value for _, value in self.history)
            raise InputError(
                f"no evaluation reached {way} {wanted:.1f}, the best is {best:.1f}: give a lower --medium-return, or collect "
                "into another --folder with more --train-steps"
            )
        return reached

    def policy(self, updates: int) -> Policy:
        """Return the policy that was saved after `updates` updates."""
        return Policy.load(self.snapshots.path(updates))


def train_online(
    config: Config,
    environment: SteppedEnvironment,
    folder: RunFolder,
    signals: SignalHandler,
    *,
    steps: int,
    start_steps: int,
    stop_at: float | None,
) -> Learned:
    """Train soft actor-critic in an environment, or continue the training in `folder`.

    Raises Interrupted after a signal, when a checkpoint is saved.

    Args:
        config: The configuration.
        environment: The environment in which steps are taken.
        folder: Folder of checkpoints, snapshots and the final policy.
        signals: Signal handler, already installed.
        steps: Number of steps in the environment, rounded up to complete epochs.
        start_steps: Number of random steps before the first update.
        stop_at: Mean return of an evaluation at which the training ends early; None: it does not.

    """
    epochs = math.ceil((steps - start_steps) / config.sac.updates_per_epoch)
    config = replace(config, trainer=replace(config.trainer, max_epochs=epochs))
    config = resolve(config, rows=steps, threads=torch.get_num_threads(), device="cpu")
    assert config.threads is not None
    torch.set_num_threads(config.threads)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    resumed = folder.config.exists()
    folder.write(folder.config, to_yaml(config))
    layout, low, high = environment.layout, environment.action_low, environment.action_high
    module = build_sac(config.sac, _spaces(environment), seed=config.seed, compile="policy" in config.compile)
    data = ReplayDataModule(
        layout,
        capacity=start_steps + epochs * config.sac.updates_per_epoch,
        action_low=low,
        action_high=high,
        batch_size=config.sac.batch_size,
        updates_per_epoch=config.sac.updates_per_epoch,
        updates_per_step=config.sac.updates_per_step,
        folder=folder.checkpoints / REFRESHES,
        seed=config.seed,
    )
    meta = {"env_id": environment.env_id, "env_kwargs": dict(config.env_kwargs)}
    evaluation = PolicyEvaluation(
        policy_of=lambda module: Policy(module.deployed_actor, low, high, meta),
        env_id=environment.env_id,
        env_kwargs=config.env_kwargs,
        episodes=config.evaluation.episodes,
        every_n_epochs=min(config.evaluation.every_n_epochs, epochs),
        seed=evaluation_seed(config.seed),
        score=partial(normalised_score, environment.env_id),
    )
    snapshots = PolicySnapshots(
        folder.path / "snapshots",
        evaluation,
        policy_of=lambda module: Policy(module.deployed_actor, low, high, meta),
        stop_at=stop_at,
    )
    stage = Stage(
        name="policy",
        max_epochs=epochs,
        at_most=stop_at is not None,
        shown=("evaluation/return", "policy/q1", "policy/alpha"),
    )
    online = OnlineSteps(environment, start_steps=start_steps, seed=config.seed)
    with ExitStack() as closing:
        context = replace(StageContext.of(config, folder, signals, closing), resumed=resumed)
        fit_stage(stage, module, data, [online, evaluation, snapshots], context)
    module.to("cpu")
    final = Policy(module.deployed_actor, low, high, meta)
    final.save(folder.policy)
    rows = data.rows[: data.size].cpu().numpy()
    return Learned(
        rows=rows,
        start_steps=start_steps,
        history=evaluation.history,
        returns=episode_returns(layout.fields(rows[:start_steps])),
        final=final,
        snapshots=snapshots,
    )


def episode_returns(fields: dict[str, np.ndarray]) -> np.ndarray:
    """Return the undiscounted returns of the episodes that ended by a terminal or a time limit."""
    ends = np.flatnonzero(fields["terminals"] | fields["timeouts"]) + 1
    totals = np.concatenate([[0.0], np.cumsum(fields["rewards"], dtype=np.float64)])
    return np.diff(totals[np.concatenate([[0], ends])])


def _spaces(environment: SteppedEnvironment) -> OfflineDataset:
    """Return a log of one step, from which soft actor-critic reads only the dimensions."""
    layout = environment.layout
    nothing = np.zeros((1, layout.width), np.float32)
    raw = RawLog(source=environment.env_id, **layout.fields(nothing))  # type: ignore[arg-type]
    low, high = environment.action_low, environment.action_high
    raw.actions = ((low + high) / 2)[None]
    return assemble(raw, name=environment.env_id, bounds=(low, high), time_limit=None, clip_actions=False)
