"""u(s, a), against loops over members and dimensions."""

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_stages import small_refresh
from torch import Tensor

from mopo_pl.config.registry import lookup
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.model_on_log import logged_uncertainty
from mopo_pl.dynamics.penalties import PENALTIES, disagreement, ensemble_std, max_aleatoric, none, relative_unit
from mopo_pl.errors import InputError

Make = Callable[..., OfflineDataset]


def max_aleatoric_by_hand(mean: list[list[float]], std: list[list[float]]) -> float:
    return max(math.sqrt(sum(s * s for s in member)) for member in std)


def ensemble_std_by_hand(mean: list[list[float]], std: list[list[float]]) -> float:
    """The variance of a mixture of normals, from its first two moments."""
    members, total = len(mean), 0.0
    for t in range(len(mean[0])):
        first = sum(m[t] for m in mean) / members
        second = sum(m[t] ** 2 + s[t] ** 2 for m, s in zip(mean, std, strict=True)) / members
        total += second - first**2
    return math.sqrt(total)


def disagreement_by_hand(mean: list[list[float]], std: list[list[float]]) -> float:
    centre = [sum(column) / len(mean) for column in zip(*mean, strict=True)]
    return max(math.dist(member, centre) for member in mean)


BY_HAND = {
    "max_aleatoric": max_aleatoric_by_hand,
    "ensemble_std": ensemble_std_by_hand,
    "disagreement": disagreement_by_hand,
    "none": lambda mean, std: 0.0,
}


def predictions(members: int, rows: int, targets: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (members, rows, targets)
    mean, noise = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return mean, noise.exp()


@pytest.mark.parametrize("name", PENALTIES)
@given(members=st.integers(1, 7), rows=st.integers(1, 4), targets=st.integers(1, 5), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_every_penalty_equals_its_loop(name: str, members: int, rows: int, targets: int, seed: int) -> None:
    mean, std = predictions(members, rows, targets, seed)
    u = PENALTIES[name](mean, std)
    assert u.shape == (rows,)
    for row in range(rows):
        assert u[row].item() == pytest.approx(BY_HAND[name](mean[:, row].tolist(), std[:, row].tolist()), abs=1e-9)


def test_max_aleatoric_by_hand() -> None:
    """Members with deviations (3, 4) and (6, 2.5): ‖σ‖ is 5 and 6.5. Variances would give another order of size."""
    std = torch.tensor([[[3.0, 4.0]], [[6.0, 2.5]]])
    assert max_aleatoric(torch.zeros_like(std), std).item() == pytest.approx(6.5)


def test_ensemble_std_by_hand() -> None:
    """Means ±3 and deviations 4: variance 9 + 16."""
    mean, std = torch.tensor([[[3.0]], [[-3.0]]]), torch.tensor([[[4.0]], [[4.0]]])
    assert ensemble_std(mean, std).item() == pytest.approx(5.0)


def test_disagreement_by_hand() -> None:
    """Means 0, 0 and 9 have centre 3; the farthest is 6 away."""
    mean = torch.tensor([[[0.0]], [[0.0]], [[9.0]]])
    assert disagreement(mean, torch.full_like(mean, 100.0)).item() == pytest.approx(6.0)


@pytest.mark.parametrize("name", ["max_aleatoric", "ensemble_std", "disagreement"])
def test_the_reward_counts_like_any_state_dimension(name: str) -> None:
    mean, std = predictions(5, 3, 4, 0)
    swapped = [1, 0, 2, 3]
    u = PENALTIES[name](mean, std)
    torch.testing.assert_close(PENALTIES[name](mean[..., swapped], std[..., swapped]), u)
    uncertain = std.clone()
    uncertain[..., 0] += 10
    spread = mean.clone()
    spread[0, :, 0] += 10
    assert (PENALTIES[name](spread, uncertain) > u).all()


@pytest.mark.parametrize("name", ["max_aleatoric", "ensemble_std", "disagreement"])
@given(scale=st.floats(0.01, 100))
@settings(max_examples=15, deadline=None)
def test_a_penalty_has_the_units_of_its_targets(name: str, scale: float) -> None:
    """Standard deviation, not variance: ten times the units is ten times the penalty."""
    mean, std = predictions(4, 3, 2, 1)
    torch.testing.assert_close(PENALTIES[name](scale * mean, scale * std), scale * PENALTIES[name](mean, std))


def test_no_penalty_is_zero_for_each_row() -> None:
    mean, std = predictions(3, 4, 2, 0)
    assert none(mean, std).tolist() == [0.0] * 4


def test_a_penalty_of_ones_own_is_found_by_module_and_function(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_penalties")
    module.widest = lambda mean, std: std.amax((0, -1))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_penalties", module)
    mean, std = predictions(3, 4, 2, 0)
    u = lookup("penalty", "my_penalties:widest", PENALTIES)(mean, std)
    assert u.tolist() == std.amax(0).amax(-1).tolist()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("max_aleatorc", "Did you mean max_aleatoric"),
        ("no_such_module:u", "no_such_module"),
        ("math:nothing", "nothing"),
    ],
)
def test_an_unknown_penalty_says_what_is_wrong(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        lookup("penalty", name, PENALTIES)


def test_in_its_relative_unit_lambda_u_is_on_the_log_as_large_as_the_spread_of_its_rewards() -> None:
    u, rewards = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([-4.0, 2.0, 0.0])
    unit = relative_unit(u, rewards)
    assert (unit * u).mean().item() == pytest.approx(rewards.std(correction=0).item())
    assert relative_unit(u, rewards + 100) == pytest.approx(unit)  # which step is better than which stays as it was
    assert relative_unit(u, torch.full((3,), -6.0)) == pytest.approx(2.0)
    assert relative_unit(torch.zeros(3), rewards) == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_penalty_that_is_no_number_on_a_row_of_the_log_is_refused(make_dataset: Make, value: float) -> None:
    """Its mean would make λ 0 or NaN, hours after it could be known."""
    dataset = make_dataset()
    states = dataset.transitions.observations

    def own(mean: Tensor, std: Tensor, observations: Tensor) -> Tensor:
        return torch.where((observations == states[7]).all(-1), value, mean.new_ones(len(observations)))

    model = small_refresh(dataset).model
    logged_uncertainty(model, dataset)
    refused = rf"the penalty own is {value} for 1 of {len(dataset)} logged rows, the first of them row 7"
    with pytest.raises(InputError, match=refused):
        logged_uncertainty(replace(model, penalty=own), dataset)
