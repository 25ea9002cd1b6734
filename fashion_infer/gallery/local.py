"""A store on one machine: rows in SQLite, and a faiss index of their vectors that follows every change."""

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.gallery import cache
from fashion_infer.gallery.columns import Column, column_of, mask_of
from fashion_infer.gallery.database import Database
from fashion_infer.gallery.filters import Filter
from fashion_infer.gallery.index import Mask, Snapshot, advance
from fashion_infer.gallery.rows import Facts, Row
from fashion_infer.gallery.store import Candidates, Float32s, Nearest
from fashion_infer.gallery.tables import EpochGoneError
from fashion_infer.gallery.values import OWN

SPARE = 8  # rows that are fetched beyond the requested ones, to see whether the last ones tie
READ_ROWS = 50_000  # values of a column read from the database at once

logger = logging.getLogger("fashion_infer")


class LocalStore(Database):
    """A `Store` in a folder; safe to use from many threads."""

    def __init__(self, folder: Path, create: Facts | None = None) -> None:
        """Open or create the store; arguments and errors are those of `Database`."""
        super().__init__(folder, create)
        self._state_lock = threading.Lock()  # guards the snapshot and the columns
        self._snapshot: Snapshot | None = None
        self._columns: dict[str, tuple[Column, int]] = {}  # each column with the highest row number that it includes
        self._builder: threading.Thread | None = None
        self._stop = threading.Event()

    def close(self) -> None:
        """Wait for a graph that is being built, and close the file."""
        if self._builder is not None:
            self._builder.join()
        super().close()

    def nearest(self, queries: Float32s, count: int, where: Filter | None, *, exact: bool = False) -> Nearest:
        for last_try in (False,) * 5 + (True,):
            try:
                snapshot, chosen = self._present(where)
                rows = _alive(snapshot, chosen)
                scores, positions = _scan(snapshot, queries, count, rows, chosen, exact)
                numbers = np.where(positions < 0, -1, snapshot.numbers[positions]) if positions.size else positions
                if 0 < count < scores.shape[1]:  # read only rows that can be hits: those that tie with the last one
                    numbers = np.where(scores < scores[:, count - 1 : count], -1, numbers)
                hit_numbers = [int(number) for number in np.unique(numbers) if number >= 0]
                batch = self.by_number(hit_numbers, snapshot.epoch)
            except EpochGoneError:
                if last_try:
                    raise
                continue
            if len(batch) == len(hit_numbers) or last_try:
                scanned = exact or chosen is not None or snapshot.ef_search is None
                return Nearest(_candidates(scores, numbers, batch, count), rows, scanned)
            # rows were removed between the scan and the look-up: search the new state
        raise AssertionError  # the last try returned or raised

    def count(self, where: Filter | None) -> int:
        snapshot, chosen = self._present(where)
        return _alive(snapshot, chosen)

    def sample(self, count: int) -> list[Row]:
        snapshot = self.snapshot()
        numbers = snapshot.numbers[snapshot.alive]
        places = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(np.int64)
        return self.get(numbers[places].tolist(), by="number")

    def snapshot(self) -> Snapshot:
        """Return the vectors of the present state."""
        return self._present(None)[0]

    def settle(self, *, wait: bool = False, progress: cache.Progress | None = None) -> None:
        """Bring the cache up to date if that is worth it: one without a graph at once, a graph in the background.

        Args:
            wait: whether to wait for the graph too.
            progress: called during the graph's build with the number of rows done and the number of all rows.
        """
        cache.clean(self)
        snapshot = self.snapshot()
        due = cache.is_due(snapshot) or (not snapshot.cached and len(snapshot) > 0)
        if due and not snapshot.has_graph():
            self._rebuild(graph=False)
        graph_due = cache.graph_is_due(snapshot) or (due and snapshot.has_graph())
        if graph_due and (self._builder is None or not self._builder.is_alive()):
            self._builder = threading.Thread(target=self._build_graph, args=(progress,), name="fashion-infer-index")
            self._builder.start()
        if wait and self._builder is not None:
            self._builder.join()

    def _build_graph(self, progress: cache.Progress | None) -> None:
        self._rebuild(graph=True, progress=progress)

    def _rebuild(self, *, graph: bool, progress: cache.Progress | None = None) -> None:
        built = cache.build(self.snapshot(), self, graph=graph, progress=progress, stop=self._stop)
        if built is not None:
            with self._state_lock:
                self._snapshot, self._columns = advance(built, self), {}  # the rows have other positions now

    def _present(self, where: Filter | None) -> tuple[Snapshot, Mask | None]:
        """Return the present state and a mask of its positions that satisfy a filter."""
        with self._state_lock:
            self.refresh()
            if self._snapshot is None or self._snapshot.epoch != self.epoch:
                self._snapshot, self._columns = self._loaded(), {}
            elif self._snapshot.change != self.meta["change"]:
                self._snapshot = advance(self._snapshot, self)
            snapshot = self._snapshot
            mask = (
                None
                if where is None
                else mask_of(where, lambda name: self._column(name, snapshot), len(snapshot.numbers))
            )
            return snapshot, mask

    def _loaded(self) -> Snapshot:
        """Return the present state; build a missing or old cache now, since otherwise every start would be slow."""
        snapshot = cache.load(self)
        if not cache.is_due(snapshot):
            return snapshot
        if self._writing is None:
            logger.warning("the index of gallery %s is missing or old: it is built from the rows", self.folder)
        built = cache.build(snapshot, self, graph=False)
        return snapshot if built is None else advance(built, self)

    def _column(self, name: str, snapshot: Snapshot) -> Column:
        kind = OWN.get(name) or self.kinds[name]
        column, seen = self._columns.get(f"{name} {kind}") or (column_of(kind), 0)
        length = len(snapshot.numbers)
        with self.reading() as connection:
            value, parameters = _stored(name, kind)
            cursor = connection.execute(
                f"SELECT number, {value} FROM rows_{snapshot.epoch} WHERE number > ? AND number <= ? ORDER BY number",
                (*parameters, seen, snapshot.last),
            )
            while batch := cursor.fetchmany(READ_ROWS):
                numbers, values = zip(*batch, strict=True)
                column.extend(length, snapshot.positions(np.array(numbers, np.int64)), _read(values, name, kind))
        column.extend(length, np.empty(0, np.int64), [])
        self._columns[f"{name} {kind}"] = column, snapshot.last
        return column


def _stored(name: str, kind: str) -> tuple[str, tuple[str, ...]]:
    """Return the SQL expression of a column's stored value, and its parameters."""
    if name in OWN:
        return name, ()  # a fixed name of ours, so it is safe inside SQL
    if not _is_plain(name):
        return "columns", ()
    # `->` returns a float as it is written, since SQLite's own reading of decimals may be off in the last bit
    return ("columns -> ?" if kind == "float" else "json_extract(columns, ?)"), (f'$."{name}"',)


def _is_plain(name: str) -> bool:
    """Whether SQL can look up a column by its name; SQLite before 3.45 does not find names that JSON escapes."""
    return name.isascii() and name.isprintable() and "\\" not in name


def _read(values: Sequence[Any], name: str, kind: str) -> list[Any]:
    if name not in OWN and not _is_plain(name):
        values = [json.loads(columns).get(name) for columns in values]
        return [json.dumps(value) if isinstance(value, list) else value for value in values]
    if kind == "float" and name not in OWN:
        return [None if value is None else float(value) for value in values]
    if kind == "bool":
        return [None if value is None else bool(value) for value in values]
    if name == "colors":
        return [None if value is None else _names(value) for value in values]
    return list(values)


def _names(colors: str) -> str:
    return json.dumps([color["name"] for color in json.loads(colors)])


def _alive(snapshot: Snapshot, chosen: Mask | None) -> int:
    return len(snapshot) if chosen is None else int(np.count_nonzero(chosen & snapshot.alive))


def _scan(
    snapshot: Snapshot, queries: Float32s, count: int, rows: int, chosen: Mask | None, exact: bool
) -> tuple[Float32s, NDArray[np.int64]]:
    """Return scores and positions of the nearest rows, including all that tie with the last requested one."""
    fetched = count + SPARE
    while True:
        fetched = min(fetched, rows)
        scores, positions = snapshot.search(queries, fetched, chosen, exact=exact)
        scores = scores.clip(-np.inf, 1)
        enough = fetched == rows or not count
        if enough or not (np.isfinite(scores[:, -1]) & (scores[:, count - 1] == scores[:, -1])).any():
            return scores, positions
        fetched *= 4


def _candidates(scores: Float32s, numbers: NDArray[np.int64], rows: dict[int, Row], count: int) -> list[Candidates]:
    result = []
    for line, places in zip(scores.tolist(), numbers.tolist(), strict=True):
        pairs = [(max(score, -1.0), rows[n]) for score, n in zip(line, places, strict=True) if n in rows]
        pairs.sort(key=lambda pair: (-pair[0], pair[1].id))
        result.append(pairs[:count])
    return result
