"""The items that the pool's runners process: crops of garments, and rows of batches that callers decoded themselves.

image -> garments_of_image -> parts -> (the pool forms a batch) -> run_items -> Predictions
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs, Runner
from fashion_infer.batching import Done, Part
from fashion_infer.errors import ImageError
from fashion_infer.images import ImageSource, Picture, Pixels, read_image
from fashion_infer.model_spec import ModelSpec
from fashion_infer.prediction import Prediction, from_outputs
from fashion_infer.preprocess import Corners, Crop, crop, shrunk


@dataclass
class Garment:
    """One box of one image on its way to the network.

    Attributes:
        source: the image as the caller gave it, or its bytes.
        width: width of the upright image, pixels.
        height: height of the upright image, pixels.
        crop: the network's input and its position in the image.
        picture: the decoded image if the Predictor keeps it, otherwise None.
        timing: milliseconds of each stage so far; `queue` is the time before the image was decoded.
        ready: when the crop was ready, seconds on the performance counter.
    """

    source: ImageSource
    width: int
    height: int
    crop: Crop
    picture: Picture | None
    timing: dict[str, float]
    ready: float = field(default_factory=perf_counter)

    @property
    def rows(self) -> Pixels:
        """The network's input, uint8 [1, S, S, 3]."""
        return self.crop.pixels[None]

    def result(self, outputs: Outputs, spec: ModelSpec, start: float, compute_ms: float) -> Prediction:
        """Make the Prediction from this garment's outputs, each [1, ...]; its batch began at `start`."""
        began = perf_counter()
        timing = {**self.timing, "compute": compute_ms}
        timing["queue"] += (start - self.ready) * 1e3
        prediction = from_outputs(
            {name: values[0] for name, values in outputs.items()},
            self.crop,
            spec,
            source=self.source,
            width=self.width,
            height=self.height,
            timing=timing,
            picture=self.picture,
        )
        timing["post"] = (perf_counter() - began) * 1e3
        return prediction


@dataclass
class Rows:
    """Rows of a batch that was decoded elsewhere: uint8 [N, S, S, 3]."""

    rows: Pixels

    def result(self, outputs: Outputs, *_: object) -> Outputs:
        """Return the outputs unchanged."""
        return outputs


@dataclass(frozen=True)
class Cutting:
    """How a Predictor decodes images and crops garments.

    Attributes:
        size: side S of a crop, pixels.
        max_pixels: images with more pixels are refused.
        max_bytes: larger files are refused.
        keep_pictures: whether each garment keeps a copy of the decoded image.
    """

    size: int
    max_pixels: int
    max_bytes: int
    keep_pictures: bool


def garments_of_image(
    cutting: Cutting, source: ImageSource, boxes: Sequence[Corners | ImageError] | None, accepted: float
) -> list[Part | Done]:
    """Decode an image and crop its garments: one for each box, or one for the whole image.

    Args:
        cutting: the Predictor's settings.
        source: the image.
        boxes: from `parse_boxes`, in pixels of the upright image; None for the whole image.
        accepted: when the request was accepted, seconds on the performance counter.

    Raises:
        ImageError: the image cannot be used. A box that cannot be used gives a `Done` with its error instead.
    """
    if boxes is not None and len(boxes) == 0:
        return []
    start = perf_counter()
    usable = None if boxes is None else [box for box in boxes if not isinstance(box, ImageError)]
    picture = read_image(
        source, side=cutting.size, boxes=usable, max_pixels=cutting.max_pixels, max_bytes=cutting.max_bytes
    )
    kept = shrunk(picture) if cutting.keep_pictures else None
    timing = {"decode": (perf_counter() - start) * 1e3, "preprocess": 0.0, "queue": (start - accepted) * 1e3}
    parts: list[Part | Done] = []
    for box in [None] if boxes is None else boxes:
        start = perf_counter()
        try:
            if isinstance(box, ImageError):
                raise box
            region = crop(picture, box, cutting.size)
        except ImageError as error:
            if boxes is None:
                raise
            parts.append(Done(Prediction.failed(source, error)))
        else:
            own = {**timing, "preprocess": (perf_counter() - start) * 1e3}
            parts.append(Part(Garment(source, picture.width, picture.height, region, kept, own)))
    return parts


def rows_of_image(
    cutting: Cutting, source: bytes, boxes: Sequence[Corners | ImageError] | None, accepted: float
) -> list[Part | Done]:
    """Like `garments_of_image` for an encoded image with at most one box, but its result is the network's outputs.

    Raises:
        ImageError: the image or the box cannot be used.
    """
    (part,) = garments_of_image(cutting, source, boxes, accepted)
    if isinstance(part, Done):  # a bad box
        raise part.result.error
    return [Part(Rows(part.item.rows))]


def parts_of_batch(batch: NDArray[np.uint8], size: int, max_batch: int) -> list[Part | Done]:
    """Split a batch that the caller decoded into parts of at most `max_batch` rows; an empty batch has none.

    Raises:
        ImageError: the batch is not uint8 [N, size, size, 3].
    """
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != (size, size, 3):
        raise ImageError(f"a batch must be uint8 [N, {size}, {size}, 3], got {batch.dtype} {list(batch.shape)}")
    if len(batch) == 0:
        return []
    return [Part(Rows(rows), len(rows)) for rows in np.split(batch, range(max_batch, len(batch), max_batch))]


def run_items(runner: Runner, spec: ModelSpec, items: list[Garment | Rows]) -> list[Prediction | Outputs]:
    """Run the items of one batch through the network; only the pool's threads call it.

    Args:
        runner: one session of a backend.
        spec: the model's specification.
        items: one or more items.

    Returns:
        A Prediction for each garment and the outputs of each `Rows`, in order.
    """
    start = perf_counter()
    outputs = runner.run([item.rows for item in items])
    compute_ms = (perf_counter() - start) * 1e3
    results: list[Prediction | Outputs] = []
    end = 0
    for item in items:
        begin, end = end, end + len(item.rows)
        rows = {name: values[begin:end] for name, values in outputs.items()}
        results.append(item.result(rows, spec, start, compute_ms))
    return results
