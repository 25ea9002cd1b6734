"""Describing a gallery, and checking a gallery on one machine for damage."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fashion_infer.errors import UsageError
from fashion_infer.gallery import cache
from fashion_infer.gallery.index import portions
from fashion_infer.gallery.local import LocalStore
from fashion_infer.gallery.match import META
from fashion_infer.gallery.store import Store
from fashion_infer.gallery.tables import FILE

QUERIES = 200  # rows that are searched to measure the recall of the index
RECALL = 0.99  # lowest recall of their ten nearest rows that counts as undamaged


def facts_about(store: Store) -> dict[str, Any]:
    """Return what a gallery holds and which model it is bound to, as values that JSON can hold."""
    facts: dict[str, Any] = {
        "rows": len(store),
        "space": store.facts.space,
        "dim": store.facts.dim,
        "model": store.facts.model,
        "model_sha256": store.facts.model_sha256,
        "columns": dict(store.kinds),
        "match": store.meta.get(META),
    }
    if isinstance(store, LocalStore):
        snapshot = store.snapshot()
        facts["index"] = {
            "kind": "HNSW" if snapshot.has_graph() else "exact scan",
            "rows": snapshot.cached,
            "newer": len(snapshot.numbers) - snapshot.cached,
            "ef_search": snapshot.ef_search,
        }
        facts["bytes"] = {
            "rows": sum(path.stat().st_size for path in store.folder.glob(f"{FILE}*")),
            "index": _size(cache.folder_of(store)),
        }
    return facts


def check(store: Store) -> tuple[list[str], float]:
    """Check a gallery for damage.

    Returns:
        The problems as sentences, and the share in [0, 1] of the ten nearest rows that a search finds.

    Raises:
        UsageError: the store is on a cluster, which checks itself.
    """
    if not isinstance(store, LocalStore):
        raise UsageError("a gallery on a cluster is checked by the cluster itself")
    if problems := _database_problems(store) or _index_problems(store):
        return problems, 0.0
    recall = _recall(store)
    return ([] if recall >= RECALL else [f"the index finds {recall:.1%} of the ten nearest rows"]), recall


def _database_problems(store: LocalStore) -> list[str]:
    with store.reading() as connection:
        rows, vectors = f"rows_{store.epoch}", f"vectors_{store.epoch}"
        reports = [text for (text,) in connection.execute("PRAGMA integrity_check(10)")]
        problems = [f"SQLite reports: {text}" for text in reports if text != "ok"]
        counts = {
            "rows have no vector": f"{rows} WHERE number NOT IN (SELECT number FROM {vectors})",
            "vectors have no row": f"{vectors} WHERE number NOT IN (SELECT number FROM {rows})",
            "vectors have another length": f"{vectors} WHERE length(vector) != {2 * store.facts.dim}",
        }
        for what, where in counts.items():
            (count,) = connection.execute(f"SELECT count(*) FROM {where}").fetchone()
            problems += [f"{count} {what}"] if count else []
    return problems


def _index_problems(store: LocalStore) -> list[str]:
    problems: list[str] = []
    snapshot = store.snapshot()
    bad = 0
    for vectors in portions(snapshot, np.flatnonzero(snapshot.alive)):
        bad += int((~(np.abs((vectors * vectors).sum(axis=1) - 1) < 1e-2)).sum())
    if bad:
        problems.append(f"{bad} embeddings are not of unit length")
    if len(snapshot) != len(store):
        problems.append(f"the index holds {len(snapshot)} rows, the gallery {len(store)}")
    return problems


def _recall(store: LocalStore) -> float:
    snapshot = store.snapshot()
    positions = np.flatnonzero(snapshot.alive)
    if not len(positions):
        return 1.0
    picked = np.random.default_rng(1).choice(positions, min(QUERIES, len(positions)), replace=False)
    queries = snapshot.vectors(picked)
    expected, _ = replace(snapshot, ef_search=None).search(queries, 10)
    scores, _ = snapshot.search(queries, 10)
    return float((scores >= expected[:, -1:] - 1e-6).mean())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
