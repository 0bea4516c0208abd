"""The equations of soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), tensors in, tensors out.

B rows; Q values of the twin critics are [2, B].
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def temperature(log_alpha: Tensor, alpha_max: float | None) -> Tensor:
    """α, clamped where it is used as in OfflineRL-Kit; the gradient of log α itself is never clamped."""
    return log_alpha.exp() if alpha_max is None else log_alpha.exp().clamp(max=alpha_max)


def critic_target(
    reward: Tensor, terminal: Tensor, next_q: Tensor, next_log_prob: Tensor, alpha: Tensor, discount: float, soft: bool
) -> Tensor:
    """y = r + γ(1 - terminal)(min_k Q̄_k(s', a') - α log π(a'|s')) [B] (equations 2 and 3); without the entropy if not soft."""
    value = next_q.amin(0)
    if soft:
        value = value - alpha * next_log_prob
    return reward + discount * (1 - terminal) * value


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Σ_k mean (Q_k - y)², the squared Bellman error of both critics (equation 5)."""
    return (q - target).square().mean(-1).sum()


def actor_loss(q: Tensor, log_prob: Tensor, alpha: Tensor) -> Tensor:
    """mean(α log π(a|s) - min_k Q_k(s, a)) (equation 7)."""
    return (alpha * log_prob - q.amin(0)).mean()


def temperature_loss(log_alpha: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """-log α · mean(log π + H̄) (equation 18, with log α for α as in the authors' code)."""
    return -(log_alpha * (log_prob + target_entropy)).mean()


@torch.no_grad()
def polyak_(target: Iterable[Tensor], source: Iterable[Tensor], tau: float) -> None:
    """target ← (1 - τ) target + τ source, in place."""
    torch._foreach_lerp_(list(target), list(source), tau)  # pyright: ignore[reportPrivateImportUsage]
