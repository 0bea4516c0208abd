"""What the processes of a run tell each other, beside gradients. A single process is a group of one."""

from typing import TypeVar

import torch
from torch import Tensor, distributed

from mopo_pl.errors import InputError

T = TypeVar("T")


def world_size() -> int:
    """Processes of the run."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Place of this process among them, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


def gather_from_ranks(value: T) -> list[T]:
    """Every rank's value, in the order of ranks, on every rank. All ranks must call it."""
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum over ranks, on every rank, written into `values`. All ranks must call it."""
    if world_size() > 1:
        distributed.all_reduce(values)
    return values


def max_over_ranks(number: int, device: torch.device) -> int:
    """The largest of the ranks' numbers, on every rank. All ranks must call it."""
    if world_size() == 1:
        return number
    shared = torch.tensor(number, device=device)
    distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
    return int(shared)


def mean_over_ranks(gradients: list[Tensor]) -> list[Tensor]:
    """The mean over ranks of a group of tensors, by one all-reduce of all of them laid end to end."""
    if world_size() == 1:
        return gradients
    flat = sum_over_ranks(torch.cat([gradient.flatten() for gradient in gradients])) / world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    return [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]


def state_of_this_rank(states: list[T]) -> T:
    """This rank's part of what `gathered` gave before the run was stopped; raises InputError for another world size."""
    if len(states) != world_size():
        raise InputError(
            f"the checkpoint holds the random streams of {len(states)} processes, and this run has {world_size()}: "
            "resume it on as many"
        )
    return states[rank()]
