"""The equations of soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905) and of behaviour cloning, as functions of tensors.

B is the number of rows. Q values of N critics have the shape [N, B].
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def temperature(log_alpha: Tensor, alpha_max: float | None) -> Tensor:
    """Return α, limited to `alpha_max` if given, as in OfflineRL-Kit. Log α itself and its gradient are not clamped."""
    return log_alpha.exp() if alpha_max is None else log_alpha.exp().clamp(max=alpha_max)


def lower_estimate(q: Tensor, pessimism: float | None) -> Tensor:
    """Return min_k Q_k [B], or mean_k Q_k - κ·std_k Q_k with κ = `pessimism` (Fujimoto et al. 2018; Ciosek et al. 2019)."""
    if pessimism is None:
        return q.amin(0)
    # The gradient of a square root at 0 is infinite.
    return q.mean(0) - pessimism * (q.var(0, unbiased=False) + 1e-12).sqrt()


def critic_target(
    reward: Tensor,
    terminal: Tensor,
    next_value: Tensor,
    next_log_prob: Tensor,
    alpha: Tensor,
    *,
    discount: float,
    soft: bool,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """Return y = r + γ(1 - terminal)(Q̄(s', a') - α log π(a'|s')) [B] (equations 2 and 3), clipped to `bounds` if given.

    `next_value` [B] is the `lower_estimate` of the target critics. The entropy term is left out if `soft` is false.
    """
    if soft:
        next_value = next_value - alpha * next_log_prob
    target = reward + discount * (1 - terminal) * next_value
    return target if bounds is None else target.clamp(*bounds)


def reachable_returns(rewards: Tensor, discount: float) -> tuple[float, float]:
    """Return the range of Σ γᵗ r_t for rewards within those of a log [N], with 0 after a terminal step.

    The range is [min(0, r_min), max(0, r_max)]/(1 - γ), which contains all true returns. Penalised values and values with an
    entropy term may lie below it. Clipping targets to this range limits the effect of the penalty: if no logged reward is
    negative, no target is below 0.
    """
    horizon = 1 / (1 - discount)
    return min(0.0, float(rewards.min())) * horizon, max(0.0, float(rewards.max())) * horizon


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Return Σ_k mean (Q_k - y)², the squared Bellman error of all critics (equation 5)."""
    return (q - target).square().mean(-1).sum()


def actor_loss(value: Tensor, log_prob: Tensor, alpha: Tensor) -> Tensor:
    """Return mean(α log π(a|s) - Q(s, a)) (equation 7), where `value` is the `lower_estimate` of Q [B]."""
    return (alpha * log_prob - value).mean()


def temperature_loss(log_alpha: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Return -log α · mean(log π + H̄) (equation 18, with log α for α as in the authors' code)."""
    return -(log_alpha * (log_prob + target_entropy)).mean()


def cloning_error(actions: Tensor, logged: Tensor) -> Tensor:
    """Return ‖π(s) - a‖² [B] for a policy's mean actions and the logged actions [B, A] in [-1, 1].

    Behaviour cloning minimises its mean over the log (Pomerleau 1991; BC of Fujimoto & Gu 2021, arXiv:2106.06860, table 1). The
    minimum is at π(s) = E[a|s], where the likelihood of a Gaussian around π(s) with fixed σ is largest.

    >>> cloning_error(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
    tensor([0.5000])
    """
    return (actions - logged).square().sum(-1)


@torch.no_grad()
def polyak_(target: Iterable[Tensor], source: Iterable[Tensor], tau: float) -> None:
    """Set target to (1 - τ) target + τ source, in place."""
    torch._foreach_lerp_(list(target), list(source), tau)  # pyright: ignore[reportPrivateImportUsage]
