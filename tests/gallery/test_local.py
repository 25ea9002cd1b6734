import json
import threading
from collections.abc import Callable
from time import perf_counter

import numpy as np
import pytest

from fashion_infer.gallery import cache
from fashion_infer.gallery.filters import typed_filter
from fashion_infer.gallery.index import advance
from fashion_infer.gallery.local import LocalStore
from tests.gallery.conftest import FACTS, row, vectors

Fill = Callable[..., LocalStore]


def nearest_ids(
    store: LocalStore, count: int, where: str | None = None, *, query: int = 3, exact: bool = False
) -> list[str]:
    queries = vectors(500)[query : query + 1].astype(np.float32)
    result = store.nearest(queries, count, typed_filter(where, store.kinds), exact=exact)
    return [r.id for _, r in result.candidates[0]]


def expected_ids(
    store: LocalStore, count: int, keep: Callable[[int], bool] = lambda i: True, query: int = 3
) -> list[str]:
    """By numpy, in float64, ties by id."""
    rows = [r for r in store if keep(int(r.id[1:]))]
    scores = np.stack([r.vector for r in rows]).astype(np.float64) @ vectors(500)[query].astype(np.float64)
    order = sorted(range(len(rows)), key=lambda i: (-round(float(scores[i]), 6), rows[i].id))
    return [rows[i].id for i in order[:count]]


def test_the_nearest_are_numpys(filled: Fill) -> None:
    store = filled(500)
    assert nearest_ids(store, 10) == expected_ids(store, 10)
    assert nearest_ids(store, 600) == expected_ids(store, 600)


@pytest.mark.parametrize(("where", "keep"), [("n=7", 100), ("n<500 and n=7", 100), ("n in (7, 8)", 50)])
def test_a_filter_gives_limit_rows_where_there_are_that_many(filled: Fill, where: str, keep: int) -> None:
    store = filled(500, lambda i: {"n": i % 100})
    numbers = {7} if keep == 100 else {7, 8}
    ids = nearest_ids(store, 5, where)
    assert ids == expected_ids(store, 5, lambda i: i % 100 in numbers)
    assert len(ids) == 5


@pytest.mark.parametrize("share", [0.01, 0.001])
def test_rare_rows_are_found_as_by_numpy(store: LocalStore, share: float) -> None:
    count, step = 5000, round(1 / share)
    made = vectors(count)
    rows = [row(f"r{i}", made[i], columns={"rare": i % step == 0}) for i in range(count)]
    with store.writing():
        store.write([], rows)
    result = store.nearest(made[3:4].astype(np.float32), 5, typed_filter("rare=true", store.kinds))
    rare = np.arange(0, count, step)
    scores = made[rare].astype(np.float64) @ made[3].astype(np.float64)
    assert [r.id for _, r in result.candidates[0]] == [f"r{rare[i]}" for i in np.argsort(-scores)[:5]]
    assert result.searched == len(rare)
    assert result.exact


def test_ties_are_broken_by_id(store: LocalStore) -> None:
    same = vectors(1)[0]
    rows = [row(f"r{i:02}", same) for i in range(40)]
    with store.writing():
        store.write([], rows[::-1])
    candidates = store.nearest(same[None].astype(np.float32), 5, None).candidates[0]
    assert [r.id for _, r in candidates] == ["r00", "r01", "r02", "r03", "r04"]
    assert all(-1 <= score <= 1 for score, _ in candidates)


def test_rows_written_and_removed_later_are_seen(filled: Fill) -> None:
    store = filled(200)
    assert store.snapshot().cached == 200
    made = vectors(300, seed=9)
    with store.writing():
        store.write([], [row(f"r{i}", made[i]) for i in range(200, 300)])
        assert store.remove([f"r{i:03}" for i in range(0, 100, 2)]) == 50
        store.write(["r001"], [row("r001", made[0])])
    assert len(store) == 250
    assert nearest_ids(store, 20) == expected_ids(store, 20)
    other = LocalStore(store.folder)
    assert nearest_ids(other, 20) == nearest_ids(store, 20)
    other.close()


def test_another_store_notices_what_is_written(filled: Fill) -> None:
    store = filled(50)
    reader = LocalStore(store.folder)
    assert len(reader.nearest(vectors(1).astype(np.float32), 99, None).candidates[0]) == 50
    with store.writing():
        store.write([], [row("x1", vectors(1)[0], columns={"price": 3})])
    assert len(reader.nearest(vectors(1).astype(np.float32), 99, None).candidates[0]) == 51
    assert reader.count(typed_filter("price=3", reader.kinds)) == 1
    reader.close()


def test_a_filter_sees_rows_that_came_after_it_was_first_used(filled: Fill) -> None:
    store = filled(50, lambda i: {"price": i})
    assert store.count(typed_filter("price<10", store.kinds)) == 10
    with store.writing():
        store.write([], [row("x1", vectors(1)[0], columns={"price": 2.5})])
        store.remove(["r000"])
    assert store.count(typed_filter("price<10", store.kinds)) == 10
    assert store.count(typed_filter("price=2.5", store.kinds)) == 1


@pytest.mark.parametrize("damage", ["truncate", "about", "numbers", "delete"])
def test_a_damaged_or_missing_cache_is_built_again(filled: Fill, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    store = filled(100)
    before = nearest_ids(store, 10)
    (folder,) = cache.folder_of(store).iterdir()
    vectors_file = folder / "vectors.faiss"
    match damage:
        case "truncate":
            vectors_file.write_bytes(vectors_file.read_bytes()[:-100])
        case "about":
            (folder / "about.json").write_text("{")
        case "numbers":
            np.save(folder / "numbers.npy", np.arange(3))
        case "delete":
            vectors_file.unlink()
    reader = LocalStore(store.folder)
    assert nearest_ids(reader, 10) == before
    assert "is damaged, it is built again" in caplog.text
    with reader.writing():
        reader.settle()
    assert reader.snapshot().cached == 100
    reader.close()


def test_a_cache_is_built_when_enough_is_newer(filled: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "NEWER", 20)
    store = filled(100)
    made = vectors(30, seed=5)
    for start in (0, 15):
        with store.writing():
            store.write([], [row(f"x{i}", made[i]) for i in range(start, start + 15)])
            store.settle()
        assert store.snapshot().cached == (100 if start == 0 else 130)
    assert len(list(cache.folder_of(store).iterdir())) == 1


def test_a_graph_finds_what_a_scan_finds(filled: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "HNSW_FROM", 1000)
    monkeypatch.setattr(cache, "NEWER", 100)
    store = filled(2000)
    snapshot = store.snapshot()
    assert snapshot.ef_search is not None
    queries = vectors(200, seed=0).astype(np.float32)
    by_graph, by_scan = store.nearest(queries, 10, None), store.nearest(queries, 10, None, exact=True)
    assert (by_graph.exact, by_scan.exact) == (False, True)
    hits = [
        len({r.id for _, r in a} & {r.id for _, r in b})
        for a, b in zip(by_graph.candidates, by_scan.candidates, strict=True)
    ]
    assert np.mean(hits) >= 9.9
    # new rows are scanned until the graph has them, removed ones left out at once
    with store.writing():
        store.write([], [row("new", vectors(500)[3])])
        store.remove(["r003"])
    ids = nearest_ids(store, 5)
    assert ids[0] == "new"
    assert "r003" not in ids
    made = vectors(400, seed=5)
    with store.writing():
        store.write([], [row(f"x{i}", made[i]) for i in range(400)])
        store.settle(wait=True)
    grown = store.snapshot()
    assert grown.cached == 2401  # extended: the removed row is still in it, and dead
    assert (len(grown), grown.ef_search is not None) == (2400, True)
    assert "r003" not in nearest_ids(store, 5)
    reader = LocalStore(store.folder)
    assert nearest_ids(reader, 5) == nearest_ids(store, 5)
    reader.close()


def test_other_threads_run_during_a_scan(store: LocalStore) -> None:
    made = vectors(40_000, dim=16)
    with store.writing():
        store.write([], [row(f"r{i}", made[i]) for i in range(len(made))])
    snapshot = store.snapshot()
    queries = np.repeat(made[:500], 4, axis=0).astype(np.float32)
    steps, running = 0, True

    def count() -> None:
        nonlocal steps
        while running:
            steps += 1

    thread = threading.Thread(target=count)
    thread.start()
    start = perf_counter()
    snapshot.search(queries, 10)
    seconds, counted = perf_counter() - start, steps
    running = False
    thread.join()
    # held, the counter would get one switch at most; 5 ms is the interpreter's own interval
    assert counted > 100 * seconds / 0.005


def test_a_snapshot_does_not_change(filled: Fill) -> None:
    store = filled(50)
    before = store.snapshot()
    with store.writing():
        store.remove(["r000"])
    after = store.snapshot()
    assert (len(before), len(after)) == (50, 49)
    assert len(advance(before, store)) == 49


def test_what_a_killed_build_left_is_removed(filled: Fill) -> None:
    store = filled(20)
    leftover = cache.folder_of(store) / ".abc.999999999.tmp"
    leftover.mkdir()
    old = cache.folder_of(store) / "7-1-20"
    old.mkdir()
    with store.writing():
        store.settle()
    assert not leftover.exists()
    assert not old.exists()


def test_a_sample_is_spread_over_the_rows(filled: Fill) -> None:
    store = filled(100)
    assert [r.id for r in store.sample(3)] == ["r000", "r050", "r099"]
    assert len(store.sample(1000)) == 100


def test_kinds_are_kept_with_the_rows(filled: Fill) -> None:
    store = filled(3, lambda i: {"n": i, "x": i / 2, "ok": True, "tags": ["a"]})
    reader = LocalStore(store.folder)
    assert reader.kinds == {"n": "int", "x": "float", "ok": "bool", "tags": "list"}
    assert reader.get(["r001"])[0].columns == {"n": 1, "x": 0.5, "ok": True, "tags": ["a"]}
    assert json.dumps(reader.get(["r001"])[0].payload())
    reader.close()
    assert FACTS.space == store.facts.space


def test_floats_are_compared_to_the_last_bit(store: LocalStore) -> None:
    values = [0.1 + 0.2, 0.3, 1e-300, 5e-324, 1.7976931348623157e308, 123456789.12345679]
    made = vectors(len(values))
    with store.writing():
        store.write([], [row(f"r{i}", made[i], columns={"x": value}) for i, value in enumerate(values)])
    for value in values:
        assert store.count(typed_filter({"x": value}, store.kinds)) == 1
        assert store.count(typed_filter({"x": {"lte": value}}, store.kinds)) == sum(v <= value for v in values)
