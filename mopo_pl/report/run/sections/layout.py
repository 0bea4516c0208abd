"""What sections are made of: figures, tables, and numbers as the page shows them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

LONGEST = 60
"""Letters of a name on the page."""


@dataclass(frozen=True)
class Figure:
    """A figure and how to read it."""

    name: str
    title: str
    svg: str
    """Texts in it are escaped by matplotlib."""
    how: str


@dataclass(frozen=True)
class Table:
    """Rows of texts under a heading each."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    how: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    sentences: Sequence[str] = ()
    figures: Sequence[Figure] = field(default_factory=list)
    tables: Sequence[Table] = field(default_factory=list)


def number(value: float | None, digits: int = 3) -> str:
    """A number as the page shows it.

    >>> number(0.000123456), number(-849.83, 4), number(None)
    ('0.000123', '-849.8', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def share(value: float | None) -> str:
    """A share in percent.

    >>> share(0.894), share(None)
    ('89.4 %', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def first_of(columns: int, most: int) -> str:
    """A further sentence where a figure does not hold all columns."""
    return f" The first {most} of {columns} columns; the table has all." if columns > most else ""
