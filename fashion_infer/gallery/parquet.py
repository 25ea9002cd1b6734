"""Embeddings in Parquet files, which `gallery export` and `embed` write, and `index --from` and other tools read.

A file has one row for each garment: id, path, box, is_garment, category, category_score, attributes, landmarks,
embedding, content_hash, error and colors, then the user's columns. The schema's metadata names the embedding space and
the model.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fashion_infer.errors import FashionInferError, GalleryError, UsageError, missing_extra
from fashion_infer.files import write_atomically
from fashion_infer.gallery.rows import Facts, Row, landmarks_from_dicts, landmarks_to_dicts
from fashion_infer.gallery.store import Store
from fashion_infer.gallery.values import RESERVED, Value, clean

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise missing_extra("pyarrow", "gallery", error) from error

SPACE_KEY, MODEL_KEY, SHA256_KEY = "fashion_infer.embedding_space", "fashion_infer.model", "fashion_infer.model_sha256"
GROUPS_KEY = "fashion_infer.attribute_groups"
ROWS = 10_000  # rows in a row group
LANDMARK = pa.struct(
    [
        ("name", pa.string()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("visibility", pa.string()),
        ("score", pa.float32()),
    ]
)
COLORS = pa.list_(pa.struct([("name", pa.string()), ("hex", pa.string()), ("share", pa.float32())]))
KINDS = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "datetime_utc": pa.timestamp("us", tz="UTC"),
    "list": pa.list_(pa.string()),
}


@dataclass(frozen=True)
class FailedRow:
    """A garment without an embedding.

    Attributes:
        id: id of the row.
        path: path of the photo; None if it was not added as a path.
        error: reason why there is no embedding.
        content_hash: sha256 of the photo's bytes, in hexadecimal; None if it could not be read.
        columns: values of the user's columns.
    """

    id: str
    path: str | None
    error: str
    content_hash: str | None
    columns: dict[str, Value]


def schema_of(facts: Facts, kinds: Mapping[str, str]) -> pa.Schema:
    """Return the schema of a file of embeddings.

    Args:
        facts: space, length and model of the embeddings.
        kinds: kind of each of the user's columns, one of `values.KINDS`.
    """
    fields = [
        ("id", pa.string()),
        ("path", pa.string()),
        ("box", pa.list_(pa.float32())),
        ("is_garment", pa.float32()),
        ("category", pa.string()),
        ("category_score", pa.float32()),
        ("attributes", pa.list_(pa.string())),
        ("landmarks", pa.list_(LANDMARK)),
        ("embedding", pa.list_(pa.float16(), facts.dim)),
        ("content_hash", pa.string()),
        ("error", pa.string()),
        ("colors", COLORS),
        *((name, KINDS[kind]) for name, kind in kinds.items()),
    ]
    metadata = {
        SPACE_KEY: facts.space,
        MODEL_KEY: facts.model,
        SHA256_KEY: facts.model_sha256,
        GROUPS_KEY: json.dumps(facts.groups),
    }
    return pa.schema(fields, metadata=metadata)


def export(store: Store, path: Path) -> int:
    """Write a store's rows to a file, and return how many there were.

    Raises:
        OutputError: the file cannot be written; an earlier file at this path stays as it was.
    """
    schema = schema_of(store.facts, store.kinds)
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        rows = iter(store)
        with pq.ParquetWriter(temporary, schema) as writer:
            while batch := list(islice(rows, ROWS)):
                writer.write_table(table_of(batch, schema))
                count += len(batch)

    write_atomically(path, write)
    return count


def table_of(rows: Sequence[Row | FailedRow], schema: pa.Schema) -> pa.Table:
    """Return rows as a table; in a failed row, all but id, path, error, content hash and the user's columns is null."""
    arrays = []
    for field in schema:
        if field.name == "embedding":
            arrays.append(_embeddings(rows, field.type.list_size))
        else:
            arrays.append(pa.array([_cell(row, field.name) for row in rows], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _embeddings(rows: Sequence[Row | FailedRow], dim: int) -> pa.FixedSizeListArray:
    vectors = np.zeros((len(rows), dim), np.float16)
    for place, row in enumerate(rows):
        if isinstance(row, Row):
            vectors[place] = row.vector
    failed = pa.array([isinstance(row, FailedRow) for row in rows], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim, mask=failed)


def _cell(row: Row | FailedRow, name: str) -> Any:
    if name == "landmarks":
        return landmarks_to_dicts(row.landmarks) if isinstance(row, Row) else None
    if name in RESERVED:
        return getattr(row, name, None)
    return row.columns.get(name)


def files_of(source: Path) -> list[Path]:
    """Return the Parquet file `source`, or the Parquet files of the folder `source`.

    Raises:
        UsageError: there is no such file.
    """
    files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
    if not files or not files[0].is_file():
        raise UsageError(f"there is no Parquet file {source}, nor a folder of them")
    return files


def facts_in(source: Path) -> Facts:
    """Return the embedding space and the model of the embeddings in a file or folder.

    Raises:
        UsageError: there is no file, or one that does not hold embeddings of this package.
        GalleryError: two files hold embeddings of different spaces.
    """
    every = [_facts(path) for path in files_of(source)]
    if other := next((facts for facts in every if facts.space != every[0].space), None):
        raise GalleryError(f"the files of {source} hold embeddings of two spaces, {every[0].space} and {other.space}")
    return every[0]


def _facts(path: Path) -> Facts:
    try:
        schema = pq.read_schema(path)
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        return Facts(
            metadata[SPACE_KEY],
            schema.field("embedding").type.list_size,
            metadata.get(MODEL_KEY, "an unknown model"),
            metadata.get(SHA256_KEY, ""),
            json.loads(metadata.get(GROUPS_KEY, "{}")),
        )
    except (KeyError, AttributeError, ValueError, pa.ArrowException, OSError) as error:
        raise UsageError(
            f"{path} is not a Parquet file of embeddings with {SPACE_KEY} in its metadata: {error}"
        ) from error


def rows_in(source: Path) -> Iterator[tuple[str, Row | FashionInferError]]:
    """Yield the id of each garment of a file or folder with its row, or with the error why it has none."""
    for path in files_of(source):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1000):
                yield from _rows(batch)


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[str, Row | FashionInferError]]:
    embeddings = batch.column("embedding")
    vectors = embeddings.values.to_numpy(zero_copy_only=False).reshape(-1, embeddings.type.list_size)
    vectors = vectors[batch.column("embedding").offset :]
    named = set(schema_of(Facts("", 1, "", ""), {}).names)
    for i, cells in enumerate(batch.drop_columns(["embedding"]).to_pylist()):
        id = cells.get("id") or cells.get("path") or ""
        own = {name: value for name, value in cells.items() if name not in named}
        try:
            yield id, _row(id, cells, np.asarray(vectors[i], np.float32), clean(own))
        except FashionInferError as error:
            yield id, error


def _row(id: str, cells: dict[str, Any], vector: Any, columns: dict[str, Any]) -> Row:
    if cells.get("error") is not None:
        raise GalleryError(cells["error"] if id in cells["error"] else f"{id}: {cells['error']}")
    if not id or not abs(float(vector @ vector) - 1) < 1e-2:
        raise GalleryError(f"{id or 'a row'}: it has no id, or no embedding of unit length")
    record, mark, number = id.rpartition("#")
    boxed = bool(mark) and number.isascii() and number.isdigit()
    box = None if cells.get("box") is None else tuple(cells["box"])
    return Row(
        id=id,
        record=record if boxed else id,
        path=cells.get("path"),
        asked=box if boxed else None,
        box=box,
        is_garment=cells.get("is_garment"),
        category=cells.get("category") or "",
        category_score=cells.get("category_score") or 0.0,
        attributes=cells.get("attributes") or [],
        colors=cells.get("colors"),
        landmarks=landmarks_from_dicts(cells.get("landmarks")),
        content_hash=cells.get("content_hash") or "",
        vector=vector.astype(np.float16),
        columns=columns,
    )


def same(row: Row, other: Row) -> bool:
    """Tell whether two rows have the same embedding, content hash, columns, path, category, attributes and colours."""
    return (
        np.array_equal(row.vector, other.vector)
        and (row.category, row.attributes) == (other.category, other.attributes)
        and _names_of_colors(row) == _names_of_colors(other)
        and row.content_hash == other.content_hash
        and row.columns == other.columns
        and row.path == other.path
    )


def _names_of_colors(row: Row) -> list[tuple[str, str]] | None:
    """Return name and hex of each colour; the shares are rounded in a file."""
    return None if row.colors is None else [(color["name"], color["hex"]) for color in row.colors]
