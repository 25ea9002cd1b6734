"""The dominant colours of a garment, computed from the pixels of its crop: no network takes part.

pixels, landmarks -> `dominant_colors`: sample inside the garment -> balance the white -> group -> name
"""

from functools import lru_cache
from math import isfinite
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
_BODY = [place for place, name in enumerate(LANDMARK_NAMES) if "sleeve" not in name]
_SHRUNK = 0.85  # size of the outline of the landmarks, since they lie on the garment's border
_SMALLEST_AREA = 0.04  # of the crop; a smaller outline is not trusted
# cv2 gives lightness from 0 to 255. It counts less than hue and chroma, because folds change it more.
_SCALES = np.array([0.6 * 100 / 255, 1, 1], np.float32)
_CELL = np.array(
    [5, 4, 4], np.uint8
)  # cv2's L, a and b are divided by 2 to this power: the densest cell starts a group
_REACH = np.array([75.0, 18.0, 18.0])  # a group's pixels are as near to its middle as this, in cv2's L, a and b
_GROUPS = 4  # most groups that are looked for; some may have the same name
_FEWEST = 50  # pixels of the surroundings that tell the tint of the light
_DARK, _COLOURED = 120.0, 0.87  # surroundings darker or less grey than this (least / greatest channel) tell nothing
_CORRECTED = 0.6  # exponent of the correction
_UNCHANGED = np.ones(3)


class Color(NamedTuple):
    """A colour of a garment.

    Attributes:
        name: one of `NAMES`.
        hex: mean of the pixels of this name after the correction of the light's tint, "#rrggbb".
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
        pixels: uint8 [S, S, 3] RGB, the network's input, or what `sampled` takes from it.
        landmarks: [8, 2] (x, y) in [0, 1] of the crop.
        visibility: [8, 3] probabilities of visible, occluded and truncated.
    """
    sample = sampled(pixels)
    inside = garment_mask(landmarks, visibility, sample.shape[:2]).ravel()
    every = sample.reshape(-1, 3)
    gain = white_balance(every.take(np.flatnonzero(~inside), axis=0))
    shares, middles = _groups(every.take(np.flatnonzero(inside), axis=0))
    balanced = (middles * gain).clip(0, 255)
    sums: dict[str, Floats] = {}  # by name: the share, and the sums of red, green and blue weighted by the shares
    for share, rgb, name in zip(shares, balanced, _names(np.rint(balanced).astype(np.uint8)), strict=True):
        sums[name] = sums.get(name, 0) + share * np.array([1, *rgb])
    colors = [
        Color(name, f"#{np.rint(total[1:] / total[0]).astype(np.uint8).tobytes().hex()}", float(total[0]))
        for name, total in sums.items()
        if total[0] >= SMALLEST_SHARE
    ]
    return tuple(sorted(colors, key=lambda color: -color.share)[:MOST])


def sampled(pixels: Pixels) -> Pixels:
    """The pixels that `dominant_colors` looks at, as a small picture of the crop; of this it looks at all."""
    step = max(1, len(pixels) // _GRID)
    return pixels[step // 2 :: step, step // 2 :: step].copy()


def garment_mask(landmarks: Floats, visibility: Floats, shape: tuple[int, ...]) -> Mask:
    """Return a mask, bool [H, W], of the part of a crop that surely shows the garment.

    It is the convex outline of the landmarks, made somewhat smaller. Sleeves are left out, since an arm may be far from
    the body. Without enough landmarks in the picture it is the middle of the crop.
    """
    height, width = shape
    mask = np.zeros((height, width), np.uint8)
    rows = zip(landmarks[_BODY].tolist(), visibility[_BODY].tolist(), strict=True)
    points = [
        (min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0))
        for (x, y), (visible, occluded, truncated) in rows
        if max(visible, occluded) >= truncated and isfinite(x) and isfinite(y)
    ]
    if len(points) >= 3:
        hull = cv2.convexHull(np.array(points, np.float32))  # None for some sets of equal points
        if hull is not None and cv2.contourArea(hull) >= _SMALLEST_AREA:
            outline = hull[:, 0]
            middle = outline.sum(axis=0) / len(outline)
            corners = (middle + _SHRUNK * (outline - middle)) * (width, height)
            cv2.fillConvexPoly(mask, corners.astype(np.int32), 1)
            return mask.view(np.bool_)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
    return mask.view(np.bool_)


def white_balance(surroundings: Pixels) -> Floats:
    """Return factors of red, green and blue that take the tint of the light out of a garment's colours.

    The brightest tenth of the surroundings is assumed to be white or grey. The correction is cautious: there is none if
    these pixels are dark or strongly coloured, and it takes out only a part of the tint, at most a tenth of a channel.

    Args:
        surroundings: uint8 [N, 3] RGB, pixels around the garment.
    """
    if len(surroundings) < _FEWEST:
        return _UNCHANGED
    green = surroundings[:, 1]  # most of a colour's brightness
    place = len(green) * 9 // 10
    brightest = (green >= np.partition(green, place)[place]).view(np.uint8)
    white = np.array(cv2.mean(surroundings[None], brightest[None])[:3])
    if white.max() < _DARK or white.min() < _COLOURED * white.max():
        return _UNCHANGED
    gain: Floats = ((white.mean() / white) ** _CORRECTED).clip(0.9, 1.1)
    return gain


def _groups(pixels: Pixels) -> tuple[list[float], Floats]:
    """Group pixels, uint8 [N, 3] RGB, by colour, the densest group first; scattered pixels belong to no group.

    Returns:
        The share of each group's pixels, and the mean of their colours, [G, 3] red, green and blue from 0 to 255.
    """
    count, image = len(pixels), pixels[None]  # cv2 is much faster than numpy on so few pixels
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    cells = (lab[0] >> _CELL).astype(np.intp) @ (256, 16, 1)
    free = np.full((1, count), 255, np.uint8)
    shares: list[float] = []
    middles: list[tuple[float, ...]] = []
    while len(shares) < _GROUPS and cv2.countNonZero(free) >= SMALLEST_SHARE * count:
        densest = cells == np.bincount(cells, free[0]).argmax()
        middle = np.array(cv2.mean(lab, cv2.copyTo(free, densest.view(np.uint8)[None]))[:3])
        near = cv2.bitwise_and(cv2.inRange(lab, middle - _REACH, middle + _REACH), free)
        free ^= np.asarray(near, np.uint8)  # all of them were free
        shares.append(cv2.countNonZero(near) / count)
        middles.append(cv2.mean(image, near)[:3])
    return shares, np.array(middles).reshape(-1, 3)


def nearest_names(rgb: tuple[int, int, int]) -> list[str]:
    """All `NAMES` in the order of their distance from a colour, red, green and blue from 0 to 255."""
    names, examples = _examples()
    distances = _distances(np.array([rgb], np.uint8), examples)[0]
    return list(dict.fromkeys(names[place] for place in distances.argsort().tolist()))


def _names(colors: Pixels) -> list[str]:
    """Name colours, uint8 [N, 3] RGB."""
    names, examples = _examples()
    return [names[place] for place in _distances(colors, examples).argmin(axis=1).tolist()] if len(colors) else []


def _distances(colors: Pixels, examples: Floats) -> Floats:
    """Squared distances of colours, uint8 [N, 3] RGB, from E examples: [N, E]."""
    squares: Floats = np.square(examples - _lab(colors)[:, None]).sum(axis=2)
    return squares


@lru_cache(maxsize=1)
def _examples() -> tuple[list[str], Floats]:
    names = [name for name, examples in EXAMPLES.items() for _ in examples]
    codes = [bytes.fromhex(code[1:]) for examples in EXAMPLES.values() for code in examples]
    return names, _lab(np.array([list(code) for code in codes], np.uint8))


def _lab(pixels: Pixels) -> Floats:
    """Convert uint8 [N, 3] RGB to CIELAB, float32 [N, 3]: lightness from 0 to 60, and a and b plus 128."""
    return np.asarray(cv2.cvtColor(pixels[None], cv2.COLOR_RGB2LAB)[0] * _SCALES, np.float32)
