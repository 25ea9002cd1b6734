"""The measures of the DeepFashion paper (Liu et al., CVPR 2016), as functions of arrays.

They depend on no backend, so a checkpoint, an ONNX file and an engine are measured by the same code. All shares are in
[0, 1]; a share of an empty set is NaN. Ties never help: a wrong answer that scores exactly as high as a right one is
ranked before it, so a network with the same output for every image scores 0. A NaN score is a miss, and so is -inf, the
score of a class that the network lacks.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion_infer.model_spec import LANDMARK_NAMES

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

VISIBLE = 0  # the other codes are 1 occluded, 2 truncated, -1 absent and -2 not labelled
CATEGORY_KS = (1, 3, 5)
ATTRIBUTE_KS = (3, 5)
PDL_SIDE = 512  # pixels; the side of the square to which a box is stretched for `pdl_box`
CHUNK = 1 << 22  # largest number of elements in a temporary array


def category_accuracy(probabilities: Floats, labels: Ints, ks: Sequence[int] = CATEGORY_KS) -> dict[int, float]:
    """Share of the labelled images whose category is among the k highest scores (top-k accuracy).

    Args:
        probabilities: [N, C] probabilities, or other scores with the same order.
        labels: [N] categories from 0; images with -1 are left out.
        ks: values of k, each at least 1; if k is at least C, every image is a hit.

    Returns:
        {k: share}; NaN without labelled images.

    Raises:
        ValueError: the shapes do not fit together, a label is outside -1 to C - 1, or a k is below 1.
    """
    fits = probabilities.ndim == 2 and labels.shape == probabilities.shape[:1]
    check(fits, "probabilities [N, C] and labels [N]", probabilities, labels, ks=ks)
    classes = probabilities.shape[1]
    if labels.size and not -1 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"expected labels from -1 to {classes - 1}, got {labels.min()} to {labels.max()}")
    rows, columns = np.flatnonzero(labels >= 0), np.arange(classes)
    return _recall(probabilities[rows], labels[rows, None] == columns, columns, ks)


def attribute_recall(
    scores: Floats, labels: Ints, groups: Sequence[str], ks: Sequence[int] = ATTRIBUTE_KS
) -> dict[str, dict[int, float]]:
    """Share of the positive labels that are among their image's k highest scores, within each group and among all.

    Unknown attributes take part in the ranking, but are not positives.

    Args:
        scores: [N, A] scores; only their order matters.
        labels: [N, A] 1 positive, 0 unknown, -1 negative.
        groups: [A] the group of each attribute, "" for none; no group may be named "all".
        ks: values of k, each at least 1.

    Returns:
        {group: {k: recall}}, the groups in order of appearance, then "all"; NaN for a group without positives.

    Raises:
        ValueError: the shapes do not fit together, a group is named "all", or a k is below 1.
    """
    fits = scores.ndim == 2 and labels.shape == scores.shape and len(groups) == scores.shape[1]
    check(fits, "scores [N, A], labels [N, A] and groups [A]", scores, labels, np.array(groups), ks=ks)
    if "all" in groups:
        raise ValueError('expected no group named "all", which stands for all attributes together')
    columns = {**columns_of(groups), "all": np.arange(len(groups))}
    return {name: _recall(scores, labels, members, ks) for name, members in columns.items()}


def attribute_accuracy(scores: Floats, labels: Ints, groups: Sequence[str]) -> dict[str, float]:
    """Share of the images whose attribute with the highest score in a group is the right one, for exclusive groups.

    An image has exactly one attribute of an exclusive group, such as the sleeve's length. Recall does not suit such a
    group: among the best three of three attributes it is always 1. A group counts as exclusive if every image with a
    positive label in it has exactly one, and negative labels for the others. Images without a positive label in the
    group are left out.

    Args:
        scores: see `attribute_recall`.
        labels: see `attribute_recall`.
        groups: see `attribute_recall`.

    Returns:
        {group: share} for the exclusive groups of at least two attributes, in order of appearance.

    Raises:
        ValueError: the shapes do not fit together.
    """
    fits = scores.ndim == 2 and labels.shape == scores.shape and len(groups) == scores.shape[1]
    check(fits, "scores [N, A], labels [N, A] and groups [A]", scores, labels, np.array(groups))
    accuracy = {}
    for name, members in columns_of(groups).items():
        part = labels[:, members]
        rows = np.flatnonzero((part == 1).any(axis=1))
        exclusive = ((part[rows] == 1).sum(axis=1) == 1).all() and (part[rows] != 0).all()
        if len(rows) and len(members) > 1 and exclusive:
            accuracy[name] = _recall(scores[rows], labels[rows], members, (1,))[1]
    return accuracy


def columns_of(groups: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """The columns of each group that has a name, in order of appearance."""
    return {name: np.flatnonzero([group == name for group in groups]) for name in dict.fromkeys(groups) if name}


@dataclass(frozen=True, eq=False)
class LandmarkError:
    """Normalised error (NE) of the visible landmarks, in the unit of the function that measured it.

    Attributes:
        per_landmark: [8] mean distance of each landmark over the images in which it is visible; NaN if there are none.
        mean: mean of these means, without NaN; NaN if no landmark is visible.
        counts: [8] number of images in which each landmark is visible.
    """

    per_landmark: NDArray[np.float64]
    mean: float
    counts: NDArray[np.int64]


def landmark_error_image(predicted: Floats, true: Floats, visibility: Ints, image_sizes: Floats) -> LandmarkError:
    """Landmark error in shares of the photo: x divided by the photo's width, y by its height.

    The smaller a garment is in its photo, the smaller is this error. Compare it only between networks on the same
    photos.

    Args:
        predicted: [N, 8, 2] predicted (x, y) in pixels of the photo.
        true: [N, 8, 2] labelled (x, y) in pixels of the photo; only visible landmarks are read.
        visibility: [N, 8] 0 visible, 1 occluded, 2 truncated, -1 absent, -2 not labelled.
        image_sizes: [N, 2] width and height of each photo in pixels.

    Raises:
        ValueError: the shapes do not fit together.
    """
    return _landmark_error(predicted, true, visibility, image_sizes)


def landmark_error_box(predicted: Floats, true: Floats, visibility: Ints, box_sizes: Floats) -> LandmarkError:
    """Landmark error in shares of the box: x divided by the box's width, y by its height.

    This is the error in the crop that the network sees. Public evaluators of FashionNet and of the landmark benchmark
    use this unit, and the published numbers have it.

    Args:
        predicted: see `landmark_error_image`.
        true: see `landmark_error_image`.
        visibility: see `landmark_error_image`.
        box_sizes: [N, 2] width and height in pixels of the part of each box that lies in its photo.

    Raises:
        ValueError: the shapes do not fit together.
    """
    return _landmark_error(predicted, true, visibility, box_sizes)


def pdl_box(
    predicted: Floats, true: Floats, visibility: Ints, box_sizes: Floats, distances: ArrayLike = range(101)
) -> NDArray[np.float64]:
    """Percentage of detected landmarks (PDL) in the box's unit: each box is stretched to 512 x 512 pixels.

    Args:
        predicted: see `landmark_error_box`.
        true: see `landmark_error_box`.
        visibility: see `landmark_error_box`.
        box_sizes: see `landmark_error_box`.
        distances: [D] distances in pixels of the stretched box; a landmark at exactly this distance counts.

    Returns:
        float64 [D], the share of all visible landmarks that lie within each distance of their label; NaN if no landmark
        is visible.

    Raises:
        ValueError: the shapes do not fit together.
    """
    return _within(PDL_SIDE * _distances(predicted, true, visibility, box_sizes), visibility, distances)


def pdl_pixels(
    predicted: Floats, true: Floats, visibility: Ints, distances: ArrayLike = range(101)
) -> NDArray[np.float64]:
    """Percentage of detected landmarks (PDL) in pixels of the photo, which is not stretched.

    The photos of DeepFashion's landmark benchmark have a long side of 512 pixels. Only results on photos of that size
    can be compared with it.

    Args:
        predicted: see `landmark_error_image`.
        true: see `landmark_error_image`.
        visibility: see `landmark_error_image`.
        distances: [D] distances in pixels of the photo; a landmark at exactly this distance counts.

    Returns:
        float64 [D], see `pdl_box`.

    Raises:
        ValueError: the shapes do not fit together.
    """
    return _within(_distances(predicted, true, visibility, np.ones((len(predicted), 2))), visibility, distances)


def check(fits: bool, expected: str, *arrays: NDArray[np.generic], ks: Sequence[int] = (1,)) -> None:
    """Check the arguments of a measure.

    Args:
        fits: whether the shapes of the arrays fit together.
        expected: names and shapes of the arrays, for the message.
        *arrays: the arrays, whose shapes the message gives.
        ks: values of k, which must be at least 1.

    Raises:
        ValueError: the shapes do not fit together, there is no k, or a k is below 1.
    """
    if not fits:
        raise ValueError(f"expected {expected}, got {', '.join(str(array.shape) for array in arrays)}")
    if not ks or min(ks) < 1:
        raise ValueError(f"expected every k to be at least 1, got {list(ks)}")


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Split rows of `width` columns into slices of about `CHUNK` elements."""
    step = max(1, CHUNK // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))


def _recall(scores: Floats, labels: Ints | NDArray[np.bool_], columns: Ints, ks: Sequence[int]) -> dict[int, float]:
    """`attribute_recall` of some columns, which are ranked without the others."""
    positives, hits = 0, dict.fromkeys(ks, 0)
    for rows in chunks(len(scores), scores.shape[1]):
        part, positive = scores[rows][:, columns], labels[rows][:, columns] == 1
        positives += int(np.count_nonzero(positive))
        for k in ks:
            hits[k] += sure_hits(part, positive, k)
    return {k: hits[k] / positives if positives else math.nan for k in ks}


def sure_hits(scores: Floats, positive: NDArray[np.bool_], k: int) -> int:
    """Number of positives among the k highest scores of their row; in a tie, negatives are ranked first.

    Args:
        scores: [N, A] scores.
        positive: bool [N, A], the right answers.
        k: number of answers that count in each row.
    """
    if not positive.any():
        return 0
    lowest = max(0, scores.shape[1] - k)
    threshold = np.partition(scores, lowest, axis=1)[:, lowest, None]  # the k-th highest score; NaN ranks highest
    tied = (scores == threshold) & (threshold > -np.inf)
    places = k - np.count_nonzero(~(scores <= threshold) | (tied & ~positive), axis=1)  # left for tied positives
    tied_hits = np.clip(places, 0, np.count_nonzero(tied & positive, axis=1))
    return int(np.count_nonzero((scores > threshold) & positive) + tied_hits.sum())


def _distances(predicted: Floats, true: Floats, visibility: Ints, sizes: Floats) -> NDArray[np.float64]:
    """Distances [N, 8] after x and y were divided by the sizes [N, 2]; float64, since float16 would round them."""
    points = len(LANDMARK_NAMES)
    fits = predicted.ndim == 3 and predicted.shape[1:] == (points, 2)
    fits = fits and true.shape == predicted.shape and visibility.shape == predicted.shape[:2]
    fits = fits and sizes.shape == (len(predicted), 2)
    expected = f"predicted and true [N, {points}, 2], visibility [N, {points}] and sizes [N, 2]"
    check(fits, expected, predicted, true, visibility, sizes)
    offsets = (predicted.astype(np.float64) - true) / sizes[:, None]
    return np.hypot(offsets[..., 0], offsets[..., 1])


def _landmark_error(predicted: Floats, true: Floats, visibility: Ints, sizes: Floats) -> LandmarkError:
    distances = _distances(predicted, true, visibility, sizes)
    visible = visibility == VISIBLE
    counts = visible.sum(axis=0, dtype=np.int64)
    sums = np.where(visible, distances, 0).sum(axis=0)
    per_landmark = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    mean = float(per_landmark[counts > 0].mean()) if counts.any() else math.nan
    return LandmarkError(per_landmark, mean, counts)


def _within(pixels: NDArray[np.float64], visibility: Ints, distances: ArrayLike) -> NDArray[np.float64]:
    visible = np.sort(pixels[visibility == VISIBLE])  # NaN is sorted last and so is within no distance
    within = np.searchsorted(visible, np.asarray(distances, np.float64), side="right")
    return within / len(visible) if len(visible) else np.full(within.shape, np.nan)
