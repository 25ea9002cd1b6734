"""A gallery's rows in SQLite: the tables, the fields of a row, and what SQLite's errors mean to a user."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fashion_infer.errors import GalleryError
from fashion_infer.gallery.rows import Row, columns_to_json
from fashion_infer.gallery.values import from_json

FILE = "gallery.sqlite"
FORMAT = 1  # version of the tables
FIELDS = (
    "id, record, path, asked, box, is_garment, category, category_score, attributes, colors, landmarks, content_hash, "
    "columns"
)
CHUNK = 500  # most parameters of one statement

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE kinds (name TEXT PRIMARY KEY, kind TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, facts TEXT NOT NULL);
"""
EPOCH_TABLES = """
CREATE TABLE rows_{0} (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, record TEXT NOT NULL,
    path TEXT, asked TEXT, box TEXT, is_garment REAL, category TEXT, category_score REAL, attributes TEXT NOT NULL,
    colors TEXT, landmarks BLOB, content_hash TEXT NOT NULL, columns TEXT NOT NULL, origin INTEGER);
CREATE INDEX records_{0} ON rows_{0} (record);
CREATE TABLE vectors_{0} (number INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE removed_{0} (number INTEGER PRIMARY KEY, change INTEGER NOT NULL);
"""


class EpochGoneError(GalleryError):
    """The rows of an epoch no longer exist, because a rebuild has switched to another epoch."""


@contextmanager
def sqlite_errors(folder: Path) -> Iterator[None]:
    """Raise SQLite's errors as GalleryErrors that say what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if "no such table: " in str(error):
            raise EpochGoneError(
                f"gallery {folder}: its rows have been rebuilt since, or it is damaged ({error})"
            ) from error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            why = "the disk is full; what was reported as written is kept: free some space and try again"
        elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            why = f"it cannot be written or opened ({error})"
        elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or not code:
            why = f"it is damaged ({error}): restore it from a copy, or index the photos again into a new folder"
        else:
            why = str(error)
        raise GalleryError(f"gallery {folder}: {why}") from error


def row_of_fields(fields: Sequence[Any], vector: bytes, kinds: Mapping[str, str]) -> Row:
    """Return the row with these `FIELDS` and this vector (the bytes of its float16 numbers)."""
    (
        id,
        record,
        path,
        asked,
        box,
        is_garment,
        category,
        score,
        attributes,
        colors,
        landmarks,
        content_hash,
        columns,
    ) = fields
    return Row(
        id=id,
        record=record,
        path=path,
        asked=None if asked is None else tuple(json.loads(asked)),
        box=None if box is None else tuple(json.loads(box)),
        is_garment=is_garment,
        category=category,
        category_score=score,
        attributes=json.loads(attributes),
        colors=None if colors is None else json.loads(colors),
        landmarks=None if landmarks is None else np.frombuffer(landmarks, np.float32).reshape(-1, 4),
        content_hash=content_hash,
        vector=np.frombuffer(vector, np.float16),
        columns={name: from_json(value, kinds[name]) for name, value in json.loads(columns).items()},
    )


def fields_of(row: Row) -> tuple[Any, ...]:
    """Return the `FIELDS` of a row."""
    return (
        row.id,
        row.record,
        row.path,
        None if row.asked is None else json.dumps(row.asked),
        None if row.box is None else json.dumps(row.box),
        row.is_garment,
        row.category,
        row.category_score,
        json.dumps(row.attributes),
        None if row.colors is None else json.dumps(row.colors),
        None if row.landmarks is None else row.landmarks.astype(np.float32).tobytes(),
        row.content_hash,
        columns_to_json(row.columns),
    )


def placeholders(values: Sequence[Any]) -> str:
    """Return SQL with a question mark for each parameter."""
    return ", ".join("?" * len(values))


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a connection for reading; in a read-only folder, one that needs no shared-memory file there."""
    uri = path.resolve().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(path.name + "-wal")
        if log.is_file() and log.stat().st_size:
            raise
        return sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None, check_same_thread=False)
    return connection
