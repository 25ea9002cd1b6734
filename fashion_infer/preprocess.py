"""Preprocessing for training, export and prediction: crops of pictures, and the mapping of points back to them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_infer.decoding import untrusted
from fashion_infer.errors import ImageError
from fashion_infer.images import ImageSource, Picture, Pixels, read_image

Floats = NDArray[np.floating]
Box = Sequence[float] | Floats
Corners = tuple[float, float, float, float]

_SMALLEST_BOX = 2  # pixels a side
_KEPT_SIDE = 960


@dataclass(frozen=True)
class Crop:
    """A box of a picture, stretched to the network's square input.

    Attributes:
        pixels: uint8 [S, S, 3] RGB.
        origin: (x, y) of the box's top-left corner in the picture, pixels.
        size: width and height of the box, pixels.
    """

    pixels: Pixels
    origin: tuple[float, float]
    size: tuple[float, float]

    def to_image(self, points: Floats) -> Floats:
        """Map points (x, y), [..., 2], from [0, 1] of the crop to pixels of the picture."""
        scaled: Floats = points * self.size + self.origin
        return scaled

    def from_image(self, points: Floats) -> Floats:
        """Map points (x, y), [..., 2], from pixels of the picture to [0, 1] of the crop: the inverse of `to_image`."""
        unscaled: Floats = (points - self.origin) / self.size
        return unscaled


def read_crop(source: ImageSource, size: int, box: Box | None = None) -> tuple[Picture, Crop]:
    """Decode a picture, no larger than needed, and crop a box or the whole picture: `read_image`, then `crop`.

    Raises:
        ImageError: the picture cannot be read, or the box cannot be used.
    """
    picture = read_image(source, side=size, boxes=None if box is None else [box])
    return picture, crop(picture, box, size)


def read_inputs(sources: Iterable[ImageSource], size: int) -> Pixels:
    """Decode one or more whole pictures to the network's input, uint8 [N, size, size, 3] RGB.

    Raises:
        ImageError: a picture cannot be used.
    """
    return np.stack([read_crop(source, size)[1].pixels for source in sources])


def crop(picture: Picture, box: Box | None, size: int) -> Crop:
    """Crop a box from a picture and resize it, antialiased, to `size` x `size`.

    The box is clipped to the picture and rounded outwards to whole decoded pixels; `origin` and `size` of the result
    describe this rounded box. The aspect ratio is not kept, as in the paper.

    Args:
        picture: from `read_image`.
        box: x1 y1 x2 y2 in pixels of the picture; None for the whole picture.
        size: side S of the result, pixels.

    Raises:
        ImageError: the box is not four finite numbers, or covers less than 2 pixels of the picture on a side
            (unless that side of the picture is only 1 pixel long).
    """
    decoded_height, decoded_width = picture.pixels.shape[:2]
    scale_x, scale_y = decoded_width / picture.width, decoded_height / picture.height
    x1, y1, x2, y2 = clip_box(box, picture.width, picture.height)
    left = min(math.floor(x1 * scale_x + 1e-6), decoded_width - 1)
    top = min(math.floor(y1 * scale_y + 1e-6), decoded_height - 1)
    region = picture.pixels[
        top : max(math.ceil(y2 * scale_y - 1e-6), top + 1), left : max(math.ceil(x2 * scale_x - 1e-6), left + 1)
    ]
    height, width = region.shape[:2]
    return Crop(resize(region, size), (left / scale_x, top / scale_y), (width / scale_x, height / scale_y))


def resize(pixels: Pixels, size: int) -> Pixels:
    """Resize uint8 [h, w, 3] to [size, size, 3]: area averaging to shrink, linear interpolation to enlarge."""
    height, width = pixels.shape[:2]
    if size < min(width, height) and 3 * max(width, height) <= 8 * size:
        # Typical sizes of decoded JPEGs. Resizing to twice the size and averaging 2 x 2 pixels takes half the time of
        # INTER_AREA; on photos the results differ by less than one grey level.
        pixels = cv2.resize(pixels, (2 * size, 2 * size), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    shrunk = (min(pixels.shape[1], size), min(pixels.shape[0], size))
    if shrunk != pixels.shape[1::-1]:
        pixels = cv2.resize(pixels, shrunk, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if shrunk != (size, size):
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return np.ascontiguousarray(pixels)


def shrunk(picture: Picture) -> Picture:
    """A copy with at most 960 pixels on the shorter side: sharp enough to look at, and small enough to keep many."""
    height, width = picture.pixels.shape[:2]
    if (scale := _KEPT_SIDE / min(height, width)) >= 1:
        return replace(picture, pixels=picture.pixels.copy())  # the pixels may be the caller's buffer
    pixels = cv2.resize(picture.pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    return replace(picture, pixels=pixels.astype(np.uint8, copy=False))


def parse_boxes(boxes: Iterable[Box | ImageError]) -> list[Corners | ImageError]:
    """Copy the boxes of one image, because the caller may change them later; a bad box is replaced by its error.

    Boxes that are no sequence count as one bad box.
    """
    try:
        if isinstance(boxes, str | bytes | Mapping):
            raise ImageError(f"boxes must be a sequence of boxes x1 y1 x2 y2, got {boxes!r}")
        with untrusted(f"boxes must be a sequence of boxes x1 y1 x2 y2, got a {type(boxes).__name__}"):
            boxes = list(boxes)
    except ImageError as error:
        return [error]
    return [_box_or_error(box) for box in boxes]


def _box_or_error(box: Box | ImageError) -> Corners | ImageError:
    try:
        return box if isinstance(box, ImageError) else parse_box(box)
    except ImageError as error:
        return error


def parse_box(box: Box) -> Corners:
    """The four numbers of a box as floats.

    Raises:
        ImageError: the box is not four finite numbers.
    """
    with untrusted(f"a box must be four numbers x1 y1 x2 y2, got a {type(box).__name__}"):
        corners = np.asarray(box, np.float64)
    if corners.shape != (4,) or not np.isfinite(corners).all():
        raise ImageError(f"a box must be four finite numbers x1 y1 x2 y2, got {box!r}")
    x1, y1, x2, y2 = corners.tolist()
    return x1, y1, x2, y2


def clip_box(box: Box | None, width: int, height: int) -> Corners:
    """Clip a box to a picture of `width` x `height` pixels; returns x1 y1 x2 y2 in pixels.

    Raises:
        ImageError: the box is not four finite numbers, or covers less than 2 pixels of the picture on a side.
    """
    if box is None:
        return 0.0, 0.0, width, height
    corners = list(parse_box(box))
    x1, y1, x2, y2 = (min(max(place, 0.0), end) for place, end in zip(corners, (width, height) * 2, strict=True))
    if not (x2 > x1 and y2 > y1):
        raise ImageError(f"the box {corners} has no area inside the {width} x {height} image")
    if x2 - x1 < min(_SMALLEST_BOX, width) or y2 - y1 < min(_SMALLEST_BOX, height):
        raise ImageError(
            f"the box {corners} covers less than {_SMALLEST_BOX} pixels a side of the {width} x {height} "
            "image: boxes are x1 y1 x2 y2 in pixels of the upright image, not shares of it"
        )
    return x1, y1, x2, y2
