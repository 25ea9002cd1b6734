"""Is there a garment at all? A logistic function of the embedding, fitted on photos of garments and of other things."""

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

SCENES = 300  # rendered rooms and streets without a garment
PIECES = 12  # of each of scikit-image's pictures: they are few, so parts of them count as pictures
PICTURES = (
    "camera", "cat", "coffee", "coins", "grass", "gravel", "brick", "moon", "page", "clock", "rocket", "chelsea",
    "hubble_deep_field", "immunohistochemistry", "retina", "text", "horse", "colorwheel",
)  # fmt: skip
KEPT = 0.98  # share of val's garments that must score above a half


def fit_garment_score(
    run: Run, spec: ModelSpec, photos: FashionData, rendered: FashionData, others: FashionData
) -> ModelSpec:
    """The spec with the weights of the score, fitted on train, its threshold (a half) set on val.

    Args:
        run: of the network.
        spec: its own.
        photos: garments, with the splits train and val.
        rendered: garments as well, the worn ones that the photos lack among them.
        others: things that are no garments, with the same splits.
    """
    rng = np.random.default_rng(0)
    garments, things = (
        outputs_of(run, spec, data.split("train"), whole=True)["embedding"] for data in (photos, others)
    )
    boxed = outputs_of(run, spec, photos.split("train"))["embedding"]
    drawn = outputs_of(run, spec, rendered)["embedding"]
    clutter = run_in_batches(run, other_pictures(spec.image_size, rng))["embedding"]
    embeddings = np.concatenate([garments, boxed, drawn, things, clutter])
    is_garment = np.arange(len(embeddings)) < len(garments) + len(boxed) + len(drawn)
    fitted = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000).fit(embeddings, is_garment)
    held_out = outputs_of(run, spec, photos.split("val"), whole=True)["embedding"]
    logits = fitted.decision_function(held_out)
    bias = float(fitted.intercept_[0]) - min(0.0, float(np.quantile(logits, 1 - KEPT, method="lower")))
    weights = tuple(round(float(weight), 5) for weight in fitted.coef_[0])
    return dataclasses.replace(spec, garment_weights=weights, garment_bias=round(bias, 5))


def other_pictures(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 [N, S, S, 3]: scikit-image's pictures and pieces of them, empty scenes, noise and plain colours."""
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
    """scikit-image's pictures are grey, black and white, or RGB."""
    pixels = picture.astype(np.uint8) * (255 if picture.dtype == bool else 1)
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB))


def outputs_of(run: Run, spec: ModelSpec, data: FashionData, *, whole: bool = False) -> Outputs:
    """The network's outputs for every row of a set, cut out by its box or whole."""
    boxes = [None] * len(data) if whole else list(data.boxes.astype(np.float64))
    size = spec.image_size
    crops = [
        crop(read_image(data.image_root / name, side=size, boxes=None if box is None else [box]), box, size).pixels
        for name, box in zip(data.images, boxes, strict=True)
    ]
    return run_in_batches(run, np.stack(crops))


def run_in_batches(run: Run, pictures: NDArray[np.uint8], batch: int = 32) -> Outputs:
    """The outputs for any number of pictures."""
    parts = [run(pictures[start : start + batch]) for start in range(0, len(pictures), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
