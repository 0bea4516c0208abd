"""Losses of the ensemble: Gaussian likelihood of reward and state change, and the regulariser of the variance bounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value
from torchmetrics import Metric

from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.nn.functional_adam import AdamState
from mopo_pl.nn.fused_update import ParameterStep
from mopo_pl.nn.layers import Params


def model_target(transitions: Transitions) -> Tensor:
    """(r, s' - s) [..., 1 + D] in raw units; of the newest observations where s holds several."""
    change = transitions.newest_next_observations - transitions.newest_observations
    return torch.cat([transitions.rewards.unsqueeze(-1), change], -1)


def gaussian_loss(
    mean: Tensor, log_var: Tensor, target: Tensor, *, beta: float, huber_delta: float | None = None
) -> Tensor:
    """(μ - y)²/σ² + log σ², mean over rows and dimensions, per member [E]; MOPO's `mse_loss + var_loss` where β = 0.

    Twice the negative log-likelihood but for a constant. `target` is [E, B, T] or [B, T]. β > 0 weighs each term by
    σ^2β, held constant (Seitzer et al. 2022, β-NLL): plain likelihood divides the gradient of μ by σ², so that
    dimensions that are easy to predict drown the hard ones.

    With `huber_delta` = δ, z² of z = (μ - y)/σ is replaced by 2δ|z| - δ² where |z| > δ (Huber 1964): a change that nothing in
    (s, a) announces, tens of σ away, pulls no more than one of δ does.
    """
    squared = (mean - target).square() * torch.exp(-log_var)
    if huber_delta is not None:
        squared = huber(squared, huber_delta)
    loss = squared + log_var
    if beta > 0:
        loss = loss * beta_weights(log_var, beta)
    return loss.mean((-2, -1))


def huber(squared: Tensor, delta: float) -> Tensor:
    """z² where |z| ≤ δ, else 2δ|z| - δ², of z²: twice Huber's function of z.

    >>> huber(torch.tensor([4.0, 25.0]), 3.0)
    tensor([ 4., 21.])
    """
    # Not z² itself under the root: the derivative of a root is infinite at 0, and `where` would make NaN of it.
    return torch.where(squared <= delta**2, squared, 2 * delta * squared.clamp(min=delta**2).sqrt() - delta**2)


def beta_weights(log_var: Tensor, beta: float) -> Tensor:
    """σ^2β, held constant: what β-NLL multiplies each term of the likelihood by (Seitzer et al. 2022, equation 6)."""
    return torch.exp(beta * log_var.detach())


def negative_log_likelihood(mean: Tensor, log_var: Tensor, target: Tensor) -> Tensor:
    """-log N(y; μ, σ²) summed over dimensions [E, B], in nats."""
    return 0.5 * ((mean - target).square() * torch.exp(-log_var) + log_var + math.log(2 * math.pi)).sum(-1)


def bound_loss(min_log_var: Tensor, max_log_var: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """Σ w·(max log σ² - min log σ²) over dimensions, mean over members: pulls the learned bounds [E, 1, T] together.

    `weights` [E, 1, T] are the batch means of `beta_weights`. Without them the pull would outweigh a likelihood that β-NLL
    has scaled by σ^2β: σ would get a floor near `bound_coef`·T/E in units of the target's deviation, and a ceiling that
    sinks from epoch to epoch. With them each bound rests where it does for β = 0.
    """
    return (weights * (max_log_var - min_log_var)).sum((-2, -1)).mean()


@dataclass(frozen=True, kw_only=True)
class EnsembleLoss:
    """Σ over members of the Gaussian loss on each member's rows, plus `bound_loss`."""

    ensemble: GaussianEnsemble
    """Architecture of the networks; the weights are passed with each call."""
    bound_coef: float
    """Coefficient of `bound_loss`."""
    beta: float
    """β of β-NLL, 0 for plain likelihood."""
    huber_delta: float | None
    """δ of `gaussian_loss` [σ]; None: the likelihood as it is."""

    def __call__(self, parameters: Params, batch: Transitions) -> Tensor:
        """Loss on rows [E, B, W], in the units of the ensemble's `target_normaliser`."""
        mean, log_var = functional_call(self.ensemble, parameters, (batch.inputs,))
        target = self.ensemble.target_normaliser(model_target(batch))
        loss = gaussian_loss(mean, log_var, target, beta=self.beta, huber_delta=self.huber_delta).sum()
        weights = beta_weights(log_var, self.beta).mean(-2, keepdim=True) if self.beta > 0 else 1.0
        return loss + self.bound_coef * bound_loss(parameters["min_log_var"], parameters["max_log_var"], weights)

    def fused(
        self,
        states: Sequence[AdamState],
        averages: Sequence[Params],
        steps: Sequence[ParameterStep],
        batch: Transitions,
    ) -> Tensor:
        """Make one step of Adam as `FusedUpdate` calls it; return the loss before it. `averages` is empty."""
        gradients, loss = grad_and_value(self)(states[0].parameters, batch)
        steps[0](gradients)
        return loss


SMALLEST = 1e-12
"""Mean squared error that counts as none: a target that never changes is predicted without any, which has no logarithm."""


class HoldoutErrors(Metric):
    """Per member: mean squared error over rows and targets, its geometric mean over targets, and negative log-likelihood [nats].

    In the units of the ensemble's `target_normaliser`.
    """

    squared: Tensor
    likelihood: Tensor
    rows: Tensor

    def __init__(self, members: int, targets: int) -> None:
        super().__init__()
        zeros = torch.zeros(members, targets, dtype=torch.float64)
        self.add_state("squared", zeros, dist_reduce_fx="sum")
        self.add_state("likelihood", zeros[:, 0].clone(), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, mean: Tensor, log_var: Tensor, target: Tensor) -> None:
        """Add B rows: mean and log σ² [E, B, T], target [B, T]."""
        # Not in place: what `Trainer.validate` has reset is an inference tensor, which a later fit may not change.
        self.squared = self.squared + (mean - target).double().square().sum(1)
        self.likelihood = self.likelihood + negative_log_likelihood(mean, log_var, target).double().sum(-1)
        self.rows = self.rows + target.shape[0]

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """mean_j e_ij [E], exp mean_j log e_ij [E] for the mean squared error e_ij of member i on target j, and the likelihood [E].

        The second falls by a share where every target's error falls by it: no target of large scale, and none that nobody can
        predict, decides it.
        """
        errors = self.squared / self.rows
        return errors.mean(-1), errors.clamp(min=SMALLEST).log().mean(-1).exp(), self.likelihood / self.rows
