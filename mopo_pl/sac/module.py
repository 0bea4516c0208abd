"""LightningModule 2: soft actor-critic on mixed batches, by manual optimisation."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from mopo_pl.data.transitions import Transitions
from mopo_pl.distributed.collectives import averaged, gathered, own, world_size
from mopo_pl.distributed.console import say
from mopo_pl.nn.compilation import OrEager
from mopo_pl.nn.functional_adam import JointAdam
from mopo_pl.nn.layers import Params, parameters_of
from mopo_pl.nn.logged_module import RowModule, count_steps, gradients_are_watched
from mopo_pl.nn.random_streams import stream
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.critic import TwinCritic
from mopo_pl.sac.losses import polyak_, temperature
from mopo_pl.sac.one_graph import SACGraph
from mopo_pl.sac.rendezvous import Rendezvous
from mopo_pl.sac.updates import SACUpdates

MEANS = ("critic_loss", "actor_loss", "alpha_loss", "q1", "q2", "alpha", "entropy")


class SACModule(RowModule):
    """K updates a batch of K: critics, actor, temperature, slow critics, in this order (Haarnoja et al. 2018).

    Feed it an `OfflineDataModule` and let `callbacks.RolloutRefresh` fill the model buffer. The gradients come from the
    pure functions of `updates.py`; on several devices each group is averaged over the ranks before its optimiser's step,
    so that the update is the one a single process would make of all ranks' rows. `compile`: a single process makes each
    update by one compiled graph (`one_graph.py`), which fills no parameter's `.grad`; several compile the three functions.
    """

    def __init__(
        self,
        actor: TanhGaussianActor,
        critic: TwinCritic,
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
        schedule_epochs: int | None,
        seed: int,
        compile: bool,
    ) -> None:
        """`schedule_epochs`: epochs of the actor's cosine schedule; None: a constant step size. `gradient_clip_norm`:
        limit of the norm of the critics' gradient and of the actor's, each; None: none.
        """
        super().__init__(MEANS)
        self.automatic_optimization = False
        self.actor, self.critic = actor, critic
        self.slow_critic = copy.deepcopy(critic).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.tensor(alpha_init).log())
        self.actor_lr, self.critic_lr, self.alpha_lr = actor_lr, critic_lr, alpha_lr
        self.gradient_clip_norm = gradient_clip_norm
        self.alpha_max, self.tau, self.schedule_epochs, self.seed = alpha_max, tau, schedule_epochs, seed
        self._equations = SACUpdates(
            actor=actor,
            critic=critic,
            discount=discount,
            target_entropy=target_entropy,
            alpha_max=alpha_max,
            soft_backup=soft_backup,
        )
        self._compile = compile
        self._graph: SACGraph | None = None
        self._run_block: Callable[[SACGraph, Transitions, Tensor], Tensor] = SACGraph.run
        self._stacked = False
        ready = _compiled if compile else lambda function, name: function
        self._critic_update: Callable[..., Any] = ready(self._equations.critic_update, "the critics' update")
        self._actor_update: Callable[..., Any] = ready(self._equations.actor_update, "the actor's update")
        self._temperature_update: Callable[..., Any] = ready(
            self._equations.temperature_update, "the temperature's update"
        )
        self._updates = 0
        self._noise = stream(seed, "updates")
        self._noise_state: Tensor | None = None
        """Of a checkpoint, until the fit that goes on from it begins."""

    def stack(self, rendezvous: Rendezvous, place: int) -> None:
        """Makes its updates together with those of other seeds' modules, of which it is the one of this place."""
        self._run_block, self._stacked = partial(rendezvous.run_block, place), True

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[LRScheduler]]:
        """Adam for critics, actor and temperature; the actor's step size follows a cosine over the run if asked to."""
        critic = torch.optim.Adam(self.critic.parameters(), lr=self.critic_lr, fused=True)
        actor = torch.optim.Adam(self.actor.parameters(), lr=self.actor_lr, fused=True)
        alpha = torch.optim.Adam([self.log_alpha], lr=self.alpha_lr, fused=True)
        if self.schedule_epochs is None:
            return [critic, actor, alpha], []
        return [critic, actor, alpha], [CosineAnnealingLR(actor, self.schedule_epochs)]

    def on_fit_start(self) -> None:
        """Opens this rank's own stream of action noise, on the device; a state from a checkpoint goes into it."""
        self._noise = stream(self.seed, "updates", self.global_rank, self.device)
        if self._noise_state is not None:
            self._noise.set_state(self._noise_state)
            self._noise_state = None

    def on_train_start(self) -> None:
        """Builds the one graph where it can be used; by now the optimisers hold what a checkpoint gave."""
        self._graph = None  # that of a fit which raised
        optimizers = cast(list[Optimizer], self.optimizers(use_pl_optimizer=False))
        possible = world_size() == 1 and JointAdam.fit(optimizers, self.moved()) and not self._gradients_are_watched()
        if self._stacked and not possible:
            say("its updates are made alone: optimisers of another kind, or gradients that a callback waits for")
        if possible and (self._compile or self._stacked):
            self._graph = self.graph(optimizers)

    def moved(self) -> list[dict[str, nn.Parameter]]:
        """The parameters of each optimiser, in the order of `configure_optimizers`, by name."""
        networks = [dict(self.critic.named_parameters()), dict(self.actor.named_parameters())]
        return [*networks, {"log_alpha": self.log_alpha}]

    def graph(self, optimizers: Sequence[Optimizer]) -> SACGraph:
        """The whole update on the state of these optimisers, of `moved`."""
        return SACGraph(
            self._equations,
            moved=self.moved(),
            slow_critic=self.slow_critic,
            optimizers=optimizers,
            tau=self.tau,
            gradient_clip_norm=self.gradient_clip_norm,
            compiled=self._compile,
        )

    def _gradients_are_watched(self) -> bool:
        """Whether someone waits for gradients before an optimiser's step, or steps otherwise: the one graph shows none."""
        kind = type(self)
        steps_otherwise = kind._update is not SACModule._update or kind._step is not SACModule._step
        return steps_otherwise or gradients_are_watched(self)

    def on_train_end(self) -> None:
        """Lets go of the graph: its tensors are those of this fit and this device."""
        self._graph = None

    def training_step(self, batch: Transitions, batch_idx: int) -> None:
        """K updates, one after another, from rows [K, B, W]; raises ValueError for a batch that is no block of batches."""
        if batch.rows.dim() != 3:
            raise ValueError(
                f"a training step takes a block of batches [K, B, W], not rows of shape {list(batch.rows.shape)}"
            )
        noise = self._draw_noise(batch)
        if self._graph is not None and self._graph.takes(batch):
            reports = self._run_block(self._graph, batch, noise)
            count_steps(self.trainer, 3 * len(batch))
        else:
            optimizers = cast(list[LightningOptimizer], self.optimizers())
            reports = torch.stack([self._update(optimizers, batch[k], noise[k]) for k in range(len(batch))])
        self._updates += len(batch)
        self.means.update(reports)

    def _update(self, optimizers: list[LightningOptimizer], batch: Transitions, noise: Tensor) -> Tensor:
        """One update from [B, W] rows; its report, named by MEANS."""
        critic_optimizer, actor_optimizer, alpha_optimizer = optimizers
        critic, slow, actor = map(parameters_of, (self.critic, self.slow_critic, self.actor))
        log_alpha = self.log_alpha.detach()
        gradients, critic_loss, q = self._critic_update(critic, slow, actor, log_alpha, batch, noise[0])
        self._step(critic_optimizer, self.critic, gradients)
        gradients, actor_loss, log_prob = self._actor_update(actor, critic, log_alpha, batch, noise[1])
        self._step(actor_optimizer, self.actor, gradients)
        gradient, alpha_loss = self._temperature_update(log_alpha, log_prob)
        self.log_alpha.grad = averaged([gradient])[0]
        alpha_optimizer.step()
        polyak_(slow.values(), critic.values(), self.tau)
        alpha = temperature(self.log_alpha.detach(), self.alpha_max)
        return torch.stack([critic_loss, actor_loss, alpha_loss, *q, alpha, -log_prob.mean()])

    def _draw_noise(self, batch: Transitions) -> Tensor:
        """ε of K updates [K, 2, B, A], drawn update by update, so that K changes none of it."""
        updates, *shape = batch.actions.shape
        noise = torch.empty(updates, 2, *shape, device=self.device, dtype=batch.rows.dtype)
        for draw in noise:
            draw.normal_(generator=self._noise)
        return noise

    def _step(self, optimizer: Any, module: nn.Module, gradients: Params) -> None:
        for parameter, gradient in zip(module.parameters(), averaged(list(gradients.values())), strict=True):
            parameter.grad = gradient
        if self.gradient_clip_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), self.gradient_clip_norm)
        optimizer.step()

    def on_train_epoch_end(self) -> None:
        """One row an epoch; then the actor's schedule. Raises Diverged where a mean or a weight is not finite.

        Lightning calls this before callbacks that save, so that the last checkpoint is a good one.
        """
        self.note({f"policy/{name}": value for name, value in self.means.compute().items()})
        self.means.reset()
        self.write_row("a larger penalty.coef, a shorter rollout.horizon or a lower sac.critic_lr")
        schedule = self.lr_schedulers()
        # Beyond its length a cosine would rise again.
        if isinstance(schedule, CosineAnnealingLR) and schedule.last_epoch < schedule.T_max:
            schedule.step()

    @property
    def updates(self) -> int:
        """Updates made; Lightning's `global_step` counts three optimiser steps for each."""
        return self._updates

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the count of updates and every rank's noise stream, which are not parameters."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["sac"] = {"updates": self._updates, "noise": gathered(self._noise.get_state())}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes them back."""
        super().on_load_checkpoint(checkpoint)
        self._updates = checkpoint["sac"]["updates"]
        self._noise_state = own(checkpoint["sac"]["noise"]).cpu()


def _compiled(function: Callable[..., Any], name: str) -> OrEager:
    return OrEager(function, torch.compile(function), name)
