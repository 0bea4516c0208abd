"""The ensemble as E networks at once: their form, their initial weights, their regularisation."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.ensemble import MAX_LOG_VAR, MIN_LOG_VAR, GaussianEnsemble, soft_clamp
from mopo_pl.dynamics.losses import negative_log_likelihood
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.nn.layers import BatchedLinear, Normaliser, truncated_normal_, uniform_
from mopo_pl.nn.random_streams import generator_for

OBS, ACTIONS, MEMBERS = 3, 2, 4
MODULE: dict[str, Any] = {
    "compile": False,
    "elites": 2,
    "learning_rate": 1e-3,
    "weight_decay": (0.1, 0.2, 0.3),
    "bound_coef": 0.01,
    "beta": 0.0,
}


def ensemble(
    seed: int = 0, normaliser: Normaliser | None = None, targets: Normaliser | None = None
) -> GaussianEnsemble:
    return GaussianEnsemble(
        obs_dim=OBS,
        action_dim=ACTIONS,
        members=MEMBERS,
        hidden_sizes=(8, 6),
        normaliser=normaliser or Normaliser.identity(OBS + ACTIONS),
        target_normaliser=targets or Normaliser.identity(1 + OBS),
        generator=generator_for(seed, "test"),
    )


def separate_network(model: GaussianEnsemble, member: int) -> nn.Sequential:
    """One member written out with torch's own layers."""
    parts: list[nn.Module] = []
    for layer in model.layers:
        assert isinstance(layer, BatchedLinear)
        weight = layer.weight[member]
        linear = nn.Linear(weight.shape[0], weight.shape[1], dtype=weight.dtype)
        linear.weight = nn.Parameter(weight.detach().T.clone())
        linear.bias = nn.Parameter(layer.bias.detach()[member, 0].clone())
        parts += [linear, nn.SiLU()]
    return nn.Sequential(*parts[:-1])


def clamped_by_hand(raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
    upper = high - torch.log1p(torch.exp(high - raw))
    return low + torch.log1p(torch.exp(upper - low))


@pytest.mark.parametrize("shared", [True, False], ids=["same rows for all", "own rows for each"])
def test_each_member_is_the_network_written_out_with_linear_layers(shared: bool) -> None:
    inputs = torch.randn(50, OBS + ACTIONS, dtype=torch.float64) * 3 + 1
    model = ensemble(normaliser=Normaliser.fit(inputs)).double()
    for layer in model.layers:
        nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    given = inputs if shared else torch.randn(MEMBERS, 7, OBS + ACTIONS, dtype=torch.float64)
    mean, log_var = model(given)
    centre, spread = inputs.mean(0), inputs.std(0, correction=0)
    for i in range(MEMBERS):
        rows = given if shared else given[i]
        output = separate_network(model, i)((rows - centre) / spread)
        torch.testing.assert_close(mean[i], output[:, : 1 + OBS], rtol=1e-9, atol=1e-10)
        by_hand = clamped_by_hand(output[:, 1 + OBS :], model.min_log_var[i], model.max_log_var[i])
        torch.testing.assert_close(log_var[i], by_hand, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_rows_shown_to_all_members_are_rows_given_to_each(precision: torch.dtype) -> None:
    model, inputs = ensemble(), torch.randn(50, OBS + ACTIONS)
    for layer in model.layers:
        nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        shown, given = model(inputs), model(inputs.expand(MEMBERS, *inputs.shape))
    torch.testing.assert_close(shown, given)
    assert shown[0].dtype == torch.float32


def test_another_device_than_the_cpu_multiplies_all_members_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a device without numbers: one product a layer, not one for each member."""
    model, inputs = ensemble().to("meta"), torch.empty(50, OBS + ACTIONS, device="meta")
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: False)  # which knows no such device
    asked: list[int | None] = []
    forward = BatchedLinear.forward
    monkeypatch.setattr(
        BatchedLinear, "forward", lambda self, x, member=None: asked.append(member) or forward(self, x, member)
    )
    mean, log_var = model(inputs)
    assert mean.shape == log_var.shape == (MEMBERS, 50, 1 + OBS)
    assert asked == [None] * len(model.layers)


def test_the_gradient_of_one_members_output_stays_in_that_member() -> None:
    model = ensemble()
    mean, log_var = model(torch.randn(5, OBS + ACTIONS))
    (mean[1].sum() + log_var[1].sum()).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad[1].abs().sum() > 0
        assert parameter.grad[[0, 2, 3]].abs().sum() == 0


def test_the_log_variance_tends_to_its_bounds_and_is_nearly_free_between_them() -> None:
    low, high = torch.tensor(-10.0, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    raw = torch.tensor([-1e4, -4.75, 1e4], dtype=torch.float64)
    clamped = soft_clamp(raw, low, high)
    assert clamped[0].item() == pytest.approx(-10.0, abs=1e-9)
    assert clamped[1].item() == pytest.approx(-4.75, abs=0.02)
    # The second softplus lifts the upper limit by softplus(-(high - low)), some 3e-5.
    assert clamped[2].item() == pytest.approx(0.5 + math.log1p(math.exp(-10.5)), abs=1e-9)


def test_the_log_variance_grows_with_its_raw_value_and_never_leaves_its_bounds() -> None:
    low, high = torch.tensor(-3.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    clamped = soft_clamp(torch.linspace(-20, 20, 401, dtype=torch.float64), low, high)
    assert (clamped.diff() > 0).all()
    assert clamped.min() > -3.0
    assert clamped.max() < 1.0 + math.log1p(math.exp(-4.0))


def test_the_bounds_are_learned_for_each_member_and_start_at_those_of_pets() -> None:
    model = ensemble()
    assert model.max_log_var.shape == model.min_log_var.shape == (MEMBERS, 1, 1 + OBS)
    assert (model.max_log_var == MAX_LOG_VAR).all()
    assert (model.min_log_var == MIN_LOG_VAR).all()
    assert (MAX_LOG_VAR, MIN_LOG_VAR) == (0.5, -10.0)


def test_initial_weights_of_the_ensemble_are_a_normal_cut_at_two_deviations() -> None:
    layer = BatchedLinear(members=5, inputs=100, outputs=200)
    nn.init.ones_(layer.bias)
    truncated_normal_(layer, generator_for(0, "test"))
    std = 1 / (2 * math.sqrt(100))
    # A normal cut at ±2σ has variance σ²(1 - 4φ(2)/(Φ(2) - Φ(-2))).
    density, inside = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(2 / math.sqrt(2))
    assert layer.weight.abs().max().item() <= 2 * std
    assert layer.weight.std().item() == pytest.approx(std * math.sqrt(1 - 4 * density / inside), rel=0.01)
    assert abs(layer.weight.mean().item()) < 4 * std / math.sqrt(layer.weight.numel())
    assert (layer.bias == 0).all()


@pytest.mark.parametrize("batched", [True, False])
def test_uniform_initial_weights_reach_one_over_the_root_of_the_inputs(batched: bool) -> None:
    layer = BatchedLinear(members=2, inputs=25, outputs=400) if batched else nn.Linear(25, 400)
    uniform_(layer, generator_for(0, "test"))
    for values in (layer.weight.detach(), layer.bias.detach()):
        assert values.abs().max().item() == pytest.approx(0.2, rel=0.02)
        assert values.abs().max().item() <= 0.2
        assert values.std().item() == pytest.approx(0.2 / math.sqrt(3), rel=0.06)


def test_members_start_from_different_weights_and_a_seed_gives_the_same_ones() -> None:
    first, again, other = (
        [layer.weight for layer in ensemble(seed).layers if isinstance(layer, BatchedLinear)] for seed in (0, 0, 1)
    )
    for weight, same, different in zip(first, again, other, strict=True):
        assert torch.equal(weight, same)
        assert not torch.equal(weight, different)
        assert all(not torch.equal(weight[i], weight[j]) for i in range(MEMBERS) for j in range(i))


def test_the_normaliser_scores_by_population_statistics_and_leaves_a_constant_column_unscaled() -> None:
    rows = torch.tensor([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0], [7.0, 5.0]])
    normaliser = Normaliser.fit(rows)
    assert normaliser.divisor.tolist() == pytest.approx([math.sqrt(5), 1.0])
    assert normaliser(torch.tensor([4.0, 6.0])).tolist() == pytest.approx([0.0, 1.0])


def test_statistics_of_a_large_offset_survive_single_precision() -> None:
    rows = (10_000 + torch.tensor([[-1.0], [1.0]]).repeat(50_000, 1)).float()
    normaliser = Normaliser.fit(rows)
    assert (normaliser.mean.item(), normaliser.std.item()) == (10_000.0, 1.0)


def batch(rows: int = 5) -> Transitions:
    generator = torch.Generator().manual_seed(3)
    width = Transitions.width(OBS, ACTIONS)
    return Transitions(torch.randn(MEMBERS, rows, width, generator=generator, dtype=torch.float64), OBS, ACTIONS)


def test_the_training_loss_sums_over_members_and_adds_the_bounds_once() -> None:
    module = DynamicsModule(ensemble().double(), **MODULE)
    rows = batch()
    total = 0.0
    with torch.no_grad():
        mean, log_var = module.ensemble.in_raw_units(rows.inputs)
    for i in range(MEMBERS):
        for row in range(5):
            change = rows.next_observations[i, row] - rows.observations[i, row]
            target = [float(rows.rewards[i, row]), *change.tolist()]
            for t, y in enumerate(target):
                lv = float(log_var[i, row, t])
                total += ((float(mean[i, row, t]) - y) ** 2 / math.exp(lv) + lv) / (5 * len(target))
    total += 0.01 * (1 + OBS) * (MAX_LOG_VAR - MIN_LOG_VAR)
    assert module.loss(rows).item() == pytest.approx(total, rel=1e-9)


def test_weight_decay_is_the_gradient_of_half_c_w_squared_on_weights_alone() -> None:
    """The coefficients the optimizer's groups carry, put into Σ ½·c·‖W‖²: its gradient is c·W, and 0 elsewhere."""
    module = DynamicsModule(ensemble().double(), **MODULE)
    optimizer = module.configure_optimizers()
    coefficient = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert set(coefficient) == {id(p) for p in module.parameters()}

    half_squares = torch.zeros((), dtype=torch.float64)
    for parameter in module.parameters():
        half_squares = half_squares + 0.5 * coefficient[id(parameter)] * parameter.square().sum()
    half_squares.backward()
    expected = {
        f"layers.{i}.weight": c * layer.weight.detach()
        for i, (c, layer) in enumerate(zip((0.1, 0.2, 0.3), module.ensemble.layers, strict=True))
        if isinstance(layer, BatchedLinear)
    }
    for name, parameter in module.ensemble.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected.get(name, torch.zeros_like(parameter)))


def test_the_optimizer_couples_the_decay_with_the_gradient_as_adam_does_and_adamw_does_not() -> None:
    """Adam's first step has size lr whatever the gradient's size, so a decayed weight of 100 moves by lr, not more."""
    module = DynamicsModule(ensemble().double(), **MODULE)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 100.0)
        parameter.grad = torch.zeros_like(parameter)
    module.configure_optimizers().step()
    for name, parameter in module.ensemble.named_parameters():
        moved = 1e-3 if name.endswith("weight") else 0.0
        torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, 100.0 - moved))


def test_a_coefficient_for_each_layer_is_required() -> None:
    with pytest.raises(ValueError, match="2 coefficients for 3 layers"):
        DynamicsModule(ensemble(), **{**MODULE, "weight_decay": (0.1, 0.2)})


def test_normalised_targets_are_predicted_in_raw_units() -> None:
    targets = Normaliser(torch.tensor([1.0, -2.0, 0.0, 5.0])[: 1 + OBS], torch.tensor([10.0, 0.5, 2.0, 1.0])[: 1 + OBS])
    plain, scaled = ensemble(), ensemble(targets=targets)
    inputs = torch.randn(6, OBS + ACTIONS, generator=torch.Generator().manual_seed(3))
    (z, z_log_var), (mean, log_var) = plain(inputs), scaled.in_raw_units(inputs)
    torch.testing.assert_close(mean, targets.mean + targets.std * z)
    torch.testing.assert_close((0.5 * log_var).exp(), targets.std * (0.5 * z_log_var).exp())


def test_a_target_that_never_changes_is_predicted_as_it_is_and_for_certain() -> None:
    constant = Normaliser.fit(torch.tensor([[0.5, 3.0, -1.0, 0.0], [1.5, 3.0, 1.0, 0.0]])[:, : 1 + OBS])
    mean, log_var = ensemble(targets=constant).in_raw_units(torch.randn(6, OBS + ACTIONS))
    assert (mean[..., 1] == 3.0).all()
    assert ((0.5 * log_var).exp()[..., 1] == 0).all()
    assert ((0.5 * log_var).exp()[..., 0] > 0).all()


def test_units_of_the_targets_change_no_prediction_of_a_normal_law() -> None:
    """p(y) of raw units is p(z)/std of normalised ones: the likelihoods differ by Σ log std, whatever the rows."""
    targets = Normaliser(torch.full((1 + OBS,), 0.3), torch.full((1 + OBS,), 4.0))
    model = ensemble(targets=targets)
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(5, OBS + ACTIONS, generator=generator)
    target = torch.randn(5, 1 + OBS, generator=generator)
    (mean, log_var), (z_mean, z_log_var) = model.in_raw_units(inputs), model(inputs)
    raw = negative_log_likelihood(mean, log_var, target)
    z = negative_log_likelihood(z_mean, z_log_var, targets(target))
    torch.testing.assert_close(raw, z + targets.std.log().sum(), rtol=1e-4, atol=1e-4)
