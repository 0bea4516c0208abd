"""Returns in elites whose closed form is known."""

import pytest
import torch
from known_models import EVERYWHERE, KnownModel, decaying, penalised

from mopo_pl.diagnostics.estimates.model_returns import ModelReturns, returns_in_elites
from mopo_pl.dynamics.known_steps import StateLimits

RATES = (0.1, 0.5)
STARTS = torch.tensor([[1.0], [-2.0], [4.0]])


def still(observations: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(observations), 1)


def roll(model, starts=STARTS, *, steps=4, discount=0.5, limits=EVERYWHERE, lowest=-9.0, seed=0) -> ModelReturns:
    generator = torch.Generator().manual_seed(seed)
    return returns_in_elites(
        model,
        policy=still,
        starts=starts,
        steps=steps,
        discount=discount,
        limits=limits,
        lowest_reward=lowest,
        generator=generator,
    )


def test_each_elite_by_itself_earns_its_geometric_sum() -> None:
    found = roll(penalised(KnownModel([decaying(rate) for rate in RATES])))
    for elite, rate in enumerate(RATES):
        for row, start in enumerate(STARTS[:, 0].tolist()):
            earned = sum(start * (1 - rate) ** t for t in range(4))
            discounted = sum(0.5**t * start * (1 - rate) ** t for t in range(4))
            cell = {name: float(values[elite, row]) for name, values in found.sums.items()}
            # u = 2, λ = 3 and u_free = 1.5; Σ γᵗ = 1.875.
            assert cell == pytest.approx(
                {
                    "return": earned,
                    "penalised": earned - 4 * 3 * 0.5,
                    "bound": earned - 4 * 3 * 2,
                    "discounted": discounted,
                    "discounted_penalised": discounted - 1.875 * 3 * 0.5,
                    "discounted_bound": discounted - 1.875 * 3 * 2,
                },
                rel=1e-5,
            )
    assert found.uncertainty.tolist() == pytest.approx([2, 2])
    assert found.discounted_uncertainty.flatten().tolist() == pytest.approx([3.75] * 6)
    summary = found.summary()
    means = [sum((1 - rate) ** t for t in range(4)) for rate in RATES]
    assert summary["return"]["elites"] == pytest.approx(means, rel=1e-5)
    assert summary["return"]["between"] == pytest.approx((means[0] - means[1]) / 2, rel=1e-5)
    within = torch.tensor([1.0, -2.0, 4.0]).std(unbiased=False) * sum(means) / 2
    assert summary["return"]["within"] == pytest.approx(float(within), rel=1e-5)
    assert (summary["length"], summary["ended"], summary["dropped_share"], summary["rollouts"]) == (4, 0, 0, 6)


def test_only_elites_are_rolled_out_in_their_order() -> None:
    model = KnownModel([decaying(rate) for rate in (0.1, 0.9, 0.5)])
    model.elites = torch.tensor([2, 0])
    means = roll(penalised(model)).summary()["return"]["elites"]
    assert means == pytest.approx([sum((1 - rate) ** t for t in range(4)) for rate in (0.5, 0.1)], rel=1e-5)


def test_the_termination_rule_ends_a_rollout_with_its_step_paid() -> None:
    model = penalised(
        KnownModel([decaying(0.5)]), termination=lambda s, a, after: (after.abs() < 0.3).squeeze(-1), free=0.0
    )
    found = roll(model, steps=10)
    # 1, .5 and then .25, which is not acted from; 2, 1, .5; 4, 2, 1, .5.
    assert found.sums["return"].tolist() == [[1.5, -3.5, 7.5]]
    assert found.lengths.tolist() == [[2, 3, 4]]
    assert found.sums["penalised"].tolist() == [[1.5 - 12, -3.5 - 18, 7.5 - 24]]
    assert (int(found.ended.sum()), found.dropped_share) == (3, 0)


@pytest.mark.parametrize("escape", ["range", "nan"])
def test_a_dropped_rollout_is_paid_the_lowest_reward_to_the_end(escape: str) -> None:
    """It must not look better than staying for it."""

    def member(s: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        factor = torch.where(s > 3, torch.nan if escape == "nan" else 100.0, 0.0)
        return torch.cat([s, factor * torch.ones_like(s)], -1)

    limits = StateLimits(torch.tensor([-50.0]), torch.tensor([50.0]))
    found = roll(penalised(KnownModel([member])), limits=limits)
    assert found.sums["return"].tolist() == [[4.0, -8.0, 4 * -9.0]]
    assert found.sums["discounted"].tolist() == [[1.875, -3.75, 1.875 * -9]]
    assert found.sums["bound"][0, 2] == 4 * -9.0  # no u where there is no step
    assert (found.non_finite.sum().item(), found.out_of_range.sum().item()) == ((1, 0) if escape == "nan" else (0, 1))
    assert found.dropped_share == pytest.approx(1 / 3)
    # Also where no other rollout is left.
    alone = roll(penalised(KnownModel([member])), STARTS[2:], limits=limits)
    assert alone.sums["return"].tolist() == [[4 * -9.0]]


def test_outcomes_are_sampled_and_repeat_with_the_seed() -> None:
    model = penalised(KnownModel([decaying(0.5)], std=1.0))
    many = torch.full((4000, 1), 1.0)
    first, again, other = (roll(model, many, seed=seed).sums["return"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # Var Σ r_t = Σ_t σ² + Σ_k σ² (Σ_{j<T-1-k} .5^j)² for r_t = s_t + ε, s_{t+1} = .5 s_t + ε'.
    variance = 4 + sum(sum(0.5**j for j in range(3 - k)) ** 2 for k in range(3))
    assert float(first.mean()) == pytest.approx(1.875, abs=4 * (variance / 4000) ** 0.5)
    assert float(first.var()) == pytest.approx(variance, rel=0.1)
