"""The dominant colours of a garment, computed from the pixels of its crop: no network takes part.

pixels, landmarks -> `dominant_colors`: sample inside the garment -> balance the white -> group -> name
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_infer.images import Pixels
from fashion_infer.model_spec import LANDMARK_NAMES

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

# A colour has the name of the nearest of these examples in CIELAB, with lightness scaled as by `_lab`.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "black": ("#101012", "#1e1c1e"),
    "grey": ("#4a4a4c", "#6e6e70", "#949494", "#b8b8b8"),
    "white": ("#fbfbfb", "#ececec"),
    "beige": ("#e8dcc4", "#d8c4a0", "#bfa888", "#d4b480", "#e6c890"),
    "brown": ("#40281a", "#6b4226", "#8b5a2b", "#7a5c48", "#3a2a2a", "#5e342c", "#b47c58"),
    "red": ("#c01820", "#e03a3a", "#a02828", "#b84a4c"),
    "burgundy": ("#3c1018", "#641a2c", "#7c2c40", "#800020"),
    "pink": ("#f6cdd5", "#ee92ae", "#e0559a", "#c97a8c"),
    "orange": ("#f08a28", "#d8622c", "#f0a878"),
    "yellow": ("#f4d838", "#f2e49a", "#d0b030"),
    "olive": ("#3c3c1c", "#66642c", "#8c8848", "#7c7c60"),
    "green": ("#18401e", "#2c7838", "#4cae58", "#a4dca0", "#6c9c74", "#b0c4a8"),
    "teal": ("#0e4448", "#208084", "#3cc0b8", "#9ce0da", "#b4d0c8"),
    "light blue": ("#c4dcf0", "#94bce4"),
    "blue": ("#2450c0", "#3c68ac", "#5c84bc", "#4c6c8c"),
    "navy": ("#10183c", "#22305c", "#24405a"),
    "purple": ("#3a1c50", "#6c3494", "#9464bc", "#c4a8e0", "#2c1c3e", "#7c2868", "#c468b4", "#bca4c4"),
}
NAMES = tuple(EXAMPLES)
MOST = 3  # colours of a garment
SMALLEST_SHARE = 0.1  # of the garment's pixels; rarer colours are left out

_GRID = 36  # about so many pixels are sampled along each side of the crop
_BODY = np.array(["sleeve" not in name for name in LANDMARK_NAMES])
_SHRUNK = 0.85  # size of the outline of the landmarks, since they lie on the garment's border
_SMALLEST_AREA = 0.04  # of the crop; a smaller outline is not trusted
# cv2 gives lightness from 0 to 255. It counts less than hue and chroma, because folds change it more.
_SCALES = np.array([0.6 * 100 / 255, 1, 1], np.float32)
_CELL = 16.0  # CIELAB units a side; the densest such cell starts a group
_RADIUS = 22.0  # CIELAB units; a group's pixels lie closer than this to its middle
_GROUPS = 4  # most groups that are looked for; some may have the same name
_FEWEST = 50  # pixels of the surroundings that tell the tint of the light
_DARK, _COLOURED = 120.0, 0.87  # surroundings darker or less grey than this (least / greatest channel) tell nothing
_CORRECTED = 0.6  # exponent of the correction


class Color(NamedTuple):
    """A colour of a garment.

    Attributes:
        name: one of `NAMES`.
        hex: mean of the pixels of this colour, "#rrggbb".
        share: their share of the garment's pixels, in [0, 1].
    """

    name: str
    hex: str
    share: float


def dominant_colors(pixels: Pixels, landmarks: Floats, visibility: Floats) -> tuple[Color, ...]:
    """Find up to three dominant colours of a garment, the largest share first.

    Similar pixels form a group, which gets the name of its mean; groups of the same name count as one colour. There may
    be no colour at all if the pixels are too varied.

    Args:
        pixels: uint8 [S, S, 3] RGB, the network's input.
        landmarks: [8, 2] (x, y) in [0, 1] of the crop.
        visibility: [8, 3] probabilities of visible, occluded and truncated.
    """
    step = max(1, len(pixels) // _GRID)
    sampled = pixels[step // 2 :: step, step // 2 :: step]
    inside = garment_mask(landmarks, visibility, sampled.shape[:2])
    garment = balanced(sampled[inside], sampled[~inside])
    colors: dict[str, Color] = {}
    for share, middle in _groups(garment):
        name = color_name(middle)
        larger = colors.get(name, Color(name, _hex(middle), 0.0))
        colors[name] = larger._replace(share=larger.share + share)
    shown = [color for color in colors.values() if color.share >= SMALLEST_SHARE]
    return tuple(sorted(shown, key=lambda color: -color.share)[:MOST])


def garment_mask(landmarks: Floats, visibility: Floats, shape: tuple[int, ...]) -> Mask:
    """Return a mask, bool [H, W], of the part of a crop that surely shows the garment.

    It is the convex outline of the landmarks, made somewhat smaller. Sleeves are left out, since an arm may be far from
    the body. Without enough landmarks in the picture it is the middle of the crop.
    """
    height, width = shape
    mask = np.zeros((height, width), np.uint8)
    usable = np.isfinite(landmarks).all(axis=1) & (visibility.argmax(axis=1) < 2) & _BODY
    points = landmarks[usable].clip(0, 1).astype(np.float32)
    if len(points) >= 3:
        outline = cv2.convexHull(points)[:, 0]
        if cv2.contourArea(outline) >= _SMALLEST_AREA:
            middle = outline.mean(axis=0)
            corners = (middle + _SHRUNK * (outline - middle)) * (width, height)
            cv2.fillConvexPoly(mask, corners.astype(np.int32), 1)
            return mask.view(np.bool_)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return mask.view(np.bool_)


def balanced(garment: Pixels, surroundings: Pixels) -> Pixels:
    """Take the tint of the light out of a garment's pixels, uint8 [N, 3] RGB, as far as its surroundings show it.

    The brightest tenth of the surroundings is assumed to be white or grey. The correction is cautious: there is none if
    these pixels are dark or strongly coloured, and it takes out only a part of the tint, at most a tenth of a channel.
    """
    if len(surroundings) < _FEWEST:
        return garment
    green = surroundings[:, 1]  # most of a colour's brightness
    place = len(green) * 9 // 10
    white = surroundings[green >= np.partition(green, place)[place]].mean(axis=0)
    if white.max() < _DARK or white.min() < _COLOURED * white.max():
        return garment
    gain = ((white.mean() / white) ** _CORRECTED).clip(0.9, 1.1).astype(np.float32)
    return (garment * gain + 0.5).clip(0, 255).astype(np.uint8)


def _groups(pixels: Pixels) -> Iterator[tuple[float, Floats]]:
    """Group pixels, uint8 [N, 3] RGB, by colour, the densest group first; scattered pixels belong to no group.

    Yields:
        Each group's share of the pixels, and the mean of its colours, [3] red, green and blue from 0 to 255.
    """
    lab, rgb = np.ascontiguousarray(_lab(pixels).T), pixels.T.astype(np.float32)
    cells = np.array([256, 16, 1]) @ (lab / _CELL).astype(np.intp)
    free = np.ones(len(pixels), np.bool_)
    for _ in range(_GROUPS):
        if np.count_nonzero(free) < SMALLEST_SHARE * len(pixels):
            return
        densest = free & (cells == np.bincount(cells, free).argmax())
        middle = lab @ densest / np.count_nonzero(densest)
        near = free & (np.square(lab - middle[:, None]).sum(axis=0) < _RADIUS**2)
        free &= ~near
        count = np.count_nonzero(near)
        yield float(count) / len(pixels), rgb @ near / count


def color_name(rgb: Floats) -> str:
    """Name a colour, [3] red, green and blue from 0 to 255: the name of the nearest example."""
    names, examples = _examples()
    return names[int(_distances(rgb, examples).argmin())]


def nearest_names(rgb: Floats) -> list[str]:
    """All `NAMES` in the order of their distance from a colour, [3] red, green and blue from 0 to 255."""
    names, examples = _examples()
    return list(dict.fromkeys(names[place] for place in _distances(rgb, examples).argsort().tolist()))


def _distances(rgb: Floats, examples: Floats) -> Floats:
    squares: Floats = np.square(examples - _lab(rgb.round().astype(np.uint8)[None])).sum(axis=1)
    return squares


@lru_cache(maxsize=1)
def _examples() -> tuple[list[str], Floats]:
    names = [name for name, examples in EXAMPLES.items() for _ in examples]
    codes = [bytes.fromhex(code[1:]) for examples in EXAMPLES.values() for code in examples]
    return names, _lab(np.array([list(code) for code in codes], np.uint8))


def _lab(pixels: Pixels) -> Floats:
    """Convert uint8 [N, 3] RGB to CIELAB, float32 [N, 3]: lightness from 0 to 60, and a and b plus 128."""
    return cv2.cvtColor(pixels[None], cv2.COLOR_RGB2LAB)[0] * _SCALES


def _hex(rgb: Floats) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb.round().astype(int).tolist())
