"""The vectors of a gallery in memory, searched by faiss: those of the mapped cache file, and those of newer rows.

A Snapshot never changes, so searches need no lock. `advance` makes the next one when the database has changed. Removed
rows stay in it, marked as dead, until a cache is built without them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import missing_extra
from fashion_infer.gallery.database import Database

try:
    import faiss
except ImportError as error:
    raise missing_extra("faiss-cpu", "gallery", error) from error

Float32s = NDArray[np.float32]
Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]

GATHER_SHARE = 0.05  # up to this share of the rows, copying them out is faster than a scan that skips the others
READ_ROWS = 50_000  # vectors read from the database at once


class Part(NamedTuple):
    """A faiss index of the rows at consecutive positions from `start` on."""

    start: int
    index: Any


@dataclass(frozen=True)
class Snapshot:
    """The vectors of one state of a gallery; a row's position is its index in `numbers`.

    Attributes:
        epoch: epoch of the rows.
        change: number of the last change of the database that the snapshot includes.
        last: highest row number seen so far, including removed rows.
        numbers: int64 [N], the row numbers, ascending.
        alive: bool [N], False for rows that were removed.
        parts: the faiss indexes; the one of the cache comes first.
        cached: number of rows in the cache, 0 without a cache.
        removed_from: number of the change up to which removed rows are no longer in the cache.
        ef_search: width of a search in the cache's HNSW graph; None if there is no graph with enough recall.
        folder: folder of the cache, or None.
    """

    epoch: int
    change: int
    last: int
    numbers: Positions
    alive: Mask
    parts: tuple[Part, ...]
    cached: int = 0
    removed_from: int = 0
    ef_search: int | None = None
    folder: Path | None = None

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        return int(np.count_nonzero(self.alive))

    def has_graph(self) -> bool:
        """Tell whether the cache has an HNSW graph."""
        return bool(self.cached) and hasattr(self.parts[0].index, "hnsw")

    def positions(self, numbers: NDArray[np.int64]) -> Positions:
        """Return the positions of these row numbers; numbers that the snapshot does not have are left out."""
        places = np.searchsorted(self.numbers, numbers)
        places[places == len(self.numbers)] = 0
        positions: Positions = places[self.numbers[places] == numbers] if len(self.numbers) else places[:0]
        return positions

    def vectors(self, positions: Positions) -> Float32s:
        """Return the vectors at P positions, float32 [P, D]."""
        result = np.empty((len(positions), self.parts[0].index.d if self.parts else 0), np.float32)
        for start, index in self.parts:
            inside = (positions >= start) & (positions < start + index.ntotal)
            if inside.any():
                result[inside] = _flat(index).reconstruct_batch(positions[inside] - start)
        return result

    def search(
        self, queries: Float32s, count: int, chosen: Mask | None = None, *, exact: bool = False
    ) -> tuple[Float32s, Positions]:
        """Find the nearest rows of each query.

        Args:
            queries: float32 [Q, D] of unit length.
            count: greatest number of rows for each query.
            chosen: bool [N], the rows to search, which are then all compared; None to search all rows.
            exact: whether to compare all rows even if there is a graph.

        Returns:
            Cosine similarities [Q, K] and positions [Q, K], best first; K is at most `count`. If fewer than K rows are
            found, a query's last entries are -inf and -1.
        """
        whole = chosen is None and len(self) == len(self.alive)
        mask = self.alive if chosen is None else chosen & self.alive
        partial = []
        for start, index in self.parts:
            part_mask = None if whole else mask[start : start + index.ntotal]
            graph = self.ef_search if chosen is None and not exact and index is self.parts[0].index else None
            scores, places = _search_part(index, queries, count, part_mask, graph)
            partial.append((scores, np.where(places < 0, -1, places + start)))
        if not partial:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        scores = np.concatenate([scores for scores, _ in partial], axis=1)
        positions = np.concatenate([positions for _, positions in partial], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(scores, best, 1), np.take_along_axis(positions, best, 1)


def empty(epoch: int) -> Snapshot:
    """Return a snapshot without rows."""
    return Snapshot(epoch, 0, 0, np.empty(0, np.int64), np.empty(0, np.bool_), ())


def advance(snapshot: Snapshot, database: Database) -> Snapshot:
    """Return the snapshot of the database's present state, made from one of an earlier state of the same epoch."""
    dim = database.facts.dim
    parts = list(snapshot.parts)
    rows, last = len(snapshot.numbers), snapshot.last
    chunks: list[Positions] = [snapshot.numbers]
    with database.reading() as connection:
        (change,) = connection.execute("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'change'").fetchone()
        cursor = connection.execute(
            f"SELECT number, vector FROM vectors_{snapshot.epoch} WHERE number > ? ORDER BY number", (last,)
        )
        while partial := cursor.fetchmany(READ_ROWS):
            new, blobs = zip(*partial, strict=True)
            vectors = np.frombuffer(b"".join(blobs), np.float16).reshape(-1, dim)
            parts = _with_part(parts, rows, vectors.astype(np.float32), snapshot.cached)
            chunks.append(np.array(new, np.int64))
            rows, last = rows + len(partial), new[-1]
        removed = connection.execute(
            f"SELECT number FROM removed_{snapshot.epoch} WHERE change > ?", (snapshot.change,)
        ).fetchall()
    numbers = np.concatenate(chunks)
    alive = np.ones(rows, np.bool_)
    alive[: len(snapshot.alive)] = snapshot.alive
    last = max([last, *(number for (number,) in removed)])
    result = replace(snapshot, change=change, last=last, numbers=numbers, alive=alive, parts=tuple(parts))
    alive[result.positions(np.array([number for (number,) in removed], np.int64))] = False
    return result


def flat_index(dim: int) -> Any:
    """Return an empty index for exact scans of float16 vectors by inner product."""
    return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def portions(snapshot: Snapshot, positions: Positions) -> Iterator[Float32s]:
    """Yield the vectors at many positions, float32 [P, D] with P up to 10,000 at a time."""
    for start in range(0, len(positions), 10_000):
        yield snapshot.vectors(positions[start : start + 10_000])


def search_threads() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _with_part(parts: list[Part], start: int, vectors: Float32s, cached: int) -> list[Part]:
    """Append a part, after merging it with the earlier parts less than twice as large; so the parts stay few."""
    while parts and parts[-1].start >= cached and parts[-1].index.ntotal < 2 * len(vectors):
        earlier = parts.pop()
        start = earlier.start
        vectors = np.concatenate([earlier.index.reconstruct_n(0, earlier.index.ntotal), vectors])
    index = flat_index(vectors.shape[1])
    index.add(vectors)
    return [*parts, Part(start, index)]


def _flat(index: Any) -> Any:
    """Return the vectors of an index without its graph."""
    return faiss.downcast_index(index.storage) if hasattr(index, "hnsw") else index


def _search_part(
    index: Any, queries: Float32s, count: int, mask: Mask | None, ef_search: int | None
) -> tuple[Float32s, Positions]:
    """Search one part; `mask`, bool [N], tells which of its rows may be found, None all."""
    chosen = index.ntotal if mask is None else int(np.count_nonzero(mask))
    count = min(count, chosen)
    if count == 0:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    if mask is not None and chosen <= GATHER_SHARE * len(mask):
        return _gathered(_flat(index), queries, count, np.flatnonzero(mask))
    bits = None if mask is None or chosen == len(mask) else np.packbits(mask, bitorder="little")
    selector = None if bits is None else faiss.IDSelectorBitmap(bits)
    if ef_search is not None:
        parameters = faiss.SearchParametersHNSW(efSearch=max(ef_search, 2 * count), sel=selector)
        scores, places = index.search(queries, count, params=parameters)
    else:
        scores, places = _flat(index).search(queries, count, params=faiss.SearchParameters(sel=selector))
    return np.where(places < 0, -np.inf, scores).astype(np.float32), places


def _gathered(flat: Any, queries: Float32s, count: int, places: Positions) -> tuple[Float32s, Positions]:
    scores: Float32s = queries @ flat.reconstruct_batch(places).T
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    scores = np.take_along_axis(scores, best, 1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, 1), places[np.take_along_axis(best, order, 1)]
