"""What a gallery of one machine is, and whether all of it is well."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fashion_infer.gallery import cache
from fashion_infer.gallery.local import LocalStore
from fashion_infer.gallery.match import META
from fashion_infer.gallery.store import Store
from fashion_infer.gallery.tables import FILE

QUERIES = 200  # rows that the index is tried with
RECALL = 0.99  # of their ten nearest, at least


def facts_about(store: Store) -> dict[str, Any]:
    """What a gallery holds and is bound to, in plain values."""
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


def check(store: LocalStore) -> tuple[list[str], float]:
    """Look for damage.

    Returns:
        What is wrong, in sentences, and the share of the ten nearest that a search finds, in [0, 1].
    """
    wrong: list[str] = []
    epoch = store.epoch
    with store.reading() as connection:
        problems = [text for (text,) in connection.execute("PRAGMA integrity_check(10)") if text != "ok"]
        wrong += [f"SQLite reports: {text}" for text in problems]
        for what, table, other in (("row", "rows", "vectors"), ("vector", "vectors", "rows")):
            (count,) = connection.execute(
                f"SELECT count(*) FROM {table}_{epoch} WHERE number NOT IN (SELECT number FROM {other}_{epoch})"
            ).fetchone()
            wrong += [f"{count} entries have a {what} and lack its counterpart among the {other}"] if count else []
        (count,) = connection.execute(
            f"SELECT count(*) FROM vectors_{epoch} WHERE length(vector) != ?", (2 * store.facts.dim,)
        ).fetchone()
        wrong += [f"{count} vectors do not have {store.facts.dim} numbers"] if count else []
    if wrong:
        return wrong, 0.0
    snapshot = store.snapshot()
    positions = np.flatnonzero(snapshot.alive)
    for start in range(0, len(positions), 10_000):
        vectors = snapshot.vectors(positions[start : start + 10_000])
        lengths = (vectors * vectors).sum(axis=1)
        bad = int((~(np.abs(lengths - 1) < 1e-2)).sum())
        wrong += [f"{bad} embeddings are not of unit length"] if bad else []
    if len(snapshot) != len(store):
        wrong.append(f"the index holds {len(snapshot)} rows, the gallery {len(store)}")
    recall = _recall(store)
    if recall < RECALL:
        wrong.append(f"the index finds {recall:.1%} of the ten nearest rows, fewer than {RECALL:.0%}")
    return wrong, recall


def _recall(store: LocalStore) -> float:
    snapshot = store.snapshot()
    positions = np.flatnonzero(snapshot.alive)
    if not len(positions):
        return 1.0
    picked = np.random.default_rng(1).choice(positions, min(QUERIES, len(positions)), replace=False)
    queries = snapshot.vectors(picked)
    expected, _ = replace(snapshot, ef_search=None).search(queries, 10)
    found, _ = snapshot.search(queries, 10)
    return float((found >= expected[:, -1:] - 1e-6).mean())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
