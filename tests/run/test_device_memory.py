"""What a run says before it trains where a GPU has too little memory."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mopo_pl.assembly import build_batches
from mopo_pl.config.compose import compose
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.errors import InputError
from mopo_pl.run.preparation.device_memory import FIXED, bytes_needed, refuse, refuse_too_little_memory

Make = Callable[..., OfflineDataset]
WIDTH = 4 * (2 * 3 + 2 + 2)  # bytes of a row: D = 3, A = 2


def test_the_larger_stage_counts(make_dataset: Make) -> None:
    dataset = make_dataset(400)
    assert dataset.transitions.rows.shape[1] * 4 == WIDTH
    config = compose(["rollout.starts=10", "rollout.horizon=3", "rollout.chunk=4"])
    assert list(bytes_needed(config, dataset)) == ["the log", "the bootstrap samples"]
    config = replace(config, stage="policy", dynamics_from="another run")
    assert bytes_needed(config, dataset) == {
        "the log": 400 * WIDTH,
        "the model buffer": (5 * 10 * 3 + 1) * WIDTH,
        "a chunk of rollouts": 4 * (2 * 3 * WIDTH + 2 * 7 * 200 * 4),
    }
    ensemble = bytes_needed(compose(["stage=dynamics", "dynamics.members=5", "dynamics.elites=3"]), dataset)
    assert ensemble == {"the log": 400 * WIDTH, "the bootstrap samples": 3 * 8 * 5 * 400}


def test_a_log_on_the_host_takes_nothing_of_the_card(make_dataset: Make) -> None:
    dataset = make_dataset(400)
    assert bytes_needed(compose(["stage=dynamics", "data.device=cpu"]), dataset) == {}
    assert bytes_needed(compose(["algorithm=bc", "data.device=cpu"]), dataset) == {}
    assert bytes_needed(compose(["algorithm=bc"]), dataset) == {"the log": 400 * WIDTH}


def test_the_bytes_of_log_and_buffer_are_those_of_the_parts(make_dataset: Make) -> None:
    dataset = make_dataset(400)
    config = replace(compose(["rollout.starts=1000"]), stage="policy", dynamics_from="another run")
    data, needed = build_batches(config.sac, config.rollout, dataset, seed=0), bytes_needed(config, dataset)
    assert needed["the log"] == data.log_rows.rows.nbytes
    assert needed["the model buffer"] == data.model_buffer.rows.nbytes


def test_it_says_what_does_not_fit_and_what_to_set(make_dataset: Make) -> None:
    config = compose([])
    needed = {"the log": 3e9, "the model buffer": 1e9}
    refuse(needed, 4e9 + FIXED, config)
    with pytest.raises(InputError) as caught:
        refuse(needed, 4e9 + FIXED - 1, config)
    assert str(caught.value) == (
        "the run needs 4.5 GB on the GPU for the log (3.0 GB), the model buffer (1.0 GB) and 0.5 GB beside them, and "
        "4.5 GB are free: set data.device=cpu, which keeps the log in the host's memory, or a smaller rollout.starts, "
        "rollout.retain_epochs or rollout.chunk"
    )
    there = replace(config, data=replace(config.data, device="cpu"))
    with pytest.raises(InputError, match=r"are free: set a smaller rollout\.starts"):
        refuse(needed, 1e9, there)


def test_on_a_cpu_nothing_is_refused(make_dataset: Make) -> None:
    refuse_too_little_memory(compose([]), make_dataset(400), torch.device("cpu"))
