"""`FieldBuffer`: the array of a field, which is filled batch by batch from the columns of a table."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mopo_pl.data.readers.arrays import LARGE, MATRICES, NARROWED
from mopo_pl.data.readers.names import shown
from mopo_pl.data.readers.sizes import brief
from mopo_pl.errors import InputError

GROWTH = 1.125
"""Factor by which an array grows if the number of its rows is not known in advance."""


class FieldBuffer:
    """Rows of one field in float64, or in float32 for observations, actions and rewards of large logs. Missing values are NaN."""

    def __init__(self, field: str, widths: Mapping[str, int | None], rows: int | None) -> None:
        """Allocate the array.

        Args:
            field: Name of the field.
            widths: Columns of the field, with the length of the lists in a column of lists, and None for other columns.
            rows: Number of rows of all files, or None if it is not known.

        """
        self.field, self.widths = field, widths
        large = field in NARROWED and (rows or 0) >= LARGE
        self._array = np.empty((rows or 0, sum(map(_columns, widths.values()))), np.float32 if large else float)
        self._rows = 0
        self._origin: dict[str, int] = {}
        self._labels: dict[Any, int] = {}

    def __len__(self) -> int:
        return self._rows

    def append(self, batch: Any, path: Path, row: int) -> None:
        """Append the columns of a RecordBatch that begins at row `row` of the file `path`; raise InputError for values that are not numbers."""
        from pyarrow import ArrowException

        needed = self._rows + batch.num_rows
        if needed > len(self._array):
            if self.field in NARROWED and needed >= LARGE and self._array.dtype == np.float64:
                self._array = self._array.astype(np.float32)
            # The memory is resized in place, without a copy.
            self._array.resize((max(needed, int(GROWTH * needed)), self._array.shape[1]), refcheck=False)
        place = 0
        for key, width in self.widths.items():
            try:
                values = self._values(batch.column(key), key, path, row)
            except ArrowException as error:
                raise InputError(f"{path}: column {shown(key)} cannot be read as numbers: {brief(error)}") from error
            with np.errstate(over="ignore"):  # inf is reported later, with its row
                self._array[self._rows : needed, place : place + _columns(width)] = values
            place += _columns(width)
        self._rows = needed

    def finished(self) -> np.ndarray:
        """Return the array [N, columns], or [N] for a field that has one column and is not a matrix."""
        self._array.resize((self._rows, self._array.shape[1]), refcheck=False)
        return self._array if self.field in MATRICES or self._array.shape[1] > 1 else self._array[:, 0]

    def _values(self, column: Any, key: str, path: Path, row: int) -> np.ndarray:
        """Return the values of a column, [n, width]."""
        import pyarrow as pa

        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
            kind = column.type
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if lists != (self.widths[key] is not None):
            raise InputError(f"{path}: column {shown(key)} holds {kind}, and other files hold another type")
        if lists:
            return self._lists(column, key, path, row)
        if self.field == "episodes" and not pa.types.is_floating(kind):
            return self._numbered(column)[:, None]
        return self._numbers(column, key, path, row)[:, None]

    def _numbers(self, column: Any, key: str, path: Path, row: int) -> np.ndarray:
        """Return the values of a column of numbers, flags, times or numbers as text, [n] float64."""
        import pyarrow as pa

        kind = column.type
        if pa.types.is_temporal(kind):
            column = self._since_first(column, key)
        elif pa.types.is_boolean(kind):
            column = column.cast(pa.int8())
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            _refuse_words(column, key, path, row)
        elif not (
            pa.types.is_floating(kind)
            or pa.types.is_integer(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_null(kind)
        ):
            raise InputError(
                f"{path}: column {shown(key)} holds {kind}, not numbers; leave it out, or write it as numbers"
            )
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)

    def _since_first(self, column: Any, key: str) -> Any:
        """Return the nanoseconds since the earliest time in the first batch of the column, as int64; files may differ in their units."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = column.type
        if pa.types.is_duration(kind):
            column = column.cast(pa.duration("ns"))
        elif pa.types.is_time(kind):
            column = column.cast(pa.time64("ns"))
        else:
            column = column.cast(pa.timestamp("ns", getattr(kind, "tz", None)))
        column = column.cast(pa.int64())
        first = pc.call_function("min", [column]).as_py()
        if first is not None:
            self._origin.setdefault(key, first)
        return pc.call_function("subtract", [column, self._origin.get(key, 0)])

    def _numbered(self, column: Any) -> np.ndarray:
        """Return a number for each label, in the order of their first rows, [n] float64; NaN for missing labels."""
        encoded = column.dictionary_encode()
        numbers = [self._labels.setdefault(str(label), len(self._labels)) for label in encoded.dictionary.to_pylist()]
        places = encoded.indices.to_numpy(zero_copy_only=False).astype(float)
        missing = np.isnan(places)
        values = np.array([*numbers, np.nan])[np.where(missing, -1, places).astype(int)]
        return values

    def _lists(self, column: Any, key: str, path: Path, row: int) -> np.ndarray:
        """Return the values of a column of lists, [n, width] float64; raise InputError if the length of a list differs from the first."""
        import pyarrow.compute as pc

        width = self.widths[key] or 0
        there = column.is_valid().to_numpy(zero_copy_only=False)
        lengths = pc.call_function("list_value_length", [column]).fill_null(width).to_numpy(zero_copy_only=False)
        other = lengths != width
        if other.any():
            at = int(other.argmax())
            raise InputError(
                f"{path}: column {shown(key)} holds {int(lengths[at])} numbers in row {row + at}, {width} in the first row"
            )
        values = np.full((len(column), width), np.nan)
        flat = column.drop_null().flatten() if column.null_count else column.flatten()
        if width:
            values[there] = self._numbers(flat, key, path, row).reshape(-1, width)
        return values


def _columns(width: int | None) -> int:
    return 1 if width is None else width


def _refuse_words(column: Any, key: str, path: Path, row: int) -> None:
    """Raise InputError if a text is not a number."""
    for place, text in enumerate(column.to_pylist()):
        try:
            float(text or 0)
        except ValueError:
            raise InputError(
                f"{path}: column {shown(key)} holds {column.type}, not numbers: {shown(repr(text), 40)} in row "
                f"{row + place}; {_mending(text)}"
            ) from None


def _mending(text: str) -> str:
    """Return advice on how to write a cell of a table that is not a number.

    >>> _mending("21,5"), _mending("21.5 °C")
    ('write 21.5, with a point', 'write 21.5 alone; data.units holds units')
    """
    if re.match(r"\s*\d+[./-]\d+[./-]\d+", text):
        return "write times as 2026-03-02 06:00:00"
    number = re.fullmatch(r"\s*([-+]?\d+(?:[.,]\d+)?)\s*([^\d.,]*)", text)
    if number is not None:
        point = number[1].replace(",", ".")
        return f"write {point} alone; data.units holds units" if number[2].strip() else f"write {point}, with a point"
    if text.strip().lower() in ("yes", "no", "y", "n", "on", "off"):
        return "write flags as 1 and 0, or as true and false"
    if re.fullmatch(r"[-+\d.,' ]*\d[\d.,' ]*", text):
        return "write numbers with a point and without marks of thousands, as in 1234.5"
    return "leave the column out; or where a value is missing, leave the cell empty, as in 1.5,,2.0"
