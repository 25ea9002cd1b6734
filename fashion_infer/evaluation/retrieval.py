"""Measures of an embedding: the ranks of the right images in a gallery, and the labels of neighbours.

Distances are Euclidean, computed in float64 after the gallery's mean was subtracted. That changes no distance, but it
preserves the small differences of embeddings that all point in nearly the same direction. Distances that float32 cannot
tell apart count as a tie, and in a tie the wrong images are ranked first, so that ties never help.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fashion_infer.evaluation.measures import Floats, Ints, check, chunks, sure_hits

RETRIEVAL_KS = (1, 5, 10, 20, 30, 40, 50)
NEIGHBOURS = 10
TIE = 5e-7  # four times float32's precision: the effect of rounded inputs on half a squared distance


def retrieval_ranks(
    queries: Floats, gallery: Floats, query_items: Ints, gallery_items: Ints
) -> list[NDArray[np.int64]]:
    """Rank the whole gallery for each query, nearest first, and return the ranks of the images of the query's item.

    Every measure of retrieval is computed from these ranks, see `hit_rate` and `mean_average_precision`. No query may
    be in the gallery.

    Args:
        queries: [Q, D] embeddings of the queries.
        gallery: [G, D] embeddings of the gallery.
        query_items: [Q] item of each query, from 0.
        gallery_items: [G] item of each image in the gallery, from 0, or -1 for none.

    Returns:
        Q arrays of ascending ranks from 1; an array is empty if the query's item is not in the gallery.

    Raises:
        ValueError: the shapes do not fit together, a query has no item, or an embedding is not finite.
    """
    arrays = queries, gallery, query_items, gallery_items
    fits = queries.ndim == gallery.ndim == 2 and queries.shape[1] == gallery.shape[1]
    fits = fits and query_items.shape == queries.shape[:1] and gallery_items.shape == gallery.shape[:1]
    check(fits, "queries [Q, D], gallery [G, D], query_items [Q] and gallery_items [G]", *arrays)
    if query_items.size and query_items.min() < 0:
        raise ValueError(f"expected every query to have an item, got one of {query_items.min()}")
    left, right, tie = _centred(queries, gallery)
    places = {item: np.flatnonzero(gallery_items == item) for item in np.unique(query_items).tolist()}
    ranks: list[NDArray[np.int64]] = []
    for rows in chunks(len(left), 2 * len(right)):
        for closeness, item in zip(_closeness(left[rows], right), query_items[rows].tolist(), strict=True):
            members = places[item]
            levels = np.sort(closeness[members])[::-1]
            closeness[members] = -np.inf
            wrong = [np.count_nonzero(closeness >= level - tie) for level in levels]
            ranks.append(np.array(wrong, np.int64) + np.arange(1, len(members) + 1))
    return ranks


def hit_rate(ranks: Sequence[Ints], ks: Sequence[int] = RETRIEVAL_KS) -> dict[int, float]:
    """hit@k: the share of the queries with an image of their item among the k nearest; NaN without queries.

    Args:
        ranks: result of `retrieval_ranks`; a query whose item is not in the gallery is a miss.
        ks: values of k, each at least 1.

    Returns:
        {k: share}.

    Raises:
        ValueError: a k is below 1.
    """
    check(True, "", ks=ks)
    best = np.array([item_ranks[0] if len(item_ranks) else np.inf for item_ranks in ranks])
    return {k: float((best <= k).mean()) if len(best) else math.nan for k in ks}


def mean_average_precision(ranks: Sequence[Ints]) -> float:
    """Mean over the queries of their average precision over the whole gallery (mAP); NaN without queries.

    The average precision of a query is the mean of i / rank over the images of its item, where i counts them from 1 in
    the order of their ranks. It is 0 if the gallery has none.

    Args:
        ranks: result of `retrieval_ranks`.
    """
    precisions = [float((np.arange(1, len(r) + 1) / r).mean()) if len(r) else 0.0 for r in ranks]
    return float(np.mean(precisions)) if precisions else math.nan


def neighbour_agreement(
    embeddings: Floats,
    labels: Ints,
    sources: Ints | None = None,
    queries: NDArray[np.bool_] | None = None,
    k: int = NEIGHBOURS,
) -> float:
    """Mean share of the k nearest neighbours of an image that have its label; NaN without images.

    Neither the image itself nor images of the same source (the sender of the photo, its shop) count as neighbours,
    because photos from one source look similar for reasons that have nothing to do with the garment.

    Args:
        embeddings: [N, D].
        labels: [N] from 0; images with -1 are left out.
        sources: [N] from 0, or -1 if unknown; None if all are unknown.
        queries: bool [N], the images whose neighbours are counted; None for all.
        k: number of neighbours, at least 1.

    Raises:
        ValueError: the shapes do not fit together, an embedding is not finite, or k is below 1.
    """
    sources = np.full(len(labels), -1) if sources is None else sources
    queries = np.ones(len(labels), np.bool_) if queries is None else queries
    fits = embeddings.ndim == 2 and labels.shape == sources.shape == queries.shape == embeddings.shape[:1]
    expected = "embeddings [N, D], labels [N], sources [N] and queries [N]"
    check(fits, expected, embeddings, labels, sources, queries, ks=(k,))
    members = np.flatnonzero(labels >= 0)
    query_rows = np.flatnonzero(queries & (labels >= 0))
    left, right, tie = _centred(embeddings[query_rows], embeddings[members])
    shares: list[float] = []
    for chunk in chunks(len(query_rows), 4 * len(members)):
        rows = query_rows[chunk]
        same_source = (sources[rows, None] >= 0) & (sources[rows, None] == sources[members])
        others = (rows[:, None] != members) & ~same_source
        levels = np.where(others, np.floor(_closeness(left[chunk], right) / max(tie, 1e-300)), -np.inf)
        same_label = (labels[rows, None] == labels[members]) & others
        for level, positive, count in zip(levels, same_label, others.sum(axis=1).tolist(), strict=True):
            if count:
                shares.append(sure_hits(level[None], positive[None], k) / min(k, count))
    return float(np.mean(shares)) if shares else math.nan


def _centred(queries: Floats, gallery: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Queries and gallery minus the gallery's mean, and the difference in closeness below which they tie."""
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise ValueError("expected finite embeddings, got some with NaN or infinity")
    mean = gallery.mean(axis=0, dtype=np.float64) if len(gallery) else 0.0
    left, right = queries - mean, gallery - mean
    length, radius = (max(_longest(a), _longest(b)) for a, b in ((queries, gallery), (left, right)))
    return left, right, TIE * length * radius


def _longest(vectors: Floats) -> float:
    return float(np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1).max(initial=0)))


def _closeness(queries: NDArray[np.float64], gallery: NDArray[np.float64]) -> NDArray[np.float64]:
    """(|query|^2 - distance^2) / 2 as [Q, G]: in a row, the nearest image of the gallery has the highest value."""
    closeness: NDArray[np.float64] = queries @ gallery.T - np.square(gallery).sum(axis=1) / 2
    return closeness
