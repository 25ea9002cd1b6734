"""Pictures of results: a box, its landmarks with their names, and a caption below, on a copy of the image."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fashion_infer.images import Pixels

SHORT_SIDE = 480  # smaller pictures are enlarged, so that marks and words can be read
_LONG_SIDE = 1920  # limit of the enlargement: a picture one pixel high would grow to gigabytes
_LINE, _LETTER, _FONT, _NAME_FONT = 20, 7, 14, 12  # pixels in a picture of SHORT_SIDE; they grow with the picture
_BOX_COLOUR = (255, 255, 255)
_INK, _PAPER = (255, 255, 255), (32, 32, 32)  # colours of the caption
_COLOURS = {"visible": (46, 204, 113), "occluded": (243, 156, 18)}  # truncated landmarks are not drawn


class Mark(NamedTuple):
    """A landmark to draw, at (x, y) in pixels."""

    name: str
    x: float
    y: float
    visibility: str


def draw(pixels: Pixels, box: Sequence[float], points: Sequence[Mark], caption: Sequence[str]) -> Pixels:
    """Draw a result. Marks, lines and letters grow with the picture.

    Args:
        pixels: uint8 [H, W, 3] RGB; not modified.
        box: x1 y1 x2 y2, pixels.
        points: the landmarks. Visible ones are drawn as discs, occluded ones as rings, and truncated ones are left out.
            The name is on the side that is farther from the middle of the box, so that it covers little of the garment.
        caption: lines of text for a strip below the picture, wrapped to its width.

    Returns:
        uint8 [h, w, 3] RGB, with the strip below; small pictures are enlarged to a short side of up to 480 pixels.
    """
    height, width = pixels.shape[:2]
    scale = max(1.0, min(SHORT_SIDE / min(height, width), _LONG_SIDE / max(height, width)))
    canvas = np.array(cv2.resize(pixels, None, fx=scale, fy=scale), np.uint8)
    unit = max(1.0, min(canvas.shape[:2]) / SHORT_SIDE)
    x1, y1, x2, y2 = (round(v * scale) for v in box)
    cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), _BOX_COLOUR, round(2 * unit))
    drawn = [mark._replace(x=mark.x * scale, y=mark.y * scale) for mark in points if mark.visibility in _COLOURS]
    for mark in drawn:
        _draw_mark(canvas, mark, unit)
    canvas = _with_names(canvas, drawn, (x1 + x2) / 2, unit)
    return np.concatenate([canvas, _strip(caption, canvas.shape[1], unit)])


def _draw_mark(canvas: Pixels, mark: Mark, unit: float) -> None:
    """A disc or a ring with a dark edge, on the canvas itself."""
    centre, radius, edge = (round(mark.x), round(mark.y)), round(4 * unit), round(unit)
    visible = mark.visibility == "visible"
    cv2.circle(canvas, centre, radius + edge, (0, 0, 0), -1 if visible else 4 * edge, cv2.LINE_AA)
    cv2.circle(canvas, centre, radius, _COLOURS[mark.visibility], -1 if visible else 2 * edge, cv2.LINE_AA)


def _with_names(canvas: Pixels, marks: Sequence[Mark], middle: float, unit: float) -> Pixels:
    """The canvas with the name of each mark at its outer side, or below it if the name would leave the picture."""
    picture = Image.fromarray(canvas)
    pen, font, gap = ImageDraw.Draw(picture), ImageFont.load_default(_NAME_FONT * unit), 8 * unit
    for mark in marks:
        name = mark.name.replace("_", " ")
        length = pen.textlength(name, font)
        outer = mark.x - gap - length if mark.x < middle else mark.x + gap
        x = max(2 * unit, min(outer, picture.width - length - 2 * unit))
        y = mark.y if x == outer else mark.y + 2 * gap  # below the mark, which it would cover
        edge = round(2 * unit)
        pen.text((x, y), name, _INK, font, anchor="lm", stroke_width=edge, stroke_fill=_PAPER)
    return np.array(picture)


def _strip(caption: Sequence[str], width: int, unit: float) -> Pixels:
    """The lines of a caption on a dark strip of the picture's width."""
    columns = max(20, int((width - 16 * unit) / (_LETTER * unit)))
    lines = [part for line in caption for part in textwrap.wrap(line, columns) or [""]]
    strip = Image.new("RGB", (width, round((_LINE * len(lines) + 10) * unit)), _PAPER)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(_FONT * unit)
    for i, line in enumerate(lines):
        pen.text((8 * unit, (5 + _LINE * (i + 0.5)) * unit), line, _INK, font, anchor="lm")
    return np.array(strip)
