"""Elements of sections: figures, tables, and formatted numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

LONGEST = 60
"""Largest number of letters of a name on the page."""


@dataclass(frozen=True)
class Figure:
    """A figure with an explanation of how to read it."""

    name: str
    title: str
    svg: str
    """SVG element; matplotlib escapes the text in it."""
    how: str


@dataclass(frozen=True)
class Table:
    """A table: rows of text with a heading for each column."""

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
    """Format a number for the page.

    >>> number(0.000123456), number(-849.83, 4), number(None)
    ('0.000123', '-849.8', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def share(value: float | None) -> str:
    """Format a share in percent.

    >>> share(0.894), share(None)
    ('89.4 %', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def first_of(columns: int, most: int) -> str:
    """Return a sentence for a figure that does not contain all columns; empty where it does."""
    return f" The first {most} of {columns} columns; the table has all." if columns > most else ""
