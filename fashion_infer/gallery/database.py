"""The SQLite file of a gallery: its rows, their float16 vectors, and the model that it is bound to.

Every row has a number that is never used again, even if the row is replaced. A process that holds vectors in memory can
therefore catch up by reading the rows above the last number that it has seen and the list of rows removed since. The
rows of one embedding space are stored in tables of their own, called an *epoch*. A rebuild fills the next epoch while
the present one still serves searches, and switches to it at the end.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fashion_infer.errors import GalleryError
from fashion_infer.gallery.lock import WriterLock
from fashion_infer.gallery.rows import Facts, Row
from fashion_infer.gallery.tables import (
    CHUNK,
    EPOCH_TABLES,
    FIELDS,
    FILE,
    FORMAT,
    TABLES,
    connect_to_read,
    fields_of,
    placeholders,
    row_of_fields,
    sqlite_errors,
)
from fashion_infer.gallery.values import Value, joined_kind, kind_of


class Database:
    """The SQLite file of a gallery; safe to use from many threads.

    Attributes:
        folder: the gallery's folder.
        epoch: number of the epoch that serves searches.
        facts: embedding space and model that the gallery is bound to.
        kinds: kind of each of the user's columns.
        meta: further values that are stored with the gallery, by name.
    """

    def __init__(self, folder: Path, create: Facts | None = None) -> None:
        """Open the file, or create it in an empty or new folder.

        Args:
            folder: the gallery's folder.
            create: embedding space and model for a new gallery; None to open an existing one only.

        Raises:
            GalleryError: there is no gallery, it is damaged, a newer release wrote it, or it cannot be opened.
        """
        self.folder = folder
        self._lock = WriterLock(folder)
        self._mutex = threading.RLock()  # guards the reading connection
        self._writing: sqlite3.Connection | None = None
        path = folder / FILE
        if not os.path.isfile(path):  # noqa: PTH113 the methods of Path raise on long names
            try:
                if create is None or _is_occupied(folder):
                    raise GalleryError(_not_a_gallery(folder))
            except OSError as error:
                raise GalleryError(f"gallery {folder} cannot be opened: {error.strerror}") from error
            self._create(create)
        with sqlite_errors(folder):
            self._reading = connect_to_read(path)
            self._seen_version = -1
            self.refresh()

    def _create(self, facts: Facts) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            reason = getattr(error, "strerror", None) or error
            raise GalleryError(f"the gallery {self.folder} cannot be created: {reason}") from error
        with self._lock, sqlite_errors(self.folder):
            if (self.folder / FILE).is_file():
                return  # another process created it first
            temporary = self.folder / f".{FILE}.new"  # renamed at the end: a kill leaves no half-made gallery
            temporary.unlink(missing_ok=True)
            with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
                connection.executescript(TABLES + EPOCH_TABLES.format(1))
                meta = {"format": FORMAT, "epoch": 1, "change": 0}
                connection.executemany("INSERT INTO meta VALUES (?, ?)", [(k, json.dumps(v)) for k, v in meta.items()])
                connection.execute("INSERT INTO epochs VALUES (1, ?)", (json.dumps(asdict(facts)),))
            temporary.rename(self.folder / FILE)

    def close(self) -> None:
        """Close the file; SQLite then merges its log into it."""
        with self._mutex:
            self._reading.close()

    # reading

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection whose statements all see the same state."""
        with self._mutex, sqlite_errors(self.folder):
            self.refresh()
            self._reading.execute("BEGIN")
            try:
                yield self._reading
            finally:
                self._reading.execute("COMMIT")

    def refresh(self) -> bool:
        """Read what other connections wrote, and return whether anything changed since the last call."""
        with self._mutex, sqlite_errors(self.folder):
            (version,) = self._reading.execute("PRAGMA data_version").fetchone()
            if version == self._seen_version:
                return False
            self._reading.execute("BEGIN")
            try:
                self._read_meta(self._reading)
            finally:
                self._reading.execute("COMMIT")
            self._seen_version = version
            return True

    def _read_meta(self, connection: sqlite3.Connection) -> None:
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

    def __len__(self) -> int:
        with self.reading() as connection:
            (count,) = connection.execute(f"SELECT count(*) FROM vectors_{self.epoch}").fetchone()
            return int(count)

    def get(self, ids: Sequence[Any], *, by: str = "id") -> list[Row]:
        """Return the rows with these ids, or of these photos (`by="record"`), in the order of their numbers."""
        rows: list[Row] = []
        with self.reading() as connection:
            for start in range(0, len(ids), CHUNK):
                part = ids[start : start + CHUNK]
                rows += self._select(connection, f"{by} IN ({placeholders(part)})", part)
        return rows

    def by_number(self, numbers: Sequence[int], epoch: int) -> dict[int, Row]:
        """Return the rows with these numbers, without their vectors; rows that were removed are left out."""
        rows: dict[int, Row] = {}
        with self.reading() as connection:
            for start in range(0, len(numbers), CHUNK):
                part = numbers[start : start + CHUNK]
                statement = f"SELECT number, {FIELDS} FROM rows_{epoch} WHERE number IN ({placeholders(part)})"
                for number, *fields in connection.execute(statement, part):
                    rows[number] = row_of_fields(fields, b"", self.kinds)
        return rows

    def __iter__(self) -> Iterator[Row]:
        """Yield every row in the order of the numbers. Rows written in the meantime may be among them."""
        for _, row in self.numbered():
            yield row

    def paths(self) -> Iterator[tuple[str, str | None, str]]:
        """Yield id, path and content hash of every row."""
        last = 0
        while True:
            with self.reading() as connection:
                batch = connection.execute(
                    f"SELECT number, id, path, content_hash FROM rows_{self.epoch} WHERE number > ? ORDER BY number "
                    "LIMIT 10000",
                    (last,),
                ).fetchall()
            for _, *facts in batch:
                yield tuple(facts)
            if not batch:
                return
            last = batch[-1][0]

    def numbered(self) -> Iterator[tuple[int, Row]]:
        """Yield number and row of every row, in the order of the numbers."""
        above = 0
        while True:
            with self.reading() as connection:
                statement = (
                    f"SELECT number, {FIELDS}, vector FROM rows_{self.epoch} JOIN vectors_{self.epoch} USING (number) "
                    "WHERE number > ? ORDER BY number LIMIT 1000"
                )
                batch = connection.execute(statement, (above,)).fetchall()
            for number, *fields, vector in batch:
                yield number, row_of_fields(fields, vector, self.kinds)
            if not batch:
                return
            above = batch[-1][0]

    def _select(self, connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Row]:
        statement = (
            f"SELECT {FIELDS}, vector FROM rows_{self.epoch} JOIN vectors_{self.epoch} USING (number) "
            f"WHERE {where} ORDER BY number"
        )
        return [row_of_fields(fields, vector, self.kinds) for *fields, vector in connection.execute(statement, values)]

    # writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write for the length of a `with` block.

        Raises:
            GalleryLockedError: another process, or another thread of this one, is writing.
            GalleryError: the folder cannot be written.
        """
        with self._lock, sqlite_errors(self.folder):
            connection = sqlite3.connect(self.folder / FILE, isolation_level=None, check_same_thread=False)
            try:
                for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 10000"):
                    connection.execute(f"PRAGMA {pragma}")
                self._writing = connection
                yield
            finally:
                self._writing = None
                connection.execute("PRAGMA busy_timeout = 0")
                with suppress(sqlite3.OperationalError):  # on a full disk the rows stay in the log
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a read-only folder with a log is unreadable
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

    def write(self, records: Iterable[str], rows: Iterable[Row]) -> None:
        """Replace all rows of these photos by `rows`, in one transaction."""
        rows = list(rows)
        self._write(self.epoch, list(records), rows, [None] * len(rows))

    def write_epoch(self, epoch: int, origins: Sequence[int], rows: Sequence[Row]) -> None:
        """Write rows into an epoch, each with the number of the row that it will replace, in one transaction."""
        self._write(epoch, [], rows, origins)

    def _write(self, epoch: int, records: Sequence[str], rows: Sequence[Row], origins: Sequence[int | None]) -> None:
        with sqlite_errors(self.folder), self._transaction() as connection:
            change = self._next_change(connection)
            for column, values in (("record", records), ("id", [row.id for row in rows])):
                self._delete(connection, column, values, change, epoch)
            self._widen_kinds(connection, rows)
            counted = connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name = ?", (f"rows_{epoch}",)
            ).fetchone()
            numbers = range((counted[0] if counted else 0) + 1, 2**63)
            places = placeholders(FIELDS.split(", "))
            connection.executemany(
                f"INSERT INTO rows_{epoch} (number, {FIELDS}, origin) VALUES (?, {places}, ?)",
                ((n, *fields_of(row), origin) for n, row, origin in zip(numbers, rows, origins, strict=False)),
            )
            connection.executemany(
                f"INSERT INTO vectors_{epoch} VALUES (?, ?)",
                ((number, row.vector.tobytes()) for number, row in zip(numbers, rows, strict=False)),
            )
        self.refresh()

    def remove(self, ids: Sequence[str]) -> int:
        """Remove rows in one transaction, and return how many there were."""
        with sqlite_errors(self.folder), self._transaction() as connection:
            count = self._delete(connection, "id", ids, self._next_change(connection), self.epoch)
        self.refresh()
        return count

    def set_meta(self, key: str, value: Any) -> None:
        """Store a value with the gallery, as JSON."""
        with sqlite_errors(self.folder), self._transaction() as connection:
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
            chosen = f"SELECT number FROM rows_{epoch} WHERE {by} IN ({placeholders(part)})"
            connection.execute(f"INSERT INTO removed_{epoch} SELECT number, ? FROM ({chosen})", (change, *part))
            connection.execute(f"DELETE FROM vectors_{epoch} WHERE number IN ({chosen})", part)
            count += connection.execute(f"DELETE FROM rows_{epoch} WHERE {by} IN ({placeholders(part)})", part).rowcount
        return count

    def _widen_kinds(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        kinds = dict(connection.execute("SELECT name, kind FROM kinds"))
        wider = joined_kinds(kinds, [row.columns for row in rows])
        changed = [(name, kind) for name, kind in wider.items() if kinds.get(name) != kind]
        connection.executemany("INSERT OR REPLACE INTO kinds VALUES (?, ?)", changed)

    # a new epoch

    def begin_epoch(self, facts: Facts) -> int:
        """Return the epoch that a rebuild for this space fills: an unfinished one, or a new one."""
        with sqlite_errors(self.folder), self._transaction() as connection:
            for epoch, text in connection.execute("SELECT epoch, facts FROM epochs").fetchall():
                if epoch != self.epoch and Facts(**json.loads(text)).space == facts.space:
                    return int(epoch)
                if epoch != self.epoch:
                    self._drop_epoch(connection, epoch)
            epoch = 1 + int(max(e for (e,) in connection.execute("SELECT epoch FROM epochs")))
            for statement in EPOCH_TABLES.format(epoch).split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO epochs VALUES (?, ?)", (epoch, json.dumps(asdict(facts))))
            return epoch

    def switch_epoch(self, epoch: int) -> None:
        """Serve searches from another epoch, and drop the previous one, in one transaction."""
        with sqlite_errors(self.folder), self._transaction() as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (json.dumps(epoch),))
            connection.execute("DELETE FROM meta WHERE key = 'match'")  # it was measured on the old embeddings
            self._next_change(connection)
            self._drop_epoch(connection, self.epoch)
        self.refresh()

    def origins(self, epoch: int) -> set[int]:
        """Remove an epoch's rows whose original row no longer exists, and return the numbers of the other originals."""
        with sqlite_errors(self.folder), self._transaction() as connection:
            stale = f"SELECT number FROM rows_{epoch} WHERE origin NOT IN (SELECT number FROM rows_{self.epoch})"
            numbers = [number for (number,) in connection.execute(stale).fetchall()]
            self._delete(connection, "number", numbers, self._next_change(connection), epoch)
            return {origin for (origin,) in connection.execute(f"SELECT origin FROM rows_{epoch}")}

    def _drop_epoch(self, connection: sqlite3.Connection, epoch: int) -> None:
        for table in ("rows", "vectors", "removed"):
            connection.execute(f"DROP TABLE {table}_{epoch}")
        connection.execute("DELETE FROM epochs WHERE epoch = ?", (epoch,))


def joined_kinds(kinds: dict[str, str], columns: Iterable[dict[str, Value]]) -> dict[str, str]:
    """Return the kinds of the user's columns after rows with these columns are added.

    Args:
        kinds: kind of each column so far.
        columns: the user's columns of each new row, {name: value}.

    Raises:
        UsageError: a value does not fit the kind of its column.
    """
    kinds = dict(kinds)
    for row in columns:
        for name, value in row.items():
            kind = kind_of(value)
            if kind is not None:
                kinds[name] = joined_kind(name, kinds.get(name), kind)
    return kinds


def _is_occupied(folder: Path) -> bool:
    return os.path.exists(folder) and (not folder.is_dir() or any(folder.iterdir()))  # noqa: PTH110 see `__init__`


def _not_a_gallery(folder: Path) -> str:
    if not os.path.exists(folder):  # noqa: PTH110 see `__init__`
        return f"there is no gallery {folder}: fashion-infer index {folder} PHOTOS makes one"
    if (folder / "index").is_dir():
        return f"gallery {folder} is half deleted: {FILE}, which holds its rows, is missing: index the photos again"
    return f"{folder} is no gallery (it has no {FILE}), and not empty: give another folder"
