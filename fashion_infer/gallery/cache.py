"""A cache of the index in files beside the database: opening a gallery maps them instead of reading every vector.

    index/<epoch>-<change>-<rows>/  vectors.faiss  numbers.npy  about.json

Each folder is written under a temporary name and then renamed. It records which state of the database it was built
from. It may be deleted at any time, because missing and newer rows are read from the database. From `HNSW_FROM` rows
on, the index file also holds an HNSW graph (Malkov and Yashunin, 2018), so that a search need not compare every vector.
"""

import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from fashion_infer.errors import missing_extra
from fashion_infer.gallery.database import Database
from fashion_infer.gallery.index import Part, Snapshot, advance, empty, flat_index, portions, search_threads

try:
    import faiss
except ImportError as error:
    raise missing_extra("faiss-cpu", "gallery", error) from error

VECTORS, NUMBERS, DESCRIPTION = "vectors.faiss", "numbers.npy", "about.json"
HNSW_FROM = 100_000  # rows; with fewer, an exact scan takes a few milliseconds
LINKS = 32  # links of each vector in the graph (faiss: M)
BUILD_WIDTH = 100  # candidates compared to choose the links of a vector (faiss: efConstruction)
WIDTHS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # values of efSearch to try, smallest first
RECALL, RECALL_ROWS = 0.995, 300  # recall of the ten nearest that efSearch must reach, with this many rows as queries
NEWER, NEWER_SHARE = 10_000, 0.1  # rows (number, share) that may be missing or dead in the cache before it is rebuilt
DEAD_SHARE = 0.25  # with a larger share of dead rows, a graph is built anew instead of extended

logger = logging.getLogger("fashion_infer")
Progress = Callable[[int, int], None]


class StoppedError(Exception):
    """The build of a graph was stopped because the gallery is being closed."""


def folder_of(database: Database) -> Path:
    """Return the folder that holds the caches of a gallery."""
    return database.folder / "index"


def load(database: Database) -> Snapshot:
    """Return the present state: the newest cache that can be read, and the newer rows of the database."""
    base = empty(database.epoch)
    for folder in _caches(database):
        try:
            base = _open(folder, database.facts.dim)
            break
        except Exception as error:  # a damaged file can make faiss, numpy or json raise anything
            logger.warning("the index %s is damaged, it is built again from the gallery's rows: %s", folder, error)
    return advance(base, database)


def is_due(snapshot: Snapshot) -> bool:
    """Tell whether so many rows are newer than the cache, or dead in it, that it is worth building it again."""
    dead = int((~snapshot.alive[: snapshot.cached]).sum())
    newer = len(snapshot.numbers) - snapshot.cached
    return newer + dead > max(NEWER, NEWER_SHARE * snapshot.cached)


def graph_is_due(snapshot: Snapshot) -> bool:
    """Tell whether the gallery is large enough for a graph and has none yet."""
    return not snapshot.has_graph() and len(snapshot) >= HNSW_FROM


def build(
    snapshot: Snapshot,
    database: Database,
    *,
    graph: bool,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Snapshot | None:
    """Write a snapshot as a cache.

    Args:
        snapshot: state to write. Rows written later are read from the database when the cache is opened.
        database: the gallery's database.
        graph: whether to build the HNSW graph too, which takes minutes for a million rows.
        progress: called with the number of rows done and the number of all rows.
        stop: event that stops the build when it is set.

    Returns:
        A snapshot that maps the new cache into memory, or None if the folder cannot be written.

    Raises:
        StoppedError: `stop` was set.
    """
    extended = graph and snapshot.has_graph() and len(snapshot) >= (1 - DEAD_SHARE) * len(snapshot.numbers)
    positions = np.arange(len(snapshot.numbers)) if extended else np.flatnonzero(snapshot.alive)
    index = _filled(snapshot, positions, database.facts.dim, graph, extended, progress, stop or threading.Event())
    description: dict[str, Any] = {
        "epoch": snapshot.epoch,
        "change": snapshot.change,
        "last": snapshot.last,
        "rows": len(positions),
        "removed_from": snapshot.removed_from if extended else snapshot.change,
        "ef_search": _search_width(index, snapshot, positions) if graph else None,
    }
    folder = folder_of(database) / f"{snapshot.epoch}-{snapshot.change}-{len(positions)}{'-graph' if graph else ''}"
    temporary = folder.with_name(f".{uuid4().hex}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        faiss.write_index(index, str(temporary / VECTORS))
        np.save(temporary / NUMBERS, snapshot.numbers[positions])
        description["bytes"] = [(temporary / name).stat().st_size for name in (VECTORS, NUMBERS)]
        (temporary / DESCRIPTION).write_text(json.dumps(description))
        if folder.exists() and not _is_whole(folder, database.facts.dim):
            shutil.rmtree(folder)
        if not folder.exists():
            temporary.rename(folder)
    except (OSError, RuntimeError) as error:  # faiss raises RuntimeError for a full disk
        if isinstance(error, OSError) and folder.exists():
            pass  # another process wrote the same cache first
        else:
            logger.warning(
                "the index of gallery %s cannot be written (%s): the next start is slower", database.folder, error
            )
            return None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for older in _caches(database):
        if older != folder:
            shutil.rmtree(older, ignore_errors=True)
    return _open(folder, database.facts.dim)


def clean(database: Database) -> None:
    """Remove the remains of killed builds and the caches of past epochs; only the writer may call this."""
    for leftover in folder_of(database).glob(".*.tmp"):
        pid = int(leftover.name.split(".")[-2])
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(leftover, ignore_errors=True)
    for folder in folder_of(database).glob("[0-9]*"):
        if not folder.name.startswith(f"{database.epoch}-"):
            shutil.rmtree(folder, ignore_errors=True)


def _caches(database: Database) -> list[Path]:
    """Return the folders of this epoch, newest first; of two equally new ones, the one with a graph comes first."""
    folders = folder_of(database).glob(f"{database.epoch}-*")
    return sorted(folders, key=lambda f: (int(f.name.split("-")[1]), f.name.endswith("graph")), reverse=True)


def _is_whole(folder: Path, dim: int) -> bool:
    try:
        _open(folder, dim)
    except Exception:  # a damaged file can make faiss, numpy or json raise anything
        return False
    return True


def _open(folder: Path, dim: int) -> Snapshot:
    description = json.loads((folder / DESCRIPTION).read_text())
    sizes = [(folder / name).stat().st_size for name in (VECTORS, NUMBERS)]
    if sizes != description["bytes"]:
        raise ValueError(f"its files have {sizes} bytes, {description['bytes']} were written")
    index = faiss.read_index(str(folder / VECTORS), faiss.IO_FLAG_MMAP_IFC)
    numbers = np.load(folder / NUMBERS, mmap_mode="r", allow_pickle=False)
    if (index.ntotal, index.d) != (len(numbers), dim):
        raise ValueError(f"it has {index.ntotal} vectors of {index.d} numbers for {len(numbers)} rows of {dim}")
    return Snapshot(
        description["epoch"],
        description["removed_from"],  # so that `advance` marks later removals dead, though the graph still holds them
        description["last"],
        np.asarray(numbers),
        np.ones(len(numbers), np.bool_),
        (Part(0, index),) if len(numbers) else (),
        len(numbers),
        description["removed_from"],
        description["ef_search"],
        folder,
    )


def _filled(
    snapshot: Snapshot,
    positions: Any,
    dim: int,
    graph: bool,
    extended: bool,
    progress: Progress | None,
    stop: threading.Event,
) -> Any:
    """Build an index of the rows at these positions; if `extended`, start from a copy of the snapshot's graph."""
    faiss.omp_set_num_threads(search_threads())
    if extended and snapshot.folder is not None:
        index = faiss.read_index(str(snapshot.folder / VECTORS))  # not mapped, since rows are added to it
    elif graph:
        index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_WIDTH
    else:
        index = flat_index(dim)
    for vectors in portions(snapshot, positions[index.ntotal :]):
        if stop.is_set():
            raise StoppedError
        index.add(vectors)
        if progress is not None:
            progress(index.ntotal, len(positions))
    return index


def _search_width(index: Any, snapshot: Snapshot, positions: Any) -> int | None:
    """Return the smallest efSearch that reaches `RECALL` on the gallery's own rows, or None if none does."""
    picked = np.random.default_rng(0).choice(positions, min(RECALL_ROWS, len(positions)), replace=False)
    queries = snapshot.vectors(picked)
    expected, _ = replace(snapshot, ef_search=None).search(queries, 10)
    for width in WIDTHS:
        scores, _ = index.search(queries, expected.shape[1], params=faiss.SearchParametersHNSW(efSearch=width))
        if float((scores >= expected[:, -1:] - 1e-6).mean()) >= RECALL:  # scores, since rows with equal ones may swap
            return width
    logger.warning("the graph finds less than %.1f %% of the nearest rows: searches stay exact", 100 * RECALL)
    return None
