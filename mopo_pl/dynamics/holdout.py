"""How well each member predicts rows it was not trained on."""

import torch
from torch import Tensor
from torchmetrics import Metric

from mopo_pl.dynamics.likelihood import negative_log_likelihood


class HoldoutErrors(Metric):
    """Per member: mean squared error over rows and targets, and negative log-likelihood per row [nats].

    In the units of the ensemble's `target_normaliser`: in raw ones a single target of large scale would decide which members
    are the elites.
    """

    squared: Tensor
    likelihood: Tensor
    rows: Tensor

    def __init__(self, members: int) -> None:
        super().__init__()
        zeros = torch.zeros(members, dtype=torch.float64)
        self.add_state("squared", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("likelihood", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, mean: Tensor, log_var: Tensor, target: Tensor) -> None:
        """Adds rows: mean and log σ² [E, B, T], target [B, T]."""
        self.squared += (mean - target).double().square().mean(-1).sum(-1)
        self.likelihood += negative_log_likelihood(mean, log_var, target).double().sum(-1)
        self.rows += target.shape[0]

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean squared error [E], negative log-likelihood [E]."""
        return self.squared / self.rows, self.likelihood / self.rows
