"""Pictures of results: a box, its landmarks and a caption drawn on a copy of the image."""

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np

from fashion_infer.images import Pixels

_SHORT_SIDE = 480  # smaller pictures are enlarged, so that marks and words can be read
_LONG_SIDE = 1920  # but not beyond this: a strip one pixel high would grow to gigabytes
_LINE = 20
_LETTER = 7  # pixels, rather more than the mean of a caption
_BOX_COLOUR = (255, 255, 255)
_COLOURS = {"visible": (46, 204, 113), "occluded": (243, 156, 18)}  # truncated landmarks are not drawn


def draw(
    pixels: Pixels, box: Sequence[float], points: Sequence[tuple[float, float, str]], caption: Sequence[str]
) -> Pixels:
    """Draw a result.

    Args:
        pixels: uint8 [H, W, 3] RGB; left as it is.
        box: x1 y1 x2 y2, pixels.
        points: (x, y, visibility) in pixels; visible ones are filled, occluded ones rings, truncated ones left out.
        caption: lines of text, put on a strip below the picture and wrapped to its width.

    Returns:
        uint8 RGB, the picture enlarged towards a short side of 480 pixels where it is smaller, with the strip below.
    """
    height, width = pixels.shape[:2]
    scale = max(1.0, min(_SHORT_SIDE / min(height, width), _LONG_SIDE / max(height, width)))
    canvas = np.array(cv2.resize(pixels, None, fx=scale, fy=scale), np.uint8)
    x1, y1, x2, y2 = (round(v * scale) for v in box)
    cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), _BOX_COLOUR, 2)
    radius = max(4, min(canvas.shape[:2]) // 100)
    for x, y, visibility in points:
        if visibility in _COLOURS:
            centre = (round(x * scale), round(y * scale))
            cv2.circle(canvas, centre, radius + 1, (0, 0, 0), -1 if visibility == "visible" else 4, cv2.LINE_AA)
            cv2.circle(canvas, centre, radius, _COLOURS[visibility], -1 if visibility == "visible" else 2, cv2.LINE_AA)
    columns = max(20, (canvas.shape[1] - 16) // _LETTER)
    lines = [part for line in caption for part in textwrap.wrap(line, columns) or [""]]
    strip = np.full((_LINE * len(lines) + 10, canvas.shape[1], 3), 32, np.uint8)
    for i, line in enumerate(lines):
        origin = (8, _LINE * (i + 1))
        letters = line.encode("ascii", "replace").decode()  # the only ones that cv2's fonts have
        cv2.putText(strip, letters, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([canvas, strip])
