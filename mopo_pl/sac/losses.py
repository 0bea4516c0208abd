"""The equations of soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905) and of cloning, tensors in, tensors out.

B rows; Q values of N critics are [N, B].
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def temperature(log_alpha: Tensor, alpha_max: float | None) -> Tensor:
    """α, clamped where it is used as in OfflineRL-Kit; the gradient of log α itself is never clamped."""
    return log_alpha.exp() if alpha_max is None else log_alpha.exp().clamp(max=alpha_max)


def lower_estimate(q: Tensor, pessimism: float | None) -> Tensor:
    """min_k Q_k [B], or mean_k Q_k - κ·std_k Q_k with κ = `pessimism` (Fujimoto et al. 2018; Ciosek et al. 2019)."""
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
    """y = r + γ(1 - terminal)(Q̄(s', a') - α log π(a'|s')) [B] (equations 2 and 3), clipped into `bounds` if there are any.

    `next_value` [B] is the `lower_estimate` of the target critics. The entropy term is left out if not soft.
    """
    if soft:
        next_value = next_value - alpha * next_log_prob
    target = reward + discount * (1 - terminal) * next_value
    return target if bounds is None else target.clamp(*bounds)


def reachable_returns(rewards: Tensor, discount: float) -> tuple[float, float]:
    """The range of Σ γᵗ r_t for rewards within those of a log [N], with 0 after a terminal step.

    [min(0, r_min), max(0, r_max)]/(1 - γ): no true return lies beyond it. Penalised and soft values may lie below. Clipping them there
    limits what the penalty can take: where no reward is negative, no target is below 0.
    """
    horizon = 1 / (1 - discount)
    return min(0.0, float(rewards.min())) * horizon, max(0.0, float(rewards.max())) * horizon


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Σ_k mean (Q_k - y)², the squared Bellman error of all critics (equation 5)."""
    return (q - target).square().mean(-1).sum()


def actor_loss(value: Tensor, log_prob: Tensor, alpha: Tensor) -> Tensor:
    """mean(α log π(a|s) - Q(s, a)) (equation 7), for the `lower_estimate` Q [B]."""
    return (alpha * log_prob - value).mean()


def temperature_loss(log_alpha: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """-log α · mean(log π + H̄) (equation 18, with log α for α as in the authors' code)."""
    return -(log_alpha * (log_prob + target_entropy)).mean()


def cloning_error(actions: Tensor, logged: Tensor) -> Tensor:
    """‖π(s) - a‖² [B], for a policy's mean actions and logged ones [B, A] in [-1, 1].

    Its mean over the log is what behaviour cloning minimises (Pomerleau 1991; BC of Fujimoto & Gu 2021, arXiv:2106.06860,
    table 1), at π(s) = E[a|s]: the maximum of the likelihood of a Gaussian around π(s) whose σ is fixed.

    >>> cloning_error(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
    tensor([0.5000])
    """
    return (actions - logged).square().sum(-1)


@torch.no_grad()
def polyak_(target: Iterable[Tensor], source: Iterable[Tensor], tau: float) -> None:
    """target ← (1 - τ) target + τ source, in place."""
    torch._foreach_lerp_(list(target), list(source), tau)  # pyright: ignore[reportPrivateImportUsage]
