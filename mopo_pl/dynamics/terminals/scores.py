"""How well log odds tell terminal rows from others: rank, threshold, reliability."""

from typing import NamedTuple

import torch
from torch import Tensor

BINS = 10
"""Of predicted probabilities, equally wide."""


def area_under_curve(scores: Tensor, terminal: Tensor) -> float:
    """Probability that a terminal row has a higher score than another row, ties counted half (Mann and Whitney).

    Args:
        scores: Any increasing function of the probability [N].
        terminal: Whether the row is [N] bool; both kinds must be there.

    >>> area_under_curve(torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([False, False, True, True]))
    0.875

    """
    _, place, count = torch.unique(scores, return_inverse=True, return_counts=True)
    # The mean of the ranks, from 1, that equal scores share.
    rank = count.cumsum(0) - (count - 1) / 2
    positives, negatives = int(terminal.sum()), int((~terminal).sum())
    total = rank.double()[place][terminal].sum() - positives * (positives + 1) / 2
    return float(total / (positives * negatives))


class Threshold(NamedTuple):
    """Log odds from which on a row counts as terminal, and what follows on the rows that it was chosen on."""

    log_odds: float
    found: int
    """Terminal rows at or above it."""
    false: int
    """Other rows at or above it."""


def best_threshold(log_odds: Tensor, terminal: Tensor) -> Threshold:
    """The threshold of the highest F1 = 2·found/(found + false + terminal rows), in the middle between two scores.

    Of equal F1 the highest threshold is taken.

    >>> best_threshold(torch.tensor([-4.0, -2.0, 1.0, 3.0]), torch.tensor([False, False, True, True]))
    Threshold(log_odds=-0.5, found=2, false=0)

    """
    ordered, order = log_odds.double().sort(descending=True)
    found = terminal[order].cumsum(0)
    taken = torch.arange(1, len(ordered) + 1)
    f1 = 2 * found.double() / (taken + terminal.sum())
    # Equal scores stand on one side of a threshold together.
    f1[:-1][ordered[:-1] == ordered[1:]] = -1.0
    last = int(f1.argmax())
    lower = ordered[last + 1] if last + 1 < len(ordered) else ordered[last] - 1.0
    return Threshold(float((ordered[last] + lower) / 2), int(found[last]), last + 1 - int(found[last]))


class Bin(NamedTuple):
    """Rows whose predicted probability lies in one interval."""

    rows: int
    predicted: float
    """Their mean probability."""
    terminal: float
    """The share of them that is terminal."""


def reliability(log_odds: Tensor, terminal: Tensor) -> tuple[list[Bin], float]:
    """The bins that hold rows, and the calibration error Σ rows/N·|predicted - terminal| (Naeini et al. 2015)."""
    probability, terminal = log_odds.double().sigmoid(), terminal.double()
    place = (probability * BINS).long().clamp(max=BINS - 1)
    bins = []
    for index in range(BINS):
        inside = place == index
        if inside.any():
            bins.append(Bin(int(inside.sum()), float(probability[inside].mean()), float(terminal[inside].mean())))
    error = sum(bin.rows * abs(bin.predicted - bin.terminal) for bin in bins) / len(log_odds)
    return bins, error
