"""The model buffer, against a list of refreshes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mopo_pl.data.batches.model_buffer import ModelBuffer

CAPACITY = 5

# For each refresh the sizes of the chunks that were appended to it, together at most CAPACITY rows.
REFRESHES = st.lists(
    st.lists(st.integers(0, 3), max_size=4).filter(lambda sizes: sum(sizes) <= CAPACITY), min_size=1, max_size=9
)


def new_buffer(slots: int = 3, capacity: int = CAPACITY, width: int = 2) -> ModelBuffer:
    return ModelBuffer(slots=slots, capacity=capacity, width=width, device="cpu", dtype=torch.float32)


def numbered(first: int, size: int) -> torch.Tensor:
    """Rows (n, -n), n = first, first + 1, …"""
    numbers = torch.arange(first, first + size, dtype=torch.float32)
    return torch.stack([numbers, -numbers], 1)


def copied(number: int, rows: torch.Tensor) -> torch.Tensor:
    return rows.clone()


def same(number: int, rows: torch.Tensor) -> torch.Tensor:
    return rows


def offer(buffer: ModelBuffer, rows: torch.Tensor) -> None:
    """Appends rows that are all valid."""
    buffer.append(rows, torch.ones(len(rows), dtype=torch.bool))


def fill(buffer: ModelBuffer, refreshes: list[list[int]], first: int = 0) -> list[list[int]]:
    """Numbers the rows through; gives each refresh's numbers: the model."""
    model = []
    for sizes in refreshes:
        buffer.begin()
        model.append([])
        for size in sizes:
            offer(buffer, numbered(first, size))
            model[-1] += range(first, first + size)
            first += size
        buffer.end()
    return model


def stored(buffer: ModelBuffer) -> list[int]:
    """Draws each place from 0 to len(buffer) - 1 once."""
    if not len(buffer):
        return []
    rows = buffer.at(torch.arange(len(buffer)))
    assert torch.equal(rows[:, 1], -rows[:, 0])
    return [int(number) for number in rows[:, 0]]


@settings(max_examples=200, deadline=None)
@given(REFRESHES, st.integers(1, 4))
def test_each_row_of_the_newest_refreshes_is_drawn_at_one_place(refreshes: list[list[int]], slots: int) -> None:
    buffer = new_buffer(slots)
    model = fill(buffer, refreshes)
    expected = [number for rows in model[-slots:] for number in rows]
    assert len(buffer) == len(expected)
    assert sorted(stored(buffer)) == expected


@settings(max_examples=100, deadline=None)
@given(REFRESHES, REFRESHES)
def test_a_restored_ring_holds_the_same_and_goes_on_the_same(before: list[list[int]], after: list[list[int]]) -> None:
    buffer, restored = new_buffer(), new_buffer()
    fill(buffer, before)
    restored.load_state_dict(buffer.state_dict(copied), same)
    assert stored(restored) == stored(buffer)
    fill(buffer, after, 100)
    fill(restored, after, 100)
    assert stored(restored) == stored(buffer)


def test_beginning_a_refresh_empties_the_oldest_at_once() -> None:
    buffer = new_buffer(slots=2)
    fill(buffer, [[3], [2]])
    buffer.begin()
    assert stored(buffer) == [3, 4]


def test_rows_are_drawn_uniformly_whatever_the_sizes_of_their_refreshes() -> None:
    buffer = new_buffer(slots=3)
    fill(buffer, [[4], [1], [5], [5]])  # the first is evicted: 1, 5 and 5 rows, numbered 4 to 14
    draws = buffer.at(buffer.draw(22_000, torch.Generator().manual_seed(0)))[:, 0].long()
    counts = torch.bincount(draws, minlength=15)
    assert counts[:4].sum() == 0
    chi_square = float(((counts[4:] - 2000) ** 2 / 2000).sum())
    assert chi_square < 35.6  # 99.99 % quantile at 10 degrees of freedom


def test_draws_come_from_the_given_generator_alone() -> None:
    buffer = new_buffer()
    fill(buffer, [[5], [3]])
    first = buffer.draw(8, torch.Generator().manual_seed(1))
    torch.rand(3)
    assert torch.equal(buffer.draw(8, torch.Generator().manual_seed(1)), first)
    assert not torch.equal(buffer.draw(8, torch.Generator().manual_seed(2)), first)


def test_a_refresh_that_does_not_fit_is_refused_and_nothing_is_overwritten() -> None:
    buffer = new_buffer()
    fill(buffer, [[2], [4]])
    with pytest.raises(ValueError, match="more than 5 rows"):
        offer(buffer, numbered(50, 2))
    assert sorted(stored(buffer)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("refreshes", [[], [[]], [[0]]])
def test_an_empty_ring_refuses_to_sample(refreshes: list[list[int]]) -> None:
    buffer = new_buffer()
    fill(buffer, refreshes)
    with pytest.raises(ValueError, match="the model buffer is empty"):
        buffer.draw(1, torch.Generator())


def test_rows_that_are_not_valid_are_left_out_and_the_others_keep_their_order() -> None:
    buffer = new_buffer(slots=2)
    for first, valid in ((0, [True, False]), (10, [False, True, True])):
        buffer.begin()
        for number, sound in enumerate(valid):
            buffer.append(numbered(first + number, 1), torch.tensor([sound]))
        buffer.end()
    buffer.append(numbered(20, 1), torch.tensor([False]))
    assert stored(buffer) == [0, 11, 12]


def test_rows_are_not_drawn_before_their_slot_is_closed() -> None:
    buffer = new_buffer(slots=2)
    fill(buffer, [[3]])
    buffer.begin()
    offer(buffer, numbered(10, 2))
    assert stored(buffer) == [0, 1, 2]
    buffer.end()
    assert stored(buffer) == [0, 1, 2, 10, 11]


def test_a_saved_state_does_not_change_with_the_ring() -> None:
    buffer = new_buffer(slots=1)
    fill(buffer, [[3]])
    state = buffer.state_dict(copied)
    fill(buffer, [[3]], 100)
    restored = new_buffer(slots=1)
    restored.load_state_dict(state, same)
    assert stored(restored) == [0, 1, 2]


def test_only_stored_rows_are_saved() -> None:
    buffer = new_buffer(slots=4, capacity=1000)
    fill(buffer, [[3], [0], [2]])
    assert [(number, len(rows)) for number, rows in buffer.state_dict(copied)["stored"]] == [(1, 3), (2, 0), (3, 2)]


@pytest.mark.parametrize("shape", [{"slots": 2}, {"slots": 4}, {"capacity": 3}, {"width": 1}, {"width": 3}])
def test_the_state_of_a_ring_of_another_shape_is_refused(shape: dict[str, int]) -> None:
    buffer = new_buffer()
    fill(buffer, [[4], [2]])
    other = new_buffer(**shape)
    with pytest.raises(ValueError, match="another shape"):
        other.load_state_dict(buffer.state_dict(copied), same)
    assert len(other) == 0
