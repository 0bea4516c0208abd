"""`TableFile`: reading of the columns of a `.csv`, `.parquet`, `.arrow` or `.feather` file in batches of rows."""

import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from mopo_pl.data.readers.names import listed, shown
from mopo_pl.data.readers.sizes import brief, refuse_oversized
from mopo_pl.data.readers.tables.csv_format import CsvFormat, csv_format
from mopo_pl.errors import InputError

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".arrow", ".feather")
BATCH = 65_536
"""Number of rows that are read at once."""
ARROW = b"ARROW1"
"""First bytes of Arrow's file format. The stream format has no such bytes."""


def suffix_of(path: Path) -> str:
    """Return the element of `SUFFIXES` that the name of a file ends in, or ''."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


SUCH_AS = ("temp", "level", "valve", "yield")
"""Example names of columns for a message."""
CELLS = (
    '; each line needs as many cells as the first: put a text that holds a comma in quotes, "a, b", and write decimals with a '
    "point, 1.5, or part the columns by semicolons, 1,5;2,0"
)
"""Hint for lines with a wrong number of cells."""


class TableFile:
    """A table file, whose column names and types are read on creation."""

    def __init__(self, path: Path) -> None:
        """Read the names and types of the columns.

        Raises InputError if the file is damaged, has no line of column names, names a column twice, or pyarrow is not installed.
        """
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise InputError(f"{path} needs pyarrow: pip install -c constraints.txt -e '.[tables]'") from error
        self.path, self.rows = path, None
        with self._readable():
            self.size = path.stat().st_size
            self._schema = self._open_schema()
            stored: list[str] = self._schema.names
            names = [name.strip() for name in stored] if suffix_of(path).startswith(".csv") else stored
        if names and suffix_of(path).startswith(".csv") and all(_is_number(name) for name in names):
            raise InputError(
                f"{path} begins with numbers ({listed(names)}), not with names of columns; write a line of names above them, such as "
                f"{','.join(SUCH_AS[: len(names)])}{',…' if len(names) > len(SUCH_AS) else ''}"
            )
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise InputError(f"{path} has the column {shown(twice[0])} twice; rename one, such as {shown(twice[0])}_2")
        self.names = names
        self._stored = dict(zip(names, stored, strict=True))

    rows: int | None
    """Number of rows of the file; None if it is not known before the file is read."""

    def widths(self, names: Collection[str]) -> dict[str, int | None]:
        """Return the length of the lists in each column of lists, taken from its type or its first rows; None for other columns."""
        import pyarrow as pa

        found: dict[str, int | None] = dict.fromkeys(names)
        unknown = []
        for name in names:
            kind = self._schema.field(self._stored[name]).type
            if pa.types.is_fixed_size_list(kind):
                found[name] = kind.list_size
            elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
                unknown.append(name)
        if unknown:
            for batch, _ in self.batches(unknown, texts=(), rows=16):
                found |= {name: next((len(row) for row in batch.column(name) if row.is_valid), 1) for name in unknown}
                break
        return found

    def batches(
        self, names: Sequence[str], *, texts: Collection[str], rows: int = BATCH
    ) -> Iterator[tuple[Any, float]]:
        """Yield RecordBatches of the columns `names`, with the share of the file that has been read.

        `texts` are columns that are read as labels, not as numbers. `rows` is the number of rows per batch of a Parquet file.
        """
        read = {".parquet": self._parquet, ".arrow": self._arrow, ".feather": self._arrow}.get(suffix_of(self.path))
        with self._readable():
            yield from self._csv(names, texts) if read is None else read(names, rows)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Convert all exceptions that indicate a damaged file to InputError."""
        from pyarrow import ArrowException

        try:
            yield
        except (ArrowException, OSError, ValueError, EOFError, KeyError, NotImplementedError, zlib.error) as error:
            if isinstance(error, InputError):
                raise
            if suffix_of(self.path).startswith(".csv") and (
                isinstance(error, UnicodeDecodeError) or "UTF8" in str(error)
            ):
                raise InputError(f"{self.path} is not written in UTF-8: save it so (in Excel: CSV UTF-8)") from error
            hint = CELLS if "CSV parse error" in str(error) else ""
            raise InputError(f"{self.path} cannot be read as a table: {shown(brief(error), 300)}{hint}") from error

    def _open_schema(self) -> Any:
        if suffix_of(self.path) == ".parquet":
            from pyarrow import parquet

            with parquet.ParquetFile(self.path) as file:
                groups = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
                refuse_oversized(self.path, sum(groups))
                self.rows = file.metadata.num_rows
                return file.schema_arrow
        if suffix_of(self.path) in (".arrow", ".feather"):
            with self._ipc(None) as (reader, _):
                return reader.schema
        with self._csv_reader() as (reader, _):
            return reader.schema

    def _parquet(self, names: Sequence[str], rows: int) -> Iterator[tuple[Any, float]]:
        from pyarrow import parquet

        with parquet.ParquetFile(self.path, pre_buffer=False) as file:
            done = 0
            for batch in file.iter_batches(batch_size=rows, columns=list(names)):
                done += batch.num_rows
                yield batch, done / max(file.metadata.num_rows, 1)

    @contextmanager
    def _ipc(self, names: Sequence[str] | None) -> Iterator[tuple[Any, Any]]:
        """Open the file in Arrow's file format, or else in the stream format, which `.arrow` files may also have; yield the reader and the source."""
        import pyarrow as pa
        from pyarrow import ipc

        fields = None if names is None else [self._schema.get_field_index(name) for name in names]
        options = ipc.IpcReadOptions(included_fields=fields)
        # The file is not memory-mapped, as the process would crash if the file were truncated during reading.
        with pa.OSFile(str(self.path), "rb") as source:
            try:
                reader = ipc.open_file(source, options=options)
            except pa.ArrowInvalid:
                source.seek(0)
                if source.read(len(ARROW)) == ARROW:  # a stream reader would read 1.3 GB, with these bytes as length
                    raise
                source.seek(0)
                reader = ipc.open_stream(source, options=options)
            with reader:
                yield reader, source

    def _arrow(self, names: Sequence[str], rows: int) -> Iterator[tuple[Any, float]]:
        with self._ipc(names) as (reader, source):
            count = getattr(reader, "num_record_batches", None)
            batches = reader if count is None else map(reader.get_batch, range(count))
            read = 0
            for number, batch in enumerate(batches, 1):
                # Arrow does not check lengths and offsets; those of a damaged file could point outside the memory.
                batch.validate(full=True)
                read += batch.nbytes
                refuse_oversized(self.path, read)
                share = source.tell() / max(self.size, 1) if count is None else number / count
                yield batch, share

    @cached_property
    def _csv_format(self) -> CsvFormat:
        return csv_format(self.path)

    @contextmanager
    def _csv_reader(self, **convert: Any) -> Iterator[tuple[Any, Any]]:
        import pyarrow as pa
        from pyarrow import csv

        how = self._csv_format
        with pa.OSFile(str(self.path), "rb") as source:
            packed = self.path.name.lower().endswith(".gz")
            with pa.CompressedInputStream(source, "gzip") if packed else source as stream:
                reader = csv.open_csv(
                    stream,
                    read_options=csv.ReadOptions(skip_rows=how.skip_rows),
                    parse_options=csv.ParseOptions(delimiter=how.delimiter),
                    convert_options=csv.ConvertOptions(
                        decimal_point=how.decimal_point, strings_can_be_null=True, **convert
                    ),
                )
                with reader:
                    yield reader, source

    def _csv(self, names: Sequence[str], texts: Collection[str]) -> Iterator[tuple[Any, float]]:
        """Yield batches of a CSV file with the column types of its first block. If a later block has other types, the rest is read at once."""
        import pyarrow as pa

        names, texts = ([self._stored[name] for name in given] for given in (names, texts))
        types = {name: self._schema.field(name).type for name in names}
        types = {
            name: pa.string() if name in texts else pa.float64() if _may_be_decimal(kind) else kind
            for name, kind in types.items()
        }
        done = read = 0
        try:
            with self._csv_reader(include_columns=list(names), column_types=types) as (
                reader,
                source,
            ):
                for batch in reader:
                    done, read = done + batch.num_rows, read + batch.nbytes
                    refuse_oversized(self.path, read)
                    yield _renamed(batch), min(source.tell() / max(self.size, 1), 1.0)
        except pa.ArrowInvalid:
            rest = self._whole_csv(names, texts).slice(done)
            yield from ((_renamed(batch), 1.0) for batch in rest.to_batches(BATCH))

    def _whole_csv(self, names: Sequence[str], texts: Collection[str]) -> Any:
        import pyarrow as pa
        from pyarrow import csv

        how = self._csv_format
        return csv.read_csv(
            self.path,
            read_options=csv.ReadOptions(skip_rows=how.skip_rows),
            parse_options=csv.ParseOptions(delimiter=how.delimiter),
            convert_options=csv.ConvertOptions(
                decimal_point=how.decimal_point,
                strings_can_be_null=True,
                include_columns=list(names),
                column_types=dict.fromkeys(texts, pa.string()),
            ),
        )


def _renamed(batch: Any) -> Any:
    """Return a RecordBatch of a CSV file without blanks around the names of its columns."""
    return batch.rename_columns([name.strip() for name in batch.schema.names])


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def release_memory() -> None:
    """Release the memory that Arrow keeps for later reads, which is hundreds of megabytes for a large log."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def _may_be_decimal(kind: Any) -> bool:
    """Return whether a column whose first values have this type may have decimals later."""
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_null(kind)
