"""The garment score: a logistic function of the embedding, fitted on photos of garments and of other things."""

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data as samples
from sklearn.linear_model import LogisticRegression

from fashion_infer.backends import Outputs
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.evaluation.judging import Run
from fashion_infer.images import Pixels, read_image
from fashion_infer.model_spec import ModelSpec
from fashion_infer.preprocess import crop
from fashion_infer.synthetic import backdrops

Floats = NDArray[np.floating]
SCENES = 300  # rendered rooms and streets without a garment
PIECES = 12  # pieces per picture of scikit-image: there are few pictures, so parts of them serve as further ones
PICTURES = (
    "camera", "cat", "coffee", "coins", "grass", "gravel", "brick", "moon", "page", "clock", "rocket", "chelsea",
    "hubble_deep_field", "immunohistochemistry", "retina", "text", "horse", "colorwheel",
)  # fmt: skip
KEPT = 0.98  # share of val's garments that must score above 0.5


def fit_garment_score(
    run: Run, spec: ModelSpec, *, garments: Floats, others: Floats, validation: FashionData
) -> ModelSpec:
    """Fit the score, and shift it so that nearly all garments of val score above 0.5.

    Args:
        run: The network's `run`.
        spec: The network's ModelSpec.
        garments: [N, D], embeddings of training photos of garments.
        others: [M, D], embeddings of training photos of other things; further pictures without a garment are added.
        validation: Photos of garments, used both whole and cut out by their boxes.

    Returns:
        The spec with the weights of the score.
    """
    clutter = run_in_batches(run, other_pictures(spec.image_size, np.random.default_rng(0)))["embedding"]
    embeddings = np.concatenate([garments, others, clutter])
    is_garment = np.arange(len(embeddings)) < len(garments)
    fitted = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000).fit(embeddings, is_garment)
    held_out = [outputs_of(run, spec, validation, whole=whole)["embedding"] for whole in (True, False)]
    logits = fitted.decision_function(np.concatenate(held_out))
    bias = float(fitted.intercept_[0]) - min(0.0, float(np.quantile(logits, 1 - KEPT, method="lower")))
    weights = tuple(round(float(weight), 5) for weight in fitted.coef_[0])
    return dataclasses.replace(spec, garment_weights=weights, garment_bias=round(bias, 5))


def other_pictures(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return pictures without garments, uint8 [N, S, S, 3]: scikit-image's, empty scenes, noise and plain colours."""
    pictures = []
    for name in PICTURES:
        picture = as_rgb(getattr(samples, name)())
        height, width = picture.shape[:2]
        for piece in range(PIECES):
            share = 1.0 if piece == 0 else rng.uniform(0.3, 0.9)
            h, w = int(share * height), int(share * width)
            y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            pictures.append(crop(read_image(picture[y : y + h, x : x + w]), None, size).pixels)
    scenes = (backdrops.ground, backdrops.wall, backdrops.room, backdrops.street)
    pictures += [scenes[i % len(scenes)](rng, (size, size)) for i in range(SCENES)]
    pictures += [rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(20)]
    pictures += [np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(20)]
    return np.stack(pictures)


def as_rgb(picture: NDArray[np.generic]) -> Pixels:
    """Convert a picture of scikit-image, which may be grey, black and white, or RGB, to uint8 [H, W, 3] RGB."""
    pixels = picture.astype(np.uint8) * (255 if picture.dtype == bool else 1)
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB))


def outputs_of(run: Run, spec: ModelSpec, data: FashionData, *, whole: bool = False) -> Outputs:
    """Run the network on every photo of a set, cut out by its box or whole."""
    boxes = [None] * len(data) if whole else list(data.boxes.astype(np.float64))
    size = spec.image_size
    crops = [
        crop(read_image(data.image_root / name, side=size, boxes=None if box is None else [box]), box, size).pixels
        for name, box in zip(data.images, boxes, strict=True)
    ]
    return run_in_batches(run, np.stack(crops))


def run_in_batches(run: Run, pictures: NDArray[np.uint8], batch: int = 32) -> Outputs:
    """Run the network on any number of pictures, uint8 [N, S, S, 3]."""
    parts = [run(pictures[start : start + batch]) for start in range(0, len(pictures), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
