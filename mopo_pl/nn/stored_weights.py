"""Reading of network weights from safetensors files, which may be damaged or come from an untrusted source."""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

HEADER = 100_000_000
"""Largest header that the format of safetensors allows [bytes]."""


def digest_of(tensors: Iterable[Tensor]) -> str:
    """Return the SHA-256 of the values of tensors, in their order; their shapes have no influence.

    >>> import torch
    >>> digest_of([torch.zeros(2)]) == digest_of([torch.zeros(1), torch.zeros(1)])
    True
    >>> digest_of([torch.zeros(2)]) == digest_of([torch.ones(2)])
    False
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Raises FileNotFoundError if there is no such file, OSError if it is not a regular file, SafetensorError if it is damaged, and
    ValueError if it is larger than the memory or than its header declares, or holds a value that is not finite.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise OSError(f"{path.name} is no regular file")
    if size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        raise ValueError(f"{path.name} is larger than the memory")
    declared = _declared(path, size)
    if declared < size:
        raise ValueError(f"{path.name} has {size} bytes, and declares {declared}")
    weights = load_file(path)
    lost = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if lost:
        raise ValueError(f"{lost[0]} is not finite: it holds NaN or inf")
    return weights


def _declared(path: Path, size: int) -> int:
    """Return the size [bytes] that the header of a safetensors file declares; raise ValueError if there is no valid header.

    The size is checked before the file is mapped into memory, because the file may be sparse and many gigabytes long.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= min(HEADER, size) else b""
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(text).items() if name != "__metadata__"]
        return 8 + length + max(map(int, ends), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path.name} has no header of safetensors") from error


def refuse_larger(
    shape: Mapping[str, Any], sizes: Sequence[Any], weights: Mapping[str, Tensor], *, copies: int = 1
) -> None:
    """Raise ValueError if a described network has more weights than its file holds, before memory is allocated for the network.

    Args:
        shape: The description of the network. Its `hidden_sizes` must be a list.
        sizes: Widths of the inputs, the hidden layers and the outputs, which must be integers of at least 1.
        weights: Tensors of the file, by name.
        copies: Number of networks of this shape, an integer of at least 1.

    """
    widths = [*sizes, copies]
    if not isinstance(shape["hidden_sizes"], list) or not all(type(size) is int and size >= 1 for size in widths):
        raise ValueError(f"its layers are {list(sizes)} in {copies} networks, not whole numbers from 1 on")
    described = copies * sum((i + 1) * o for i, o in itertools.pairwise(sizes))
    held = sum(math.prod(tensor.shape) for tensor in weights.values())
    if described > held:
        raise ValueError(f"it describes {described} weights, and its file holds {held} numbers")
