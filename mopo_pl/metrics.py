"""Means over an epoch that come out right on any number of devices: sums in float64, reduced by torchmetrics."""

import torch
from torch import Tensor
from torchmetrics import Metric


class NamedMeans(Metric):
    """Means of several named scalars over an epoch, kept as one vector so that a step costs one addition."""

    total: Tensor
    count: Tensor

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.add_state("total", torch.zeros(len(names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: Tensor) -> None:
        """Adds K values for each name [K, len(names)], one after another: sums do not depend on how many come at once."""
        for value in values:
            self.total += value
        self.count += len(values)

    def compute(self) -> dict[str, Tensor]:
        """Mean of each."""
        return dict(zip(self.names, self.total / self.count, strict=True))
