"""The paper's protocols: which measures apply to which images, and FashionNet's published numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fashion_infer.evaluation.measures import (
    ATTRIBUTE_KS,
    CATEGORY_KS,
    VISIBLE,
    Floats,
    Ints,
    LandmarkError,
    attribute_accuracy,
    attribute_recall,
    category_accuracy,
    columns_of,
    landmark_error_box,
    landmark_error_image,
    pdl_box,
    pdl_pixels,
)
from fashion_infer.evaluation.retrieval import RETRIEVAL_KS, hit_rate, mean_average_precision, retrieval_ranks
from fashion_infer.model_spec import LANDMARK_NAMES

Number = float | int | None
Metrics = dict[str, Number | list[float | None] | dict[str, dict[str, Number]]]

PDL_DISTANCE = 35  # pixels; the only point of the curve that the paper prints

# FashionNet's row of the paper's tables by benchmark, with the keys of `Evaluation.to_dict`. Landmark errors are shares
# of the box. In consumer_to_shop, consumers' photos are looked up among the shop photos of the test items.
PUBLISHED: dict[str, dict[str, float]] = {
    "category": {
        "category_top3": 0.8258, "category_top5": 0.9017,
        "attribute_recall3_texture": 0.3746, "attribute_recall5_texture": 0.4952,
        "attribute_recall3_fabric": 0.3930, "attribute_recall5_fabric": 0.4984,
        "attribute_recall3_shape": 0.3947, "attribute_recall5_shape": 0.4859,
        "attribute_recall3_part": 0.4413, "attribute_recall5_part": 0.5402,
        "attribute_recall3_style": 0.6643, "attribute_recall5_style": 0.7316,
        "attribute_recall3_all": 0.4552, "attribute_recall5_all": 0.5461,
        "landmark_error_box": 0.0872,
    },
    "landmarks": {"landmark_error_box": 0.0859},
    "in_shop": {"retrieval_hit1": 0.53, "retrieval_hit10": 0.73, "retrieval_hit20": 0.76, "retrieval_hit50": 0.80},
    "consumer_to_shop": {"retrieval_hit20": 0.188},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of N images. A task without any label (for attributes: without a positive one) is not evaluated.

    Attributes:
        categories: [N] number of the category from 0, or -1 without a label.
        attributes: [N, A] 1 positive, 0 unknown, -1 negative.
        attribute_groups: [A] the group of each attribute, "" for none.
        landmarks: [N, 8, 2] (x, y) in pixels of the photo.
        visibility: [N, 8] 0 visible, 1 occluded, 2 truncated, -1 absent, -2 not labelled.
        image_sizes: [N, 2] width and height of the photo in pixels.
        box_sizes: [N, 2] width and height in pixels of the part of the box that lies in the photo.
        items: [N] number of the item in the photo, or -1 if unknown.
        queries: [N] whether the image is a query of retrieval.
        gallery: [N] whether the image is in the gallery.
        kinds: [N] kind of garment for the breakdown of retrieval, "" if unknown.
    """

    categories: Ints
    attributes: Ints
    attribute_groups: Sequence[str]
    landmarks: Floats
    visibility: Ints
    image_sizes: Floats
    box_sizes: Floats
    items: Ints
    queries: NDArray[np.bool_]
    gallery: NDArray[np.bool_]
    kinds: NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Retrieval:
    """The ranks from which every measure of retrieval is computed.

    Attributes:
        queries: [Q] row of each query among the N images.
        kinds: [Q] kind of garment of each query.
        ranks: Q arrays, the ranks of the images of the query's item; see `retrieval_ranks`.
        gallery_size: number of images in the gallery.
    """

    queries: Ints
    kinds: NDArray[np.str_]
    ranks: list[NDArray[np.int64]]
    gallery_size: int

    def to_dict(self) -> Metrics:
        """hit@k and mAP over all queries, and for each kind of garment if there are several."""
        metrics: Metrics = {f"retrieval_{name}": value for name, value in self._measures(self.ranks).items()}
        by_kind = self.by_kind()
        return metrics | ({"retrieval_by_kind": by_kind} if by_kind else {})

    def by_kind(self) -> dict[str, dict[str, Number]]:
        """The number of queries and the measures for each kind of garment; {} if there is only one kind."""
        kinds = [str(kind) for kind in np.unique(self.kinds)]
        if len(kinds) < 2:
            return {}
        return {
            kind: {"queries": len(ranks), **self._measures(ranks)}
            for kind in kinds
            for ranks in [[self.ranks[i] for i in np.flatnonzero(self.kinds == kind)]]
        }

    def _measures(self, ranks: Sequence[Ints]) -> dict[str, Number]:
        hits = hit_rate(ranks, meaningful_ks(RETRIEVAL_KS, self.gallery_size))
        return {f"hit{k}": _plain(share) for k, share in hits.items()} | {"map": _plain(mean_average_precision(ranks))}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The measures of one network on one set of images; None for a task without labels.

    Attributes:
        category: {k: accuracy among the best k}.
        attributes: {group: {k: recall among the best k}}.
        attribute_choices: {group: accuracy} for groups of which each image has exactly one attribute.
        landmarks_image: landmark error in shares of the photo.
        landmarks_box: landmark error in shares of the box.
        pdl_box: [101] share of landmarks detected within 0 to 100 pixels of the stretched box.
        pdl_pixels: [101] share of landmarks detected within 0 to 100 pixels of the photo.
        retrieval: the ranks and their measures.
    """

    category: dict[int, float] | None = None
    attributes: dict[str, dict[int, float]] | None = None
    attribute_choices: dict[str, float] | None = None
    landmarks_image: LandmarkError | None = None
    landmarks_box: LandmarkError | None = None
    pdl_box: NDArray[np.float64] | None = None
    pdl_pixels: NDArray[np.float64] | None = None
    retrieval: Retrieval | None = None

    def to_dict(self) -> Metrics:
        """Plain Python values by name, ready for JSON. NaN becomes None; measures without labels are left out."""
        metrics: Metrics = {f"category_top{k}": _plain(share) for k, share in (self.category or {}).items()}
        metrics |= {f"attribute_top1_{group}": _plain(share) for group, share in (self.attribute_choices or {}).items()}
        for group, recall in (self.attributes or {}).items():
            metrics |= {f"attribute_recall{k}_{group}": _plain(share) for k, share in recall.items()}
        for unit, error in (("box", self.landmarks_box), ("image", self.landmarks_image)):
            if error is not None:
                metrics[f"landmark_error_{unit}"] = _plain(error.mean)
                for i, name in enumerate(LANDMARK_NAMES):
                    metrics[f"landmark_error_{unit}_{name}"] = _plain(error.per_landmark[i])
                    metrics[f"landmark_count_{name}"] = int(error.counts[i])
        for unit, curve in (("box", self.pdl_box), ("pixels", self.pdl_pixels)):
            if curve is not None:
                metrics[f"pdl_{PDL_DISTANCE}_{unit}"] = _plain(curve[PDL_DISTANCE])
                metrics[f"pdl_curve_{unit}"] = [_plain(share) for share in curve]
        return metrics | (self.retrieval.to_dict() if self.retrieval else {})


def evaluate(outputs: Mapping[str, Floats], labels: Labels, *, landmarks: Floats) -> Evaluation:
    """Measure a network's outputs for N images by every protocol that the images have labels for.

    A k for which every answer would be a hit, such as recall among the best three of three, is left out.

    Args:
        outputs: outputs of `Backend.run`; `category` [N, C], `attributes` [N, A] and `embedding` [N, D] are read, each
            only if there are labels for it.
        labels: labels of the same N images.
        landmarks: predicted landmarks [N, 8, 2] in pixels of the photo. The output `landmarks` is not read, because it
            refers to the crop that the network saw.

    Raises:
        ValueError: the shapes do not fit together.
    """
    category = attributes = choices = in_image = in_box = by_box = by_pixels = None
    if (labels.categories >= 0).any():
        scores = outputs["category"]
        category = category_accuracy(scores, labels.categories, meaningful_ks(CATEGORY_KS, scores.shape[1]) or (1,))
    if (labels.attributes == 1).any():
        attributes = _attribute_recall(outputs["attributes"], labels)
        choices = attribute_accuracy(outputs["attributes"], labels.attributes, labels.attribute_groups)
    if (labels.visibility == VISIBLE).any():
        points = landmarks, labels.landmarks, labels.visibility
        in_image = landmark_error_image(*points, labels.image_sizes)
        in_box = landmark_error_box(*points, labels.box_sizes)
        by_box, by_pixels = pdl_box(*points, labels.box_sizes), pdl_pixels(*points)
    retrieval = _retrieval(outputs, labels)
    return Evaluation(category, attributes, choices, in_image, in_box, by_box, by_pixels, retrieval)


def meaningful_ks(ks: Sequence[int], count: int) -> tuple[int, ...]:
    """The values of k that are smaller than the number of candidates, so that an answer among the k best can miss."""
    return tuple(k for k in ks if k < count)


def _attribute_recall(scores: Floats, labels: Labels) -> dict[str, dict[int, float]]:
    sizes = {name: len(members) for name, members in columns_of(labels.attribute_groups).items()}
    sizes["all"] = scores.shape[1]
    recall = attribute_recall(scores, labels.attributes, labels.attribute_groups)
    kept = {group: {k: by_k[k] for k in meaningful_ks(ATTRIBUTE_KS, sizes[group])} for group, by_k in recall.items()}
    return {group: by_k for group, by_k in kept.items() if by_k}


def _retrieval(outputs: Mapping[str, Floats], labels: Labels) -> Retrieval | None:
    queries, gallery = np.flatnonzero(labels.queries & (labels.items >= 0)), np.flatnonzero(labels.gallery)
    if not (len(queries) and len(gallery)):
        return None
    embedding, items = outputs["embedding"], labels.items
    ranks = retrieval_ranks(embedding[queries], embedding[gallery], items[queries], items[gallery])
    return Retrieval(queries, labels.kinds[queries], ranks, len(gallery))


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
