"""`data.device=cpu`: the log stays on the host, and batches are of the same law, or the same batches."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_stages import (
    differing,
    quiet_trainer,
    selection,
    small_batches,
    small_dynamics,
    small_refresh,
    small_sac,
    small_samples,
    weights,
)
from torch import Tensor

from mopo_pl.data.batches.host_log import HostLog
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.terminals.samples import TerminalDataModule
from mopo_pl.errors import InputError

Make = Callable[..., OfflineDataset]


def filled(dataset: OfflineDataset, **replaced: Any) -> OfflineDataModule:
    data = small_batches(dataset, on_host=True, **replaced)
    data.model_buffer.begin()
    data.model_buffer.append(dataset.transitions.rows[:10] + 1000, torch.ones(10, dtype=torch.bool))
    data.model_buffer.end()
    return data


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 20), max_size=6))
def test_fetched_rows_are_those_at_the_indices_in_order(sizes: list[int]) -> None:
    rows, generator = torch.arange(60.0).view(20, 3), torch.Generator().manual_seed(0)
    indices = [torch.randint(20, (2, size), generator=generator) for size in sizes]
    fetched = list(HostLog(rows, torch.device("cpu")).fetched(indices))
    assert len(fetched) == len(sizes)
    assert all(torch.equal(got, rows[index]) for got, index in zip(fetched, indices, strict=True))


def test_the_next_rows_are_on_their_way_before_one_yields() -> None:
    asked = []

    def indices() -> Any:
        for i in range(3):
            asked.append(i)
            yield torch.tensor([i])

    fetched = HostLog(torch.eye(3), torch.device("cpu")).fetched(indices())
    assert torch.equal(next(fetched), torch.eye(3)[[0]])
    assert asked == [0, 1]


def test_logged_rows_of_a_batch_are_rows_of_the_log_drawn_uniformly(make_dataset: Make) -> None:
    dataset = make_dataset(10)
    batches = filled(dataset, batch_size=2000, capacity=30).sample(10).rows
    logged, imagined = batches[:, :1000].flatten(0, 1), batches[:, 1000:]
    assert imagined[..., 0].min() > 500
    places = (logged.unsqueeze(1) == dataset.transitions.rows).all(-1).long().argmax(1)
    assert torch.equal(dataset.transitions.rows[places], logged)
    counts = torch.bincount(places, minlength=10)
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 33.7  # 99.99 % quantile at 9 degrees of freedom


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_the_sizes_of_blocks_change_no_batch(make_dataset: Make, blocks: list[int]) -> None:
    dataset = make_dataset(50)
    one, several = filled(dataset), filled(dataset)
    alone = torch.cat([one.sample(1).rows for _ in range(sum(blocks))])
    assert torch.equal(torch.cat([several.sample(size).rows for size in blocks]), alone)


def test_a_saved_state_goes_on_with_the_rows_that_were_on_their_way(make_dataset: Make) -> None:
    dataset = make_dataset(50)
    data, other = filled(dataset), filled(dataset, seed=5)
    data.sample(2)
    other.sample(3)
    state = data.state_dict()
    expected = data.sample(2).rows
    other.load_state_dict(state)
    assert torch.equal(other.sample(2).rows, expected)


@pytest.mark.parametrize(("saved", "said"), [(True, "on the host"), (False, "on the device of training")])
def test_a_run_goes_on_with_its_log_where_it_was(make_dataset: Make, saved: bool, said: str) -> None:
    dataset = make_dataset(50)
    state = small_batches(dataset, on_host=saved).state_dict()
    key = "cpu" if saved else "training"
    with pytest.raises(InputError, match=f"^the checkpoint was written with the log {said}: .*data.device={key}$"):
        small_batches(dataset, on_host=not saved).load_state_dict(state)


def epochs(data: Any, count: int) -> list[Tensor]:
    return [block.rows for _ in range(count) for block in data]


def test_the_ensemble_is_given_the_same_batches(make_dataset: Make) -> None:
    dataset = make_dataset()
    there, here = (epochs(small_samples(dataset, updates_per_step=2, on_host=host), 2) for host in (False, True))
    assert len(there) == len(here) == 6
    assert all(map(torch.equal, there, here))


def test_the_ensemble_goes_on_in_the_middle_of_an_epoch(make_dataset: Make) -> None:
    dataset = make_dataset()
    data, other = (small_samples(dataset, on_host=True) for _ in range(2))
    blocks = iter(data)
    next(blocks)
    state = data.state_dict()
    other.load_state_dict(state)
    assert all(map(torch.equal, [block.rows for block in blocks], [block.rows for block in other]))


def test_a_stage_of_the_ensemble_ends_with_the_same_weights(make_dataset: Make) -> None:
    dataset, ends = make_dataset(), []
    for host in (False, True):
        module = small_dynamics(dataset)
        quiet_trainer([selection()], 2).fit(module, datamodule=small_samples(dataset, on_host=host))
        ends.append(weights(module))
    assert differing(*ends) == []


def test_a_policy_is_trained_from_the_host(make_dataset: Make) -> None:
    dataset = make_dataset()
    sac, data = small_sac(dataset), small_batches(dataset, on_host=True)
    quiet_trainer([small_refresh(dataset)], 2).fit(sac, datamodule=data)
    assert sac.updates == 10


def test_with_a_log_on_the_host_nothing_of_it_goes_to_the_device(make_dataset: Make) -> None:
    dataset = make_dataset(terminals=torch.arange(400).remainder(3).eq(0).numpy())
    strategy = SimpleNamespace(root_device=torch.device("meta"))
    trainer = cast(Any, SimpleNamespace(strategy=strategy, current_epoch=1, global_rank=0, world_size=1))
    samples = small_samples(dataset, on_host=True)
    terminals = TerminalDataModule(
        dataset, batch_size=8, updates_per_epoch=2, holdout_fraction=0.2, seed=0, on_host=True
    )
    for data in (samples, terminals):
        data.trainer = trainer
        data.setup("fit")
    assert {samples.log_rows.rows.device.type, samples.bootstrap.device.type, terminals.rows.rows.device.type} == {
        "cpu"
    }
