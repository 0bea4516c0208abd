"""Scores of predicted log odds of terminal rows: area under the curve, best threshold, reliability."""

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 10
"""Number of bins of equal width for predicted probabilities."""


def area_under_curve(scores: Tensor, terminal: Tensor) -> float:
    """Return the probability that a terminal row has a higher score than another row; ties count half (Mann and Whitney).

    Args:
        scores: Any increasing function of the probability [N].
        terminal: Whether each row is terminal [N] bool. There must be rows of both kinds.

    >>> area_under_curve(torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([False, False, True, True]))
    0.875

    """
    _, place, count = torch.unique(scores, return_inverse=True, return_counts=True)
    # Ranks start at 1; equal scores have the mean of their ranks.
    rank = count.cumsum(0) - (count - 1) / 2
    positives, negatives = int(terminal.sum()), int((~terminal).sum())
    total = rank.double()[place][terminal].sum() - positives * (positives + 1) / 2
    return float(total / (positives * negatives))


class Threshold(NamedTuple):
    """Threshold of log odds at or above which a row counts as terminal, and its counts on the rows it was chosen for."""

    log_odds: float
    """The threshold."""
    found: int
    """Number of terminal rows at or above the threshold."""
    false: int
    """Number of other rows at or above the threshold."""


def best_threshold(log_odds: Tensor, terminal: Tensor) -> Threshold:
    """Return the threshold with the highest F1 = 2·found/(found + false + terminal rows), midway between two scores.

    If several thresholds have the same F1, the highest of them is returned.

    >>> best_threshold(torch.tensor([-4.0, -2.0, 1.0, 3.0]), torch.tensor([False, False, True, True]))
    Threshold(log_odds=-0.5, found=2, false=0)

    """
    ordered, order = log_odds.double().sort(descending=True)
    found = terminal[order].cumsum(0)
    taken = torch.arange(1, len(ordered) + 1)
    f1 = 2 * found.double() / (taken + terminal.sum())
    # A threshold cannot separate equal scores.
    f1[:-1][ordered[:-1] == ordered[1:]] = -1.0
    last = int(f1.argmax())
    lower = ordered[last + 1] if last + 1 < len(ordered) else ordered[last] - 1.0
    return Threshold(float((ordered[last] + lower) / 2), int(found[last]), last + 1 - int(found[last]))


class Bin(NamedTuple):
    """Statistics of the rows whose predicted probability lies in one interval."""

    rows: int
    """Number of rows."""
    predicted: float
    """Mean predicted probability of the rows."""
    terminal: float
    """Share of the rows that are terminal."""


def reliability(log_odds: Tensor, terminal: Tensor) -> tuple[list[Bin], float]:
    """Return the bins that are not empty, and the calibration error Σ rows/N·|predicted - terminal| (Naeini et al. 2015)."""
    probability, terminal = log_odds.double().sigmoid(), terminal.double()
    place = (probability * BINS).long().clamp(max=BINS - 1)
    bins = []
    for index in range(BINS):
        inside = place == index
        if inside.any():
            bins.append(Bin(int(inside.sum()), float(probability[inside].mean()), float(terminal[inside].mean())))
    error = sum(bin.rows * abs(bin.predicted - bin.terminal) for bin in bins) / len(log_odds)
    return bins, error
