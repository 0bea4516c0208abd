"""Reading of a `RawLog` from a table, or from a folder of tables with the same columns."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from mopo_pl.data.readers.arrays import INFOS, Labels, Shape, log_of_arrays
from mopo_pl.data.readers.names import Columns, find_fields, natural_order, shown
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.data.readers.tables.buffers import FieldBuffer
from mopo_pl.data.readers.tables.files import SUFFIXES, TableFile, release_memory, suffix_of
from mopo_pl.distributed.console import progress
from mopo_pl.errors import InputError

REQUIRED = ("observations", "actions", "rewards")
"""Fields that a table must have. Without a column of terminals, no row is terminal."""


def read_table(path: Path, columns: Columns) -> RawLog:
    """Read a table; raise InputError if it is damaged, or if a column is missing or does not contain numbers."""
    return log_of_tables(str(path), [path], columns)


def read_folder(folder: Path, columns: Columns) -> RawLog:
    """Read the tables of a folder as one log, in the natural order of their names.

    Raises InputError like `read_table`, and if the folder contains no tables, tables of several formats, or tables with different columns.
    """
    files = tables_of(folder.iterdir())
    if not files:
        raise InputError(f"{folder} holds no tables ({', '.join(SUFFIXES)}), and no meta/info.json of LeRobot")
    kinds = sorted({suffix_of(path) for path in files})
    if len(kinds) > 1:
        raise InputError(f"{folder} holds files of several kinds ({', '.join(kinds)}); keep those of one kind in it")
    return log_of_tables(str(folder), files, columns)


def tables_of(paths: Iterable[Path]) -> list[Path]:
    """Return the paths that are tables and not hidden, in natural order (`part-2` before `part-10`)."""
    files = [path for path in paths if suffix_of(path) and path.name[0] not in "._" and path.is_file()]
    return sorted(files, key=lambda path: [natural_order(part) for part in path.parts])


def log_of_tables(
    source: str, paths: Sequence[Path], columns: Columns, *, labels: Labels | None = None, ignored: Iterable[str] = ()
) -> RawLog:
    """Read files of the same columns as one log.

    Args:
        source: How messages name the log.
        paths: The files, in their order.
        columns: The user's mapping.
        labels: Names of the entries of columns of lists, where there are any.
        ignored: Columns that are neither read by default nor reported as unused.

    """
    files = [TableFile(path) for path in paths]
    _refuse_other_columns(files)
    asked = {key for keys in columns.values() for key in keys}
    left_out = set(ignored) - asked
    present = [name for name in files[0].names if name not in left_out]
    found = find_fields(present, source, columns, REQUIRED, table=True)
    widths = files[0].widths(present)
    empty = [key for keys in found.values() for key in keys if widths[key] == 0]
    if empty:
        raise InputError(f"{source}: column {shown(empty[0])} holds empty lists, not numbers")
    known = [file.rows for file in files]
    total = None if None in known else sum(filter(None, known))
    buffers = {name: FieldBuffer(name, {key: widths[key] for key in keys}, total) for name, keys in found.items()}
    infos = [key for key in present if key.startswith(INFOS) and widths[key] is None]
    buffers |= {key: FieldBuffer(key, {key: None}, total) for key in infos}
    used = list(dict.fromkeys([*(key for keys in found.values() for key in keys), *infos]))
    ends = []
    with progress(f"reading {source}", sum(file.size for file in files)) as show:
        done = 0
        for file in files:
            row = 0
            for batch, share in file.batches(used, texts=found.get("episodes", ())):
                for buffer in buffers.values():
                    buffer.append(batch, file.path, row)
                row += batch.num_rows
                show(done + int(share * file.size))
            done += file.size
            ends.append(len(buffers["rewards"]))
    release_memory()
    rows = ends[-1]
    shapes: dict[str, Shape] = {key: (rows,) if (width := widths[key]) is None else (rows, width) for key in present}
    named = {key: names for key, names in (labels or {}).items() if len(names) == widths.get(key)}
    return log_of_arrays(
        source,
        shapes,
        lambda name, keys: buffers.pop(keys[0] if name == "infos" else name).finished(),
        columns,
        required=REQUIRED,
        drop_missing=True,
        labels={**{key: (key,) for key in used if widths[key] is None}, **named},
        file_ends=ends if len(ends) > 1 else (),
    )


def _refuse_other_columns(files: Sequence[TableFile]) -> None:
    """Raise InputError for the first file whose columns differ from those of `files[0]`."""
    first = files[0]
    for file in files[1:]:
        lacking = [name for name in first.names if name not in file.names]
        further = [name for name in file.names if name not in first.names]
        if lacking:
            raise InputError(f"{file.path} has no column {shown(lacking[0])}, which {first.path.name} has")
        if further:
            raise InputError(f"{file.path} has a column {shown(further[0])}, which {first.path.name} has not")
