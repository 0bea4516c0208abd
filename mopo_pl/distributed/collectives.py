"""Collective operations between the processes (ranks) of a run, in addition to those of DDP.

Without a process group there is one rank.
"""

from typing import TypeVar

import torch
from torch import Tensor, distributed
from torch.utils._pytree import tree_map_only

from mopo_pl.errors import InputError

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes of the run, 1 without a process group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return the index of this process, from 0 to `world_size() - 1`."""
    return distributed.get_rank() if world_size() > 1 else 0


def gather_from_ranks(value: T) -> list[T]:
    """Return the values of all ranks in rank order, on every rank. All ranks must call it.

    `value`: any object that can be pickled. Tensors in its dicts, lists and tuples are moved to the CPU: tensors on a rank's GPU would
    take memory there for every rank, and could not be read on a machine with fewer GPUs.

    >>> gather_from_ranks("only one process")
    ['only one process']
    """
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    distributed.all_gather_object(values, tree_map_only(Tensor, Tensor.cpu, value))
    return values  # type: ignore[return-value]


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over the ranks, in place, and return it on every rank. All ranks must call it."""
    if world_size() > 1:
        distributed.all_reduce(values)
    return values


def max_over_ranks(number: int, device: torch.device) -> int:
    """Return the maximum of the ranks' numbers on every rank.

    All ranks must call it. `device`: device of the tensor that is reduced.
    """
    if world_size() == 1:
        return number
    shared = torch.tensor(number, device=device)
    distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
    return int(shared)


def mean_over_ranks(gradients: list[Tensor]) -> list[Tensor]:
    """Return the mean of each tensor over the ranks, by one all-reduce of their concatenation.

    All ranks must call it.
    """
    if world_size() == 1:
        return gradients
    flat = sum_over_ranks(torch.cat([gradient.flatten() for gradient in gradients])) / world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    return [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]


def state_of_this_rank(states: list[T]) -> T:
    """Return this rank's entry of a list saved by `gather_from_ranks`, the inverse of that call when a run is resumed.

    Raises InputError if the list was saved by another number of processes.
    """
    if len(states) != world_size():
        raise InputError(
            f"the checkpoint holds the states of {len(states)} processes, but this run has {world_size()}: "
            f"resume it with {len(states)} processes"
        )
    return states[rank()]
