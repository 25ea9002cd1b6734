"""Measure a gallery's speed and size beside plain faiss, numpy and Qdrant Edge on the same vectors.

    python benchmarks/gallery.py PHOTOS [--rows 100000 1000000] [-o benchmarks/results/gallery.json]

The vectors are embeddings of the photos. Each is copied and moved along the difference of two other photos' embeddings
until there are enough rows; so they vary as embeddings do, and not evenly in all directions. The queries are other such
copies. All engines answer the same queries in turn (A B A B), and the figures are p50 and p99 over all queries. Qdrant
Edge is measured if it is installed (pip install qdrant-edge-py).
"""

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp
from time import perf_counter
from typing import Any

import faiss
import numpy as np
import psutil
from numpy.typing import NDArray

from fashion_infer import Gallery, Predictor
from fashion_infer.bench.environment import environment, provenance
from fashion_infer.gallery import cache
from fashion_infer.gallery.filters import typed_filter
from fashion_infer.gallery.local import LocalStore
from fashion_infer.gallery.rows import Facts, Row
from fashion_infer.inputs import expand_paths

MODEL = "fashionnet-lite-int8"
MOVED = 0.35  # distance by which a unit vector is moved; a copy's cosine to its photo is then about 0.94
QUERIES, LIMIT = 300, 10
CHUNK = 500  # rows per write
Vectors = NDArray[np.float32]


def moved_copies(embeddings: Vectors, count: int, seed: int) -> Vectors:
    """Copy embeddings, each moved along the difference of two others: [count, D] of unit length."""
    random = np.random.default_rng(seed)
    rows, one, other = (embeddings[random.integers(0, len(embeddings), count)] for _ in range(3))
    difference = one - other + 1e-6  # the two may be the same row
    rows = rows + MOVED * difference / np.linalg.norm(difference, axis=1, keepdims=True)
    result: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return result


def rows_of(vectors: Vectors) -> Iterator[list[Row]]:
    """Yield rows with plausible payloads in chunks of `CHUNK`."""
    random = np.random.default_rng(1)
    for start in range(0, len(vectors), CHUNK):
        part = vectors[start : start + CHUNK].astype(np.float16)
        prices = random.integers(0, 1000, len(part))
        yield [
            Row(
                id=(id := f"photos/{start + i}.jpg"),
                record=id,
                path=id,
                asked=None,
                box=(0.0, 0.0, 400.0, 500.0),
                is_garment=0.9,
                category="Dress",
                category_score=0.8,
                attributes=["floral", "cotton"],
                colors=None,
                landmarks=np.zeros((8, 4), np.float32),
                content_hash=f"{start + i:064}",
                vector=vector,
                columns={"price": int(price), "item": f"i{(start + i) // 4}"},
            )
            for i, (vector, price) in enumerate(zip(part, prices, strict=True))
        ]


def times(engines: dict[str, Callable[[Vectors], object]], queries: Vectors) -> dict[str, dict[str, float]]:
    """Measure p50 and p99 of each engine in milliseconds; the engines take turns for each query.

    The order of the turns is random, since the caches and threads that one engine leaves behind slow the next.
    """
    samples: dict[str, list[float]] = {name: [] for name in engines}
    order, random = list(engines), np.random.default_rng(0)
    for query in queries:
        random.shuffle(order)
        for name in order:
            start = perf_counter()
            engines[name](query[None])
            samples[name].append((perf_counter() - start) * 1e3)
    return {
        name: {"p50_ms": float(np.median(times_ms)), "p99_ms": float(np.percentile(times_ms, 99))}
        for name, times_ms in samples.items()
    }


def recall(expected: Vectors, scores: Vectors) -> float:
    """Compute the share of the ten nearest that a search returned, compared by score since equal scores may swap."""
    return float((scores >= expected[:, -1:] - 1e-6).mean())


def measure(vectors: Vectors, queries: Vectors, folder: Path) -> dict[str, Any]:
    """Write a gallery of these vectors, and time it beside the other engines."""
    facts = Facts("benchmark", vectors.shape[1], MODEL, "")
    process = psutil.Process()
    store = LocalStore(folder, facts)
    start = perf_counter()
    with store.writing():
        for rows in rows_of(vectors):
            store.write([], rows)
    written = perf_counter() - start
    start = perf_counter()
    with store.writing():
        store.settle(wait=True)
    result: dict[str, Any] = {
        "rows": len(vectors),
        "rows_per_s_written": len(vectors) / written,
        "index_s": perf_counter() - start,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }
    store.close()
    before = process.memory_info().rss
    start = perf_counter()
    store = LocalStore(folder)
    store.nearest(queries[:1], LIMIT, None)
    result["open_s"] = perf_counter() - start
    price = typed_filter("price<10", store.kinds)
    store.nearest(queries[:1], LIMIT, price)  # reads the column
    result["times"], result["recall"] = _beside(store, vectors, queries, price)
    result["resident_mb"] = (process.memory_info().rss - before) / 1e6
    store.close()
    return result


def _beside(store: LocalStore, vectors: Vectors, queries: Vectors, price: Any) -> tuple[Any, Any]:
    flat = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    flat.add(vectors)
    expected, _ = flat.search(queries, LIMIT)
    engines: dict[str, Callable[[Vectors], object]] = {
        "gallery, exact": lambda query: store.nearest(query, LIMIT, None, exact=True),
        "faiss, flat float16": lambda query: flat.search(query, LIMIT),
        "gallery, filtered to 1 %": lambda query: store.nearest(query, LIMIT, price),
        "numpy": lambda query: np.argpartition(-(vectors @ query[0]), LIMIT)[:LIMIT],
    }
    recalls = {}
    snapshot = store.snapshot()
    if snapshot.has_graph():
        graph = snapshot.parts[0].index
        parameters = faiss.SearchParametersHNSW(efSearch=snapshot.ef_search or 64)
        engines["gallery, indexed"] = lambda query: store.nearest(query, LIMIT, None)
        engines["faiss, HNSW"] = lambda query: graph.search(query, LIMIT, params=parameters)
        neighbours = store.nearest(queries, LIMIT, None).candidates
        recalls["gallery, indexed"] = recall(
            expected, np.array([[score for score, _ in c] for c in neighbours], np.float32)
        )
    if edge := _qdrant_edge(vectors):
        engines["Qdrant Edge"] = edge
    return times(engines, queries), recalls


def _qdrant_edge(vectors: Vectors) -> Callable[[Vectors], object] | None:
    """Return a search function of Qdrant's embedded engine; None if it is not installed."""
    try:
        import qdrant_edge as edge
    except ImportError:
        return None
    folder = Path(mkdtemp(prefix="edge-"))
    parameters = edge.EdgeVectorParams(size=vectors.shape[1], distance=edge.Distance.Dot)
    shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors={"": parameters}))
    for start in range(0, len(vectors), 1000):
        points = [edge.Point(start + i, row.tolist(), {}) for i, row in enumerate(vectors[start : start + 1000])]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.optimize()
    return lambda query: shard.query(edge.QueryRequest(query=edge.Query.Nearest(query[0].tolist()), limit=LIMIT))


def measure_adding(photos: list[str], folder: Path) -> dict[str, float]:
    """Measure photos per second of `predictor.stream` alone and of adding the same photos, in turn."""
    seconds: dict[str, list[float]] = {"stream": [], "add": []}
    with Predictor(MODEL) as predictor:
        list(predictor.stream(photos[:64]))
        for turn in range(2):
            start = perf_counter()
            for _ in predictor.stream(photos):
                pass
            seconds["stream"].append(perf_counter() - start)
            start = perf_counter()
            with Gallery(folder / f"adding{turn}", predictor) as gallery:
                gallery.add(photos)
            seconds["add"].append(perf_counter() - start)
    rates = {name: len(photos) / float(np.median(durations)) for name, durations in seconds.items()}
    return {**rates, "share": rates["add"] / rates["stream"]}


def measure_searching(photos: list[str], embeddings: Vectors, rows: int, folder: Path) -> dict[str, float]:
    """Measure `predict` of a photo, and a search for a photo in a gallery of `rows` rows, in turn: p50 in ms."""
    samples: dict[str, list[float]] = {"predict": [], "search": []}
    images = [Path(photo).read_bytes() for photo in photos[:200]]
    with Predictor(MODEL) as predictor:
        store = LocalStore(folder, Facts(predictor.spec.embedding_space, embeddings.shape[1], MODEL, ""))
        with store.writing():
            for part in rows_of(moved_copies(embeddings, rows, seed=rows)):
                store.write([], part)
            store.settle(wait=True)
        store.close()
        with Gallery(folder, predictor) as gallery:
            gallery.search(images[0])
            for image in images:
                for name, call in (("predict", predictor.predict), ("search", gallery.search)):
                    start = perf_counter()
                    call(image)
                    samples[name].append((perf_counter() - start) * 1e3)
    predict_ms, search_ms = (float(np.median(samples[name])) for name in ("predict", "search"))
    return {"rows": rows, "predict_p50_ms": predict_ms, "search_p50_ms": search_ms}


def print_table(result: dict[str, Any]) -> None:
    """Print the results as text."""
    adding = result["adding"]
    print(f"adding: {adding['add']:.0f} photos/s, {adding['share']:.1%} of the {adding['stream']:.0f} of stream alone")
    searching = result["searching"]
    print(
        f"searching {searching['rows']:,} rows for a photo: p50 {searching['search_p50_ms']:.1f} ms, "
        f"its predict alone {searching['predict_p50_ms']:.1f} ms"
    )
    for size in result["sizes"]:
        written = f"written at {size['rows_per_s_written']:,.0f}/s, {size['bytes'] / 1e6:.0f} MB on disk"
        opened = f"opened in {size['open_s']:.2f} s, {size['resident_mb']:.0f} MB resident"
        print(f"\n{size['rows']:,} rows: {written}, indexed in {size['index_s']:.1f} s, {opened}")
        for name, figures in size["times"].items():
            share = size["recall"].get(name)
            note = "" if share is None else f"  recall@10 {share:.4f}"
            print(f"  {name:26} p50 {figures['p50_ms']:8.2f} ms  p99 {figures['p99_ms']:8.2f} ms{note}")


def main() -> None:
    """Run all measurements, print them, and write JSON to the file of -o."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--embedded", type=int, default=2000, help="most photos to compute embeddings of")
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    photos = expand_paths([str(options.photos)])[: options.embedded]
    folder = Path(mkdtemp(prefix="gallery-benchmark-"))
    try:
        with Predictor(MODEL) as predictor:
            predictions = [prediction for prediction in predictor.stream(photos) if prediction.error is None]
        embeddings = np.stack([prediction.embedding for prediction in predictions])
        queries = moved_copies(embeddings, options.queries, seed=99)
        result = {
            "provenance": provenance(),
            "model": MODEL,
            "threads": len(os.sched_getaffinity(0)),
            "graph_from_rows": cache.HNSW_FROM,
            "environment": environment(),
            "adding": measure_adding(photos, folder),
            "searching": measure_searching(photos, embeddings, options.rows[0], folder / "searching"),
            "sizes": [
                measure(moved_copies(embeddings, rows, seed=rows), queries, folder / str(rows)) for rows in options.rows
            ],
        }
    finally:
        shutil.rmtree(folder)
    print_table(result)
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
