"""Drawings: shapes in drawing order, landmarks, and the curves of which shapes are built.

Points are float64 [K, 2] of (x, y) in body units (see `designs`); left is the viewer's left, where x < 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HIDDEN_MARGIN = 0.012  # body units; a landmark that lies farther than this inside a later part is hidden


@dataclass(frozen=True)
class Shape:
    """A polygon or a line of the drawing.

    Attributes:
        points: [K, 2] points in body units.
        paint: name of a colour, or "cloth".
        width: width of a line in body units; 0 for a polygon.
        grain: rotation of the cloth's pattern in radians.
        covers: whether it hides what was drawn before.
        body: whether it belongs to a person or a hanger, and not to a garment.
        owner: number of the garment of the picture that it belongs to; 0 is the garment with the labels.
    """

    points: Floats
    paint: str
    width: float = 0.0
    grain: float = 0.0
    covers: bool = False
    body: bool = False
    owner: int = 0

    @property
    def own(self) -> bool:
        """Whether the shape is a part of the garment with the labels."""
        return not self.body and self.owner == 0


@dataclass
class Sketch:
    """A drawing to which shapes and landmarks are added.

    Attributes:
        shapes: the shapes in drawing order.
        landmarks: [8, 2] points of the landmarks in body units.
        drawn_at: number of shapes that were drawn before each landmark and cannot hide it; -1 for an absent landmark.
        owner: owner of the shapes that are added next.
    """

    shapes: list[Shape] = field(default_factory=list)
    landmarks: Floats = field(default_factory=lambda: np.zeros((8, 2)))
    drawn_at: list[int] = field(default_factory=lambda: [-1] * 8)
    owner: int = 0

    def fill(self, points: Floats, paint: str = "cloth", **fields: float | bool) -> None:
        """Add a filled polygon; `fields` are other fields of its Shape."""
        self.shapes.append(Shape(points, paint, owner=self.owner, **fields))  # type: ignore[arg-type]

    def line(self, points: Floats, paint: str = "seam", width: float = 0.008, body: bool = False) -> None:
        """Add an open line; its width is in body units."""
        self.shapes.append(Shape(points, paint, width, body=body, owner=self.owner))

    def dots(self, centres: Iterable[Floats], radius: float, paint: str) -> None:
        """Add small discs, such as buttons or beads."""
        for centre in centres:
            self.fill(centre + radius * CIRCLE, paint)

    def mark(self, slot: int, point: Floats) -> None:
        """Place a landmark on what has been drawn so far; for other owners than 0 it is ignored."""
        if self.owner:
            return
        self.landmarks[slot] = point
        self.drawn_at[slot] = len(self.shapes)

    def put_behind(self, other: "Sketch", offset: Floats) -> None:
        """Add the shapes of another drawing, moved by `offset` [2], behind this one."""
        self.shapes[:0] = [replace(shape, points=shape.points + offset) for shape in other.shapes]
        self.drawn_at = [order + len(other.shapes) if order >= 0 else order for order in self.drawn_at]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether the clothes type has each landmark, bool [8]."""
        return np.array(self.drawn_at) >= 0

    def hidden(self) -> NDArray[np.bool_]:
        """Whether each landmark lies under a part that was drawn later, bool [8]."""
        return np.array([order >= 0 and self._is_covered(slot, order) for slot, order in enumerate(self.drawn_at)])

    def _is_covered(self, slot: int, order: int) -> bool:
        return any(
            shape.covers and inside_by(shape.points, self.landmarks[slot]) > HIDDEN_MARGIN
            for shape in self.shapes[order:]
        )


CIRCLE: Floats = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
MIRROR: Floats = np.array([-1.0, 1.0])


def xy(*pairs: tuple[float, float]) -> Floats:
    """The points as an array [K, 2]."""
    return np.array(pairs, dtype=np.float64)


def curve(points: Floats, steps: int = 5) -> Floats:
    """A smooth line through the points (a Catmull-Rom spline), with `steps` points for each segment."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    a, b, c, d = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = a[:, None], b[:, None], c[:, None], d[:, None]
    line = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.concatenate([line.reshape(-1, 2), points[-1:]])


def mirrored(right: Floats) -> Floats:
    """A closed symmetric outline, from the points of its right half from top to bottom."""
    return np.concatenate([right, (right * MIRROR)[::-1]])


def inside_by(polygon: Floats, point: Floats) -> float:
    """The distance of a point inside the polygon from its border; negative for a point outside."""
    return float(cv2.pointPolygonTest(polygon.astype(np.float32), (float(point[0]), float(point[1])), True))


def cut_at(line: Floats, y: float) -> Floats:
    """The part of a line from top to bottom that lies above `y`; its last point is exactly at `y`."""
    end = np.array([width_at(line, y), y])
    return np.concatenate([line[line[:, 1] < y - 1e-6], end[None]])


def width_at(profile: Floats, y: float) -> float:
    """Half of the garment's width at height `y`."""
    return float(np.interp(y, profile[:, 1], profile[:, 0]))


def band(profile: Floats, top: float, bottom: float, sag: float = 0.0) -> Floats:
    """The outline of a garment's strip between two heights; its edges are lower by `sag` in the middle."""
    between = profile[(profile[:, 1] > top) & (profile[:, 1] < bottom)]
    right = np.concatenate([xy((width_at(profile, top), top)), between, xy((width_at(profile, bottom), bottom))])
    upper, lower = arc(right[0], sag), arc(right[-1], sag)
    return np.concatenate([upper[::-1], right[1:-1], lower, (right[1:-1] * MIRROR)[::-1]])


def arc(corner: Floats, sag: float) -> Floats:
    """A curve from a right corner to its mirror image on the left, lower by `sag` in the middle."""
    t = np.linspace(1.0, -1.0, 9)
    return np.stack([corner[0] * t, corner[1] + sag * (1.0 - t**2)], axis=1)


def mark_pair(drawing: Sketch, slot: int, right: Floats) -> None:
    """Place a pair of landmarks: the left one in `slot`, the right one, at the point `right`, in the next."""
    drawing.mark(slot, right * MIRROR)
    drawing.mark(slot + 1, right)
