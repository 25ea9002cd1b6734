"""Painting a Sketch as pixels: every shape is projected into the picture and filled with a colour or with cloth."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_infer.synthetic.designs import Color, Design
from fashion_infer.synthetic.sketching import Floats, Shape, Sketch
from fashion_infer.synthetic.textures import Image, folds, shaded, soften

FRACTION_BITS = 4  # cv2 draws polygons at sixteenths of a pixel
SKINS: tuple[Color, ...] = ((236, 200, 176), (214, 166, 133), (168, 116, 82), (112, 74, 52), (245, 215, 195))
HAIRS: tuple[Color, ...] = ((45, 32, 26), (92, 62, 40), (170, 130, 80), (25, 22, 24))


@dataclass(frozen=True)
class Layer:
    """A painted drawing.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        painted: uint8 [H, W], 255 where anything was painted, else 0.
        garment: uint8 [H, W], 255 where the garment with the labels can be seen, else 0.
    """

    image: Image
    painted: Image
    garment: Image


def project(points: Floats, camera: Floats) -> Floats:
    """Project points [K, 2] from body units to pixels of the picture, by a homography [3, 3]."""
    return np.asarray(cv2.perspectiveTransform(points[None].astype(np.float64), camera)[0], dtype=np.float64)


@dataclass(frozen=True)
class Clothing:
    """A garment's design and its flat cloth, uint8 [S, S, 3] RGB."""

    design: Design
    flat: Image


def paint(
    drawing: Sketch, outfit: Mapping[int, Clothing], camera: Floats, rng: np.random.Generator, shape: tuple[int, int]
) -> Layer:
    """Paint the drawing as the camera sees it.

    Args:
        drawing: the drawing.
        outfit: {number of the owner: its garment} for all owners of shapes.
        camera: homography [3, 3] from body units to pixels.
        rng: generator of the random numbers.
        shape: height and width of the picture in pixels.
    """
    height, width = shape
    painter = Painter(drawing, outfit, camera, rng, shape)
    for part, points in zip(drawing.shapes, projected_shapes(drawing, camera), strict=True):
        painter.add(part, points)
    edges = soften(painter.painted, max(height, width) / 64) * 0.42 + 0.66
    light = cv2.merge([edges * folds(outfit[0].design, rng, height, width)] * 3)
    image = np.asarray(cv2.multiply(painter.image, light, dtype=cv2.CV_8U), dtype=np.uint8)
    return Layer(image, painter.painted, painter.garment)


def projected_shapes(drawing: Sketch, camera: Floats) -> list[Floats]:
    """The points of every shape in pixels; all are projected in one call, which is faster."""
    sizes = [len(shape.points) for shape in drawing.shapes]
    together = project(np.concatenate([shape.points for shape in drawing.shapes]), camera)
    return np.split(together, np.cumsum(sizes)[:-1])


class Painter:
    """A picture that is painted shape by shape."""

    def __init__(
        self,
        drawing: Sketch,
        outfit: Mapping[int, Clothing],
        camera: Floats,
        rng: np.random.Generator,
        shape: tuple[int, int],
    ) -> None:
        self.outfit, self.camera = outfit, camera
        people = [colors_of_person(rng) for _ in range(2)]  # owners 0 and 1, owners 2 and 3
        self.colors = {owner: colors_of(each.design) | people[owner // 2] for owner, each in outfit.items()}
        self.image = np.zeros((*shape, 3), np.uint8)
        self.painted, self.garment = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        self.to_body = {owner: to_body(drawing, owner, len(each.flat)) for owner, each in outfit.items()}
        middle = project(np.array([[0.0, 0.4], [0.1, 0.4], [0.0, 0.5]]), camera)
        self.scale = 5.0 * float(np.hypot(*(middle[1] - middle[0])) + np.hypot(*(middle[2] - middle[0])))

    def add(self, part: Shape, points: Floats) -> None:
        """Paint one shape; `points` are its points in pixels."""
        corners = [np.round(np.clip(points, -2000, 4000) * 2**FRACTION_BITS).astype(np.int32)]
        colors = self.colors[part.owner]
        if part.width:
            thickness = max(1, round(part.width * self.scale))
            for target, value in ((self.image, colors[part.paint]), *self.masks(part)):
                cv2.polylines(target, corners, False, value, thickness, cv2.LINE_AA, FRACTION_BITS)
            return
        for target, value in self.masks(part):
            cv2.fillPoly(target, corners, value, cv2.LINE_8, FRACTION_BITS)
        if part.paint == "cloth":
            self.add_cloth(part, points, corners)
            cv2.polylines(self.image, corners, True, colors["seam"], 1, cv2.LINE_AA, FRACTION_BITS)
        else:
            cv2.fillPoly(self.image, corners, colors[part.paint], cv2.LINE_AA, FRACTION_BITS)

    def masks(self, part: Shape) -> tuple[tuple[Image, int], tuple[Image, int]]:
        """The masks that a shape changes, each with the value that it writes; other shapes hide the garment."""
        return (self.painted, 255), (self.garment, 255 if part.own else 0)

    def add_cloth(self, part: Shape, points: Floats, corners: list[NDArray[np.int32]]) -> None:
        """Fill a shape with its garment's cloth, turned by the grain; sleeves do not get the print of the front."""
        clothing = self.outfit[part.owner]
        if part.grain and clothing.design.texture == "graphic":
            cv2.fillPoly(self.image, corners, clothing.design.base, cv2.LINE_8, FRACTION_BITS)
            return
        height, width = self.garment.shape
        left, top = np.clip(np.floor(points.min(axis=0)), 0, (width, height)).astype(int).tolist()
        right, bottom = np.clip(np.ceil(points.max(axis=0)) + 1, 0, (width, height)).astype(int).tolist()
        if right <= left or bottom <= top:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        moved = [corners[0] - np.array([left, top], np.int32) * 2**FRACTION_BITS]
        cv2.fillPoly(mask, moved, 255, cv2.LINE_8, FRACTION_BITS)
        mapping = self.camera @ self.to_body[part.owner] @ turned(part.grain, len(clothing.flat))
        mapping = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]]) @ mapping
        cloth = cv2.warpPerspective(clothing.flat, mapping, mask.shape[::-1], borderMode=cv2.BORDER_REFLECT_101)
        cv2.copyTo(cloth, mask, self.image[top:bottom, left:right])


def to_body(drawing: Sketch, owner: int, size: int) -> Floats:
    """The mapping [3, 3] from pixels of a garment's flat cloth to body units; the cloth covers the whole garment."""
    points = np.concatenate([part.points for part in drawing.shapes if part.owner == owner and not part.body])
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    unit, middle = float(extent.max()) / size, float(low[0] + extent[0] / 2)
    return np.array([[unit, 0, middle - unit * size / 2], [0, unit, low[1]], [0, 0, 1]])


def turned(angle: float, size: int) -> Floats:
    """The rotation [3, 3] of the cloth about its middle by an angle in radians."""
    cos, sin, middle = np.cos(angle), np.sin(angle), size / 2
    return np.array(
        [
            [cos, sin, middle - cos * middle - sin * middle],
            [-sin, cos, middle + sin * middle - cos * middle],
            [0, 0, 1],
        ]
    )


def colors_of(design: Design) -> dict[str, Color]:
    """The colour of each paint that a garment's shapes name."""
    bright = sum(design.base) > 330
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
    }


def colors_of_person(rng: np.random.Generator) -> dict[str, Color]:
    """Draw the colours of a person and a hanger."""
    skin, shoe = SKINS[int(rng.integers(len(SKINS)))], int(rng.integers(25, 240))
    return {
        "skin": skin,
        "skin shade": shaded(skin, 0.78),
        "lips": (170, 90, 85),
        "hair": HAIRS[int(rng.integers(len(HAIRS)))],
        "shoe": (shoe, max(20, shoe - 15), max(20, shoe - 25)),
        "wood": (196, 154, 108) if rng.random() < 0.6 else (35, 34, 38),
    }
