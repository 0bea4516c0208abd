"""Packed rows and their named views."""

import pytest
import torch

from mopo_pl.data.transitions import Transitions

ROW = torch.arange(9.0)  # s 0 1 2 | a 3 | s' 4 5 6 | r 7 | terminal 8


def test_views_lie_where_the_layout_says() -> None:
    log = Transitions(ROW[None], obs_dim=3, action_dim=1)
    assert log.observations.tolist() == [[0, 1, 2]]
    assert log.actions.tolist() == [[3]]
    assert log.inputs.tolist() == [[0, 1, 2, 3]]
    assert log.next_observations.tolist() == [[4, 5, 6]]
    assert log.rewards.tolist() == [7]
    assert log.terminals.tolist() == [8]


@pytest.mark.parametrize("leading", [(4,), (2, 4), ()])
def test_unpacking_gives_what_was_packed(leading: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    states, actions, following = (torch.randn(*leading, dim, generator=generator) for dim in (3, 2, 3))
    rewards, terminals = torch.randn(leading, generator=generator), torch.randn(leading, generator=generator) > 0
    log = Transitions.pack(states, actions, following, rewards, terminals)
    unpacked = (log.observations, log.actions, log.next_observations, log.rewards, log.terminals)
    for got, expected in zip(unpacked, (states, actions, following, rewards, terminals.float()), strict=True):
        assert torch.equal(got, expected)


def test_packing_takes_the_observations_precision() -> None:
    wide = torch.zeros(2, 1, dtype=torch.float64)
    narrow = torch.zeros(2, 1)
    assert Transitions.pack(wide, narrow, narrow, narrow[:, 0], narrow[:, 0] > 0).rows.dtype == torch.float64


def test_views_share_memory_with_the_rows() -> None:
    log = Transitions(ROW[None].clone(), obs_dim=3, action_dim=1)
    log.rewards.sub_(7)
    assert log.rows[0, 7] == 0


def test_indexing_takes_whole_rows() -> None:
    log = Transitions(torch.arange(27.0).view(3, 9), obs_dim=3, action_dim=1)
    assert log[torch.tensor([2, 0])].rewards.tolist() == [25, 7]
    assert log[1:].rewards.tolist() == [16, 25]
    assert len(log[torch.tensor([2, 0, 0, 1])]) == 4


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows have 9 columns; obs_dim 2 and action_dim 1 need 7"):
        Transitions(ROW[None], obs_dim=2, action_dim=1)


@pytest.mark.parametrize(("obs_dim", "action_dim", "width"), [(3, 1, 9), (17, 6, 42), (11, 3, 27)])
def test_a_row_is_two_observations_an_action_a_reward_and_an_end(obs_dim: int, action_dim: int, width: int) -> None:
    assert Transitions.width(obs_dim, action_dim) == width
