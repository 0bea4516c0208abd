"""What an exported policy takes, and what it says of the rest."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor

LOW, HIGH = np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32)


def policy() -> Policy:
    actor = TanhGaussianActor(
        obs_dim=3,
        action_dim=2,
        hidden_sizes=(8, 6),
        log_std_min=-4.0,
        log_std_max=1.5,
        normaliser=Normaliser(torch.arange(3.0), torch.arange(1.0, 4.0)),
        generator=generator_for(0, "actor"),
    )
    return Policy(actor, LOW, HIGH, {"env_id": "Some-v0"})


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (3.0, "a number"),
        (np.float32(3.0), "a number"),
        (np.zeros(()), "a number"),
        (None, "a NoneType"),
        ({"observation": np.zeros(3)}, "a dict"),
        ((np.zeros(3, np.float32), {}), "observation, info = env.reset()"),
        ("abc", "a str"),
        (np.array(["a", "b", "c"]), "numbers"),
        (np.array([None, 1.0, 2.0]), "numbers"),
        (np.zeros(3, np.complex64), "numbers"),
        ([[0.0, 0.0, 0.0], [0.0]], "numbers"),
        (torch.zeros(()), "a number"),
        (torch.zeros(3, dtype=torch.complex64), "numbers"),
        (np.zeros((0,)), "the last must be 3"),
        (np.zeros(4), "the last must be 3"),
    ],
)
def test_what_is_no_observation_is_refused_in_one_sentence(observation: Any, said: str) -> None:
    for act in (policy(), lambda seen: policy().sample(seen, generator_for(0, "x"))):
        with pytest.raises(ValueError, match="observation") as caught:
            act(observation)  # type: ignore[operator]
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_observation_that_is_not_finite_is_refused(value: float) -> None:
    states = np.zeros((4, 3), np.float32)
    states[2, 1] = value
    batches: list[Any] = [states, torch.from_numpy(states), states[2]]
    for given in batches:
        with pytest.raises(ValueError, match="not finite"):
            policy()(given)


def test_views_lists_and_integers_are_taken_as_they_are() -> None:
    made, states = policy(), np.arange(12, dtype=np.float32).reshape(4, 3) / 10
    assert np.array_equal(made(states[::-1]), made(states[::-1].copy()))
    assert np.array_equal(made(states[:, ::-1]), made(states[:, ::-1].copy()))
    assert np.array_equal(made(states.tolist()), made(states))
    assert np.array_equal(made(np.arange(3)), made(np.arange(3.0)))
    assert np.array_equal(made(states[0].astype(">f4")), made(states[0]))
    read_only = states[0].copy()
    read_only.setflags(write=False)
    assert np.array_equal(made(read_only), made(states[0]))
    assert made(np.zeros((0, 3))).shape == (0, 2)


def test_home_is_expanded_and_the_weights_file_names_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    policy().save("~/saved/policy")
    states = np.zeros(3, np.float32)
    for path in ("~/saved", "~/saved/policy", "~/saved/policy/policy.safetensors", "~/saved/policy/policy.json"):
        assert np.array_equal(Policy.load(path)(states), policy()(states))
    assert (tmp_path / "saved/policy/policy.json").exists()


def test_a_policy_is_a_module(tmp_path: Path) -> None:
    """It moves, is copied and is exported as others are; its state is that of its actor and its bounds."""
    policy().save(tmp_path)
    made = Policy.load(tmp_path)
    assert isinstance(made, nn.Module)
    assert not any(module.training for module in made.modules())
    assert not any(parameter.requires_grad for parameter in made.parameters())
    assert made.double()(torch.zeros(3)).dtype == torch.float64
    assert made.state_dict().keys() > {"action_low", "action_high"}
    assert made.action_high.tolist() == HIGH.tolist()


def test_making_a_policy_of_an_actor_leaves_the_actor_as_it_is() -> None:
    """It is made of one that trains, too."""
    actor = policy().actor.train()
    Policy(actor, LOW, HIGH, {})(np.zeros(3))
    assert actor.training
    assert all(parameter.requires_grad for parameter in actor.parameters())


def test_a_policy_is_exported_by_torch() -> None:
    made, states = policy(), torch.randn(5, 3, generator=generator_for(0, "x"))
    exported = torch.export.export(made, (states,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    for rows in (states, states[:2]):
        torch.testing.assert_close(exported.module()(rows), made(rows))


def test_a_policy_is_compiled_by_torch() -> None:
    made, states = policy(), torch.randn(5, 3, generator=generator_for(0, "x"))
    compiled = torch.compile(made, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(states), made(states))
