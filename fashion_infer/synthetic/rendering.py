"""Rendering a garment with its true labels.

A seed and an index always give the same picture, whatever the number of pictures or processes. Every four pictures show
one item: two in the style of a shop (tidy, plain background), two in that of a consumer (tilted, cut off, blurred).
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_infer.data.deepfashion import CATEGORY_NAMES
from fashion_infer.synthetic import scene
from fashion_infer.synthetic.backdrops import backdrop
from fashion_infer.synthetic.designs import (
    ATTRIBUTES,
    CUTS,
    LOCAL_SLOTS,
    Design,
    attributes_of,
    draw_design,
    pick,
)
from fashion_infer.synthetic.outlines import sketch
from fashion_infer.synthetic.painting import Clothing, paint, project
from fashion_infer.synthetic.people import Pose, draw_pose
from fashion_infer.synthetic.sketching import Sketch
from fashion_infer.synthetic.textures import cloth

VIEWS_PER_ITEM = 4  # shop, shop, consumer, consumer
VISIBLE, OCCLUDED, TRUNCATED, ABSENT = 0, 1, 2, -1
BESIDE = 0.15  # share of the consumers' photos with a second garment or person beside the first
SEEN = 0.15  # body units; smallest part of trousers or a skirt that a long top leaves uncovered
GOES_WITH = {1: (2,), 2: (1,), 3: (2,)}  # clothes type -> possible types of the garment worn with it
View = Literal["shop", "consumer"]


@dataclass(frozen=True)
class Garment:
    """A rendered picture and its labels.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        box: x1 y1 x2 y2 in pixels; x2 and y2 are just outside.
        category: index in CATEGORY_NAMES.
        clothes_type: 1 upper, 2 lower, 3 full body.
        attributes: [A] 1 positive, -1 negative, 0 unknown because it cannot be seen in this picture.
        landmarks: [8, 2] (x, y) in pixels; 0 if truncated or absent.
        visibility: [8] 0 visible, 1 occluded, 2 truncated, -1 absent (the clothes type has no such landmark).
        item: number of the item.
        view: "shop" or "consumer".
        worn: whether a person wears the garment.
    """

    image: NDArray[np.uint8]
    box: tuple[int, int, int, int]
    category: int
    clothes_type: int
    attributes: NDArray[np.int8]
    landmarks: NDArray[np.float32]
    visibility: NDArray[np.int8]
    item: int
    view: View
    worn: bool


def default_view(index: int) -> View:
    """The view of an image: the first two images of each item are a shop's, the others a consumer's."""
    return "shop" if index % VIEWS_PER_ITEM < 2 else "consumer"


def item_design(seed: int, item: int) -> tuple[Design, np.random.Generator]:
    """Draw the design of an item; return it with the generator from which its cloth is drawn.

    Successive items have successive categories.
    """
    rng = np.random.default_rng([seed, 0, item])
    return draw_design(rng, tuple(CUTS)[item % len(CUTS)]), rng


def render(seed: int, index: int, *, size: int = 256, view: View | None = None) -> Garment:
    """Render an image.

    Args:
        seed: random seed, not negative.
        index: number of the image, from 0; it shows item `index // 4`.
        size: the longer side in pixels.
        view: "shop" or "consumer"; None means `default_view(index)`.
    """
    view = view or default_view(index)
    consumer, item = view == "consumer", index // VIEWS_PER_ITEM
    rng = np.random.default_rng([seed, 1 + consumer, index])
    pose = draw_pose(rng, consumer)
    drawing, outfit = draw_clothes(rng, seed, item, size, pose, beside=consumer and rng.random() < BESIDE)
    design = outfit[0].design
    shape = scene.photo_shape(rng, size, consumer)
    outline = np.concatenate([part.points for part in drawing.shapes if part.own])
    frame = scene.draw_frame(rng, outline, pose, consumer)
    camera = scene.place_camera(rng, outline, frame, shape, consumer)
    layer = paint(drawing, outfit, camera, rng, shape)
    image = scene.compose(backdrop(rng, shape, pose, consumer), layer, rng)
    landmarks = project(drawing.landmarks, camera)
    hidden = drawing.hidden()
    if consumer:
        obstacles = scene.draw_obstacles(rng, landmarks[drawing.present], shape)
        mask = scene.put_in_front(image, obstacles)
        hidden = hidden | covered(mask, landmarks)
        image = scene.take_photo(image, rng)
    visibility = visibility_of(landmarks, drawing.present, hidden, shape)
    x, y, width, height = cv2.boundingRect(layer.garment)
    return Garment(
        image=image,
        box=(x, y, x + width, y + height),
        category=CATEGORY_NAMES.index(design.category),
        clothes_type=design.clothes_type,
        attributes=as_seen(attribute_row(design), visibility),
        landmarks=np.where(np.isin(visibility, (VISIBLE, OCCLUDED))[:, None], landmarks, 0).astype(np.float32),
        visibility=visibility,
        item=item,
        view=view,
        worn=pose.worn,
    )


@lru_cache(maxsize=16)
def clothing(seed: int, item: int, owner: int, size: int) -> Clothing:
    """The clothing of one owner in the pictures of an item.

    Owner 0 is the item and 1 the garment worn with it; 2 and 3 are those of the garment or person beside it.
    """
    if owner == 0:
        design, rng = item_design(seed, item)
    else:
        rng = np.random.default_rng([seed, 4, item, owner])
        types = (1, 2, 3) if owner == 2 else GOES_WITH[clothing(seed, item, owner - 1, size).design.clothes_type]
        design = draw_design(rng, pick(rng, tuple(name for name, cut in CUTS.items() if cut.clothes_type in types)))
    return Clothing(design, cloth(design, rng, size))


def draw_clothes(
    rng: np.random.Generator, seed: int, item: int, size: int, pose: Pose, beside: bool
) -> tuple[Sketch, dict[int, Clothing]]:
    """Draw the garment in its pose, and return the drawing with the clothing of each owner of its shapes.

    With `beside`, another garment hangs or lies beside it, or another person stands there.
    """
    drawn = sketch_person(seed, item, 0, size, pose)
    if not beside:
        return drawn
    other = replace(draw_pose(rng, consumer=True), worn=pose.worn, hanging=pose.hanging, on_rail=pose.on_rail)
    drawing, outfit = sketch_person(seed, item, 2, size, other)
    apart = float(rng.uniform(0.6, 0.95)) * (1 if rng.random() < 0.5 else -1)
    drawn[0].put_behind(drawing, np.array([apart, 0.0 if pose.hanging else rng.uniform(-0.15, 0.15)]))
    return drawn[0], drawn[1] | outfit


def sketch_person(seed: int, item: int, owner: int, size: int, pose: Pose) -> tuple[Sketch, dict[int, Clothing]]:
    """Draw a garment and, if it is worn, its companion; dresses and other closed full-body clothes have none."""
    outfit = {owner: clothing(seed, item, owner, size)}
    design, companion = outfit[owner].design, None
    if pose.worn and (design.clothes_type != 3 or design.category in ("Coat", "Kimono")):
        outfit[owner + 1] = clothing(seed, item, owner + 1, size)
        companion = outfit[owner + 1].design
        if design.clothes_type == 2:  # otherwise a long top could hide short trousers completely
            companion = replace(companion, hem=min(companion.hem, design.hem - SEEN))
    return sketch(design, pose, companion, owner), outfit


def covered(mask: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each point lies under the mask, bool [K]; False for points outside the picture."""
    height, width = mask.shape
    x, y = np.floor(points).astype(np.int64).T
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    under: NDArray[np.bool_] = inside & (mask[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] > 0)
    return under


def visibility_of(
    landmarks: NDArray[np.float64], present: NDArray[np.bool_], hidden: NDArray[np.bool_], shape: tuple[int, int]
) -> NDArray[np.int8]:
    """The visibility [8] of the landmarks; one outside the picture is truncated, even if something hides it."""
    inside = ((landmarks >= 0) & (landmarks < (shape[1], shape[0]))).all(axis=1)
    codes = np.where(~present, ABSENT, np.where(~inside, TRUNCATED, np.where(hidden, OCCLUDED, VISIBLE)))
    return codes.astype(np.int8)


def attribute_row(design: Design) -> NDArray[np.int8]:
    """The attribute labels [A] of a design: 1 if it has the attribute, else -1."""
    true = attributes_of(design)
    return np.array([1 if name in true else -1 for name in ATTRIBUTES], np.int8)


def item_attributes(seed: int, item: int) -> NDArray[np.int8]:
    """The attribute labels [A] of an item, which do not depend on what a picture shows."""
    return attribute_row(item_design(seed, item)[0])


def as_seen(row: NDArray[np.int8], visibility: NDArray[np.int8]) -> NDArray[np.int8]:
    """The labels of a picture: 0, unknown, for details whose two landmarks are both occluded or truncated."""
    unseen = [
        name in LOCAL_SLOTS and all(visibility[slot] > VISIBLE for slot in LOCAL_SLOTS[name]) for name in ATTRIBUTES
    ]
    return np.where(unseen, 0, row).astype(np.int8)


def contact_sheet(seed: int, *, columns: int = 10, size: int = 160) -> NDArray[np.uint8]:
    """A sheet of a shop view and a consumer view of an item of every category, with landmarks; uint8 [H, W, 3] RGB."""
    cells = []
    for item, name in enumerate(CUTS):
        for index in (item * VIEWS_PER_ITEM, item * VIEWS_PER_ITEM + 2):
            cells.append(cell(render(seed, index, size=256), name, size))
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % columns)
    rows = [np.concatenate(cells[start : start + columns], axis=1) for start in range(0, len(cells), columns)]
    return np.concatenate(rows)


def cell(garment: Garment, name: str, size: int) -> NDArray[np.uint8]:
    """Draw a picture with its landmarks (green visible, red occluded) above the name of its category."""
    image = garment.image.copy()
    for (x, y), code in zip(garment.landmarks, garment.visibility, strict=True):
        if code in (VISIBLE, OCCLUDED):
            cv2.circle(
                image,
                (round(float(x)), round(float(y))),
                4,
                (0, 210, 60) if code == VISIBLE else (230, 30, 30),
                -1,
                cv2.LINE_AA,
            )
    height, width = image.shape[:2]
    tile = np.full((size + 20, size, 3), 255, np.uint8)
    small = cv2.resize(image, (round(width * size / height), size), interpolation=cv2.INTER_AREA)
    left = (size - small.shape[1]) // 2
    tile[:size, left : left + small.shape[1]] = small
    cv2.putText(tile, name, (4, size + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (30, 30, 30), 1, cv2.LINE_AA)
    return tile
