"""Convert an observation, given as an array, a tensor or a dict of columns, to a tensor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def observation_tensor(observation: Any, names: Sequence[str]) -> Tensor:
    """Return an observation, or a batch of observations, as a tensor of real numbers [..., D]. D is the number of names.

    Raises ValueError if the value is not an observation with these columns.
    """
    columns = len(names)
    values = _real_tensor(_row(observation, names) if isinstance(observation, Mapping) else observation)
    if values is None or values.dim() == 0:
        raise ValueError(
            f"an observation is a vector of {columns} real numbers, or a batch of such; this is {_described(observation)}"
        )
    if values.shape[-1] != columns:
        raise ValueError(f"observation has shape {tuple(values.shape)}; the last must be {columns}")
    return values


def _row(columns: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the columns of an observation that is given as a dict, in the order of `names`, [..., D].

    Raises ValueError if a column is missing or unknown, or if the columns have different shapes.
    """
    if columns.keys() != set(names):
        missing = [name for name in names if name not in columns]
        # Shortened: the names may come from an untrusted client.
        unknown = [str(name)[:40] for name in columns if name not in names]
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        wrong = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(unknown[:5])}{more}, which is no column"
        raise ValueError(f"an observation given as a dict holds each column by its name; this one {wrong}")
    try:
        return np.stack([_array(columns[name]) for name in names], -1)
    except (ValueError, IndexError) as error:  # IndexError: more dimensions than NumPy supports
        raise ValueError("an observation given as a dict holds one number, or as many, for each column") from error


def _real_tensor(observation: Any) -> Tensor | None:
    """Return the observation as a tensor, as a copy if it is an array; None if it does not consist of real numbers."""
    if isinstance(observation, Tensor):
        return None if observation.is_complex() else observation
    try:
        array = _array(observation)
    except ValueError:  # rows of different lengths
        return None
    return torch.from_numpy(np.array(array, np.float64, order="C")) if array.dtype.kind in "biuf" else None


def _array(values: Any) -> np.ndarray:
    """Return values as an array. Masked values become NaN, because they were not measured."""
    if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "biuf":
        return np.ma.filled(values.astype(np.float64), np.nan)
    return np.asarray(values)


def _described(observation: Any) -> str:
    if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
        return "a pair: write observation, info = env.reset()"
    if observation is None or isinstance(observation, str | bytes):
        return f"a {type(observation).__name__}"
    values = None if isinstance(observation, Mapping) else _real_tensor(observation)
    return "a number" if values is not None else f"a {type(observation).__name__} of what are no real numbers"
