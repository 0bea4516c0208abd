"""The exported policy on its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mopo_pl.errors import InputError
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.policy import Policy
from mopo_pl.sac.actor import TanhGaussianActor

LOW, HIGH = np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32)


def policy(seed: int = 0) -> Policy:
    actor = TanhGaussianActor(
        obs_dim=3,
        action_dim=2,
        hidden_sizes=(8, 6),
        log_std_min=-4.0,
        log_std_max=1.5,
        normaliser=Normaliser(torch.arange(3.0), torch.arange(1.0, 4.0)),
        generator=generator_for(seed, "actor"),
    )
    return Policy(actor, LOW, HIGH, {"env_id": "Some-v0"})


def pushed(mean: list[float]) -> Policy:
    """A policy of fixed μ."""
    made = policy()
    head = made.actor.layers[-1]
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([*mean, 0.0, 0.0]))
    return made


@pytest.fixture
def states() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)


def test_a_loaded_policy_acts_exactly_as_the_saved_one(tmp_path: Path, states: np.ndarray) -> None:
    saved = policy()
    saved.save(tmp_path)
    loaded = Policy.load(tmp_path)
    assert np.array_equal(saved(states), loaded(states))
    assert np.array_equal(saved.sample(states, generator_for(0, "x")), loaded.sample(states, generator_for(0, "x")))
    assert loaded.meta == {"env_id": "Some-v0"}


def with_history(seed: int = 0) -> Policy:
    """Of two observations [2] and the action [2] between them."""
    actor = TanhGaussianActor(
        obs_dim=6,
        action_dim=2,
        hidden_sizes=(8,),
        log_std_min=-4.0,
        log_std_max=1.5,
        normaliser=Normaliser.identity(6),
        generator=generator_for(seed, "actor"),
    )
    return Policy(actor, LOW, HIGH, {}, history=2)


def test_a_policy_with_a_history_remembers_the_last_step_until_it_is_reset(states: np.ndarray) -> None:
    made, observations = with_history(), torch.as_tensor(states[:, :2])
    first, second = made(observations[:5]), made(observations[5:10])
    start = torch.cat([observations[:5], observations[:5], torch.zeros(5, 2)], -1)
    done = made.actor.mean_action(start)
    torch.testing.assert_close(first, torch.tensor([1.0, 5.0]) + torch.tensor([2.0, 5.0]) * done)
    state = torch.cat([observations[5:10], observations[:5], done], -1)
    torch.testing.assert_close(
        second, torch.tensor([1.0, 5.0]) + torch.tensor([2.0, 5.0]) * made.actor.mean_action(state)
    )
    with pytest.raises(ValueError, match=r"was of observations \[5, 2\], this one is of \[2\]: call policy.reset\(\)"):
        made(observations[0])
    made.reset()
    assert torch.equal(made(observations[:5]), first)
    assert not torch.equal(made(observations[:5]), first)


def test_a_policy_of_half_precision_is_saved_too(tmp_path: Path) -> None:
    policy().to(torch.bfloat16).save(tmp_path)
    assert Policy.load(tmp_path).action_low.dtype == torch.float32


def test_a_sampled_action_is_remembered_too(states: np.ndarray) -> None:
    made, stream = with_history(), generator_for(0, "x")
    made.sample(states[0, :2], stream)
    observation = torch.as_tensor(states[0, :2])
    drawn = made.actor.sample(torch.cat([observation, observation, torch.zeros(2)]), generator_for(0, "x"))
    after = made(torch.as_tensor(states[1, :2]))
    state = torch.cat([torch.as_tensor(states[1, :2]), observation, drawn])
    torch.testing.assert_close(
        after, torch.tensor([1.0, 5.0]) + torch.tensor([2.0, 5.0]) * made.actor.mean_action(state)
    )


def test_a_history_is_saved_with_the_policy(tmp_path: Path, states: np.ndarray) -> None:
    saved = with_history()
    saved(states[:, :2])
    saved.save(tmp_path)
    told = json.loads((tmp_path / "policy.json").read_text())
    assert (told["format"], told["history"]) == (3, 2)
    loaded = Policy.load(tmp_path)
    assert (loaded.history, loaded.meta) == (2, {})
    saved.reset()
    for row in range(3):
        assert np.array_equal(saved(states[row, :2]), loaded(states[row, :2]))
    policy().save(tmp_path / "plain")
    assert json.loads((tmp_path / "plain" / "policy.json").read_text()).keys() & {"history"} == set()


def test_a_run_folder_is_as_good_as_the_policys_own(tmp_path: Path, states: np.ndarray) -> None:
    saved = policy()
    saved.save(tmp_path / "policy")
    assert np.array_equal(Policy.load(tmp_path)(states), saved(states))


def test_saving_over_another_policy_replaces_it_and_leaves_nothing_beside_it(
    tmp_path: Path, states: np.ndarray
) -> None:
    policy(0).save(tmp_path)
    policy(1).save(tmp_path)
    assert np.array_equal(Policy.load(tmp_path)(states), policy(1)(states))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy.json", "policy.safetensors"]


def test_minus_one_and_one_stand_for_the_environments_bounds() -> None:
    """tanh 0 = 0 is the middle; tanh ln 3 = 0.8; ±50 saturates to the bounds themselves."""
    state = np.zeros(3, np.float32)
    assert pushed([0.0, 0.0])(state).tolist() == pytest.approx([1.0, 5.0])
    assert pushed([np.log(3), -np.log(3)])(state).tolist() == pytest.approx([1 + 0.8 * 2, 5 - 0.8 * 5])
    assert pushed([50.0, -50.0])(state).tolist() == [3.0, 0.0]


def test_samples_stay_within_the_bounds_and_spread_around_the_deterministic_action(states: np.ndarray) -> None:
    made = policy()
    actions = np.stack([made.sample(states, generator_for(seed, "x")) for seed in range(200)])
    assert (actions >= LOW).all()
    assert (actions <= HIGH).all()
    assert (actions.std(0) > 0.1).all()
    above = (actions > made(states)).mean(0)  # the median, as squashing keeps order
    assert (np.abs(above - 0.5) < 0.2).all()


def test_a_batch_is_its_rows_and_a_tensor_is_its_array(states: np.ndarray) -> None:
    made = policy()
    batch = made(states)
    np.testing.assert_allclose(np.stack([made(state) for state in states]), batch, rtol=1e-6)
    tensor = made(torch.from_numpy(states))
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), batch)


def test_observations_of_another_precision_are_taken_as_they_are(states: np.ndarray) -> None:
    made = policy()
    assert np.array_equal(made(states.astype(np.float64)), made(states))


@pytest.mark.parametrize("shape", [(2,), (4,), (5, 2), (3, 1)])
def test_an_observation_of_another_size_is_refused_with_both_sizes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"{shape[-1]},?\).*must be 3"):
        policy()(np.zeros(shape, np.float32))


@pytest.mark.parametrize("missing", ["policy.json", "policy.safetensors"])
def test_a_missing_file_is_an_input_error(tmp_path: Path, missing: str) -> None:
    policy().save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match="holds no policy"):
        Policy.load(tmp_path)


def test_weights_of_which_a_bit_was_lost_are_refused(tmp_path: Path, states: np.ndarray) -> None:
    policy().save(tmp_path)
    path = tmp_path / "policy.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # still finite
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"policy\.safetensors has another SHA-256 than policy\.json names"):
        Policy.load(tmp_path)
    description = json.loads((tmp_path / "policy.json").read_text())
    del description["sha256"]  # as earlier versions wrote it
    (tmp_path / "policy.json").write_text(json.dumps(description))
    assert np.isfinite(Policy.load(tmp_path)(states)).all()


def test_a_file_of_a_later_format_is_refused(tmp_path: Path) -> None:
    policy().save(tmp_path)
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(InputError, match="newer version"):
        Policy.load(tmp_path)


def test_a_policy_needs_torch_numpy_and_safetensors_and_nothing_else_of_the_projects(
    tmp_path: Path, states: np.ndarray
) -> None:
    """In a process of its own, where importing anything else that the project depends on is an error."""
    saved = policy()
    saved.save(tmp_path)
    np.save(tmp_path / "states.npy", states)
    program = f"""
import sys
for name in ("lightning", "pytorch_lightning", "lightning_utilities", "torchmetrics", "omegaconf", "minari",
             "gymnasium", "h5py", "rich"):
    sys.modules[name] = None
import numpy as np
from mopo_pl import Policy
folder = {str(tmp_path)!r}
np.save(folder + "/actions.npy", Policy.load(folder)(np.load(folder + "/states.npy")))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert np.array_equal(np.load(tmp_path / "actions.npy"), saved(states))
