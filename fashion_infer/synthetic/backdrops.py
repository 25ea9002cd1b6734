"""Backgrounds, uint8 [H, W, 3] RGB: a shop's plain one, a floor or a bed, a wall, a room, a street.

`shape` is the (height, width) of a picture in pixels.
"""

from functools import lru_cache

import cv2
import numpy as np

from fashion_infer.synthetic.designs import Color, rgb
from fashion_infer.synthetic.people import Pose
from fashion_infer.synthetic.textures import Image

NOISE_SIZE = 1024


@lru_cache(maxsize=1)
def noise_table() -> Image:
    """Normal noise around 128, uint8 [NOISE_SIZE, NOISE_SIZE], the same in every process."""
    noise = np.random.default_rng(0).normal(128.0, 32.0, (NOISE_SIZE, NOISE_SIZE))
    return np.clip(noise, 0, 255).astype(np.uint8)


def fine_noise(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Noise around 128, uint8 [H, W]: a random part of the table, enlarged if the picture is larger."""
    table = noise_table()
    y, x = rng.integers(0, NOISE_SIZE // 2, 2)
    part = table[y : y + min(shape[0], NOISE_SIZE // 2), x : x + min(shape[1], NOISE_SIZE // 2)]
    return part if part.shape == shape else np.asarray(cv2.resize(part, shape[::-1]), np.uint8)


def blotches(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int], depth: int) -> Image:
    """Smooth noise within `depth` of 128, uint8 [H, W], from (rows, columns) of random cells."""
    small = rng.integers(128 - depth, 129 + depth, cells).astype(np.uint8)
    return np.asarray(cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def tinted(grey: Image, dark: Color, light: Color) -> Image:
    """Colour a grey image [H, W]: grey 64 becomes the first colour, grey 192 the second."""
    share = (np.arange(256)[:, None] - 64) / 128
    palette = np.clip(np.array(dark) * (1 - share) + np.array(light) * share, 0, 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(grey, palette[:, None]), np.uint8)


def toned(grey: Image, color: Color) -> Image:
    """Colour a grey image [H, W]: 0.5 times the colour at grey 64, 1.5 times the colour at grey 192."""
    dark, light = (np.array(color) * 0.5).astype(int).tolist(), (np.array(color) * 1.5).astype(int).tolist()
    return tinted(grey, (dark[0], dark[1], dark[2]), (light[0], light[1], light[2]))


def muted(rng: np.random.Generator, low: int, high: int) -> Color:
    """Draw a colour for rooms: a grey between the limits, mixed with a random colour."""
    color = rng.integers(low, high) * np.ones(3) + rng.uniform(0.0, 0.5) * rng.integers(-90, 91, 3)
    red, green, blue = np.clip(color, 0, 255).astype(int).tolist()
    return red, green, blue


def vivid(rng: np.random.Generator) -> Color:
    """Draw a colour for bed covers and carpets."""
    return rgb(rng.random(), rng.uniform(0.1, 0.85), rng.uniform(0.35, 0.95))


def brown(rng: np.random.Generator) -> Color:
    """Draw a colour of wood."""
    return rgb(rng.uniform(0.05, 0.11), rng.uniform(0.1, 0.6), rng.uniform(0.4, 0.9))


def backdrop(rng: np.random.Generator, shape: tuple[int, int], pose: Pose, consumer: bool) -> Image:
    """Draw the background for a pose: plain in a shop; in a consumer's photo the garment lies, hangs, or is worn."""
    if not consumer:
        grey = np.linspace(rng.uniform(205, 255), rng.uniform(195, 255), shape[0]).astype(np.uint8)
        return np.asarray(cv2.cvtColor(np.repeat(grey[:, None], shape[1], axis=1), cv2.COLOR_GRAY2RGB), np.uint8)
    if pose.worn:
        place = street(rng, shape) if rng.random() < 0.55 else room(rng, shape)
    else:
        place = wall(rng, shape) if pose.hanging else ground(rng, shape)
        for _ in range(int(rng.choice(3, p=(0.6, 0.3, 0.1)))):
            add_clutter(place, rng)
    return np.asarray(cv2.blur(place, (3, 3)) if rng.random() < 0.5 else place, dtype=np.uint8)


def ground(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw the surface that a garment lies on, sometimes with the edge of a second one."""
    kinds = (planks, carpet, tiles, cover, cover)
    image = kinds[int(rng.integers(len(kinds)))](rng, shape)
    if rng.random() < 0.25:
        other = kinds[int(rng.integers(len(kinds)))](rng, shape)
        height, width = shape
        edge, lean = rng.uniform(0.0, 0.25) * height, rng.uniform(-0.15, 0.15) * height
        mask = np.zeros(shape, np.uint8)
        cv2.fillPoly(mask, [np.array([(0, 0), (width, 0), (width, edge + lean), (0, edge)], np.int32)], 255)
        if rng.random() < 0.5:
            mask = mask[::-1].copy()
        cv2.copyTo(other, mask, image)
    return image


def planks(rng: np.random.Generator, shape: tuple[int, int], color: Color | None = None) -> Image:
    """Draw a wooden floor: boards with grain, dark joints, and ends at random places."""
    upright = rng.random() < 0.5
    height, width = shape[::-1] if upright else shape
    count = int(rng.integers(4, 14))
    grey = blotches(rng, (height, width), (height // 3, 6), 22) - np.uint8(18)
    step = height / count
    for board in range(count):
        top, bottom = round(board * step), round((board + 1) * step)
        grey[top:bottom] += np.uint8(rng.integers(0, 36))
        cv2.line(grey, (0, top), (width, top), 70, 1)
        end = int(rng.integers(width))
        cv2.line(grey, (end, top), (end, bottom), 70, 1)
    return toned(np.ascontiguousarray(grey.T) if upright else grey, color or brown(rng))


def carpet(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw a carpet, plain or with a symmetric pattern that repeats."""
    size = max(shape)
    grey = np.full(shape, 128, np.uint8)
    if rng.random() < 0.65:
        corner = rng.integers(40, 216, (int(rng.integers(4, 8)),) * 2).astype(np.uint8)
        motif = np.block([[corner, corner[:, ::-1]], [corner[::-1], corner[::-1, ::-1]]])
        side = int(rng.uniform(0.15, 0.4) * size)
        tile = cv2.resize(motif, (side, side), interpolation=cv2.INTER_LINEAR)
        tile = np.asarray(cv2.threshold(tile, 118, 60, cv2.THRESH_BINARY)[1], np.uint8) + np.uint8(98)
        grey = np.tile(tile, (-(-shape[0] // side), -(-shape[1] // side)))[: shape[0], : shape[1]]
    pile = cv2.addWeighted(grey, 1.0, fine_noise(rng, shape), 0.4, -51)
    return tinted(np.asarray(pile, np.uint8), vivid(rng), vivid(rng))


def tiles(rng: np.random.Generator, shape: tuple[int, int], color: Color | None = None) -> Image:
    """Draw stone or ceramic tiles with joints."""
    side = round(rng.uniform(0.12, 0.4) * max(shape))
    tones = rng.integers(118, 139, (-(-shape[0] // side), -(-shape[1] // side))).astype(np.uint8)
    flat = cv2.resize(tones, (tones.shape[1] * side, tones.shape[0] * side), interpolation=cv2.INTER_NEAREST)
    grey = np.asarray(cv2.addWeighted(flat[: shape[0], : shape[1]], 1.0, blotches(rng, shape, (12, 12), 30), 0.4, -51))
    joint = int(rng.choice((85, 160)))
    grey[::side] = joint
    grey[:, ::side] = joint
    return toned(np.asarray(grey, np.uint8), color or muted(rng, 110, 235))


def cover(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw a bed cover or a sheet with wrinkles: plain, quilted, checked or dotted."""
    height, width = shape
    creases = blotches(rng, shape, (int(rng.integers(3, 8)), int(rng.integers(3, 8))), 70)
    ridges = np.sin(np.arange(256) * rng.uniform(0.03, 0.12)) * rng.uniform(12, 34) + 128
    grey = np.asarray(cv2.LUT(creases, ridges.astype(np.uint8)), np.uint8)
    kind, step = rng.random(), int(rng.uniform(0.08, 0.2) * height)
    if kind < 0.2:  # quilted
        for at in range(-height, width + height, step):
            cv2.line(grey, (at, 0), (at + height, height), 88, 1, cv2.LINE_AA)
            cv2.line(grey, (at, 0), (at - height, height), 88, 1, cv2.LINE_AA)
    elif kind < 0.35:  # checked
        band = (np.arange(max(shape)) // max(2, step // 2) % 2).astype(np.uint8) * np.uint8(26)
        grey = np.asarray(cv2.subtract(grey, band[:height, None] + band[None, :width]), np.uint8)
    elif kind < 0.45:  # dotted
        for y in range(step // 2, height, step):
            for x in range(step // 2, width, step):
                cv2.circle(grey, (x, y), max(2, step // 5), 190, -1, cv2.LINE_AA)
    return toned(grey, vivid(rng) if rng.random() < 0.7 else muted(rng, 150, 240))


def wall(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw what a garment hangs in front of: plaster, a door, a wardrobe, bricks or a curtain."""
    height, width = shape
    kind = int(rng.integers(5))
    if kind == 0:
        return planks(rng, shape, brown(rng) if rng.random() < 0.6 else muted(rng, 160, 235))
    if kind == 1:
        return curtain(rng, shape)
    if kind == 2:
        return bricks(rng, shape)
    image = toned(blotches(rng, shape, (4, 4), 14), muted(rng, 120, 240))
    if kind == 3:  # a door
        add_door(image, rng, int(rng.uniform(0.0, 0.3) * width), int(rng.uniform(0.7, 1.0) * width), -5)
    if rng.random() < 0.5:
        floor = int(rng.uniform(0.75, 0.97) * height)
        image[floor:] = planks(rng, (height - floor, width))
        cv2.line(image, (0, floor), (width, floor), (235, 232, 225), max(1, height // 50))
    return image


def curtain(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw a curtain with vertical folds."""
    across = np.sin(np.arange(shape[1]) * rng.uniform(8, 30) * 2 * np.pi / shape[1] + rng.uniform(0, 6)) * 26 + 128
    grey = np.broadcast_to(across.astype(np.uint8), shape)
    uneven = cv2.addWeighted(np.ascontiguousarray(grey), 1.0, blotches(rng, shape, (3, 9), 40), 0.5, -64)
    return toned(np.asarray(uneven, np.uint8), vivid(rng))


def bricks(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw rows of bricks; every second row is shifted by half a brick."""
    height, width = shape
    high = max(4, height // int(rng.integers(10, 22)))
    grey = blotches(rng, shape, (height // high + 1, width // (2 * high) + 1), 28)
    for row, y in enumerate(range(0, height, high)):
        cv2.line(grey, (0, y), (width, y), 178, 1)
        for x in range(high * (row % 2), width, 2 * high):
            cv2.line(grey, (x, y), (x, y + high), 178, 1)
    return toned(grey, rgb(rng.uniform(0.0, 0.07), rng.uniform(0.05, 0.6), rng.uniform(0.5, 0.85)))


def add_door(image: Image, rng: np.random.Generator, left: int, right: int, top: int) -> None:
    """Draw a door with panels and a handle into an image, down to its lower edge."""
    height, width = image.shape[:2]
    color = muted(rng, 120, 240)
    edge = tuple(round(channel * 0.7) for channel in color)
    cv2.rectangle(image, (left, top), (right, height + 5), color, -1)
    cv2.rectangle(image, (left, top), (right, height + 5), edge, max(1, width // 100))
    inset = max(2, (right - left) // 8)
    for low, high in ((0.08, 0.45), (0.52, 0.95)):
        corners = (left + inset, int(low * height)), (right - inset, int(high * height))
        cv2.rectangle(image, *corners, edge, max(1, width // 150))
    cv2.circle(image, (right - inset // 2, height // 2), max(2, width // 50), (190, 170, 110), -1, cv2.LINE_AA)


def room(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw a room: a wall, with pictures, windows or a door, above a floor with furniture."""
    height, width = shape
    image = toned(blotches(rng, shape, (3, 3), 16), muted(rng, 110, 240))
    floor = int(rng.uniform(0.6, 0.95) * height)
    if rng.random() < 0.5:
        left = int(rng.uniform(-0.1, 0.8) * width)
        add_door(image, rng, left, left + int(0.35 * width), int(rng.uniform(0.0, 0.2) * height))
    surface = (planks, carpet, tiles)[int(rng.integers(3))](rng, (height - floor, width))
    image[floor:] = surface
    cv2.line(image, (0, floor), (width, floor), muted(rng, 60, 240), max(1, height // 60))
    for _ in range(int(rng.integers(0, 3))):  # pictures, windows, mirrors
        x, y = int(rng.uniform(-0.1, 0.9) * width), int(rng.uniform(0.0, 0.4) * height)
        w, h = int(rng.uniform(0.12, 0.35) * width), int(rng.uniform(0.1, 0.3) * height)
        cv2.rectangle(image, (x, y), (x + w, y + h), vivid(rng), -1)
        cv2.rectangle(image, (x, y), (x + w, y + h), muted(rng, 30, 250), max(2, width // 60))
    for _ in range(int(rng.integers(0, 3))):  # cupboards, beds, tables
        x, w = int(rng.uniform(-0.2, 0.9) * width), int(rng.uniform(0.2, 0.5) * width)
        y, color = int(rng.uniform(0.45, 0.85) * height), brown(rng) if rng.random() < 0.5 else vivid(rng)
        low = min(height, floor + int(0.1 * height))
        cv2.rectangle(image, (x, y), (x + w, low), color, -1)
        cv2.line(image, (x + w // 2, y), (x + w // 2, low), tuple(c // 2 for c in color), 1)
        cv2.rectangle(image, (x, y), (x + w, y + 3), tuple(c * 3 // 4 for c in color), -1)
    return image


def street(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw a street: houses under the sky, or a shop front; trees, a pavement and a road."""
    height, width = shape
    horizon = int(rng.uniform(0.5, 0.8) * height)
    image = np.empty((*shape, 3), np.uint8)
    low = np.array(muted(rng, 170, 245))
    image[:] = np.linspace(np.clip(low - (90, 45, 0), 0, 255), low, height)[:, None]
    if rng.random() < 0.3:
        add_shop_front(image, rng, horizon)
    else:
        add_houses(image, rng, horizon)
    for _ in range(int(rng.integers(0, 4))):
        add_tree(image, rng, horizon)
    image[horizon:] = tiles(rng, (height - horizon, width), muted(rng, 110, 200))
    kerb = horizon + int(rng.uniform(0.02, 0.12) * height)
    if rng.random() < 0.6:  # the road beyond the pavement
        cv2.rectangle(image, (0, horizon), (width, kerb), muted(rng, 60, 110), -1)
        cv2.line(image, (0, kerb), (width, kerb), (205, 203, 198), max(1, height // 80))
        if rng.random() < 0.5:
            add_car(image, rng, kerb)
    return image


def add_houses(image: Image, rng: np.random.Generator, horizon: int) -> None:
    """Draw a row of houses with windows into an image."""
    height, width = image.shape[:2]
    left = -int(rng.uniform(0, 0.2) * width)
    while left < width:
        right, top = left + int(rng.uniform(0.2, 0.5) * width), int(rng.uniform(-0.3, 0.6) * horizon)
        color, glass = muted(rng, 90, 225), muted(rng, 40, 150)
        cv2.rectangle(image, (left, top), (right, horizon), color, -1)
        step = max(8, int(rng.uniform(0.07, 0.13) * height))
        for y in range(max(top, -step) + step // 2, horizon - step // 2, step):
            for x in range(left + step // 3, right - step // 2, step):
                cv2.rectangle(image, (x, y), (x + step // 2, y + 2 * step // 3), glass, -1)
        left = right


def add_shop_front(image: Image, rng: np.random.Generator, horizon: int) -> None:
    """Draw a shop front into an image: large windows with goods, under a sign."""
    height, width = image.shape[:2]
    image[:horizon] = muted(rng, 60, 200)
    sign = int(rng.uniform(0.08, 0.25) * horizon)
    cv2.rectangle(image, (0, sign // 3), (width, sign), vivid(rng), -1)
    panes = int(rng.integers(2, 5))
    for pane in range(panes):
        left, right = int((pane + 0.06) * width / panes), int((pane + 0.94) * width / panes)
        cv2.rectangle(image, (left, sign + height // 40), (right, horizon - height // 30), muted(rng, 120, 240), -1)
        for _ in range(3):
            x, y = int(rng.integers(left, max(left + 1, right))), int(rng.uniform(0.4, 0.9) * horizon)
            cv2.rectangle(image, (x, y), (min(right, x + width // 15), horizon - height // 25), vivid(rng), -1)


def add_tree(image: Image, rng: np.random.Generator, horizon: int) -> None:
    """Draw a tree into an image: a trunk and round clusters of leaves."""
    height, width = image.shape[:2]
    x, crown = int(rng.integers(width)), int(rng.uniform(0.1, 0.7) * horizon)
    cv2.line(image, (x, crown), (x, horizon), (88, 68, 50), max(2, width // 50))
    for _ in range(7):
        at = rng.normal((x, crown), 0.06 * height)
        green = rgb(rng.uniform(0.22, 0.38), rng.uniform(0.3, 0.7), rng.uniform(0.25, 0.6))
        cv2.circle(image, (int(at[0]), int(at[1])), int(rng.uniform(0.03, 0.09) * height), green, -1, cv2.LINE_AA)


def add_car(image: Image, rng: np.random.Generator, kerb: int) -> None:
    """Draw a car at the kerb, seen from the side, into an image."""
    height, width = image.shape[:2]
    size, x = rng.uniform(0.1, 0.16) * height, float(rng.uniform(-0.1, 0.8) * width)
    body = [(0, -0.9), (0.5, -1), (0.9, -1.6), (2.2, -1.6), (2.7, -1), (3.2, -0.85), (3.2, -0.25), (0, -0.25)]
    cv2.fillPoly(image, [(np.array(body) * size + (x, kerb)).astype(np.int32)], vivid(rng), cv2.LINE_AA)
    glass = [(0.75, -1.05), (1.0, -1.45), (2.1, -1.45), (2.45, -1.05)]
    cv2.fillPoly(image, [(np.array(glass) * size + (x, kerb)).astype(np.int32)], (70, 80, 90), cv2.LINE_AA)
    for at in (0.7, 2.5):
        cv2.circle(image, (int(x + at * size), int(kerb - 0.25 * size)), int(0.3 * size), (30, 30, 32), -1, cv2.LINE_AA)


def add_clutter(place: Image, rng: np.random.Generator) -> None:
    """Draw an object near an edge of the picture: a box, a cushion, or a heap of clothes."""
    height, width = place.shape[:2]
    color = muted(rng, 20, 240)
    x, y = int(rng.choice((0.02, 0.98)) * width), int(rng.integers(height))
    w, h = int(rng.uniform(0.08, 0.4) * width), int(rng.uniform(0.08, 0.4) * height)
    kind = int(rng.integers(3))
    if kind == 0:
        cv2.rectangle(place, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), color, -1)
    elif kind == 1:
        cv2.ellipse(place, (x, y), (max(2, w // 2), max(2, h // 3)), float(rng.uniform(0, 180)), 0, 360, color, -1)
    else:
        corners = rng.normal(0, 1, (6, 2)) * (w / 2, h / 2) + (x, y)
        cv2.fillPoly(place, [cv2.convexHull(corners.astype(np.int32))], color)
