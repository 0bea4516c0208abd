"""Read JSON files of a run, a policy or an ensemble, which may be damaged or come from someone else."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 50_000_000
"""Largest size of such a file [bytes]."""
METRICS_LARGEST = 200_000_000
"""Largest size of `metrics.jsonl`, enough for the rows of some hundred thousand epochs [bytes]."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises FileNotFoundError if there is no file, and OSError if it is not a regular file, because reading a pipe would wait. Raises
    ValueError if the file is larger than 50 MB, does not contain a JSON object, or contains a number larger than any float.
    """
    return loads(read_text(path), parse_int=_whole_number, parse_float=_number)


def read_text(path: Path, largest: int = LARGEST) -> str:
    """Return the text of a regular file of at most `largest` bytes. Bytes that are not valid UTF-8 become U+FFFD.

    Raises FileNotFoundError, OSError if it is not a regular file, and ValueError if it is larger.
    """
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
    """Return the object in a JSON text; raise ValueError if it is not a JSON object, or has too many nested levels.

    `parse_int`, `parse_float`: functions that convert the digits of integers and of other numbers.

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
