"""Metrics rows of a run, as the signs of its health read them."""

from collections.abc import Mapping, Sequence

Row = Mapping[str, float | None]
"""One epoch's metrics, as in metrics.jsonl."""
Rows = Sequence[Row]


def value_of(row: Row, name: str) -> float:
    """The value of a column that the row has."""
    value = row[name]
    assert value is not None
    return value


def latest(rows: Rows, name: str) -> float:
    """The newest value of a column that not every row has; 0 where there is none."""
    return next((value for row in reversed(rows) if (value := row.get(name)) is not None), 0.0)
