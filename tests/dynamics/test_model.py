"""A trained model on disk."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.model import TransitionModel, load_model, save_model
from mopo_pl.errors import InputError
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for


def model(seed: int = 0, elites: tuple[int, ...] = (3, 0)) -> TransitionModel:
    ensemble = GaussianEnsemble(
        obs_dim=3,
        action_dim=2,
        members=4,
        hidden_sizes=(8, 6),
        normaliser=Normaliser(torch.arange(5.0), torch.arange(1.0, 6.0)),
        target_normaliser=Normaliser(torch.arange(4.0), torch.arange(2.0, 6.0)),
        generator=generator_for(seed, "test"),
    )
    with torch.no_grad():
        ensemble.max_log_var.add_(torch.rand(ensemble.max_log_var.shape, generator=generator_for(seed, "bounds")))
    return TransitionModel(ensemble=ensemble, elites=torch.tensor(elites))


def test_a_stored_model_predicts_and_samples_exactly_as_before(tmp_path: Path) -> None:
    saved = model()
    save_model(saved, tmp_path, {})
    loaded = load_model(str(tmp_path))  # as a user writes it
    states, actions = torch.randn(6, 3), torch.rand(6, 2)
    outcomes = []
    for transition in (saved, loaded):
        mean, std = transition.predict(torch.cat([states, actions], -1))
        after, reward = transition.sample(states, mean, std, *transition.draw(states, generator_for(0, "x")))
        outcomes.append(torch.cat([mean.flatten(), std.flatten(), after.flatten(), reward]))
    assert torch.equal(*outcomes)
    assert loaded.elites.tolist() == [3, 0]


def test_the_description_carries_the_facts_it_is_given(tmp_path: Path) -> None:
    digest = save_model(model(), tmp_path, {"epochs": 12, "dataset": "abc"})
    description = json.loads((tmp_path / "dynamics.json").read_text())
    assert (description["epochs"], description["dataset"], description["hash"]) == (12, "abc", digest)


def test_nothing_is_left_beside_the_two_files(tmp_path: Path) -> None:
    save_model(model(), tmp_path, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dynamics.json", "dynamics.safetensors"]


def test_the_hash_names_weights_normaliser_bounds_and_elites() -> None:
    first = model()
    scaled, bounded = model(), model()
    scaled.ensemble.normaliser.mean += 1
    bounded.ensemble.max_log_var.data += 1
    others = [model(seed=1), model(elites=(0, 3)), scaled, bounded]
    assert first.hash() == model().hash()
    assert len({first.hash(), *(other.hash() for other in others)}) == 5


@pytest.mark.parametrize("missing", ["dynamics.json", "dynamics.safetensors"])
def test_a_missing_file_is_an_input_error_that_names_it(tmp_path: Path, missing: str) -> None:
    save_model(model(), tmp_path, {})
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=missing):
        load_model(tmp_path)


def test_weights_that_do_not_belong_to_the_description_are_refused(tmp_path: Path) -> None:
    save_model(model(), tmp_path, {})
    weights = load_file(tmp_path / "dynamics.safetensors")
    weights["layers.0.weight"][0, 0, 0] += 1e-3
    save_file(weights, tmp_path / "dynamics.safetensors")
    with pytest.raises(InputError, match="hash differs"):
        load_model(tmp_path)
