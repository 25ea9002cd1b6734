"""None of these: a score of the embedding that there is one of the classes at all, as ModelSpec has it.

A category head must choose one of its classes, whatever it is shown. This score is a logistic function of the embedding
alone, fitted on the photos of all classes against pictures of none of them: rendered rooms and streets, noise, and the
user's photos of other things, where there are some. Its threshold is set on photos that it was not fitted on.
"""

from collections.abc import Sequence
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
    own = photos.embeddings(size)
    names = [spec.categories[label] for label in photos.labels]
    weights = spec.garment_weights or (0.0,) * size
    start = Head(np.array([weights], np.float64), np.array([spec.garment_bias], np.float64))
    head, scores, report = fit_score(own, names, folds, scenes, None if others is None else others[:, -size:], start)
    strangers = [str(photos.path(row)) for row in np.argsort(scores) if scores[row] < 0]
    spec = replace(
        spec,
        garment_weights=tuple(round(float(weight), 6) for weight in head.weight[0]),
        garment_bias=round(float(head.bias[0]), 6),
    )
    return spec, replace(report, strangers=tuple(strangers))


def fit_score(
    own: Floats, names: Sequence[str], folds: NDArray[np.int64], scenes: Floats, others: Floats | None, start: Head
) -> tuple[Head, Floats, NoneReport]:
    """Fit the score on embeddings of unit length.

    Args:
        own: [N, D], of the classes' photos.
        names: of their classes.
        folds: [N], of these photos.
        scenes: [S, D], of pictures of nothing.
        others: [M, D], of photos of other things; may be None.
        start: one row, where the fit starts.

    Returns:
        The head, whose logit is 0 at the threshold; the logits [N] of the classes' photos before that was set, from
        heads that were not fitted on them; and how good it is, without strangers.
    """
    things = scenes if others is None else np.concatenate([scenes, others])
    rows = np.concatenate([own, things])
    targets = np.where(np.arange(len(rows)) < len(own), 1, -1)[:, None]
    all_folds = np.concatenate([folds, np.arange(len(things)) % (folds.max() + 1)])
    fitting = Fitting("binary", (rows.shape[1],), np.array([True]))
    strength, logits = cross_validate(rows, targets, start, all_folds, fitting)
    scores = logits[:, 0]
    threshold = float(np.quantile(scores[: len(own)], 1 - KEPT, method="lower"))
    whole = fit(rows, targets, start, strength, fitting)

    def without(name: str) -> float:
        left = np.array([other == name for other in names])
        kept = np.concatenate([~left, np.ones(len(things), np.bool_)])
        head = fit(rows[kept], targets[kept], start, strength, fitting)
        return float((head.logits(own[left])[:, 0] < threshold).mean())

    classes = list(dict.fromkeys(names))
    refused = scores < threshold
    report = NoneReport(
        passed=float((~refused[: len(own)]).mean()),
        scenes_refused=float(refused[len(own) :][: len(scenes)].mean()),
        others_refused=None if others is None else float(refused[len(own) + len(scenes) :].mean()),
        left_out_refused={name: without(name) for name in classes[:LEFT_OUT]} if len(classes) > 2 else {},
        strangers=(),
    )
    return Head(whole.weight, whole.bias - threshold), scores[: len(own)], report


def pictures_of_nothing(size: int) -> Pixels:
    """uint8 [N, S, S, 3]: empty rooms, streets, floors and walls, noise, and plain colours; always the same."""
    rng = np.random.default_rng(0)
    makers = (backdrops.ground, backdrops.wall, backdrops.room, backdrops.street)
    scenes = [makers[number % len(makers)](rng, (SCENE_SIDE, SCENE_SIDE)) for number in range(SCENES)]
    pictures = [resize(scene, size) for scene in scenes]
    pictures += [rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(PLAIN)]
    pictures += [np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(PLAIN)]
    return np.stack(pictures)
