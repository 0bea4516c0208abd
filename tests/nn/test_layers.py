"""What the networks' layers keep in bf16."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.nn.layers import BatchedLinear, Linear, Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.critic import Critics

OBS, ACTION, ROWS = 3, 2, 50
STATES, ACTIONS = (
    torch.linspace(-1, 1, ROWS * OBS).view(ROWS, OBS),
    torch.linspace(-1, 1, ROWS * ACTION).view(ROWS, ACTION),
)

Networks = tuple[nn.ModuleList, Callable[[], Tensor]]


def critic() -> Networks:
    network = Critics(
        members=2,
        layer_norm=False,
        obs_dim=OBS,
        action_dim=ACTION,
        hidden_sizes=(32, 32),
        normaliser=Normaliser.identity(OBS),
        generator=generator_for(0, "x"),
    )
    return network.layers, lambda: network(STATES, ACTIONS)


def actor() -> Networks:
    network = TanhGaussianActor(
        obs_dim=OBS,
        action_dim=ACTION,
        hidden_sizes=(32, 32),
        log_std_min=-5.0,
        log_std_max=2.0,
        normaliser=Normaliser.identity(OBS),
        generator=generator_for(0, "x"),
    )
    return network.layers, lambda: network.distribution(STATES)[0]


def ensemble() -> Networks:
    network = GaussianEnsemble(
        obs_dim=OBS,
        action_dim=ACTION,
        members=4,
        hidden_sizes=(32, 32),
        normaliser=Normaliser.identity(OBS + ACTION),
        target_normaliser=Normaliser.identity(1 + OBS),
        generator=generator_for(0, "x"),
    )
    return network.layers, lambda: network(torch.cat([STATES, ACTIONS], -1))[0]


@pytest.mark.parametrize("make", [critic, actor, ensemble])
def test_a_network_in_bf16_says_large_values_as_exactly_as_small_ones(make: Callable[[], Networks]) -> None:
    """Its hidden layers are rounded, its last is not: of the numbers around 1000, bf16 has every fourth."""
    layers, says = make()
    bias = layers[-1].bias
    assert isinstance(bias, Tensor)
    bias.data.fill_(1000.0)
    exact = says()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = says()
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.01)


def test_one_linear_map_rounds_as_a_batch_of_one_does() -> None:
    """In fp32 it is torch's own; in bf16 product and factors are rounded, the bias is not."""
    single, batched = Linear(OBS, 4), BatchedLinear(members=1, inputs=OBS, outputs=4)
    batched.weight.data[0], batched.bias.data[0, 0] = single.weight.data.T, single.bias.data
    assert torch.equal(single(STATES), nn.functional.linear(STATES, single.weight, single.bias))
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = single(STATES), batched(STATES.unsqueeze(0))[0]
    rounded = STATES.bfloat16() @ single.weight.bfloat16().T
    assert torch.equal(ours, rounded.float() + single.bias)
    assert torch.equal(ours, theirs)
