"""Metrics rows of a run, in the form that the health signs read."""

from collections.abc import Mapping, Sequence

Row = Mapping[str, float | None]
"""One epoch's metrics, as in metrics.jsonl."""
Rows = Sequence[Row]


def value_of(row: Row, name: str) -> float:
    """Return the value of a column that the row has."""
    value = row[name]
    assert value is not None
    return value


def latest(rows: Rows, name: str) -> float:
    """Return the newest value of a column that not every row has; 0 where no row has it."""
    return next((value for row in reversed(rows) if (value := row.get(name)) is not None), 0.0)
