"""The garment score of own categories: the probability that a photo shows any of the classes.

A category head always chooses one of its classes, whatever the photo shows. This score, stored in the ModelSpec, is a
logistic function of the embedding. It is fitted on the photos of all classes against pictures of none of them: rendered
rooms and streets, noise, and the user's photos of other things, if there are any. Its threshold is set on held-out
photos.
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

SCENES, PLAIN = 120, 20  # rendered empty scenes; pictures of noise, and as many of one plain colour
SCENE_SIDE = 160  # side of a rendered scene, pixels
KEPT = 0.95  # share of the classes' own photos that must score above 0.5
LEFT_OUT = 20  # most classes that are left out of training in turn, to measure how unknown classes score

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class NoneReport:
    """How well the score separates the classes from other things, measured by cross-validation; shares in [0, 1].

    Attributes:
        passed: Share of the classes' own photos that score above 0.5.
        scenes_refused: Share of the empty scenes, noise and plain colours that score below 0.5.
        others_refused: Share of the user's photos of other things that score below 0.5; None without such photos.
        left_out_refused: For each class, the share of its photos that score below 0.5 if the score is fitted without
            that class.
        strangers: Paths of the classes' photos that look more like empty scenes or other things, the worst first.
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
        network: The network that computes the embeddings.
        spec: The network's ModelSpec; if it has a garment score already, the fit starts from that.
        photos: Photos of the classes.
        folds: int64 [N], the number of each photo's fold.
        others: float32 [M, F], features of photos of none of the classes; None if there are none.

    Returns:
        The spec with the score, and a report on its quality.
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
        own: [N, D], embeddings of the classes' photos.
        names: Class names of these N photos.
        folds: int64 [N], the number of each of these photos' fold.
        scenes: [S, D], embeddings of `pictures_of_nothing`.
        others: [M, D], embeddings of photos of other things; None if there are none.
        start: Initial head with a single row.

    Returns:
        The head, shifted so that its logit is 0 at the threshold; the unshifted logits [N] of the classes' photos, each
        from a head that was not fitted on the photo; and a report whose `strangers` are still empty.
    """
    negatives = scenes if others is None else np.concatenate([scenes, others])
    rows = np.concatenate([own, negatives])
    targets = np.where(np.arange(len(rows)) < len(own), 1, -1)[:, None]
    all_folds = np.concatenate([folds, np.arange(len(negatives)) % (folds.max() + 1)])
    fitting = Fitting("binary", (rows.shape[1],), np.array([True]))
    strength, logits = cross_validate(rows, targets, start, all_folds, fitting)
    scores = logits[:, 0]
    threshold = float(np.quantile(scores[: len(own)], 1 - KEPT, method="lower"))
    whole = fit(rows, targets, start, strength, fitting)

    def refused_without(name: str) -> float:
        left_out = np.array([other == name for other in names])
        kept = np.concatenate([~left_out, np.ones(len(negatives), np.bool_)])
        head = fit(rows[kept], targets[kept], start, strength, fitting)
        return float((head.logits(own[left_out])[:, 0] < threshold).mean())

    classes = list(dict.fromkeys(names))
    refused = scores < threshold
    report = NoneReport(
        passed=float((~refused[: len(own)]).mean()),
        scenes_refused=float(refused[len(own) :][: len(scenes)].mean()),
        others_refused=None if others is None else float(refused[len(own) + len(scenes) :].mean()),
        left_out_refused={name: refused_without(name) for name in classes[:LEFT_OUT]} if len(classes) > 2 else {},
        strangers=(),
    )
    return Head(whole.weight, whole.bias - threshold), scores[: len(own)], report


def pictures_of_nothing(size: int) -> Pixels:
    """Render empty rooms, streets, floors and walls, noise, and plain colours, always the same.

    Returns:
        uint8 [N, size, size, 3] RGB.
    """
    rng = np.random.default_rng(0)
    makers = (backdrops.ground, backdrops.wall, backdrops.room, backdrops.street)
    scenes = [makers[number % len(makers)](rng, (SCENE_SIDE, SCENE_SIDE)) for number in range(SCENES)]
    pictures = [resize(scene, size) for scene in scenes]
    pictures += [rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(PLAIN)]
    pictures += [np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(PLAIN)]
    return np.stack(pictures)
