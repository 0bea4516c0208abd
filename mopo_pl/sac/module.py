"""LightningModule of the second training stage: soft actor-critic on logged and imagined rows, with manual optimisation."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from mopo_pl.data.transitions import Transitions
from mopo_pl.distributed.collectives import gather_from_ranks, mean_over_ranks, state_of_this_rank, world_size
from mopo_pl.nn.functional_adam import JointAdam
from mopo_pl.nn.fused_update import FusedUpdate
from mopo_pl.nn.hparams import built, network_hparams
from mopo_pl.nn.layers import Params, parameters_of
from mopo_pl.nn.logged_module import RowMeans, counting_updates, hooks_need_gradients
from mopo_pl.nn.random_streams import continued, generator_for
from mopo_pl.sac.actor import ACTOR_ARGUMENTS, TanhGaussianActor
from mopo_pl.sac.critic import CRITIC_ARGUMENTS, Critics
from mopo_pl.sac.losses import lower_estimate
from mopo_pl.sac.policy_module import PolicyModule, untrained
from mopo_pl.sac.updates import LOGGED_METRICS, UPDATE_METRICS, ParameterSteps, SACGradients, SACUpdate, Weights


class SACModule(PolicyModule):
    """Trains a policy by soft actor-critic, with one update for each of the K batches in a block.

    An update changes the critics, the actor, the temperature and the target critics, in this order (Haarnoja et al. 2018). Its
    equations are in `updates.SACUpdate`; this class holds the weights, the optimisers and the noise. Train it with an
    `OfflineDataModule`, and let `callbacks.RolloutRefresh` fill the model buffer.

    On several devices each group of gradients is averaged over the ranks before its optimiser's step, so that the update equals
    that of a single process with the rows of all ranks.
    """

    LEARNING_RATES = "actor_lr, critic_lr and alpha_lr"
    SUGGESTION = "a larger penalty.coef, a shorter rollout.horizon or a lower sac.critic_lr"

    def __init__(
        self,
        actor: TanhGaussianActor | Mapping[str, Any],
        critic: Critics | Mapping[str, Any],
        *,
        actor_lr: float,
        critic_lr: float,
        alpha_lr: float,
        alpha_init: float,
        alpha_max: float | None,
        target_entropy: float,
        discount: float,
        tau: float,
        soft_backup: bool,
        gradient_clip_norm: float | None,
        pessimism: float | None,
        target_bounds: Sequence[float] | None,
        actor_average: float | None,
        schedule_epochs: int | None,
        seed: int,
        compile: bool,
    ) -> None:
        """Create the module from finished networks, or from their hparams as a checkpoint holds them.

        Raises InputError if the hparams are those of another class.

        Args:
            actor: The policy network, or its hparams.
            critic: The critics, or their hparams.
            actor_lr: Learning rate of Adam for the actor.
            critic_lr: Learning rate of Adam for the critics.
            alpha_lr: Learning rate of Adam for log α.
            alpha_init: Initial temperature α.
            alpha_max: Upper limit of α in the equations; None: no limit.
            target_entropy: H̄ [nats].
            discount: γ.
            tau: τ of the target critics.
            soft_backup: Whether the critics' targets contain the entropy term.
            gradient_clip_norm: Upper limit of the norms of the critics' gradient and of the actor's gradient; None: no limit.
            pessimism: κ of mean - κ·std over the critics; None: the minimum over the critics is used.
            target_bounds: Range to which the critics' targets are clipped [discounted return]; None: they are not clipped.
            actor_average: Decay per update of the running average of the actor, which is then `deployed_actor`; None: no average.
            schedule_epochs: Length of the cosine schedule of the actor's learning rate [epochs]; None: constant learning rate.
            seed: Seed of the action noise.
            compile: Whether updates are compiled. A single process makes each update with one compiled function (`FusedUpdate`),
                which does not set any parameter's `.grad`. Several processes compile the three gradients separately.

        """
        actor = built("actor", actor, TanhGaussianActor, partial(untrained, TanhGaussianActor))
        critic = built("critic", critic, Critics, partial(untrained, Critics))
        hparams = {
            "actor": network_hparams(actor, ACTOR_ARGUMENTS),
            "critic": network_hparams(critic, CRITIC_ARGUMENTS),
            "actor_lr": actor_lr,
            "critic_lr": critic_lr,
            "alpha_lr": alpha_lr,
            "alpha_init": alpha_init,
            "alpha_max": alpha_max,
            "target_entropy": target_entropy,
            "discount": discount,
            "tau": tau,
            "soft_backup": soft_backup,
            "gradient_clip_norm": gradient_clip_norm,
            "pessimism": pessimism,
            "target_bounds": None if target_bounds is None else list(target_bounds),
            "actor_average": actor_average,
            "schedule_epochs": schedule_epochs,
            "seed": seed,
            "compile": compile,
        }
        super().__init__(UPDATE_METRICS, hparams)
        self.actor, self.critic = actor, critic
        self.target_critic = copy.deepcopy(critic).requires_grad_(False)
        self.actor_average = actor_average
        self.average_actor = None if actor_average is None else copy.deepcopy(actor).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.tensor(alpha_init).log())
        self.actor_lr, self.critic_lr, self.alpha_lr = actor_lr, critic_lr, alpha_lr
        self.schedule_epochs, self.seed = schedule_epochs, seed
        self.discount, self.pessimism = discount, pessimism
        self._gradients = SACGradients(
            actor=actor,
            critic=critic,
            discount=discount,
            target_entropy=target_entropy,
            alpha_max=alpha_max,
            soft_backup=soft_backup,
            pessimism=pessimism,
            target_bounds=None if target_bounds is None else (target_bounds[0], target_bounds[1]),
        )
        self._plain = SACUpdate(gradients=self._gradients, tau=tau, gradient_clip_norm=gradient_clip_norm)
        self._sac_update = self._plain
        self.logged = RowMeans(LOGGED_METRICS)
        self._compile = compile
        self._fused: FusedUpdate | None = None
        self._noise = generator_for(seed, "updates")
        self._saved_noise: list[Tensor] = []
        """Generator states from a checkpoint, one per rank."""

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[LRScheduler]]:
        """Return Adam for critics, actor and temperature, with a cosine schedule for the actor if `schedule_epochs` is set."""
        critic = torch.optim.Adam(self.critic.parameters(), lr=self.critic_lr, fused=True)
        actor = torch.optim.Adam(self.actor.parameters(), lr=self.actor_lr, fused=True)
        alpha = torch.optim.Adam([self.log_alpha], lr=self.alpha_lr, fused=True)
        if self.schedule_epochs is None:
            return [critic, actor, alpha], []
        return [critic, actor, alpha], [CosineAnnealingLR(actor, self.schedule_epochs)]

    def on_fit_start(self) -> None:
        """Create this rank's generator of action noise on the training device.

        A fit that resumes from a checkpoint continues the saved generator. A further fit of the same Trainer continues with the
        existing one.
        """
        super().on_fit_start()
        resumes = self.trainer.ckpt_path is not None
        if resumes or self.trainer.current_epoch == 0 or self._noise.device != self.device:
            self._noise = generator_for(self.seed, "updates", self.global_rank, self.device)
        if resumes:
            continued(self._noise, state_of_this_rank(self._saved_noise))

    def on_train_start(self) -> None:
        """Build the compiled update. The optimisers' state from a checkpoint is already loaded at this point."""
        self._sac_update, self._fused = self._plain, None  # left over if an earlier fit raised
        optimizers = cast(list[Optimizer], self.optimizers(use_pl_optimizer=False))
        if self._compile and self._can_be_fused(optimizers):
            self._fused = self.fused_update(optimizers)
        elif self._compile:
            self._sac_update = self._plain.with_compiled_gradients()

    def _can_be_fused(self, optimizers: Sequence[Optimizer]) -> bool:
        """Return whether nothing needs the gradients before the optimisers' steps: other ranks, callbacks, or a subclass."""
        kind = type(self)
        own_step = kind.update is not SACModule.update or kind._step is not SACModule._step
        alone = world_size() == 1 and not own_step and not hooks_need_gradients(self)
        return alone and JointAdam.supports(optimizers, self.optimised())

    def optimised(self) -> list[dict[str, nn.Parameter]]:
        """Return the parameters of each optimiser by name, in the order of `configure_optimizers`."""
        networks = [dict(self.critic.named_parameters()), dict(self.actor.named_parameters())]
        return [*networks, {"log_alpha": self.log_alpha}]

    def fused_update(self, optimizers: Sequence[Optimizer]) -> FusedUpdate:
        """Return the compiled update on the state of these optimisers, whose parameters are those of `optimised`."""
        return FusedUpdate(
            self._plain.fused,
            optimizers=optimizers,
            parameters=self.optimised(),
            averages=[parameters_of(self.target_critic), self._average_weights()],
            rows=None,
            name="the SAC update",
        )

    def on_train_end(self) -> None:
        """Release the compiled update, whose tensors belong to this fit and this device."""
        self._fused = None

    def training_step(self, batch: Transitions, batch_idx: int) -> None:
        """Make K updates in sequence from rows [K, B, W]. Raises InputError if the batch is not a block of batches."""
        self.require_batch(batch, 3, "blocks of batches [K, B, W], which an OfflineDataModule makes")
        noise, rates = self.draw_noise(batch), self.average_rates(len(batch))
        with counting_updates(self.trainer, len(batch)):
            if self._fused is not None and self._fused.takes(batch):
                reports = self._fused.run(batch, noise, rates)
            else:
                optimizers = cast(list[LightningOptimizer], self.optimizers())
                reports = torch.stack(
                    [self.update(optimizers, batch[k], noise[k], rates[k]) for k in range(len(batch))]
                )
        self._updates += len(batch)
        self.means.update(reports)
        self.show_loss("policy/critic_loss", reports[-1, UPDATE_METRICS.index("critic_loss")])

    def on_validation_epoch_start(self) -> None:
        """Create the generator of the noise for validation. It is the same at each validation, and training does not use it."""
        self._validation_noise = generator_for(self.seed, "validation", self.global_rank, self.device)

    def validation_step(self, batch: Transitions, batch_idx: int) -> None:
        """Add the `LOGGED_METRICS` of critics and actor on logged transitions [N, W]."""
        self.require_batch(batch, 2, "batches [N, W] for validation, which an OfflineDataModule makes")
        shape = (2, *batch.actions.shape)
        noise = torch.randn(shape, generator=self._validation_noise, device=self.device, dtype=batch.rows.dtype)
        self.logged.update(self._gradients.of_rows(self.weights(), batch, noise))

    def on_validation_epoch_end(self) -> None:
        """Log the means of `LOGGED_METRICS` over all logged transitions."""
        self.note({f"policy/{name}": value for name, value in self.logged.compute().items()})
        self.logged.reset()

    def update(self, optimizers: Sequence[Any], batch: Transitions, noise: Tensor, average_rate: Tensor) -> Tensor:
        """Make one update with the optimisers' `step` methods and the arguments of `SACUpdate`; return its `UPDATE_METRICS`."""
        weights = self.weights()
        steps = [partial(self._step, *pair) for pair in zip(optimizers, self.optimised(), strict=True)]
        return self._sac_update(weights, batch, noise, average_rate, ParameterSteps(_mean_over_ranks, *steps))

    @property
    def deployed_actor(self) -> TanhGaussianActor:
        """The actor that is evaluated and exported: the running average where there is one."""
        return self.actor if self.average_actor is None else self.average_actor

    def value(self, observations: Tensor) -> Tensor:
        """Return V(s) [B] for s [B, D]: the `lower_estimate` of the target critics at the mean action of the current actor."""
        return lower_estimate(self.target_critic(observations, self.actor.mean_action(observations)), self.pessimism)

    def _average_weights(self) -> Params:
        return {} if self.average_actor is None else parameters_of(self.average_actor)

    def average_rates(self, updates: int) -> Tensor:
        """Return the weight of the actor in its running average at each of the next updates [K]: max(1 - decay, 1/(1 + t/5)).

        Because of the second term, the average at first covers about the last sixth of the updates, so that the initial weights
        soon have no influence.
        """
        t = torch.arange(self._updates + 1, self._updates + 1 + updates, device=self.device)
        floor = 1.0 if self.actor_average is None else 1 - self.actor_average
        return (1 / (1 + t.to(self.log_alpha.dtype) / 5)).clamp(min=floor)

    def weights(self) -> Weights:
        """Return the parameters that an update reads and changes, detached."""
        critic, target_critic, actor = map(parameters_of, (self.critic, self.target_critic, self.actor))
        return Weights(critic, target_critic, actor, self.log_alpha.detach(), self._average_weights())

    def draw_noise(self, batch: Transitions) -> Tensor:
        """Draw ε of K updates [K, 2, B, A], one update at a time, so that the values do not depend on K."""
        updates, *shape = batch.actions.shape
        noise = torch.empty(updates, 2, *shape, device=self.device, dtype=batch.rows.dtype)
        for draw in noise:
            draw.normal_(generator=self._noise)
        return noise

    def _step(self, optimizer: LightningOptimizer, parameters: dict[str, nn.Parameter], gradients: Params) -> None:
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        optimizer.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of every rank's noise generator to the entries of `PolicyModule`."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["noise"] = gather_from_ranks(self._noise.get_state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the generator states of all ranks for `on_fit_start`, which restores the generator."""
        super().on_load_checkpoint(checkpoint)
        self._saved_noise = checkpoint["noise"]


def _mean_over_ranks(gradients: Params) -> Params:
    return dict(zip(gradients, mean_over_ranks(list(gradients.values())), strict=True))
