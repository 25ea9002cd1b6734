"""A drawing in the making: shapes in drawing order, landmarks, and the curves they are built from.

Coordinates are body units (see `designs`), [K, 2] float64 arrays of (x, y); left is the viewer's left, where x < 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HIDDEN_MARGIN = 0.012  # body units: a landmark this far under another part can no longer be seen


@dataclass(frozen=True)
class Shape:
    """One polygon (width 0) or line of the drawing; `paint` names a colour or the cloth."""

    points: Floats
    paint: str
    width: float = 0.0
    grain: float = 0.0  # radians by which the cloth's pattern is turned
    covers: bool = False  # hides what was drawn before
    body: bool = False  # not cloth of a garment: a person, a hanger
    owner: int = 0  # which garment of the picture it belongs to; 0 is the one with the labels

    @property
    def own(self) -> bool:
        """Whether the shape is a part of the garment with the labels."""
        return not self.body and self.owner == 0


@dataclass
class Sketch:
    """Shapes in drawing order and the landmarks, collected while a garment is drawn."""

    shapes: list[Shape] = field(default_factory=list)
    landmarks: Floats = field(default_factory=lambda: np.zeros((8, 2)))
    drawn_at: list[int] = field(default_factory=lambda: [-1] * 8)  # shapes before this one cannot hide the landmark
    owner: int = 0  # of the shapes that are being added

    def fill(self, points: Floats, paint: str = "cloth", **how: float | bool) -> None:
        """Adds a filled polygon."""
        self.shapes.append(Shape(points, paint, owner=self.owner, **how))  # type: ignore[arg-type]

    def line(self, points: Floats, paint: str = "seam", width: float = 0.008, body: bool = False) -> None:
        """Adds an open line, its width in body units."""
        self.shapes.append(Shape(points, paint, width, body=body, owner=self.owner))

    def dots(self, centres: Iterable[Floats], radius: float, paint: str) -> None:
        """Adds small discs: buttons, beads, lace."""
        for centre in centres:
            self.fill(centre + radius * CIRCLE, paint)

    def mark(self, slot: int, point: Floats) -> None:
        """Places a landmark on what has been drawn so far; other garments than the first have none."""
        if self.owner:
            return
        self.landmarks[slot] = point
        self.drawn_at[slot] = len(self.shapes)

    def put_behind(self, other: "Sketch", offset: Floats) -> None:
        """Adds the shapes of another drawing, moved by `offset`, behind this one."""
        self.shapes[:0] = [replace(shape, points=shape.points + offset) for shape in other.shapes]
        self.drawn_at = [order + len(other.shapes) if order >= 0 else order for order in self.drawn_at]

    @property
    def present(self) -> NDArray[np.bool_]:
        """[8]: the slots that this clothes type has."""
        return np.array(self.drawn_at) >= 0

    def hidden(self) -> NDArray[np.bool_]:
        """[8]: landmarks that lie under a part drawn later."""
        return np.array([order >= 0 and self._is_covered(slot, order) for slot, order in enumerate(self.drawn_at)])

    def _is_covered(self, slot: int, order: int) -> bool:
        return any(
            shape.covers and inside_by(shape.points, self.landmarks[slot]) > HIDDEN_MARGIN
            for shape in self.shapes[order:]
        )


CIRCLE: Floats = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
MIRROR: Floats = np.array([-1.0, 1.0])


def xy(*pairs: tuple[float, float]) -> Floats:
    """[K, 2] of the given points."""
    return np.array(pairs, dtype=np.float64)


def curve(points: Floats, steps: int = 5) -> Floats:
    """A smooth line through the points (Catmull-Rom), `steps` points for every stretch."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    a, b, c, d = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = a[:, None], b[:, None], c[:, None], d[:, None]
    line = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.concatenate([line.reshape(-1, 2), points[-1:]])


def mirrored(right: Floats) -> Floats:
    """A closed outline from its right half, listed from top to bottom."""
    return np.concatenate([right, (right * MIRROR)[::-1]])


def inside_by(polygon: Floats, point: Floats) -> float:
    """How deep the point lies in the polygon: its distance to the border, negative outside."""
    return float(cv2.pointPolygonTest(polygon.astype(np.float32), (float(point[0]), float(point[1])), True))


def cut_at(line: Floats, y: float) -> Floats:
    """The part of a downward line above y, ending exactly there."""
    end = np.array([width_at(line, y), y])
    return np.concatenate([line[line[:, 1] < y - 1e-6], end[None]])


def width_at(profile: Floats, y: float) -> float:
    """Half of the garment's width at a height."""
    return float(np.interp(y, profile[:, 1], profile[:, 0]))


def band(profile: Floats, top: float, bottom: float, sag: float = 0.0) -> Floats:
    """The strip of a garment between two heights, its edges sagging in the middle."""
    between = profile[(profile[:, 1] > top) & (profile[:, 1] < bottom)]
    right = np.concatenate([xy((width_at(profile, top), top)), between, xy((width_at(profile, bottom), bottom))])
    upper, lower = arc(right[0], sag), arc(right[-1], sag)
    return np.concatenate([upper[::-1], right[1:-1], lower, (right[1:-1] * MIRROR)[::-1]])


def arc(corner: Floats, sag: float) -> Floats:
    """From a right corner to its mirror image on the left, lower by `sag` in the middle."""
    t = np.linspace(1.0, -1.0, 9)
    return np.stack([corner[0] * t, corner[1] + sag * (1.0 - t**2)], axis=1)


def mark_pair(drawing: Sketch, slot: int, right: Floats) -> None:
    """Marks a landmark and its mirror image: the left one at `slot`, the right one after it."""
    drawing.mark(slot, right * MIRROR)
    drawing.mark(slot + 1, right)
