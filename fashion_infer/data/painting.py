"""From a Sketch to pixels: every shape is projected into the picture and filled with its colour or its cloth."""

from dataclasses import dataclass

import cv2
import numpy as np

from fashion_infer.data.designs import Color, Design
from fashion_infer.data.sketching import Floats, Shape, Sketch
from fashion_infer.data.textures import Image, cloth, folds, shaded, soften

FRACTION_BITS = 4  # cv2 draws polygons at sixteenths of a pixel
SKINS: tuple[Color, ...] = ((236, 200, 176), (214, 166, 133), (168, 116, 82), (112, 74, 52), (245, 215, 195))
HAIRS: tuple[Color, ...] = ((45, 32, 26), (92, 62, 40), (170, 130, 80), (25, 22, 24))


@dataclass(frozen=True)
class Layer:
    """A painted drawing, all [H, W]: its colours, where anything was painted, and where the garment can be seen."""

    image: Image  # [H, W, 3] RGB
    painted: Image  # 0 or 255
    garment: Image  # 0 or 255


def project(points: Floats, camera: Floats) -> Floats:
    """[K, 2] body units to pixels of the picture, by a 3 x 3 homography."""
    return np.asarray(cv2.perspectiveTransform(points[None].astype(np.float64), camera)[0], dtype=np.float64)


def paint(
    drawing: Sketch,
    design: Design,
    camera: Floats,
    item_rng: np.random.Generator,
    view_rng: np.random.Generator,
    shape: tuple[int, int],
) -> Layer:
    """Paints the drawing as the camera sees it; the item's random numbers decide its cloth, the view's its folds."""
    height, width = shape
    flat, colors = cloth(design, item_rng, max(shape)), colors_of(design, view_rng)
    painter = Painter(drawing, design, camera, flat, colors, shape)
    for part, points in zip(drawing.shapes, projected_shapes(drawing, camera), strict=True):
        painter.add(part, points)
    edges = soften(painter.garment, max(height, width) / 64) * 0.42 + 0.66
    light = cv2.merge([edges * folds(design, view_rng, height, width)] * 3)
    image = np.asarray(cv2.multiply(painter.image, light, dtype=cv2.CV_8U), dtype=np.uint8)
    return Layer(image, painter.painted, painter.garment)


def projected_shapes(drawing: Sketch, camera: Floats) -> list[Floats]:
    """The points of every shape in pixels, projected in one call."""
    sizes = [len(shape.points) for shape in drawing.shapes]
    together = project(np.concatenate([shape.points for shape in drawing.shapes]), camera)
    return np.split(together, np.cumsum(sizes)[:-1])


class Painter:
    """The picture while it is painted, shape by shape."""

    def __init__(
        self,
        drawing: Sketch,
        design: Design,
        camera: Floats,
        flat: Image,
        colors: dict[str, Color],
        shape: tuple[int, int],
    ) -> None:
        self.design, self.camera, self.flat, self.colors = design, camera, flat, colors
        self.image = np.zeros((*shape, 3), np.uint8)
        self.painted, self.garment = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        own = np.concatenate([part.points for part in drawing.shapes if not part.body])
        self.top, self.extent = float(own[:, 1].min()), float(np.ptp(own, axis=0).max())
        middle = project(np.array([[0.0, 0.4], [0.1, 0.4], [0.0, 0.5]]), camera)
        self.scale = 5.0 * float(np.hypot(*(middle[1] - middle[0])) + np.hypot(*(middle[2] - middle[0])))
        self.warped: dict[float, Image] = {}

    def add(self, part: Shape, points: Floats) -> None:
        """Paints one shape given in pixels."""
        corners = [np.round(np.clip(points, -2000, 4000) * 2**FRACTION_BITS).astype(np.int32)]
        color = self.colors.get(part.paint, self.design.base)
        if part.width:
            thickness = max(1, round(part.width * self.scale))
            for target, value in ((self.image, color), *self.masks(part)):
                cv2.polylines(target, corners, False, value, thickness, cv2.LINE_AA, FRACTION_BITS)
            return
        for target, value in self.masks(part):
            cv2.fillPoly(target, corners, value, cv2.LINE_8, FRACTION_BITS)
        if part.paint == "cloth":
            mask = np.zeros(self.garment.shape, np.uint8)
            cv2.fillPoly(mask, corners, 255, cv2.LINE_8, FRACTION_BITS)
            cv2.copyTo(self.cloth_at(part.grain), mask, self.image)
            cv2.polylines(self.image, corners, True, self.colors["seam"], 1, cv2.LINE_AA, FRACTION_BITS)
        else:
            cv2.fillPoly(self.image, corners, color, cv2.LINE_AA, FRACTION_BITS)

    def masks(self, part: Shape) -> tuple[tuple[Image, int], tuple[Image, int]]:
        """The masks that a shape changes, with the value it writes: other things hide the garment."""
        return (self.painted, 255), (self.garment, 0 if part.body else 255)

    def cloth_at(self, grain: float) -> Image:
        """The cloth as the camera sees it, its pattern turned by `grain`; a print stays on the front."""
        turn = round(grain, 2)
        if turn not in self.warped:
            self.warped[turn] = self.warp(turn)
        return self.warped[turn]

    def warp(self, turn: float) -> Image:
        height, width = self.garment.shape
        if turn and self.design.texture == "graphic":
            return np.full((height, width, 3), self.design.base, np.uint8)
        size, unit = len(self.flat), self.extent / len(self.flat)
        cos, sin, middle = np.cos(turn), np.sin(turn), size / 2
        rotate = np.array(
            [
                [cos, sin, middle - cos * middle - sin * middle],
                [-sin, cos, middle + sin * middle - cos * middle],
                [0, 0, 1],
            ]
        )
        to_body = np.array([[unit, 0, -unit * middle], [0, unit, self.top], [0, 0, 1]])
        mapping = self.camera @ to_body @ rotate
        return np.asarray(
            cv2.warpPerspective(self.flat, mapping, (width, height), borderMode=cv2.BORDER_REFLECT_101), dtype=np.uint8
        )


def colors_of(design: Design, rng: np.random.Generator) -> dict[str, Color]:
    """What each paint of the drawing looks like."""
    bright = sum(design.base) > 330
    other = tuple(int(value) for value in rng.integers(30, 220, 3))
    return {
        "trim": design.trim,
        "second": design.second,
        "seam": shaded(design.base, 0.55) if sum(design.base) > 150 else shaded((70, 70, 75), 1.0),
        "stitch": (205, 145, 70) if design.fabric == "denim" else shaded(design.base, 0.7 if bright else 1.6),
        "shade": shaded(design.base, 0.8) if bright else shaded(design.base, 1.3),
        "lining": shaded(design.base, 0.45),
        "white": (240, 238, 232),
        "metal": (200, 200, 205),
        "button": (60, 50, 45) if bright else (225, 220, 205),
        "dark": (38, 36, 40),
        "skin": SKINS[int(rng.integers(len(SKINS)))],
        "hair": HAIRS[int(rng.integers(len(HAIRS)))],
        "other": (other[0], other[1], other[2]),
    }
