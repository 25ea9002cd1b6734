import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fashion_infer.evaluation import measures
from fashion_infer.evaluation.retrieval import (
    RETRIEVAL_KS,
    hit_rate,
    mean_average_precision,
    neighbour_agreement,
    retrieval_ranks,
)

NAN = float("nan")


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def retrieval_accuracy(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_items: np.ndarray,
    gallery_items: np.ndarray,
    ks: tuple[int, ...] = RETRIEVAL_KS,
) -> dict[int, float]:
    return hit_rate(retrieval_ranks(queries, gallery, query_items, gallery_items), ks)


def test_retrieval_by_hand() -> None:
    gallery = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    queries = np.array([[1, 0], [0.6, 0.8], [0, -1]], np.float32)
    items = np.array([7, 8, 9, 8])
    # The first query finds item 9 third; the second finds 8 first; item 5 is not in the gallery.
    accuracy = retrieval_accuracy(queries, gallery, np.array([9, 8, 5]), items, ks=(1, 2, 3, 100))
    assert accuracy == {
        1: pytest.approx(1 / 3),
        2: pytest.approx(1 / 3),
        3: pytest.approx(2 / 3),
        100: pytest.approx(2 / 3),
    }


def test_only_the_nearest_of_an_items_images_matters() -> None:
    gallery = np.array([[1.0], [2], [3], [4], [9]])
    for k, hit in ((1, 0.0), (2, 1.0)):
        assert retrieval_accuracy(np.zeros((1, 1)), gallery, np.array([1]), np.array([0, 1, 0, 0, 1]), ks=(k,)) == {
            k: hit
        }


def test_retrieval_without_queries_is_nan_and_without_gallery_a_miss() -> None:
    some, none, item = np.ones((1, 2)), np.zeros((0, 2)), np.array([3])
    np.testing.assert_equal(retrieval_accuracy(none, some, item[:0], item, ks=(1,)), {1: NAN})
    assert retrieval_accuracy(some, none, item, item[:0], ks=(1,)) == {1: 0}


def test_no_item_is_no_match() -> None:
    vectors = np.eye(2)
    assert retrieval_accuracy(vectors[:1], vectors, np.array([4]), np.array([-1, 4]), ks=(1, 2)) == {1: 0, 2: 1}


@pytest.mark.parametrize("length", [1, 64])
@pytest.mark.parametrize(("dim", "queries", "gallery"), [(256, 3, 5), (256, 1, 5000), (100, 2, 17), (64, 1, 1003)])
def test_a_collapsed_embedding_earns_nothing(dim: int, queries: int, gallery: int, length: int) -> None:
    # Equal vectors have products that differ in their last bit, by their place in the matrix.
    vector = random(dim).normal(size=dim).astype(np.float32)
    vector /= np.linalg.norm(vector)
    items = np.arange(gallery)
    accuracy = retrieval_accuracy(
        np.tile(length * vector, (queries, 1)),
        np.tile(vector, (gallery, 1)),
        items[:queries],
        items,
        ks=(1, gallery - 1, gallery),
    )
    assert accuracy == {1: 0, gallery - 1: 0, gallery: 1}


@pytest.mark.parametrize("unit", [True, False])
def test_retrieval_agrees_with_libraries(unit: bool) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    torch = pytest.importorskip("torch")
    hit_rate = pytest.importorskip("torchmetrics.functional.retrieval").retrieval_hit_rate
    vectors, items = random().normal(size=(260, 16)), random(1).integers(0, 30, 260)
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries, gallery = vectors[:60], vectors[60:]
    ours = retrieval_accuracy(queries, gallery, items[:60], items[60:], ks=(1, 5, 20))
    distances, nearest = neighbors.NearestNeighbors(n_neighbors=200).fit(gallery).kneighbors(queries)
    for k, share in ours.items():
        relevant = items[60:][nearest] == items[:60, None]
        assert share == pytest.approx(relevant[:, :k].any(axis=1).mean())
        theirs = [
            hit_rate(torch.from_numpy(-d), torch.from_numpy(r), top_k=k).item()
            for d, r in zip(distances, relevant, strict=True)
        ]
        assert share == pytest.approx(np.mean(theirs))


small_vectors = hnp.arrays(np.float32, (6, 3), elements=st.integers(-2, 2).map(float))
small_items = hnp.arrays(np.int32, 6, elements=st.integers(-1, 3))
query_items_of_six = hnp.arrays(np.int32, 6, elements=st.integers(0, 3))


@given(small_vectors, small_vectors, query_items_of_six, small_items, st.permutations(range(6)))
def test_retrieval_is_exact_with_ties_blind_to_order_and_grows_with_k(
    queries: np.ndarray, gallery: np.ndarray, query_items: np.ndarray, gallery_items: np.ndarray, order: list[int]
) -> None:
    ks = (1, 2, 3, 6)
    accuracy = retrieval_accuracy(queries, gallery, query_items, gallery_items, ks)
    np.testing.assert_equal(
        retrieval_accuracy(queries[order[::-1]], gallery[order], query_items[order[::-1]], gallery_items[order], ks),
        accuracy,
    )
    squares = np.square(queries[:, None] - gallery).sum(axis=2)
    ranks = [
        np.lexsort((items == item, row)).tolist()  # by distance; of equal ones the wrong ones first
        for row, item, items in zip(squares, query_items, [gallery_items] * 6, strict=True)
    ]
    for k, share in accuracy.items():
        hits = [item in gallery_items[rank[:k]] for rank, item in zip(ranks, query_items, strict=True)]
        assert share == sum(hits) / len(hits)
    assert not (np.diff(list(accuracy.values())) < 0).any()


@given(st.permutations(range(6)))
def test_perfect_embeddings_always_hit(items: list[int]) -> None:
    accuracy = retrieval_accuracy(np.eye(6)[items], np.eye(6), np.array(items), np.arange(6), ks=(1, 5))
    assert accuracy == {1: 1, 5: 1}


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, items = random().random((50, 5)), random(1).integers(0, 20, 50)
    whole = retrieval_ranks(vectors, vectors[::2], items, items[::2])
    agreement = neighbour_agreement(vectors, items % 3)
    monkeypatch.setattr(measures, "CHUNK", 100)  # 2 queries
    np.testing.assert_equal(retrieval_ranks(vectors, vectors[::2], items, items[::2]), whole)
    assert neighbour_agreement(vectors, items % 3) == agreement


def test_memory_stays_bounded() -> None:
    vectors, items = random().random((12_000, 16), dtype=np.float32), random(1).integers(0, 3000, 6000)
    tracemalloc.start()
    retrieval_ranks(vectors[:6000], vectors[6000:], items, items)  # all distances take 288 MB
    neighbour_agreement(vectors[:6000], items)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_a_narrow_cone_loses_nothing() -> None:
    """Float32 embeddings with a cosine of 0.9999 to each other are ranked in the same order as in float64."""
    rng = random(4)
    items = np.repeat(np.arange(100), 4)
    offsets = rng.normal(size=(100, 32))[items] + 1.2 * rng.normal(size=(400, 32))
    axis = np.zeros(32)
    axis[0] = 100 * 32**0.5 * 1.56
    vectors = axis + offsets
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    assert 0.99988 < (vectors @ vectors.T).mean() < 0.99999
    distances = np.linalg.norm(vectors[::4, None].astype(np.float64) - np.delete(vectors, np.s_[::4], 0), axis=2)
    nearest = np.delete(items, np.s_[::4])[distances.argsort(axis=1)]
    gallery = np.delete(vectors, np.s_[::4], 0), np.delete(items, np.s_[::4])
    accuracy = retrieval_accuracy(vectors[::4], gallery[0], items[::4], gallery[1], ks=(1, 10))
    for k, share in accuracy.items():
        assert share == pytest.approx((nearest[:, :k] == items[::4, None]).any(axis=1).mean(), abs=0.011)
    assert 0.2 < accuracy[1] < 0.9, "a test in which something can be lost"


def test_ranks_by_hand_and_what_follows_from_them() -> None:
    gallery = np.array([[1.0], [2], [3], [4], [5]])
    ranks = retrieval_ranks(np.zeros((2, 1)), gallery, np.array([1, 9]), np.array([0, 1, 0, 1, -1]))
    np.testing.assert_equal(ranks, [[2, 4], []])
    assert mean_average_precision(ranks[:1]) == (1 / 2 + 2 / 4) / 2
    assert mean_average_precision(ranks) == (1 / 2 + 2 / 4) / 4, "nothing to find is a miss"
    assert hit_rate(ranks, (1, 2)) == {1: 0, 2: 0.5}
    assert np.isnan(mean_average_precision([]))


def test_in_a_tie_every_wrong_image_comes_first() -> None:
    ranks = retrieval_ranks(np.zeros((1, 2)), np.ones((4, 2)), np.array([1]), np.array([1, 0, 1, 0]))
    np.testing.assert_equal(ranks, [[3, 4]])


def test_mean_average_precision_agrees_with_libraries() -> None:
    torch = pytest.importorskip("torch")
    retrieval_map = pytest.importorskip("torchmetrics.functional.retrieval").retrieval_average_precision
    average_precision_score = pytest.importorskip("sklearn.metrics").average_precision_score
    vectors, items = random().normal(size=(230, 16)), random(1).integers(0, 30, 230)
    queries, gallery = vectors[:30], vectors[30:]
    ranks = retrieval_ranks(queries, gallery, items[:30], items[30:])
    distances = np.linalg.norm(queries[:, None] - gallery, axis=2)
    relevant = items[30:] == items[:30, None]
    theirs = [
        retrieval_map(torch.from_numpy(1 / d), torch.from_numpy(r)).item()
        for d, r in zip(distances, relevant, strict=True)
    ]
    assert mean_average_precision(ranks) == pytest.approx(np.mean(theirs))
    plain = [average_precision_score(r, -d) if r.any() else 0 for d, r in zip(distances, relevant, strict=True)]
    assert mean_average_precision(ranks) == pytest.approx(np.mean(plain))


# ------------------------------------------------------------------------------------------------- neighbours


def test_neighbours_agree_with_scikit_learn() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    vectors, labels = random().normal(size=(80, 6)), random(1).integers(0, 4, 80)
    _, nearest = neighbors.NearestNeighbors(n_neighbors=11).fit(vectors).kneighbors(vectors)
    assert neighbour_agreement(vectors, labels) == pytest.approx((labels[nearest[:, 1:]] == labels[:, None]).mean())


def test_neighbours_of_the_same_source_and_without_a_label_are_passed_over() -> None:
    vectors = np.array([[0.0], [1], [2], [3], [4]])
    labels, sources = np.array([0, 0, 1, -1, 0]), np.array([7, 7, 8, 9, -1])
    first = np.array([True, False, False, False, False])
    assert neighbour_agreement(vectors, labels, queries=first, k=1) == 1, "image 1"
    assert neighbour_agreement(vectors, labels, sources, first, k=1) == 0, "image 1 is of the same sender, 2 is nearest"
    assert neighbour_agreement(vectors, labels, sources, first, k=2) == 1 / 2, "2 and 4; 3 has no label"
    assert neighbour_agreement(vectors, labels, sources, first, k=10) == 1 / 2, "of as many as there are"


def test_neighbours_of_a_collapsed_embedding_are_the_wrong_ones() -> None:
    vectors = np.tile(random().normal(size=64).astype(np.float32), (40, 1))
    assert neighbour_agreement(vectors, np.arange(40) % 2) == 0
    assert np.isnan(neighbour_agreement(vectors, np.full(40, -1)))


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: retrieval_ranks(zeros(3, 4), zeros(2, 5), zeros(3), zeros(2)),
            r"expected queries \[Q, D\], gallery \[G, D\].* got \(3, 4\), \(2, 5\), \(3,\), \(2,\)",
        ),
        (lambda: retrieval_ranks(zeros(3, 4), zeros(2, 4), zeros(2), zeros(2)), r"query_items \[Q\]"),
        (lambda: retrieval_ranks(zeros(3), zeros(3), zeros(3), zeros(3)), r"got \(3,\), \(3,\)"),
        (lambda: retrieval_ranks(zeros(1, 2), zeros(1, 2), np.array([-1]), zeros(1)), "every query to have an item"),
        (lambda: hit_rate([np.array([1])], ks=(0, 1)), "at least 1"),
        (
            lambda: retrieval_ranks(np.full((1, 2), NAN), zeros(1, 2), zeros(1), zeros(1)),
            "expected finite embeddings, got some with NaN or infinity",
        ),
        (lambda: neighbour_agreement(zeros(3, 2), zeros(2)), r"embeddings \[N, D\], labels \[N\]"),
        (lambda: neighbour_agreement(zeros(3, 2), zeros(3), k=0), "at least 1"),
    ],
)
def test_bad_input_says_what_was_expected_and_what_came(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
