"""The measures of the DeepFashion paper (Liu et al., CVPR 2016), as functions of arrays.

They do not know where the numbers came from, so that a checkpoint, an ONNX file and an engine are judged alike. All
shares are in [0, 1]; a share of nothing is NaN. Ties never help: a wrong answer that scores exactly as high as a right
one is ranked before it, so that a network that says the same of everything earns nothing. A NaN score is a miss, and
so is -inf, the score of a class that the network does not have.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion_infer.model_spec import LANDMARK_NAMES

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

VISIBLE = 0  # of 0 visible, 1 occluded, 2 truncated, -1 absent, -2 not labelled
CATEGORY_KS = (1, 3, 5)
ATTRIBUTE_KS = (3, 5)
PDL_SIDE = 512  # pixels; the side of the square to which a box is stretched for `pdl_box`
CHUNK = 1 << 22  # elements of one temporary array


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
    check(fits, "probabilities [N, C] and labels [N]", probabilities, labels, ks=ks)
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
        groups: the group of each attribute, A long, "" for none; "all" is not a group's name.
        ks: each at least 1.

    Returns:
        {group: {k: recall}}, the groups in order of appearance, then "all"; NaN for a group without positives.

    Raises:
        ValueError: shapes that do not fit together, a group named "all", or a k below 1.
    """
    fits = scores.ndim == 2 and labels.shape == scores.shape and len(groups) == scores.shape[1]
    check(fits, "scores [N, A], labels [N, A] and groups [A]", scores, labels, np.array(groups), ks=ks)
    if "all" in groups:
        raise ValueError('expected no group named "all", which stands for all attributes together')
    columns = {**columns_of(groups), "all": np.arange(len(groups))}
    return {name: _recall(scores, labels, members, ks) for name, members in columns.items()}


def attribute_accuracy(scores: Floats, labels: Ints, groups: Sequence[str]) -> dict[str, float]:
    """Share of the images whose best-scored attribute of a group is the right one, for groups that exclude each other.

    Of a group of which each image has exactly one attribute (such as a sleeve's length), recall among the best three
    of three would be 1 whatever the network says. A group is exclusive where every image that has a positive label in
    it has exactly one, and only negative ones beside it. Images without a positive label in the group are left out.

    Args:
        scores: see `attribute_recall`.
        labels: likewise.
        groups: likewise.

    Returns:
        {group: share} of the exclusive groups of at least two attributes, in order of appearance.

    Raises:
        ValueError: shapes that do not fit together.
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
    """Normalised error (NE) of the visible landmarks, in the unit of the function that measured it."""

    per_landmark: NDArray[np.float64]  # [8], the mean distance of each; NaN where none is visible
    mean: float  # over the landmarks of which any is visible; NaN without one
    counts: NDArray[np.int64]  # [8], how many are visible


def landmark_error_image(predicted: Floats, true: Floats, visibility: Ints, image_sizes: Floats) -> LandmarkError:
    """Landmark error in shares of the photo: x divided by the photo's width, y by its height.

    The mean distance of each landmark over the images in which it is visible, and the mean of these means. The smaller
    the garment is in its photo, the smaller this number: compare it on the same photos only.

    Args:
        predicted: [N, 8, 2] as (x, y), pixels of the photo.
        true: likewise; what is not visible is not read.
        visibility: [N, 8] of 0 visible, 1 occluded, 2 truncated, -1 absent, -2 not labelled.
        image_sizes: [N, 2], width and height of each photo, pixels.

    Raises:
        ValueError: shapes that do not fit together.
    """
    return _landmark_error(predicted, true, visibility, image_sizes)


def landmark_error_box(predicted: Floats, true: Floats, visibility: Ints, box_sizes: Floats) -> LandmarkError:
    """Landmark error in shares of the box: x divided by the box's width, y by its height.

    This is the error in the crop that the network sees, as public evaluators of FashionNet and of the landmark
    benchmark divide, and the unit of the published numbers.

    Args:
        predicted: see `landmark_error_image`.
        true: likewise.
        visibility: likewise.
        box_sizes: [N, 2], width and height of the part of each box that lies in its photo, pixels.

    Raises:
        ValueError: shapes that do not fit together.
    """
    return _landmark_error(predicted, true, visibility, box_sizes)


def pdl_box(
    predicted: Floats, true: Floats, visibility: Ints, box_sizes: Floats, distances: ArrayLike = range(101)
) -> NDArray[np.float64]:
    """Percentage of detected landmarks (PDL) in the box's unit: each box is stretched to 512 x 512 pixels.

    Args:
        predicted: see `landmark_error_box`.
        true: likewise.
        visibility: likewise.
        box_sizes: likewise.
        distances: [D], pixels of the stretched box; a landmark at the very distance counts.

    Returns:
        float64 [D], the share of all visible landmarks that lie within each distance of the truth; NaN where no
        landmark is visible.

    Raises:
        ValueError: shapes that do not fit together.
    """
    return _within(PDL_SIDE * _distances(predicted, true, visibility, box_sizes), visibility, distances)


def pdl_pixels(
    predicted: Floats, true: Floats, visibility: Ints, distances: ArrayLike = range(101)
) -> NDArray[np.float64]:
    """Percentage of detected landmarks (PDL) in pixels of the photo as it is, not stretched.

    The photos of DeepFashion's landmark benchmark have a long side of 512 pixels: only at that size do pixels mean what
    they mean there.

    Args:
        predicted: see `landmark_error_image`.
        true: likewise.
        visibility: likewise.
        distances: [D], pixels of the photo; a landmark at the very distance counts.

    Returns:
        float64 [D], as `pdl_box` does.

    Raises:
        ValueError: shapes that do not fit together.
    """
    return _within(_distances(predicted, true, visibility, np.ones((len(predicted), 2))), visibility, distances)


def check(fits: bool, expected: str, *arrays: NDArray[np.generic], ks: Sequence[int] = (1,)) -> None:
    """Raise a ValueError that says what was expected and what came."""
    if not fits:
        raise ValueError(f"expected {expected}, got {', '.join(str(array.shape) for array in arrays)}")
    if not ks or min(ks) < 1:
        raise ValueError(f"expected every k to be at least 1, got {list(ks)}")


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Slices of rows such that one of `width` columns has about `CHUNK` elements."""
    step = max(1, CHUNK // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))


def _recall(scores: Floats, labels: Ints | NDArray[np.bool_], columns: Ints, ks: Sequence[int]) -> dict[int, float]:
    """`attribute_recall` of the given columns, ranked among themselves."""
    positives, hits = 0, dict.fromkeys(ks, 0)
    for rows in chunks(len(scores), scores.shape[1]):
        part, positive = scores[rows][:, columns], labels[rows][:, columns] == 1
        positives += int(np.count_nonzero(positive))
        for k in ks:
            hits[k] += sure_hits(part, positive, k)
    return {k: hits[k] / positives if positives else math.nan for k in ks}


def sure_hits(scores: Floats, positive: NDArray[np.bool_], k: int) -> int:
    """How many positives are among the k highest scores of their row, the wrong ones first where scores tie."""
    if not positive.any():
        return 0
    lowest = max(0, scores.shape[1] - k)
    bar = np.partition(scores, lowest, axis=1)[:, lowest, None]  # NaN ranks highest
    level = (scores == bar) & (bar > -np.inf)
    places = k - np.count_nonzero(~(scores <= bar) | (level & ~positive), axis=1)
    sure = np.clip(places, 0, np.count_nonzero(level & positive, axis=1))
    return int(np.count_nonzero((scores > bar) & positive) + sure.sum())


def _distances(predicted: Floats, true: Floats, visibility: Ints, sizes: Floats) -> NDArray[np.float64]:
    """[N, 8], with x and y divided by the sizes; float64, since a float16 difference would round."""
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
    visible = np.sort(pixels[visibility == VISIBLE])  # NaN comes last
    within = np.searchsorted(visible, np.asarray(distances, np.float64), side="right")
    return within / len(visible) if len(visible) else np.full(within.shape, np.nan)
