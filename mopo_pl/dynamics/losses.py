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
    """Return (r, s' - s) [..., 1 + D] in raw units. If s holds several observations, the change is that of the newest one."""
    change = transitions.newest_next_observations - transitions.newest_observations
    return torch.cat([transitions.rewards.unsqueeze(-1), change], -1)


def gaussian_loss(
    mean: Tensor, log_var: Tensor, target: Tensor, *, beta: float, huber_delta: float | None = None
) -> Tensor:
    """Return the mean over rows and dimensions of (μ - y)²/σ² + log σ², per member [E]; for β = 0 it is MOPO's `mse_loss + var_loss`.

    Up to a constant it is twice the negative log-likelihood. `target` is [E, B, T] or [B, T]. With β > 0, each term is weighted
    by σ^2β, held constant (Seitzer et al. 2022, β-NLL). The plain likelihood divides the gradient of μ by σ², so that dimensions
    that are easy to predict dominate the gradient.

    With `huber_delta` = δ, z² of z = (μ - y)/σ is replaced by 2δ|z| - δ² where |z| > δ (Huber 1964). The gradient of a target that
    is tens of σ away, and that (s, a) cannot predict, is then no larger than that of a target δ away.
    """
    squared = (mean - target).square() * torch.exp(-log_var)
    if huber_delta is not None:
        squared = huber(squared, huber_delta)
    loss = squared + log_var
    if beta > 0:
        loss = loss * beta_weights(log_var, beta)
    return loss.mean((-2, -1))


def huber(squared: Tensor, delta: float) -> Tensor:
    """Return z² where |z| ≤ δ, else 2δ|z| - δ², for given z². This is twice Huber's function of z.

    >>> huber(torch.tensor([4.0, 25.0]), 3.0)
    tensor([ 4., 21.])
    """
    # z² is clamped under the root: the derivative of a root is infinite at 0, and the gradient through `where` would be NaN.
    return torch.where(squared <= delta**2, squared, 2 * delta * squared.clamp(min=delta**2).sqrt() - delta**2)


def beta_weights(log_var: Tensor, beta: float) -> Tensor:
    """Return σ^2β without gradient, the factor of each term of the likelihood in β-NLL (Seitzer et al. 2022, equation 6)."""
    return torch.exp(beta * log_var.detach())


def negative_log_likelihood(mean: Tensor, log_var: Tensor, target: Tensor) -> Tensor:
    """Return -log N(y; μ, σ²), summed over dimensions [E, B], in nats."""
    return 0.5 * ((mean - target).square() * torch.exp(-log_var) + log_var + math.log(2 * math.pi)).sum(-1)


def bound_loss(min_log_var: Tensor, max_log_var: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """Return Σ w·(max log σ² - min log σ²) over dimensions, averaged over members. It pulls the learned bounds [E, 1, T] together.

    `weights` [E, 1, T] are the batch means of `beta_weights`. Without them this loss would outweigh a likelihood that β-NLL has
    scaled by σ^2β: σ would have a lower bound near `bound_coef`·T/E in units of the target's deviation, and an upper bound that
    decreases from epoch to epoch. With them the equilibrium of each bound is the same as for β = 0.
    """
    return (weights * (max_log_var - min_log_var)).sum((-2, -1)).mean()


@dataclass(frozen=True, kw_only=True)
class EnsembleLoss:
    """The ensemble's loss: the sum over members of `gaussian_loss` on each member's rows, plus `bound_loss`."""

    ensemble: GaussianEnsemble
    """Architecture of the networks; the weights are passed with each call."""
    bound_coef: float
    """Coefficient of `bound_loss`."""
    beta: float
    """β of β-NLL; 0 for the plain likelihood."""
    huber_delta: float | None
    """δ of `gaussian_loss` [σ]; None: the unchanged likelihood."""

    def __call__(self, parameters: Params, batch: Transitions) -> Tensor:
        """Return the loss on rows [E, B, W], in the units of the ensemble's `target_normaliser`."""
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
        """Make one step of Adam and return the loss before it, with the arguments of `FusedUpdate`. `averages` must be empty."""
        gradients, loss = grad_and_value(self)(states[0].parameters, batch)
        steps[0](gradients)
        return loss


SMALLEST = 1e-12
"""Lower limit of mean squared errors before their logarithm. The error of a constant target is 0, whose logarithm is infinite."""


class HoldoutErrors(Metric):
    """Metric of each member's mean squared error over rows and targets, its geometric mean over targets, and negative log-likelihood.

    The errors are in the units of the ensemble's `target_normaliser`, the negative log-likelihood is in nats.
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
        """Add the errors of B rows from their mean and log σ² [E, B, T] and target [B, T]."""
        # Not in place: after `Trainer.validate` the states are inference tensors, which a later fit may not change.
        self.squared = self.squared + (mean - target).double().square().sum(1)
        self.likelihood = self.likelihood + negative_log_likelihood(mean, log_var, target).double().sum(-1)
        self.rows = self.rows + target.shape[0]

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean_j e_ij [E], exp mean_j log e_ij [E] and the negative log-likelihood [E].

        e_ij is the mean squared error of member i on target j. In the second value, the same relative decrease of any target's error
        counts equally, so that it is dominated neither by targets of large scale nor by those that cannot be predicted.
        """
        errors = self.squared / self.rows
        return errors.mean(-1), errors.clamp(min=SMALLEST).log().mean(-1).exp(), self.likelihood / self.rows
