"""The pixels of cloth: patterns, fabrics, and the shading of folds.

`size` is the side of a square image in pixels.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_infer.synthetic.designs import Color, Design

Image = NDArray[np.uint8]
Grid = NDArray[np.float32]


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[Grid, Grid]:
    """The x and y of every pixel of a square image, scaled so that the image is 256 wide."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) * (256.0 / size)
    return x, y


def cloth(design: Design, rng: np.random.Generator, size: int) -> Image:
    """Draw the flat cloth of a design, uint8 [size, size, 3] RGB."""
    pattern = pattern_of(design.texture, rng, size)
    palette = np.linspace(design.base, design.second, 256).astype(np.uint8)
    image = np.asarray(cv2.applyColorMap(pattern, palette[:, None]), np.uint8)
    relief = relief_of(design.fabric, rng, size)
    if relief is None:
        return image
    return np.asarray(cv2.multiply(image, cv2.merge([relief] * 3), scale=1 / 128), dtype=np.uint8)


def pattern_of(texture: str, rng: np.random.Generator, size: int) -> Image:
    """Draw a pattern, uint8 [size, size]: the share of the second colour, from 0 to 255."""
    x, y = grid(size)
    period = float(rng.uniform(16, 28))
    if texture == "striped":
        return on(y % period < period * 0.45)
    if texture == "pinstripe":
        return on(x % (period * 0.5) < 1.8)
    if texture == "plaid":
        bands = (x % period < period * 0.4) * 90 + (y % period < period * 0.4) * 90
        return np.asarray(bands + ((x % period < 2) | (y % period < 2)) * 70, dtype=np.uint8)
    if texture == "gingham":
        return np.asarray(((x % 14 < 7) * 1 + (y % 14 < 7) * 1) * 127, dtype=np.uint8)
    if texture == "chevron":
        return on((y + np.abs(x % period - period / 2)) % (period * 0.7) < period * 0.3)
    if texture == "colorblock":
        return on(y > float(rng.uniform(95, 160)))
    if texture == "ombre":
        return np.asarray(np.clip((y - 40) * 1.4, 0, 255), dtype=np.uint8)
    if texture == "camo":
        return camo(rng, size)
    if texture == "graphic":
        return graphic(rng, size)
    if texture in ("dotted", "floral", "leopard"):
        return stamped(texture, rng, size)
    return np.zeros((size, size), np.uint8)


def on(mask: NDArray[np.bool_]) -> Image:
    """Convert a mask to uint8: 255 where it is True, else 0."""
    return np.asarray(mask, dtype=np.uint8) * np.uint8(255)


def camo(rng: np.random.Generator, size: int) -> Image:
    """Draw a camouflage pattern of three shades."""
    noise = cv2.resize(rng.random((14, 14), np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise > 0.42) * 110 + (noise > 0.6) * 130, dtype=np.uint8)


def graphic(rng: np.random.Generator, size: int) -> Image:
    """Draw a print on the chest."""
    image = np.zeros((size, size), np.uint8)
    unit = size / 256
    centre = (round(128 * unit), round(float(rng.uniform(88, 110)) * unit))
    radius = round(float(rng.uniform(20, 30)) * unit)
    sides = int(rng.integers(3, 7))
    if sides == 6:
        cv2.circle(image, centre, radius, 255, -1)
    else:
        turns = np.arange(2 * sides) * np.pi / sides - np.pi / 2
        reach = radius * np.where(np.arange(2 * sides) % 2, 0.45, 1.0)
        star = np.stack([centre[0] + reach * np.cos(turns), centre[1] + reach * np.sin(turns)], axis=1)
        cv2.fillPoly(image, [star.astype(np.int32)], 255)
    cv2.line(image, (centre[0] - radius, centre[1] + radius + 4), (centre[0] + radius, centre[1] + radius + 4), 220, 4)
    return image


def stamped(texture: str, rng: np.random.Generator, size: int) -> Image:
    """Draw a tile with dots, flowers or rosettes, and repeat it."""
    tile = np.zeros((48, 48), np.uint8)
    for cx, cy in (
        ((12, 12), (36, 36)) if texture == "floral" else ((8, 8), (32, 8), (20, 24), (44, 24), (8, 40), (32, 40))
    ):
        jitter = rng.integers(-2, 3, 2) if texture != "dotted" else (0, 0)
        at = (int(cx + jitter[0]), int(cy + jitter[1]))
        if texture == "dotted":
            cv2.circle(tile, at, 4, 255, -1, cv2.LINE_AA)
        elif texture == "leopard":
            cv2.ellipse(tile, at, (6, 4), float(rng.uniform(0, 180)), 0, 290, 255, 3, cv2.LINE_AA)
        else:
            for turn in np.arange(5) * 2 * np.pi / 5:
                cv2.circle(
                    tile, (round(at[0] + 6 * np.cos(turn)), round(at[1] + 6 * np.sin(turn))), 4, 255, -1, cv2.LINE_AA
                )
            cv2.circle(tile, at, 3, 110, -1, cv2.LINE_AA)
    side = max(8, round(48 * size / 256))
    tile = np.asarray(cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    repeats = -(-size // side)
    return np.tile(tile, (repeats, repeats))[:size, :size]


def relief_of(fabric: str, rng: np.random.Generator, size: int) -> Image | None:
    """Draw the brightness of the fabric's surface, uint8 [size, size], 128 for neutral; None for a smooth fabric."""
    x, y = grid(size)
    if fabric == "knit":
        wave = np.sin(y * 0.9 + 2.2 * np.abs((x % 8) / 4 - 1)) * 20
    elif fabric == "ribbed":
        wave = np.sin(x * 1.05) * 20
    elif fabric == "corduroy":
        wave = np.where(x % 5 < 2, -30, 8)
    elif fabric == "denim":
        wave = np.where((x + y) % 4 < 1.5, -12, 6) + rng.integers(-10, 11, (size, size), np.int8)
    elif fabric == "lace":
        wave = np.where(((x % 9 - 4.5) ** 2 + (y % 9 - 4.5) ** 2 < 7) | ((x + y) % 18 < 2), -45, 10)
    elif fabric == "fleece":
        soft = cv2.GaussianBlur(rng.random((size, size), np.float32), (0, 0), 1.5)
        wave = (soft - 0.5) * 190
    elif fabric == "cotton":
        wave = rng.integers(-4, 5, (size, size), np.int8)
    else:
        return None
    return np.asarray(np.clip(wave + np.int16(128), 0, 255), dtype=np.uint8)


FOLD_DEPTH = {"satin": 0.42, "leather": 0.5, "chiffon": 0.26, "denim": 0.2, "knit": 0.16, "fleece": 0.14}


def folds(design: Design, rng: np.random.Generator, height: int, width: int) -> Grid:
    """Draw the folds as factors of brightness, float32 [height, width]; glossy fabrics have sharp folds."""
    depth = FOLD_DEPTH.get(design.fabric, 0.18)
    noise = cv2.resize(rng.random((5, 9), np.float32), (width, height), interpolation=cv2.INTER_CUBIC) - 0.5
    if design.fabric in ("satin", "leather"):
        noise = np.sin(noise * 11) * 0.6
    shade = 1.0 + 1.4 * depth * noise
    if design.pleated:
        shade = shade * (1.0 + 0.16 * np.sin(np.arange(width, dtype=np.float32) * (110.0 / width)))[None, :]
    return np.asarray(shade, dtype=np.float32)


def soften(mask: Image, radius: float) -> Grid:
    """Blur a mask strongly, float32 [H, W] in [0, 1]; for speed it is done at a quarter of the size."""
    height, width = mask.shape
    small = cv2.resize(mask, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small.astype(np.float32) * (1 / 255), (0, 0), radius / 4)
    return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def shaded(color: Color, factor: float) -> Color:
    """Make a colour darker (factor < 1) or lighter (factor > 1)."""
    red, green, blue = (min(255, round(channel * factor)) for channel in color)
    return red, green, blue
