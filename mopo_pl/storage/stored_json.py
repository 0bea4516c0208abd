"""JSON files of a run, a policy or an ensemble, which may be damaged, or made by someone else."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 50_000_000
"""Size up to which such a file is read [bytes]."""
METRICS_LARGEST = 200_000_000
"""The same of `metrics.jsonl`: the rows of some hundred thousand epochs [bytes]."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a file holds.

    Raises FileNotFoundError; OSError where it is no regular file (a pipe would be waited for); ValueError where it is larger
    than 50 MB, holds no JSON object, or a number that is larger than any float.
    """
    return loads(read_text(path), parse_int=_whole_number, parse_float=_number)


def read_text(path: Path, largest: int = LARGEST) -> str:
    """Return the text of a regular file of up to so many bytes; raises as `read_json`. What is no UTF-8 becomes U+FFFD."""
    size = path.stat().st_size
    if not path.is_file():
        raise OSError(f"{path.name} is no regular file")
    if size > largest:
        raise ValueError(f"{path.name} has {size} bytes, more than {largest}")
    return path.read_text(errors="replace")


def _whole_number(digits: str) -> int:
    number = int(digits)
    if abs(number) > sys.float_info.max:
        raise ValueError(f"the whole number {digits[:20]}… is larger than any float")
    return number


def _number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} is larger than any float")
    return number


def loads(
    text: str, parse_int: Callable[[str], int] = int, parse_float: Callable[[str], float] = float
) -> dict[str, Any]:
    """Return the object of a JSON text; raise ValueError where it is none, or one too deep.

    `parse_int`, `parse_float`: of its whole and of its other numbers.

    >>> loads('{"a": 1}')
    {'a': 1}
    """
    try:
        value = json.loads(text, parse_int=parse_int, parse_float=parse_float)
    except RecursionError as error:
        raise ValueError("the JSON has too many levels") from error
    if not isinstance(value, dict):
        raise ValueError(f"the JSON is a {type(value).__name__}, not an object")
    return value
