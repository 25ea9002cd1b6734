"""The index as files beside the database, so that opening a gallery maps them instead of reading every vector.

    index/<epoch>-<change>-<rows>/  vectors.faiss  numbers.npy  about.json

Each folder is written under a temporary name and renamed, says which state of the database it was built from, and may
be deleted at any time: whatever is missing or newer is read from the database. From `HNSW_FROM` rows on the file holds
a graph as well (HNSW: Malkov and Yashunin, 2018), which is searched instead of every vector.
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

VECTORS, NUMBERS, ABOUT = "vectors.faiss", "numbers.npy", "about.json"
HNSW_FROM = 200_000  # rows: below, an exact scan takes a few milliseconds
LINKS = 32  # of each vector in the graph
BUILD_WIDTH = 100  # efConstruction: candidates looked at for each vector's links
WIDTHS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # efSearch to try, smallest first
RECALL, RECALL_ROWS = 0.995, 300  # of the ten nearest, on rows of the gallery as queries, that a width must reach
NEWER, NEWER_SHARE = 10_000, 0.1  # rows that may be newer than the cache, or dead in it, before it is built again
DEAD_SHARE = 0.25  # of a graph's rows, beyond which it is built from nothing instead of extended

logger = logging.getLogger("fashion_infer")
Progress = Callable[[int, int], None]


class StoppedError(Exception):
    """A graph was not finished because the gallery is being closed."""


def folder_of(database: Database) -> Path:
    """Where the caches of a gallery lie."""
    return database.folder / "index"


def load(database: Database) -> Snapshot:
    """The present state, from the newest cache and what is newer in the database."""
    base = empty(database.epoch)
    for folder in _caches(database):
        try:
            base = _open(folder, database.facts.dim)
            break
        except Exception as error:  # whatever a damaged file makes faiss, numpy or json raise
            logger.warning("the index %s is damaged, it is built again from the gallery's rows: %s", folder, error)
    return advance(base, database)


def is_due(snapshot: Snapshot) -> bool:
    """Whether so much is newer than the cache, or dead in it, that building it again pays."""
    dead = int((~snapshot.alive[: snapshot.cached]).sum())
    newer = len(snapshot.numbers) - snapshot.cached
    return newer + dead > max(NEWER, NEWER_SHARE * snapshot.cached)


def graph_is_due(snapshot: Snapshot) -> bool:
    """Whether there is no graph where there should be one."""
    return not snapshot.has_graph() and len(snapshot) >= HNSW_FROM


def build(
    snapshot: Snapshot,
    database: Database,
    *,
    graph: bool,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> Snapshot | None:
    """Write a cache of a snapshot and give the snapshot that maps it; None where the folder cannot be written.

    Args:
        snapshot: to write; rows that are newer than it are found again in the database.
        database: of the gallery.
        graph: build the HNSW graph too, which takes minutes for a million rows.
        progress: called with the rows done and all of them.
        stop: when set, a graph is given up.

    Raises:
        StoppedError: it was given up.
    """
    extended = graph and snapshot.has_graph() and len(snapshot) >= (1 - DEAD_SHARE) * len(snapshot.numbers)
    positions = np.arange(len(snapshot.numbers)) if extended else np.flatnonzero(snapshot.alive)
    index = _filled(snapshot, positions, database.facts.dim, graph, extended, progress, stop or threading.Event())
    about: dict[str, Any] = {
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
        about["bytes"] = [(temporary / name).stat().st_size for name in (VECTORS, NUMBERS)]
        (temporary / ABOUT).write_text(json.dumps(about))
        if folder.exists() and not _is_whole(folder, database.facts.dim):
            shutil.rmtree(folder)
        if not folder.exists():
            temporary.rename(folder)
    except (OSError, RuntimeError) as error:  # faiss raises RuntimeError for a full disk
        if isinstance(error, OSError) and folder.exists():
            pass  # another process was faster
        else:
            logger.warning(
                "the index of gallery %s could not be kept (%s): the next start is slower", database.folder, error
            )
            return None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for older in _caches(database):
        if older != folder:
            shutil.rmtree(older, ignore_errors=True)
    return _open(folder, database.facts.dim)


def clean(database: Database) -> None:
    """Remove what killed builds of this machine left, and caches of epochs that are gone; for the one writer."""
    for leftover in folder_of(database).glob(".*.tmp"):
        pid = int(leftover.name.split(".")[-2])
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(leftover, ignore_errors=True)
    for folder in folder_of(database).glob("[0-9]*"):
        if not folder.name.startswith(f"{database.epoch}-"):
            shutil.rmtree(folder, ignore_errors=True)


def _caches(database: Database) -> list[Path]:
    """The folders of this epoch, the newest first, one with a graph before one without."""
    folders = folder_of(database).glob(f"{database.epoch}-*")
    return sorted(folders, key=lambda f: (int(f.name.split("-")[1]), f.name.endswith("graph")), reverse=True)


def _is_whole(folder: Path, dim: int) -> bool:
    try:
        _open(folder, dim)
    except Exception:  # as in `load`
        return False
    return True


def _open(folder: Path, dim: int) -> Snapshot:
    about = json.loads((folder / ABOUT).read_text())
    sizes = [(folder / name).stat().st_size for name in (VECTORS, NUMBERS)]
    if sizes != about["bytes"]:
        raise ValueError(f"its files have {sizes} bytes, {about['bytes']} were written")
    index = faiss.read_index(str(folder / VECTORS), faiss.IO_FLAG_MMAP_IFC)
    numbers = np.load(folder / NUMBERS, mmap_mode="r", allow_pickle=False)
    if (index.ntotal, index.d) != (len(numbers), dim):
        raise ValueError(f"it has {index.ntotal} vectors of {index.d} numbers for {len(numbers)} rows of {dim}")
    return Snapshot(
        about["epoch"],
        about["removed_from"],  # those removed since are looked up, also where the graph still holds them
        about["last"],
        np.asarray(numbers),
        np.ones(len(numbers), np.bool_),
        (Part(0, index),) if len(numbers) else (),
        len(numbers),
        about["removed_from"],
        about["ef_search"],
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
    """An index of the rows at these positions; an extended one starts as a copy of the snapshot's graph."""
    faiss.omp_set_num_threads(search_threads())
    if extended and snapshot.folder is not None:
        index = faiss.read_index(str(snapshot.folder / VECTORS))  # not mapped: it is added to
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
    """The smallest efSearch that finds the ten nearest of the gallery's own rows; None where none does."""
    picked = np.random.default_rng(0).choice(positions, min(RECALL_ROWS, len(positions)), replace=False)
    queries = snapshot.vectors(picked)
    expected, _ = replace(snapshot, ef_search=None).search(queries, 10)
    for width in WIDTHS:
        scores, _ = index.search(queries, expected.shape[1], params=faiss.SearchParametersHNSW(efSearch=width))
        if float((scores >= expected[:, -1:] - 1e-6).mean()) >= RECALL:  # by score: equal ones may swap places
            return width
    logger.warning("the graph finds fewer than %.1f %% of the nearest rows: searches stay exact", 100 * RECALL)
    return None
