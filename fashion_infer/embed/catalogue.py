"""The photos to embed, by path or address, with the user's columns if they come from a table."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from fashion_infer.embed.places import is_address, open_file, pictures_at
from fashion_infer.errors import ImageError, UsageError, missing_extra
from fashion_infer.gallery.metadata import KEYS, columns_of_csv
from fashion_infer.gallery.rows import text_of_path
from fashion_infer.gallery.values import KINDS as KIND_NAMES
from fashion_infer.gallery.values import RESERVED
from fashion_infer.inputs import expand_inputs

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as error:
    raise missing_extra("pyarrow", "gallery", error) from error

from fashion_infer.gallery.parquet import KINDS

CHUNK = 1000  # photos in one file
TABLES = (".parquet", ".csv")


@dataclass(frozen=True)
class Item:
    """One photo to embed.

    Attributes:
        id: id of the photo's row.
        path: path or address from the arguments.
        columns: values of the user's columns.
    """

    id: str
    path: str
    columns: dict[str, Any]


@dataclass(frozen=True)
class Catalogue:
    """The photos to embed, in an order that follows from the arguments alone.

    Attributes:
        table: id and path of each photo (text), then the user's columns.
        kinds: kind of each of the user's columns, a key of `gallery.values.KINDS`.
        errors: error of each argument without photos.
    """

    table: pa.Table
    kinds: dict[str, str] = field(default_factory=dict)
    errors: dict[str, ImageError] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def chunks(self) -> int:
        """The number of files that hold the catalogue."""
        return -(-len(self) // CHUNK)

    def rows_of(self, number: int) -> int:
        """The number of photos in a file; files are numbered from 0."""
        return min(CHUNK, len(self) - number * CHUNK)

    def chunk(self, number: int) -> list[Item]:
        """The photos of a file; files are numbered from 0."""
        return [
            Item(row.pop("id"), row.pop("path"), row) for row in self.table.slice(number * CHUNK, CHUNK).to_pylist()
        ]

    def fingerprint(self) -> str:
        """sha256 of every id, path and value, in hexadecimal; it identifies the list of photos."""
        digest = hashlib.sha256(json.dumps([CHUNK, self.kinds]).encode())
        for number in range(self.chunks):
            for item in self.chunk(number):
                digest.update(repr((item.id, item.path, sorted(item.columns.items()))).encode())
        return digest.hexdigest()


def read_catalogue(arguments: Sequence[str]) -> Catalogue:
    """Read the photos that the arguments name.

    Args:
        arguments: files, folders, patterns and addresses of pictures; names that end with .parquet or .csv are tables
            of them, with a column `path`, perhaps a column `id` (by default the path), and the user's columns.

    Raises:
        UsageError: a table cannot be read, or has no paths, a column that cannot be kept or an id twice.
    """
    errors: dict[str, ImageError] = {}
    parts: list[pa.Table] = []
    pictures: list[str] = []
    for name in _expanded(arguments, errors):
        if PurePosixPath(name).suffix.lower() in TABLES:
            parts += [_table_of_paths(pictures), _read_table(name)]
            pictures = []
        else:
            pictures.append(text_of_path(name))
    parts.append(_table_of_paths(pictures))
    try:
        table = pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        raise UsageError(f"the tables do not go together: {error}") from error
    table = _without_repeats(table.combine_chunks())
    kinds = {name: _kind(name, table.schema.field(name).type) for name in table.column_names[2:]}
    return Catalogue(table, kinds, errors)


def _expanded(arguments: Sequence[str], errors: dict[str, ImageError]) -> Iterator[str]:
    for argument in arguments:
        if not is_address(argument) or argument.startswith(("http://", "https://")):
            inputs = expand_inputs([argument])
            errors.update(inputs.errors)
            yield from inputs.paths
        elif PurePosixPath(argument).suffix.lower() in TABLES:
            yield argument
        else:
            try:
                yield from pictures_at(argument)
            except ImageError as error:
                errors[argument] = error


def _table_of_paths(paths: list[str]) -> pa.Table:
    """A table of photos from files and folders, without repetitions."""
    column = pa.array(dict.fromkeys(paths), pa.string())
    return pa.table({"id": column, "path": column})


def _read_table(name: str) -> pa.Table:
    try:
        with open_file(name) as file:
            if name.lower().endswith(".csv"):
                table = pa.table(columns_of_csv(name, file.read().decode("utf-8-sig")))
            else:
                table = pq.read_table(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{name} cannot be read as a table: {error}") from error
    if "path" not in table.column_names:
        raise UsageError(f"{name} has no column path: it has {', '.join(table.column_names)}")
    own = [column for column in table.column_names if column not in KEYS]
    if reserved := RESERVED & set(own):
        raise UsageError(f"{name}: the column {min(reserved)!r} is one of the gallery's own: give it another name")
    paths = _text(name, table, "path")
    columns = {"id": _text(name, table, "id") if "id" in table.column_names else paths, "path": paths}
    for column in own:
        if (values := table[column]).null_count < len(values):
            columns[column] = _as_kept(name, column, values)
    return pa.table(columns)


def _text(name: str, table: pa.Table, column: str) -> pa.ChunkedArray:
    """A text column in which no row may be empty."""
    try:
        values = table[column].cast(pa.string())
    except pa.ArrowException as error:
        raise UsageError(f"{name}: the column {column} is not of texts: {error}") from error
    empty = pc.fill_null(pc.equal(values, ""), True).to_pylist()
    if True in empty:
        raise UsageError(f"{name}: row {empty.index(True) + 1} has no {column}")
    return values


def _as_kept(name: str, column: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = _kind(f"{name}: {column}", values.type)
    try:
        return values.cast(KINDS[kind], safe=kind not in ("datetime", "datetime_utc"))  # else no finer than 1 us
    except pa.ArrowException as error:
        raise UsageError(f"{name}: the column {column!r} cannot be kept as {kind}: {error}") from error


_KINDS: tuple[tuple[str, Callable[[pa.DataType], bool]], ...] = (
    ("bool", pa.types.is_boolean),
    ("int", pa.types.is_integer),
    ("float", lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind)),
    ("text", lambda kind: _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)),
    ("date", pa.types.is_date),
    ("datetime", lambda kind: pa.types.is_timestamp(kind) and kind.tz is None),
    ("datetime_utc", lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None),
    ("list", lambda kind: (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type)),
)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _kind(name: str, arrow: pa.DataType) -> str:
    kind = next((kind for kind, is_one in _KINDS if is_one(arrow)), None)
    if kind is None:
        raise UsageError(f"the column {name!r} is of type {arrow}, which is none of {', '.join(KIND_NAMES)}")
    return kind


def _without_repeats(table: pa.Table) -> pa.Table:
    """Return the table unchanged, or raise UsageError if an id occurs twice."""
    counts = pc.value_counts(table["id"])
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        id = twice.field("values")[0].as_py()
        raise UsageError(f"{len(twice)} ids are there more than once, such as {id!r}: give each row its own column id")
    return table
