"""The measures of the DeepFashion paper (Liu et al., CVPR 2016), as functions of arrays.

They do not know where the numbers came from, so that a checkpoint, an ONNX file and an engine are judged alike. All
shares are in [0, 1]; a share of nothing is NaN. Ties never help: a wrong answer that scores exactly as high as a right
one is ranked before it, so that a network that says the same of everything earns nothing. A NaN score is a miss, and
so is -inf, the score of a class that the network does not have.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion_infer.model_spec import LANDMARK_NAMES

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Metrics = dict[str, float | int | list[float | None] | None]

VISIBLE = 0  # of 0 visible, 1 occluded, 2 truncated, -1 absent
CATEGORY_KS = (1, 3, 5)
ATTRIBUTE_KS = (3, 5)
RETRIEVAL_KS = (1, 5, 10, 20, 30, 40, 50)
PDL_SIDE = 512  # pixels of the square image that distances are stated in
PDL_DISTANCE = 35  # pixels; the paper's one point of the curve
CHUNK = 1 << 22  # elements of one temporary array
TIE = 1e-6  # of the largest squared length: what float32 cannot tell apart

# FashionNet's own row of the paper's tables, by benchmark; the keys are those of `Evaluation.to_dict`.
PUBLISHED: dict[str, dict[str, float]] = {
    "category": {
        "category_top3": 0.8258, "category_top5": 0.9017,
        "attribute_recall3_texture": 0.3746, "attribute_recall5_texture": 0.4952,
        "attribute_recall3_fabric": 0.3930, "attribute_recall5_fabric": 0.4984,
        "attribute_recall3_shape": 0.3947, "attribute_recall5_shape": 0.4859,
        "attribute_recall3_part": 0.4413, "attribute_recall5_part": 0.5402,
        "attribute_recall3_style": 0.6643, "attribute_recall5_style": 0.7316,
        "attribute_recall3_all": 0.4552, "attribute_recall5_all": 0.5461,
        "landmark_error": 0.0872,
    },
    "landmarks": {"landmark_error": 0.0859},
    "in_shop": {"retrieval_hit1": 0.53, "retrieval_hit10": 0.73, "retrieval_hit20": 0.76, "retrieval_hit50": 0.80},
    "consumer_to_shop": {"retrieval_hit20": 0.188},
}  # fmt: skip


def category_accuracy(probabilities: Floats, labels: Ints, ks: Sequence[int] = CATEGORY_KS) -> dict[int, float]:
    """Share of the labelled images whose category is among the k that score highest, for each k.

    Args:
        probabilities: [N, C]; any scores that rank alike.
        labels: [N], from 0; images of -1 are left out.
        ks: each at least 1; where C is no more than k, all are hits.

    Raises:
        ValueError: shapes that do not fit together, a label outside -1 to C - 1, or a k below 1.
    """
    fits = probabilities.ndim == 2 and labels.shape == probabilities.shape[:1]
    _check(fits, "probabilities [N, C] and labels [N]", probabilities, labels, ks=ks)
    classes = probabilities.shape[1]
    if labels.size and not -1 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"expected labels from -1 to {classes - 1}, got {labels.min()} to {labels.max()}")
    rows, columns = np.flatnonzero(labels >= 0), np.arange(classes)
    return _recall(probabilities[rows], labels[rows, None] == columns, columns, ks)


def attribute_recall(
    scores: Floats, labels: Ints, groups: Sequence[str], ks: Sequence[int] = ATTRIBUTE_KS
) -> dict[str, dict[int, float]]:
    """Share of all positive labels that are among their image's k highest scores: of the group, then of all attributes.

    Unknown attributes take part in the ranking, but are not positives.

    Args:
        scores: [N, A]; any scores that rank alike.
        labels: [N, A] of 1 positive, 0 unknown, -1 negative.
        groups: the group of each attribute, A long; "all" is not a group's name.
        ks: each at least 1.

    Returns:
        {group: {k: recall}}, the groups in order of appearance, then "all"; NaN for a group without positives.

    Raises:
        ValueError: shapes that do not fit together, a group named "all", or a k below 1.
    """
    fits = scores.ndim == 2 and labels.shape == scores.shape and len(groups) == scores.shape[1]
    _check(fits, "scores [N, A], labels [N, A] and groups [A]", scores, labels, np.array(groups), ks=ks)
    if "all" in groups:
        raise ValueError('expected no group named "all", which stands for all attributes together')
    columns = {name: np.flatnonzero([group == name for group in groups]) for name in dict.fromkeys(groups)}
    columns["all"] = np.arange(len(groups))
    return {name: _recall(scores, labels, members, ks) for name, members in columns.items()}


@dataclass(frozen=True, eq=False)
class LandmarkError:
    """Normalised error (NE) of the visible landmarks, in shares of the image's sides."""

    per_landmark: NDArray[np.float64]  # [8], the mean distance of each; NaN where none is visible
    mean: float  # over the landmarks of which any is visible; NaN without one
    counts: NDArray[np.int64]  # [8], how many are visible


def landmark_error(predicted: Floats, true: Floats, visibility: Ints) -> LandmarkError:
    """Mean distance of each landmark, over the images in which it is visible, and the mean of these means.

    Args:
        predicted: [N, 8, 2] as (x, y), divided by the image's width and height.
        true: likewise; what is not visible is not read.
        visibility: [N, 8] of 0 visible, 1 occluded, 2 truncated, -1 absent.

    Raises:
        ValueError: shapes that do not fit together.
    """
    distances = _distances(predicted, true, visibility)
    visible = visibility == VISIBLE
    counts = visible.sum(axis=0, dtype=np.int64)
    sums = np.where(visible, distances, 0).sum(axis=0)
    per_landmark = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    mean = float(per_landmark[counts > 0].mean()) if counts.any() else math.nan
    return LandmarkError(per_landmark, mean, counts)


def pdl_curve(
    predicted: Floats, true: Floats, visibility: Ints, distances: ArrayLike = range(101)
) -> NDArray[np.float64]:
    """Percentage of detected landmarks: the share of all visible ones that lie within each distance of the truth.

    The first three arguments and the errors are those of `landmark_error`; `distances` are [D] pixels of an image of
    512 x 512, and a landmark at the very distance counts. Given [35], it is the paper's single number.

    Returns:
        float64 [D], NaN where no landmark is visible.
    """
    pixels = np.sort(PDL_SIDE * _distances(predicted, true, visibility)[visibility == VISIBLE])  # NaN comes last
    within = np.searchsorted(pixels, np.asarray(distances, np.float64), side="right")
    return within / len(pixels) if len(pixels) else np.full(within.shape, np.nan)


def retrieval_accuracy(
    queries: Floats, gallery: Floats, query_items: Ints, gallery_items: Ints, ks: Sequence[int] = RETRIEVAL_KS
) -> dict[int, float]:
    """Share of the queries with an image of their item among the k nearest of the gallery, by Euclidean distance.

    A query whose item is not in the gallery is a miss; one of item -1, which is no item, is left out. No query may be
    in the gallery itself. Lengths need not be 1, but of one order of magnitude: squared distances closer than 2e-6 of
    the largest squared length are a tie.

    Args:
        queries: [Q, D].
        gallery: [G, D].
        query_items: [Q], from 0, or -1.
        gallery_items: [G], likewise.
        ks: each at least 1.

    Raises:
        ValueError: shapes that do not fit together, embeddings that are not finite, or a k below 1.
    """
    arrays = queries, gallery, query_items, gallery_items
    fits = queries.ndim == gallery.ndim == 2 and queries.shape[1] == gallery.shape[1]
    fits = fits and query_items.shape == queries.shape[:1] and gallery_items.shape == gallery.shape[:1]
    _check(fits, "queries [Q, D], gallery [G, D], query_items [Q] and gallery_items [G]", *arrays, ks=ks)
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise ValueError("expected finite embeddings, got some with NaN or infinity")
    known = query_items >= 0
    nearer = _wrong_and_nearer(queries[known], gallery, query_items[known], gallery_items)
    return {k: float((nearer < k).mean()) if nearer.size else math.nan for k in ks}


@dataclass(frozen=True, eq=False)
class Labels:
    """What is true of N images; a column without a label (of the attributes, without a 1) is not evaluated."""

    categories: Ints  # [N] from 0, or -1
    attributes: Ints  # [N, A] 1 positive, 0 unknown, -1 negative
    attribute_groups: Sequence[str]  # the group of each attribute, A long
    landmarks: Floats  # [N, 8, 2] (x, y), divided by the image's width and height
    visibility: Ints  # [N, 8] 0 visible, 1 occluded, 2 truncated, -1 absent
    items: Ints  # [N] the number of the item shown, or -1
    queries: NDArray[np.bool_]  # [N] the images to look up
    gallery: NDArray[np.bool_]  # [N] the images among which they are looked up


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the functions of this module say of one network on one set of images; None where it has no labels."""

    category: dict[int, float] | None = None
    attributes: dict[str, dict[int, float]] | None = None
    landmarks: LandmarkError | None = None
    pdl: NDArray[np.float64] | None = None  # [101], within 0 to 100 pixels
    retrieval: dict[int, float] | None = None

    def to_dict(self) -> Metrics:
        """Plain Python values by name, ready for JSON: NaN becomes None, and what was not evaluated is not in it."""
        metrics: Metrics = {f"category_top{k}": _plain(share) for k, share in (self.category or {}).items()}
        for group, recall in (self.attributes or {}).items():
            metrics |= {f"attribute_recall{k}_{group}": _plain(share) for k, share in recall.items()}
        if self.landmarks is not None:
            metrics["landmark_error"] = _plain(self.landmarks.mean)
            for i, name in enumerate(LANDMARK_NAMES):
                metrics[f"landmark_error_{name}"] = _plain(self.landmarks.per_landmark[i])
                metrics[f"landmark_count_{name}"] = int(self.landmarks.counts[i])
        if self.pdl is not None:
            metrics[f"pdl_{PDL_DISTANCE}"] = _plain(self.pdl[PDL_DISTANCE])
            metrics["pdl_curve"] = [_plain(share) for share in self.pdl]
        return metrics | {f"retrieval_hit{k}": _plain(share) for k, share in (self.retrieval or {}).items()}


def evaluate(outputs: Mapping[str, Floats], labels: Labels, *, landmarks: Floats) -> Evaluation:
    """Measure a network's outputs for N images by every protocol that the images have labels for.

    Args:
        outputs: of `Backend.run`: `category` [N, C], `attributes` [N, A] and `embedding` [N, D] are read, each only
            where there are labels for it.
        labels: of the same N images.
        landmarks: predicted, [N, 8, 2], divided by the image's width and height. The output `landmarks` is not read:
            it refers to the box that the network saw.

    Raises:
        ValueError: shapes that do not fit together.
    """
    category = attributes = error = pdl = retrieval = None
    if (labels.categories >= 0).any():
        category = category_accuracy(outputs["category"], labels.categories)
    if (labels.attributes == 1).any():
        attributes = attribute_recall(outputs["attributes"], labels.attributes, labels.attribute_groups)
    if (labels.visibility == VISIBLE).any():
        error = landmark_error(landmarks, labels.landmarks, labels.visibility)
        pdl = pdl_curve(landmarks, labels.landmarks, labels.visibility)
    queries, gallery = np.flatnonzero(labels.queries & (labels.items >= 0)), np.flatnonzero(labels.gallery)
    if len(queries) and len(gallery):
        embedding, items = outputs["embedding"], labels.items
        retrieval = retrieval_accuracy(embedding[queries], embedding[gallery], items[queries], items[gallery])
    return Evaluation(category, attributes, error, pdl, retrieval)


def _check(fits: bool, expected: str, *arrays: NDArray[np.generic], ks: Sequence[int] = (1,)) -> None:
    if not fits:
        raise ValueError(f"expected {expected}, got {', '.join(str(array.shape) for array in arrays)}")
    if not ks or min(ks) < 1:
        raise ValueError(f"expected every k to be at least 1, got {list(ks)}")


def _chunks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, CHUNK // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _recall(scores: Floats, labels: Ints | NDArray[np.bool_], columns: Ints, ks: Sequence[int]) -> dict[int, float]:
    """`attribute_recall` of the given columns, ranked among themselves."""
    positives, hits = 0, dict.fromkeys(ks, 0)
    for rows in _chunks(len(scores), scores.shape[1]):
        part, positive = scores[rows][:, columns], labels[rows][:, columns] == 1
        positives += int(np.count_nonzero(positive))
        for k in ks:
            hits[k] += _sure_hits(part, positive, k)
    return {k: hits[k] / positives if positives else math.nan for k in ks}


def _sure_hits(scores: Floats, positive: NDArray[np.bool_], k: int) -> int:
    """How many positives are among the k highest scores of their row, the wrong ones first where scores tie."""
    if not positive.any():
        return 0
    lowest = max(0, scores.shape[1] - k)
    bar = np.partition(scores, lowest, axis=1)[:, lowest, None]  # NaN ranks highest
    level = (scores == bar) & (bar > -np.inf)
    places = k - np.count_nonzero(~(scores <= bar) | (level & ~positive), axis=1)
    sure = np.clip(places, 0, np.count_nonzero(level & positive, axis=1))
    return int(np.count_nonzero((scores > bar) & positive) + sure.sum())


def _distances(predicted: Floats, true: Floats, visibility: Ints) -> NDArray[np.float64]:
    """[N, 8]; float64, since a float16 difference would round."""
    points = len(LANDMARK_NAMES)
    fits = predicted.ndim == 3 and predicted.shape[1:] == (points, 2)
    fits = fits and true.shape == predicted.shape and visibility.shape == predicted.shape[:2]
    expected = f"predicted and true [N, {points}, 2] and visibility [N, {points}]"
    _check(fits, expected, predicted, true, visibility)
    offsets = predicted.astype(np.float64) - true
    return np.hypot(offsets[..., 0], offsets[..., 1])


def _wrong_and_nearer(queries: Floats, gallery: Floats, query_items: Ints, gallery_items: Ints) -> NDArray[np.float64]:
    """[Q], how many images of other items are no farther than the nearest of the query's own; inf where it has none."""
    queries, gallery = queries.astype(np.float32, copy=False), gallery.astype(np.float32, copy=False)
    half_squares = np.square(gallery).sum(axis=1) / 2
    tie = TIE * max(2 * half_squares.max(initial=0), np.square(queries).sum(axis=1).max(initial=0))
    nearer = np.empty(len(queries))
    for rows in _chunks(len(queries), len(gallery)):
        closeness = queries[rows] @ gallery.T - half_squares  # (|query|^2 - distance^2) / 2
        own = query_items[rows, None] == gallery_items
        best = np.where(own, closeness, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
        wrong = np.count_nonzero(~own & (closeness >= best - tie), axis=1)
        nearer[rows] = np.where(own.any(axis=1), wrong, np.inf)
    return nearer
