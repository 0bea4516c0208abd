"""`dynamics.truncated_init`."""

from collections.abc import Callable

import pytest
import torch

from mopo_pl.assembly import build_dynamics, build_samples
from mopo_pl.config.schema import DynamicsConfig
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.nn.random_streams import generator_for

Make = Callable[..., OfflineDataset]


def test_weights_of_the_whole_distribution_are_wider_than_cut_ones(make_dataset: Make) -> None:
    """A normal distribution cut at two deviations has a deviation of 0.880 and a largest value of 2."""
    samples = build_samples(DynamicsConfig(), make_dataset(), seed=0)
    cut, whole = (
        build_dynamics(DynamicsConfig(truncated_init=truncated), samples, seed=0, compile=False).ensemble
        for truncated in (True, False)
    )
    for first, second in zip(cut.layers[1:], whole.layers[1:], strict=True):
        scale = 1 / (2 * 200**0.5)
        assert (first.weight / scale).std().item() == pytest.approx(0.880, abs=0.01)  # type: ignore[operator,union-attr]
        assert (second.weight / scale).std().item() == pytest.approx(1.0, abs=0.01)  # type: ignore[operator,union-attr]
        assert (first.weight / scale).abs().max().item() <= 2.0 + 1e-5  # type: ignore[operator,union-attr]
        assert (second.weight / scale).abs().max().item() > 3.0  # type: ignore[operator,union-attr]
        assert not second.bias.any()  # type: ignore[operator,union-attr]
    expected = torch.empty(7, 5, 200).normal_(0, 1 / (2 * 5**0.5), generator=generator_for(0, "ensemble weights"))
    assert torch.equal(whole.layers[0].weight, expected)  # type: ignore[arg-type]
