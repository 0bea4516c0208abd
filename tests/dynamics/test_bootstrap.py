"""The rows each member is trained on, and those nobody is."""

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.bootstrap import EnsembleDataModule

Make = Callable[..., OfflineDataset]
MEMBERS, ROWS = 4, 100


def numbered(known: Tensor | None = None) -> OfflineDataset:
    """Row i holds the reward i, so that a batch names its rows."""
    number = torch.arange(float(ROWS))
    column = number.unsqueeze(-1)
    rows = Transitions.pack(column, 0 * column, column + 1, number, 0 * number)
    one = torch.ones(1).numpy()
    everything = torch.ones(ROWS, dtype=torch.bool)
    return OfflineDataset(
        "numbered", "-", rows, torch.tensor([ROWS]), everything[:1], everything if known is None else known, -one, one
    )


def samples(dataset: OfflineDataset | None = None, **replaced: Any) -> EnsembleDataModule:
    arguments = {"members": MEMBERS, "batch_size": 16, "updates_per_step": 1, "holdout_fraction": 0.2}
    return EnsembleDataModule(dataset or numbered(), **{**arguments, "holdout_max": 1000, "seed": 0, **replaced})


def names(batch: Transitions) -> list[Any]:
    return batch.rewards.long().tolist()


def batches_of(data: EnsembleDataModule) -> list[Transitions]:
    """One epoch's, [E, B, W] each."""
    return [block[k] for block in data for k in range(len(block))]


def epoch(data: EnsembleDataModule) -> list[list[int]]:
    """Every member's rows of one epoch, in order."""
    batches = [names(batch) for batch in batches_of(data)]
    return [[name for batch in batches for name in batch[i]] for i in range(MEMBERS)]


def held_out(data: EnsembleDataModule) -> list[int]:
    (batch,) = data.val_dataloader()
    return names(batch)


def test_holdout_and_training_rows_part_the_log() -> None:
    data = samples()
    assert sorted([*held_out(data), *data.train.tolist()]) == list(range(ROWS))
    assert len(held_out(data)) == 20


@pytest.mark.parametrize(("fraction", "most", "size"), [(0.2, 1000, 20), (0.2, 7, 7), (0.039, 1000, 3)])
def test_the_holdout_is_a_share_of_the_rows_up_to_its_limit(fraction: float, most: int, size: int) -> None:
    assert len(held_out(samples(holdout_fraction=fraction, holdout_max=most))) == size


def test_no_member_ever_sees_a_held_out_row() -> None:
    data = samples()
    seen = {name for member in epoch(data) for name in member}
    assert seen.isdisjoint(held_out(data))


def test_a_members_sample_is_drawn_with_replacement_and_as_large_as_the_training_rows() -> None:
    """Of n rows drawn n times, a share of 1 - (1 - 1/n)ⁿ, about 0.63, is seen."""
    members = epoch(samples())
    shares = [len(set(member)) / len(member) for member in members]
    assert [len(member) for member in members] == [80] * MEMBERS
    assert sum(shares) / MEMBERS == pytest.approx(1 - (1 - 1 / 80) ** 80, abs=0.06)
    assert max(shares) < 1


def test_members_draw_different_samples() -> None:
    members = [sorted(member) for member in epoch(samples())]
    assert len({tuple(member) for member in members}) == MEMBERS


def test_the_bootstrap_is_drawn_once_and_only_its_order_changes_each_epoch() -> None:
    data = samples()
    first, second, third = epoch(data), epoch(data), epoch(data)
    for i in range(MEMBERS):
        assert sorted(first[i]) == sorted(second[i]) == sorted(third[i])
        assert len({tuple(order) for order in (first[i], second[i], third[i])}) == 3


def test_members_are_shuffled_apart() -> None:
    """If all members had one permutation, the places of a batch would hold the same draws in every epoch."""
    data = samples(numbered(), batch_size=80)
    data.bootstrap = torch.arange(80).repeat(MEMBERS, 1)
    order = epoch(data)
    assert len({tuple(member) for member in order}) == MEMBERS


def test_batches_are_of_the_asked_size_but_the_last_which_takes_the_rest() -> None:
    data = samples(batch_size=30)
    assert [batch.rows.shape[:2] for batch in batches_of(data)] == [(MEMBERS, 30), (MEMBERS, 30), (MEMBERS, 20)]
    assert len(data) == data.steps == 3


@pytest.mark.parametrize("batch_size", [16, 30, 80, 100])
@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_blocks_hold_the_same_batches_in_the_same_order(batch_size: int, most: int) -> None:
    one, several = samples(batch_size=batch_size), samples(batch_size=batch_size, updates_per_step=most)
    for _ in range(2):
        assert list(map(names, batches_of(one))) == list(map(names, batches_of(several)))
    whole, rest = divmod(80, batch_size)
    full, left = divmod(whole, most)
    expected = [most] * full + [left] * (left > 0) + [1] * (rest > 0)
    assert [len(block) for block in several] == expected
    assert len(several) == len(expected)
    assert all(block.rows.is_contiguous() for block in several)


def test_rows_without_a_true_next_state_are_neither_trained_on_nor_held_out() -> None:
    known = torch.ones(ROWS, dtype=torch.bool)
    known[::3] = False
    data = samples(numbered(known))
    used = {*held_out(data), *(name for member in epoch(data) for name in member)}
    assert all(name % 3 for name in used)


def test_the_normaliser_knows_the_training_rows_only() -> None:
    data = samples()
    inputs = torch.tensor(sorted(data.train.tolist()), dtype=torch.float64)
    normaliser = data.normaliser()
    assert normaliser.mean[0].item() == pytest.approx(inputs.mean().item(), rel=1e-6)
    assert normaliser.std[0].item() == pytest.approx(inputs.std(correction=0).item(), rel=1e-6)


def test_a_seed_determines_split_sample_and_order() -> None:
    first, again, other = samples(), samples(), samples(seed=1)
    assert held_out(first) == held_out(again) != held_out(other)
    assert epoch(first) == epoch(again) != epoch(other)


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_too_few_rows_to_hold_any_out_are_refused(rows: int) -> None:
    known = torch.arange(ROWS) < rows
    with pytest.raises(ValueError, match="too few"):
        samples(numbered(known))


# Resumption -----------------------------------------------------------------------------------------------------------


def endless(data: EnsembleDataModule) -> Iterator[Any]:
    while True:
        for block in data:
            yield names(block)


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("taken", [0, 1, 3, 4, 5, 9, 10, 12], ids=lambda n: f"after {n}")
def test_a_restored_state_goes_on_with_exactly_the_next_block(taken: int, most: int) -> None:
    """Five batches make an epoch; whatever the place in it, twelve more blocks are the same."""
    unbroken, broken = samples(updates_per_step=most), samples(updates_per_step=most)
    going, stopped = endless(unbroken), endless(broken)
    for _ in range(taken):
        assert next(going) == next(stopped)
    resumed = samples(updates_per_step=most)
    resumed.load_state_dict(broken.state_dict())
    after = endless(resumed)
    for _ in range(12):
        assert next(after) == next(going)


def test_a_saved_state_is_not_changed_by_training_on() -> None:
    data = samples()
    batches = endless(data)
    next(batches)
    saved = data.state_dict()
    expected = [next(batches) for _ in range(7)]
    resumed = samples()
    resumed.load_state_dict(saved)
    after = endless(resumed)
    assert [next(after) for _ in range(7)] == expected


# Several ranks --------------------------------------------------------------------------------------------------------


def rank_of(data: EnsembleDataModule, rank: int, world: int) -> EnsembleDataModule:
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world, num_training_batches=math.inf)  # type: ignore[assignment]
    return data


def test_ranks_share_a_members_epoch_without_overlap() -> None:
    whole = epoch(samples(batch_size=20))
    parts = [epoch(rank_of(samples(batch_size=10), rank, 2)) for rank in range(2)]
    for i in range(MEMBERS):
        assert sorted(parts[0][i] + parts[1][i]) == sorted(whole[i])


def test_ranks_share_the_holdout_unpadded() -> None:
    data = samples(holdout_max=7)
    parts = [held_out(rank_of(samples(holdout_max=7), rank, 2)) for rank in range(2)]
    assert [len(part) for part in parts] == [4, 3]
    assert sorted(parts[0] + parts[1]) == sorted(held_out(data))


@pytest.mark.parametrize("batch_size", [3, 13, 26])
def test_no_rank_is_ever_given_a_batch_without_rows(batch_size: int) -> None:
    """Three ranks and 80 rows: the last step may have fewer rows than ranks, and the mean over none is no number."""
    per_rank = [batches_of(rank_of(samples(batch_size=batch_size), rank, 3)) for rank in range(3)]
    assert len({len(batches) for batches in per_rank}) == 1
    assert all(batch.rows.shape[1] > 0 for batches in per_rank for batch in batches)
