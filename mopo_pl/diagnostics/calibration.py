"""Calibration of predicted σ against errors: z-scaling, coverage, split-conformal intervals, ranking by uncertainty."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mopo_pl.dynamics.terminals.scores import area_under_curve

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Probabilities of the central intervals whose coverage is measured."""


def z_scale(errors: Tensor, std: Tensor) -> Tensor:
    """Return the scale s = sqrt(mean (e/σ)²) of each column [T]: the factor under which N(0, (sσ)²) makes the errors most likely.

    Per-dimension scaling of σ on held-out rows (Levi et al. 2019; Zelikman et al. 2020 take a quantile of |e/σ| instead of
    its mean square). `errors`, `std`: [n, T].

    >>> z_scale(torch.tensor([[2.0], [-2.0]]), torch.tensor([[1.0], [1.0]]))
    tensor([2.])
    """
    return (errors / std).square().mean(0).sqrt()


def normal_coverage(errors: Tensor, std: Tensor, level: float) -> Tensor:
    """Return the share of the rows whose error lies within the central interval of N(0, σ²) of probability `level` [T].

    >>> normal_coverage(torch.tensor([[0.5], [1.5]]), torch.ones(2, 1), 0.6827)
    tensor([0.5000])
    """
    width = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
    return (errors.abs() <= width * std).to(errors.dtype).mean(0)


def log_likelihood(errors: Tensor, std: Tensor) -> float:
    """Return the mean over rows of log N(e; 0, diag σ²), summed over columns [nats]."""
    terms = -0.5 * (errors / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
    return float(terms.sum(-1).mean())


def conformal_factor(errors: Tensor, std: Tensor, level: float) -> Tensor:
    """Return q of each column [T]: the ⌈(n + 1)·level⌉-th smallest |e|/σ of n calibration rows.

    q is inf where n is too small for such a rank.

    μ ± qσ covers a further, exchangeable row with a probability of at least `level`, whatever the errors' distribution
    (split conformal prediction, Vovk et al. 2005; Lei et al. 2018).

    >>> conformal_factor(torch.arange(1.0, 10.0).unsqueeze(1), torch.ones(9, 1), 0.9)
    tensor([9.])
    >>> conformal_factor(torch.ones(8, 1), torch.ones(8, 1), 0.9)
    tensor([inf])
    """
    scores = (errors.abs() / std).sort(0).values
    # Rounding comes first: 10 · 0.9 must not become 9.000000000000002.
    place = math.ceil(round((len(scores) + 1) * level, 9))
    return scores[place - 1] if place <= len(scores) else torch.full_like(scores[0], torch.inf)


def spearman(first: Tensor, second: Tensor) -> float | None:
    """Return the correlation of the ranks of two samples [n], with ties at their mean rank; None where one of them is constant.

    >>> spearman(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([-3.0, 0.0, 0.5]))
    1.0
    """
    ranks = torch.stack([_ranks(first), _ranks(second)])
    ranks = ranks - ranks.mean(1, keepdim=True)
    squares = ranks.square().sum(1)
    return None if not squares.all() else float((ranks[0] * ranks[1]).sum() / squares.prod().sqrt())


def _ranks(values: Tensor) -> Tensor:
    """Return the rank of each value, from 1; equal values share the mean of their ranks."""
    _, place, count = torch.unique(values, return_inverse=True, return_counts=True)
    return (count.cumsum(0) - (count - 1) / 2).double()[place]


def worst_auroc(uncertainty: Tensor, errors: Tensor, share: float) -> float | None:
    """Return the probability that u is larger on one of the worst rows than on another row; ties count half.

    Returns None where all rows count as worst.

    The worst rows are the ⌈share·n⌉ of the largest error, and those as large as the smallest of them.

    Args:
        uncertainty: u [n].
        errors: True errors [n].
        share: Share of the rows that count as worst.

    >>> worst_auroc(torch.tensor([0.1, 0.2, 0.9]), torch.tensor([1.0, 2.0, 5.0]), 0.3)
    1.0

    """
    worst = errors >= errors.topk(max(1, math.ceil(share * len(errors)))).values[-1]
    return None if worst.all() else area_under_curve(uncertainty, worst)


def by_decile(uncertainty: Tensor, errors: Tensor) -> list[float]:
    """Return the mean error of each tenth of the rows, from the tenth with the smallest u to that with the largest.

    >>> by_decile(torch.arange(20.0), torch.arange(20.0))[:2]
    [0.5, 2.5]
    """
    return [float(part.mean()) for part in errors[uncertainty.argsort(stable=True)].tensor_split(10) if len(part)]


def percentiles(values: Tensor, at: Sequence[float]) -> list[float]:
    """Return the quantiles of a sample [n] at the probabilities `at`, as Python floats.

    >>> percentiles(torch.arange(11.0), (0.1, 0.5))
    [1.0, 5.0]
    """
    return values.double().quantile(torch.tensor(at, dtype=torch.float64)).tolist()
