"""A gallery's truth: one SQLite file with its rows, their float16 vectors, and what it is bound to.

Every row has a number that is never given twice, also when it is replaced, so whoever holds vectors in memory needs
only the rows above the last number it has seen and the list of those that were removed since. The rows of one embedding
space lie in tables of their own, an *epoch*; a rebuild fills the next epoch while this one serves, and switches at the
end.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fashion_infer.errors import GalleryError
from fashion_infer.gallery.lock import WriterLock
from fashion_infer.gallery.rows import Facts, Row, columns_to_json
from fashion_infer.gallery.values import Value, from_json, joined_kind, kind_of

FILE = "gallery.sqlite"
FORMAT = 1  # of the tables
FIELDS = (
    "id, record, path, asked, box, is_garment, category, category_score, attributes, colors, landmarks, content_hash, "
    "columns"
)
CHUNK = 500  # parameters of one statement

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE kinds (name TEXT PRIMARY KEY, kind TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, facts TEXT NOT NULL);
"""
_EPOCH_TABLES = """
CREATE TABLE rows_{0} (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, record TEXT NOT NULL,
    path TEXT, asked TEXT, box TEXT, is_garment REAL, category TEXT, category_score REAL, attributes TEXT NOT NULL,
    colors TEXT, landmarks BLOB, content_hash TEXT NOT NULL, columns TEXT NOT NULL, origin INTEGER);
CREATE INDEX records_{0} ON rows_{0} (record);
CREATE TABLE vectors_{0} (number INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE removed_{0} (number INTEGER PRIMARY KEY, change INTEGER NOT NULL);
"""


class EpochGoneError(GalleryError):
    """The rows of an epoch are no longer there: another one serves."""


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if "no such table: " in str(error):
            raise EpochGoneError(
                f"gallery {folder}: its rows were rebuilt meanwhile, or it is damaged ({error})"
            ) from error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            why = "the disk is full; what was reported as written is kept: make room and run the same again"
        elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            why = f"it cannot be written or opened ({error})"
        elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or not code:
            why = f"it is damaged ({error}): restore it from a copy, or index the photos again into a new folder"
        else:
            why = str(error)
        raise GalleryError(f"gallery {folder}: {why}") from error


class Database:
    """The SQLite file of a gallery; safe to use from many threads.

    Attributes:
        folder: of the gallery.
        epoch: the one that serves.
        facts: what it is bound to.
    """

    def __init__(self, folder: Path, create: Facts | None = None) -> None:
        """Open the file, or create it in an empty or new folder.

        Args:
            folder: of the gallery.
            create: what a new gallery is bound to; None to open only.

        Raises:
            GalleryError: no gallery, damaged, of a newer release, or one that cannot be opened.
        """
        self.folder = folder
        self._lock = WriterLock(folder)
        self._mutex = threading.RLock()  # of the reading connection
        self._writing: sqlite3.Connection | None = None
        path = folder / FILE
        if not path.is_file():
            if create is None or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
                raise GalleryError(_not_a_gallery(folder))
            self._create(create)
        with told(folder):
            self._reading = _connect_to_read(path)
            self._seen_version = -1
            self.refresh()

    def _create(self, facts: Facts) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GalleryError(f"the gallery {self.folder} cannot be created: {error.strerror}") from error
        with self._lock, told(self.folder):
            if (self.folder / FILE).is_file():
                return  # another process was faster
            temporary = self.folder / f".{FILE}.new"  # a kill in here leaves no half-made gallery
            temporary.unlink(missing_ok=True)
            connection = sqlite3.connect(temporary, isolation_level=None)
            connection.executescript(_TABLES + _EPOCH_TABLES.format(1))
            meta = {"format": FORMAT, "epoch": 1, "change": 0}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", [(k, json.dumps(v)) for k, v in meta.items()])
            connection.execute("INSERT INTO epochs VALUES (1, ?)", (json.dumps(asdict(facts)),))
            connection.close()
            temporary.rename(self.folder / FILE)

    def close(self) -> None:
        """Close the file; SQLite folds its log into it."""
        with self._mutex:
            self._reading.close()

    # reading

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection whose statements all see the same state."""
        with self._mutex, told(self.folder):
            self._reading.execute("BEGIN")
            try:
                yield self._reading
            finally:
                self._reading.execute("COMMIT")

    def refresh(self) -> bool:
        """Notice what other connections wrote; says whether anything changed since the last call."""
        with self._mutex, told(self.folder):
            (version,) = self._reading.execute("PRAGMA data_version").fetchone()
            if version == self._seen_version:
                return False
            with self.reading() as connection:
                meta = {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM meta")}
                if meta.get("format") != FORMAT:
                    raise GalleryError(
                        f"gallery {self.folder}: it has format {meta.get('format')}, this release of fashion-infer "
                        f"reads {FORMAT}: install the release that wrote it, or a newer one"
                    )
                self.epoch: int = meta["epoch"]
                self.meta: dict[str, Any] = meta
                self.kinds: dict[str, str] = dict(connection.execute("SELECT name, kind FROM kinds"))
                (facts,) = connection.execute("SELECT facts FROM epochs WHERE epoch = ?", (self.epoch,)).fetchone()
                self.facts = Facts(**json.loads(facts))
            self._seen_version = version
            return True

    def __len__(self) -> int:
        with self.reading() as connection:
            (count,) = connection.execute(f"SELECT count(*) FROM vectors_{self.epoch}").fetchone()
            return int(count)

    def get(self, ids: Sequence[Any], *, by: str = "id", epoch: int | None = None) -> list[Row]:
        """The rows with these ids, or of these photos (`by="record"`), in the order of their numbers."""
        rows: list[Row] = []
        with self.reading() as connection:
            for start in range(0, len(ids), CHUNK):
                part = ids[start : start + CHUNK]
                rows += self._select(connection, f"{by} IN ({_marks(part)})", part, epoch or self.epoch)
        return rows

    def by_number(self, numbers: Sequence[int], epoch: int) -> dict[int, Row]:
        """The rows with these numbers, without their vectors; those removed meanwhile are not there."""
        rows: dict[int, Row] = {}
        with self.reading() as connection:
            for start in range(0, len(numbers), CHUNK):
                part = numbers[start : start + CHUNK]
                statement = f"SELECT number, {FIELDS} FROM rows_{epoch} WHERE number IN ({_marks(part)})"
                for number, *fields in connection.execute(statement, part):
                    rows[number] = self._row(fields, b"")
        return rows

    def __iter__(self) -> Iterator[Row]:
        """Every row in the order of the numbers, in portions: rows written meanwhile may be among them."""
        for _, row in self.numbered():
            yield row

    def numbered(self, above: int = 0, where: str = "1") -> Iterator[tuple[int, Row]]:
        """Number and row of each above a number; `where` is a condition of ours."""
        while True:
            with self.reading() as connection:
                statement = (
                    f"SELECT number, {FIELDS}, vector FROM rows_{self.epoch} JOIN vectors_{self.epoch} USING (number) "
                    f"WHERE number > ? AND {where} ORDER BY number LIMIT 1000"
                )
                found = connection.execute(statement, (above,)).fetchall()
            for number, *fields, vector in found:
                yield number, self._row(fields, vector)
            if not found:
                return
            above = found[-1][0]

    def _select(self, connection: sqlite3.Connection, where: str, values: Sequence[Any], epoch: int) -> list[Row]:
        statement = (
            f"SELECT {FIELDS}, vector FROM rows_{epoch} JOIN vectors_{epoch} USING (number) "
            f"WHERE {where} ORDER BY number"
        )
        return [self._row(fields, vector) for *fields, vector in connection.execute(statement, values)]

    def _row(self, fields: Sequence[Any], vector: bytes) -> Row:
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
            columns={name: from_json(value, self.kinds[name]) for name, value in json.loads(columns).items()},
        )

    # writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one writer for the length of a `with` block.

        Raises:
            GalleryLockedError: another process, or another thread of this one, writes.
            GalleryError: the folder cannot be written.
        """
        with self._lock, told(self.folder):
            connection = sqlite3.connect(self.folder / FILE, isolation_level=None, check_same_thread=False)
            try:
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 10000"):
                    connection.execute(f"PRAGMA {pragma}")
                self._writing = connection
                yield
            finally:
                self._writing = None
                connection.close()
                self.refresh()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._writing
        assert connection is not None, "only inside writing()"
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def write(
        self, records: Iterable[str], rows: Iterable[Row], *, epoch: int | None = None, origins: Iterable[int] = ()
    ) -> None:
        """Put rows in place of all rows that these photos had, in one transaction.

        Args:
            records: the ids of the photos.
            rows: what they are to have from now on.
            epoch: other than the one that serves.
            origins: of rows of a rebuild, the numbers of those they stand for.
        """
        rows, epoch = list(rows), epoch or self.epoch
        origins = list(origins) or [None] * len(rows)  # type: ignore[list-item]
        with told(self.folder), self._transaction() as connection:
            change = self._next_change(connection)
            for column, values in (("record", list(records)), ("id", [row.id for row in rows])):
                self._delete(connection, column, values, change, epoch)
            self._widen_kinds(connection, rows)
            for row, origin in zip(rows, origins, strict=True):
                places = ", ".join("?" * 14)
                cursor = connection.execute(
                    f"INSERT INTO rows_{epoch} ({FIELDS}, origin) VALUES ({places})", (*_fields(row), origin)
                )
                connection.execute(
                    f"INSERT INTO vectors_{epoch} VALUES (?, ?)", (cursor.lastrowid, row.vector.tobytes())
                )
        self.refresh()

    def remove(self, ids: Sequence[Any], *, by: str = "id", epoch: int | None = None) -> int:
        """Remove rows by id, by photo or by number in one transaction; says how many there were."""
        if not ids:
            return 0
        with told(self.folder), self._transaction() as connection:
            count = self._delete(connection, by, ids, self._next_change(connection), epoch or self.epoch)
        self.refresh()
        return count

    def set_meta(self, key: str, value: Any) -> None:
        """Keep a value, as JSON."""
        with told(self.folder), self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))
        self.refresh()

    def _next_change(self, connection: sqlite3.Connection) -> int:
        connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'change'")
        (change,) = connection.execute("SELECT value FROM meta WHERE key = 'change'").fetchone()
        return int(change)

    def _delete(self, connection: sqlite3.Connection, by: str, values: Sequence[Any], change: int, epoch: int) -> int:
        count = 0
        for start in range(0, len(values), CHUNK):
            part = values[start : start + CHUNK]
            chosen = f"SELECT number FROM rows_{epoch} WHERE {by} IN ({_marks(part)})"
            connection.execute(f"INSERT INTO removed_{epoch} SELECT number, ? FROM ({chosen})", (change, *part))
            connection.execute(f"DELETE FROM vectors_{epoch} WHERE number IN ({chosen})", part)
            count += connection.execute(f"DELETE FROM rows_{epoch} WHERE {by} IN ({_marks(part)})", part).rowcount
        return count

    def _widen_kinds(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        kinds = dict(connection.execute("SELECT name, kind FROM kinds"))
        wider = joined_kinds(kinds, [row.columns for row in rows])
        changed = [(name, kind) for name, kind in wider.items() if kinds.get(name) != kind]
        connection.executemany("INSERT OR REPLACE INTO kinds VALUES (?, ?)", changed)

    # a new epoch

    def begin_epoch(self, facts: Facts) -> int:
        """The epoch that a rebuild for this space fills: an unfinished one, or a new one."""
        with told(self.folder), self._transaction() as connection:
            for epoch, text in connection.execute("SELECT epoch, facts FROM epochs").fetchall():
                if epoch != self.epoch and Facts(**json.loads(text)).space == facts.space:
                    return int(epoch)
                if epoch != self.epoch:
                    self._drop_epoch(connection, epoch)
            epoch = 1 + int(max(e for (e,) in connection.execute("SELECT epoch FROM epochs")))
            for statement in _EPOCH_TABLES.format(epoch).split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO epochs VALUES (?, ?)", (epoch, json.dumps(asdict(facts))))
            return epoch

    def switch_epoch(self, epoch: int) -> None:
        """Let another epoch serve from now on, and drop the one that did, in one transaction."""
        with told(self.folder), self._transaction() as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (json.dumps(epoch),))
            connection.execute("DELETE FROM meta WHERE key = 'match'")  # measured on the old embeddings
            self._next_change(connection)
            self._drop_epoch(connection, self.epoch)
        self.refresh()

    def origins(self, epoch: int) -> set[int]:
        """The numbers of the rows that an unfinished epoch has done already."""
        with self.reading() as connection:
            return {origin for (origin,) in connection.execute(f"SELECT origin FROM rows_{epoch}")}

    def drop_departed(self, epoch: int) -> None:
        """Remove from an unfinished epoch what stands for rows that were replaced or removed meanwhile."""
        with told(self.folder), self.reading() as connection:
            gone = connection.execute(
                f"SELECT number FROM rows_{epoch} WHERE origin NOT IN (SELECT number FROM rows_{self.epoch})"
            ).fetchall()
        self.remove([number for (number,) in gone], by="number", epoch=epoch)

    def _drop_epoch(self, connection: sqlite3.Connection, epoch: int) -> None:
        for table in ("rows", "vectors", "removed"):
            connection.execute(f"DROP TABLE {table}_{epoch}")
        connection.execute("DELETE FROM epochs WHERE epoch = ?", (epoch,))


def joined_kinds(kinds: dict[str, str], columns: Iterable[dict[str, Value]]) -> dict[str, str]:
    """The kinds of the user's columns once these rows are in.

    Raises:
        UsageError: a value does not go with the kind of its column.
    """
    kinds = dict(kinds)
    for row in columns:
        for name, value in row.items():
            kind = kind_of(value)
            if kind is not None:
                kinds[name] = joined_kind(name, kinds.get(name), kind)
    return kinds


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """A reading connection; in a folder that cannot be written, one that needs no shared memory there."""
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


def _not_a_gallery(folder: Path) -> str:
    if not folder.exists():
        return f"there is no gallery {folder}: fashion-infer index {folder} PHOTOS makes one"
    if (folder / "index").is_dir():
        return f"gallery {folder} is half deleted: {FILE}, which holds its rows, is missing: index the photos again"
    return f"{folder} is no gallery (it has no {FILE}), and not empty: give another folder"


def _fields(row: Row) -> tuple[Any, ...]:
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


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
