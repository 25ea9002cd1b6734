"""None of these: a score of the embedding that there is one of the classes at all, as ModelSpec has it.

A category head must choose one of its classes, whatever it is shown. This score is a logistic function of the embedding
alone, fitted on the photos of all classes against pictures of none of them: rendered rooms and streets, noise, and the
user's photos of other things, where there are some. Its threshold is set on photos that it was not fitted on.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fashion_infer.images import Pixels
from fashion_infer.model_spec import ModelSpec
from fashion_infer.preprocess import resize
from fashion_infer.synthetic import backdrops
from fashion_infer.training.features import features_of_pixels
from fashion_infer.training.linear_head import Fitting, Head, cross_validate, fit
from fashion_infer.training.model import FashionNet
from fashion_infer.training.own_labels import Photos

SCENES, PLAIN = 120, 20  # rendered scenes without anything in them; pictures of noise, and of one colour
SCENE_SIDE = 160  # pixels, at which scenes are rendered
KEPT = 0.95  # share of the classes' own photos that must score above a half
LEFT_OUT = 20  # classes that are tried as if nobody had taught them, at most

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class NoneReport:
    """How well the score tells the classes from other things; shares in [0, 1].

    Attributes:
        passed: of the classes' own photos, those that score above a half when the score was not fitted on them.
        scenes_refused: of the pictures of nothing, those that score below a half, likewise.
        others_refused: of the user's photos of other things, likewise; None without them.
        left_out_refused: {class: of its photos, those that score below a half where nobody taught that class}.
        strangers: the classes' photos that look more like the pictures of nothing or of other things, the worst first.
    """

    passed: float
    scenes_refused: float
    others_refused: float | None
    left_out_refused: dict[str, float]
    strangers: tuple[str, ...]


def fit_none_of_these(
    network: FashionNet, spec: ModelSpec, photos: Photos, folds: NDArray[np.int64], others: Floats | None
) -> tuple[ModelSpec, NoneReport]:
    """Fit the score and set its threshold.

    Args:
        network: whose embedding it is.
        spec: its own; a score that it has already is where the fit starts.
        photos: of the classes.
        folds: [N], of the photos.
        others: features [M, F] of photos of none of the classes; may be None.

    Returns:
        The spec with the score, and how good that is.
    """
    size = spec.embedding_dim
    scenes = features_of_pixels(network, pictures_of_nothing(spec.image_size))[:, -size:]
    things = scenes if others is None else np.concatenate([scenes, others[:, -size:]])
    rows = np.concatenate([photos.embeddings(size), things])
    targets = np.where(np.arange(len(rows)) < len(photos.data), 1, -1)[:, None]
    all_folds = np.concatenate([folds, np.arange(len(things)) % (folds.max() + 1)])
    start, fitting = _start(spec), Fitting("binary", (size,), np.array([True]))
    strength, logits = cross_validate(rows, targets, start, all_folds, fitting)
    scores = logits[:, 0]
    own = targets[:, 0] > 0
    threshold = float(np.quantile(scores[own], 1 - KEPT, method="lower"))
    head = fit(rows, targets, start, strength, fitting)
    weights = tuple(round(float(weight), 6) for weight in head.weight[0])
    spec = replace(spec, garment_weights=weights, garment_bias=round(float(head.bias[0]) - threshold, 6))
    refused = scores < threshold
    split = len(photos.data) + len(scenes)

    def without(label: int) -> float:
        left = photos.labels == label
        kept = np.concatenate([~left, np.ones(len(things), np.bool_)])
        found = fit(rows[kept], targets[kept], start, strength, fitting)
        return float((found.logits(photos.embeddings(size)[left])[:, 0] < threshold).mean())

    labels = np.unique(photos.labels)[:LEFT_OUT]
    left_out = {spec.categories[label]: without(label) for label in labels} if len(labels) > 2 else {}
    return spec, NoneReport(
        passed=float((~refused[own]).mean()),
        scenes_refused=float(refused[len(photos.data) : split].mean()),
        others_refused=None if others is None else float(refused[split:].mean()),
        left_out_refused=left_out,
        strangers=tuple(str(photos.path(row)) for row in np.argsort(scores[own]) if scores[row] < 0),
    )


def pictures_of_nothing(size: int) -> Pixels:
    """uint8 [N, S, S, 3]: empty rooms, streets, floors and walls, noise, and plain colours; always the same."""
    rng = np.random.default_rng(0)
    makers = (backdrops.ground, backdrops.wall, backdrops.room, backdrops.street)
    scenes = [makers[number % len(makers)](rng, (SCENE_SIDE, SCENE_SIDE)) for number in range(SCENES)]
    pictures = [resize(scene, size) for scene in scenes]
    pictures += [rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(PLAIN)]
    pictures += [np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(PLAIN)]
    return np.stack(pictures)


def _start(spec: ModelSpec) -> Head:
    """The score that the model has, or none."""
    weights = spec.garment_weights or (0.0,) * spec.embedding_dim
    return Head(np.array([weights], np.float64), np.array([spec.garment_bias], np.float64))
