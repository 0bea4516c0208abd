"""How a CSV file separates columns and writes numbers, derived from its first lines."""

import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

DELIMITERS = ",;\t"
"""Possible separators of the columns of a CSV file; the most frequent one in its first line is used."""
LOOKED_AT = 2**18
"""Number of bytes after the first line that are searched for the format of numbers."""
SEPARATOR_LINE = re.compile(r'\ufeff?"?sep=([^"])"?[,;\t]*\s*', re.IGNORECASE)
"""First line that tells Excel the separator of the columns, such as `sep=;`."""
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
BOTH = re.compile(r"-?\d{1,3}(,\d{3})+\.\d+|-?\d{1,3}(\.\d{3})+,\d+")
SMALL_INTEGER = re.compile(r"-?\d{1,3}")
PARTED = 5
"""Smallest number of values of a column, all with a separator before three digits, that suggests thousands separators."""


class CsvFormat(NamedTuple):
    """Format of a CSV file."""

    delimiter: str
    """Separator of the columns."""
    decimal_point: str
    """`.` or `,`."""
    skip_rows: int
    """Number of lines before the names of the columns."""


def csv_format(path: Path) -> CsvFormat:
    """Return the format of a CSV file, which may be compressed (`.gz`).

    Raises ValueError if the file is no text, and if numbers seem to have thousands separators, which would be read as decimal points.
    """
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
        first = file.readline(2**20).decode(errors="replace")
        separator = SEPARATOR_LINE.fullmatch(first)
        if separator:
            first = file.readline(2**20).decode(errors="replace")
        rows = file.read(LOOKED_AT).decode(errors="replace").splitlines()
    if "\0" in first:
        raise ValueError("it is no text: its first line has bytes of zero")
    delimiter = separator[1] if separator else max(DELIMITERS, key=re.sub(r'"[^"]*"', "", first).count)
    cells = [[cell.strip(' "\r\n') for cell in row.split(delimiter)] for row in rows if row.strip()]
    if delimiter != ",":  # with commas between columns, points between thousands are not expected
        _refuse_thousands(cells)
    comma = delimiter != "," and any(DECIMAL_COMMA.fullmatch(cell) for row in cells for cell in row)
    return CsvFormat(delimiter, "," if comma else ".", 1 if separator else 0)


def _refuse_thousands(cells: Sequence[Sequence[str]]) -> None:
    """Raise ValueError if a comma or a point may separate thousands, as in a column with 1,204 and 950, or in 1.204,5."""
    for row in cells:
        for cell in row:
            if BOTH.fullmatch(cell):
                raise ValueError(f"numbers such as {cell} have a sign between thousands: write them without")
    for column in range(max(map(len, cells), default=0)):
        values = [row[column] for row in cells if column < len(row)]
        for sign in (",", "."):
            parted = [value for value in values if sign in value]
            plain = [value for value in values if SMALL_INTEGER.fullmatch(value)]
            if (
                len(parted) >= PARTED
                and plain
                and all(re.fullmatch(rf"-?[1-9]\d{{0,2}}(\{sign}\d{{3}})+", value) for value in parted)
            ):
                raise ValueError(
                    f"{parted[0]} and {plain[0]} stand in one column: does {parted[0]} mean {parted[0].replace(sign, '')}? Write thousands "
                    f"without a sign, or decimals in all rows, as {plain[0]}{sign}000"
                )
