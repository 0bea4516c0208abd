"""Tables: `.csv`, `.csv.gz`, `.parquet`, one row a step, read by the names of their columns."""

from pathlib import Path
from typing import Any

import numpy as np

from mopo_pl.data.raw_log import RawLog
from mopo_pl.data.readers.arrays import log_of_arrays
from mopo_pl.data.readers.names import Columns, find_fields, shown
from mopo_pl.data.readers.sizes import brief, refuse_oversized
from mopo_pl.errors import InputError

REQUIRED = ("observations", "actions", "rewards")
"""A table without terminals has none."""


def read_table(path: Path, columns: Columns) -> RawLog:
    """Read a log; raise InputError where the file is damaged, or a column is missing or holds no numbers."""
    table = _open(path)
    found = find_fields(table.column_names, str(path), columns, REQUIRED)
    used = [key for keys in found.values() for key in keys]
    values = {key: _numbers(table.column(key), key, path, as_label=key in found.get("episodes", ())) for key in used}
    shapes = dict.fromkeys(table.column_names, (table.num_rows,))
    log = log_of_arrays(str(path), shapes, values.__getitem__, columns, required=REQUIRED, drop_missing=True)
    _as_matrices(log, found)
    missing = {key: int(np.isnan(value).sum()) for key, value in values.items()}
    dropped = table.num_rows - len(log.rewards)
    if dropped:
        counts = ", ".join(f"{shown(key)} {count}" for key, count in missing.items() if count)
        log.remarks.append(
            f"{dropped} of {table.num_rows} rows have missing values and are left out ({counts}); "
            "the rows around them are not joined"
        )
    return log


def _open(path: Path) -> Any:
    """A pyarrow Table."""
    try:
        from pyarrow import ArrowException, csv, parquet
    except ImportError as error:
        raise InputError(f"{path} needs pyarrow: pip install -c constraints.txt -e '.[tables]'") from error
    try:
        if path.suffix.lower() == ".parquet":
            metadata = parquet.read_metadata(path)
            groups = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
            refuse_oversized(path, sum(groups))
            return parquet.read_table(path)
        return csv.read_csv(path)
    except (ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a table: {brief(error)}") from error


def _numbers(column: Any, key: str, path: Path, *, as_label: bool) -> np.ndarray:
    """A column as numbers, NaN where a value is missing; texts of an episode's column as numbers of their own."""
    import pyarrow as pa

    kind = column.type
    if as_label and not pa.types.is_floating(kind):
        labels = column.combine_chunks().dictionary_encode()
        labels = labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels
        return labels.indices.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int64())
    elif not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{path}: column {shown(key)} holds {kind}, not numbers; leave it out, or write it as numbers")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return column.cast(pa.float64(), safe=False).to_numpy()


def _as_matrices(log: RawLog, found: dict[str, list[str]]) -> None:
    """A single column of observations or actions is [N, 1]; its name is kept."""
    for name in ("observations", "actions", "next_observations"):
        array = getattr(log, name)
        if array is not None and array.ndim == 1:
            setattr(log, name, array[:, None])
    log.names = type(log.names)(*(tuple(found[name]) for name in ("observations", "actions")))
