"""Which pixels the network sees, and the way back: the one preprocessing that training, export and prediction share."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import ImageError
from fashion_infer.images import Picture, Pixels

Floats = NDArray[np.floating]
Box = Sequence[float] | Floats


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
        """[..., 2] points (x, y) in [0, 1] of the crop -> pixels of the picture."""
        return np.asarray(points * np.array(self.size) + np.array(self.origin))

    def from_image(self, points: Floats) -> Floats:
        """[..., 2] points in pixels of the picture -> [0, 1] of the crop: the inverse of `to_image`."""
        return np.asarray((points - np.array(self.origin)) / np.array(self.size))


def crop(picture: Picture, box: Box | None, size: int) -> Crop:
    """Cut a box out of a picture and resize it, antialiased, to `size` x `size`.

    The box is clipped to the picture and rounded outwards to whole decoded pixels; `origin` and `size` of the result
    are those of the pixels really cut. Its aspect ratio is not kept, as in the paper's setting.

    Args:
        picture: from `read_image`.
        box: x1 y1 x2 y2 in pixels of the picture; None for all of it.
        size: side S of the result, pixels.

    Raises:
        ImageError: the box is not four finite numbers, has no area, or lies outside the picture.
    """
    decoded_height, decoded_width = picture.pixels.shape[:2]
    scale = np.array([decoded_width / picture.width, decoded_height / picture.height] * 2)
    corners = scale * _clip(box, picture.width, picture.height)
    x1, y1 = (int(c) for c in np.minimum(np.floor(corners[:2] + 1e-6), [decoded_width - 1, decoded_height - 1]))
    x2, y2 = (int(c) for c in np.ceil(corners[2:] - 1e-6))
    cut = picture.pixels[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    origin = (float(x1 / scale[0]), float(y1 / scale[1]))
    return Crop(resize(cut, size), origin, (float(cut.shape[1] / scale[0]), float(cut.shape[0] / scale[1])))


def resize(pixels: Pixels, size: int) -> Pixels:
    """Resize uint8 [h, w, 3] to [size, size, 3]: areas are averaged where it shrinks, interpolated where it grows."""
    height, width = pixels.shape[:2]
    shrunk = (min(width, size), min(height, size))
    if shrunk != (width, height):
        pixels = cv2.resize(pixels, shrunk, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if shrunk != (size, size):
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return np.ascontiguousarray(pixels)


def _clip(box: Box | None, width: int, height: int) -> NDArray[np.float64]:
    if box is None:
        return np.array([0, 0, width, height], np.float64)
    try:
        corners = np.asarray(box, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError(f"a box must be four numbers x1 y1 x2 y2, got {box!r}") from error
    if corners.shape != (4,) or not np.isfinite(corners).all():
        raise ImageError(f"a box must be four finite numbers x1 y1 x2 y2, got {box!r}")
    clipped = np.clip(corners, 0, [width, height, width, height])
    if not (clipped[2] > clipped[0] and clipped[3] > clipped[1]):
        raise ImageError(f"the box {corners.tolist()} has no area inside the {width} x {height} image")
    return clipped
