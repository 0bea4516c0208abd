"""Soft actor-critic written out plainly, to compare with: separate networks, `.backward()`, torch.optim."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from mopo_pl.data.transitions import Transitions
from mopo_pl.nn.layers import BatchedLinear, Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.critic import Critics

OBS, ACTIONS, HIDDEN = 3, 2, (8, 6)
LOG_STD = (-5.0, 2.0)


def networks(
    seed: int = 0, *, obs_dim: int = OBS, action_dim: int = ACTIONS, hidden: tuple[int, ...] = HIDDEN
) -> tuple[TanhGaussianActor, Critics]:
    """The product's networks in float64, with a normaliser that does something."""
    normaliser = Normaliser(torch.linspace(-0.5, 0.5, obs_dim), torch.linspace(0.5, 2.0, obs_dim))
    shape: dict[str, Any] = {"obs_dim": obs_dim, "action_dim": action_dim, "hidden_sizes": hidden}
    actor = TanhGaussianActor(
        **shape,
        log_std_min=LOG_STD[0],
        log_std_max=LOG_STD[1],
        normaliser=normaliser,
        generator=generator_for(seed, "actor"),
    )
    critic = Critics(
        **shape, members=2, layer_norm=False, normaliser=normaliser, generator=generator_for(seed, "critic")
    )
    return actor.double(), critic.double()


def rows(size: int, seed: int = 0, *, obs_dim: int = OBS, action_dim: int = ACTIONS) -> Transitions:
    """A batch in float64; every third row is terminal."""
    generator = torch.Generator().manual_seed(seed)
    states, after = torch.randn(2, size, obs_dim, generator=generator, dtype=torch.float64)
    actions = 2 * torch.rand(size, action_dim, generator=generator, dtype=torch.float64) - 1
    rewards = torch.randn(size, generator=generator, dtype=torch.float64)
    return Transitions.pack(states, actions, after, rewards, torch.arange(size) % 3 == 0)


def _sequential(layers: list[tuple[Tensor, Tensor]]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        linear.weight, linear.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def _batched(module: nn.Module) -> list[BatchedLinear]:
    return [layer for layer in module.modules() if isinstance(layer, BatchedLinear)]


class PlainSAC:
    """One actor, two critics, two target critics, one temperature."""

    def __init__(
        self,
        actor: TanhGaussianActor,
        critic: Critics,
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
    ) -> None:
        linears = [layer for layer in actor.modules() if isinstance(layer, nn.Linear)]
        self.actor = _sequential([(layer.weight.detach(), layer.bias.detach()) for layer in linears])
        self.critics = [
            _sequential([(layer.weight.detach()[k].T, layer.bias.detach()[k, 0]) for layer in _batched(critic)])
            for k in range(2)
        ]
        self.target = copy.deepcopy(self.critics)
        self.log_alpha = torch.tensor(math.log(alpha_init), dtype=torch.float64, requires_grad=True)
        self.mean, self.std = actor.normaliser.mean.double(), actor.normaliser.std.double()
        self.limits = actor.log_std_min, actor.log_std_max
        self.alpha_max, self.target_entropy = alpha_max, target_entropy
        self.discount, self.tau, self.soft_backup = discount, tau, soft_backup
        both = [parameter for q in self.critics for parameter in q.parameters()]
        self.critic_optimizer = torch.optim.Adam(both, critic_lr)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), actor_lr)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], alpha_lr)

    def act(self, states: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The action that the noise gives, and its log-density by torch's own distributions."""
        mean, log_std = self.actor((states - self.mean) / self.std).chunk(2, -1)
        std = log_std.clamp(*self.limits).exp()
        normal = Independent(Normal(mean, std), 1)
        law = TransformedDistribution(normal, [TanhTransform(cache_size=1)])
        before = mean + std * noise
        action = torch.tanh(before)
        log_det = TanhTransform().log_abs_det_jacobian(before, action).sum(-1)
        assert law.event_shape == action.shape[-1:]
        return action, normal.log_prob(before) - log_det

    def value(self, critics: list[nn.Sequential], states: Tensor, actions: Tensor) -> list[Tensor]:
        """Q of each critic."""
        inputs = torch.cat([(states - self.mean) / self.std, actions], -1)
        return [q(inputs).squeeze(-1) for q in critics]

    def alpha(self) -> Tensor:
        """The temperature as it is used."""
        alpha = self.log_alpha.detach().exp()
        return alpha if self.alpha_max is None else alpha.clamp(max=self.alpha_max)

    def critic_loss(self, batch: Transitions, noise: Tensor) -> Tensor:
        with torch.no_grad():
            action, log_prob = self.act(batch.next_observations, noise)
            value = torch.minimum(*self.value(self.target, batch.next_observations, action))
            if self.soft_backup:
                value = value - self.alpha() * log_prob
            target = torch.where(batch.terminals == 1, batch.rewards, batch.rewards + self.discount * value)
        return sum(
            (nn.functional.mse_loss(q, target) for q in self.value(self.critics, batch.observations, batch.actions)),
            torch.zeros((), dtype=torch.float64),
        )

    def actor_loss(self, batch: Transitions, noise: Tensor) -> tuple[Tensor, Tensor]:
        action, log_prob = self.act(batch.observations, noise)
        value = torch.minimum(*self.value(self.critics, batch.observations, action))
        return (self.alpha() * log_prob - value).mean(), log_prob.detach()

    def temperature_loss(self, log_prob: Tensor) -> Tensor:
        return -(self.log_alpha * (log_prob + self.target_entropy)).mean()

    def update(self, batch: Transitions, noise: Tensor) -> dict[str, float]:
        """Critics, actor, temperature, target critics. `noise` [2, B, A]: for a' and for a. Gives what is reported."""
        self.critic_optimizer.zero_grad()
        q = [value.mean().item() for value in self.value(self.critics, batch.observations, batch.actions)]
        critic_loss = self.critic_loss(batch, noise[0])
        critic_loss.backward()
        self.critic_optimizer.step()
        self.actor_optimizer.zero_grad()
        actor_loss, log_prob = self.actor_loss(batch, noise[1])
        actor_loss.backward()
        self.actor_optimizer.step()
        self.alpha_optimizer.zero_grad()
        alpha_loss = self.temperature_loss(log_prob)
        alpha_loss.backward()
        self.alpha_optimizer.step()
        self._follow()
        losses = {"critic_loss": critic_loss, "actor_loss": actor_loss, "alpha_loss": alpha_loss}
        report = {name: loss.item() for name, loss in losses.items()}
        return {**report, "q1": q[0], "q2": q[1], "alpha": self.alpha().item(), "entropy": -log_prob.mean().item()}

    def _follow(self) -> None:
        with torch.no_grad():
            for slow, fast in zip(self.target, self.critics, strict=True):
                for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                    old.copy_((1 - self.tau) * old + self.tau * new)

    @staticmethod
    def arranged(actor: nn.Sequential, critics: list[nn.Sequential], gradients: bool) -> list[Tensor]:
        """Weights, or their gradients, in the order and the shapes of the product's actor and twin critic."""

        def read(parameter: Tensor) -> Tensor:
            if not gradients:
                return parameter.detach()
            assert parameter.grad is not None
            return parameter.grad

        arranged = [read(parameter) for parameter in actor.parameters()]
        pairs = zip(*(q.parameters() for q in critics), strict=True)
        for first, second in pairs:
            both = torch.stack([read(first), read(second)])
            arranged.append(both.transpose(1, 2) if both.dim() == 3 else both.unsqueeze(1))
        return arranged
