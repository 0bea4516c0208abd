"""Parse the ranges of a search, such as `0.1..10`, `0.1..10 (log)` and `1..20`."""

import re
from dataclasses import dataclass

from mopo_pl.config.keys import number_keys
from mopo_pl.errors import InputError

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
FORM = re.compile(rf"\s*({NUMBER})\s*\.\.\s*({NUMBER})\s*(\(log\))?\s*")


@dataclass(frozen=True)
class Range:
    """A range of numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool
    """Whether the logarithm of the number is drawn uniformly."""
    whole: bool
    """Whether the numbers are integers."""


def is_range(key: str, text: str) -> bool:
    """Return whether the text is a range, and the key takes a number.

    >>> is_range("penalty.coef", "0.1..10 (log)"), is_range("dataset", "../logs")
    (True, False)
    """
    return key in number_keys() and FORM.fullmatch(text) is not None


def read_range(key: str, text: str) -> Range:
    """Return the range in a text for which `is_range` is true. Raises InputError if its ends are invalid.

    >>> read_range("rollout.horizon", "1..20")
    Range(low=1.0, high=20.0, log=False, whole=True)
    """
    match = FORM.fullmatch(text)
    assert match is not None
    low, high, log, whole = float(match[1]), float(match[2]), match[3] is not None, number_keys()[key] is int
    if not low < high:
        raise InputError(f"{key}={text}: the lower end comes first, such as {key}={match[2]}..{match[1]}")
    if log and low <= 0:
        raise InputError(f"{key}={text}: a logarithmic range begins above 0")
    if whole and (low % 1 or high % 1):
        raise InputError(f"{key}={text}: it takes integers, and so must both ends be")
    return Range(low, high, log, whole)
