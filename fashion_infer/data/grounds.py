"""What a consumer photographs a garment on or in front of: floors, beds, walls and doors, rooms, streets.

Most surfaces are a tone, [H, W] uint8 with 128 neutral, that is coloured in one look-up.
"""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_infer.data.designs import Color, pick, rgb

Image = NDArray[np.uint8]
Grid = NDArray[np.float32]
Shape = tuple[int, int]  # height, width in pixels


@lru_cache(maxsize=1)
def speckles() -> Grid:
    """[1024, 1024] normal noise of which pictures take their part: drawing it anew is slow."""
    return np.random.default_rng(0).standard_normal((1024, 1024), np.float32)


def speckle(rng: np.random.Generator, shape: Shape) -> Grid:
    """[H, W] normal noise; pictures beyond 1024 pixels repeat it."""
    roll = rng.integers(0, 512, 2)
    rows, columns = np.arange(shape[0]) + roll[0], np.arange(shape[1]) + roll[1]
    if max(rows[-1], columns[-1]) < 1024:
        return speckles()[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return speckles()[np.ix_(rows % 1024, columns % 1024)]


def blobs(rng: np.random.Generator, cells: Shape, shape: Shape) -> Grid:
    """[H, W] smooth noise within about half of 1 around 0, of so many waves down and across."""
    coarse = rng.random(cells, np.float32) - np.float32(0.5)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def colored(tone: Grid, color: Color, other: Color | None = None) -> Image:
    """[H, W, 3] of a tone: 128 gives the colour, 0 black and 255 twice it, or ramps from one colour to the other."""
    steps = np.linspace(0.0, 1.0, 256)[:, None]
    ramp = 2.0 * steps * np.array(color) if other is None else np.array(color) * (1.0 - steps) + steps * np.array(other)
    palette = np.clip(ramp, 0, 255).astype(np.uint8)[:, None]
    return np.asarray(cv2.applyColorMap(np.clip(tone, 0, 255).astype(np.uint8), palette), dtype=np.uint8)


def muted(rng: np.random.Generator, low: int, high: int) -> Color:
    """A colour of a room: a grey between the limits, some way towards a random colour."""
    color = rng.integers(low, high) * np.ones(3) + rng.uniform(0.0, 0.5) * rng.integers(-90, 91, 3)
    red, green, blue = np.clip(color, 0, 255).astype(int).tolist()
    return red, green, blue


def lying(rng: np.random.Generator, shape: Shape) -> Image:
    """A surface seen from above: boards, tiles, a carpet or a cover, turned a little."""
    surface = pick(rng, (boards, boards, tiles, carpet, cover, cover, cover))
    image = surface(rng, shape)
    if rng.random() < 0.5 and surface is not cover:
        side = shape[1] / 2, shape[0] / 2
        turn = cv2.getRotationMatrix2D(side, float(rng.uniform(-45, 45)), float(rng.uniform(1.0, 1.6)))
        image = np.asarray(cv2.warpAffine(image, turn, shape[::-1], borderMode=cv2.BORDER_REFLECT_101), np.uint8)
    return image


def boards(rng: np.random.Generator, shape: Shape) -> Image:
    """Wooden boards or laminate: streaks along, a tone for every board, dark joints."""
    upright = rng.random() < 0.5
    height, width = shape[::-1] if upright else shape
    count = int(rng.integers(4, 14))
    board = np.arange(height) * count // height
    tone = (
        128 + 55 * blobs(rng, (max(8, height // 3), 6), (height, width)) + 20 * blobs(rng, (count, 3), (height, width))
    )
    tone += rng.uniform(-16, 16, count).astype(np.float32)[board][:, None]
    for number in range(count):
        y, x = round(number * height / count), int(rng.integers(width))
        tone[y : y + max(1, height // 200)] -= 45
        tone[y : y + height // count, x : x + max(1, width // 200)] -= 40
    wood = rgb(rng.uniform(0.05, 0.11), rng.uniform(0.05, 0.6), rng.uniform(0.3, 0.85))
    return colored(np.ascontiguousarray(tone.T) if upright else tone, wood)


def tiles(rng: np.random.Generator, shape: Shape) -> Image:
    """Square tiles with joints, or one slab of stone."""
    height, width = shape
    tone = 128 + 40 * blobs(rng, (9, 9), shape) + 4 * speckle(rng, shape)
    tone += 50 * np.exp(-((blobs(rng, (6, 6), shape) / 0.02) ** 2)) * rng.uniform(-1, 1)  # veins
    side = int(rng.uniform(0.15, 0.6) * height)
    joint, start = float(rng.uniform(-50, 40)), int(rng.integers(side))
    for at in range(start, max(shape), side):
        tone[at : at + max(1, height // 120)] += joint
        tone[:, at : at + max(1, height // 120)] += joint
    return colored(tone, muted(rng, 90, 225))


def carpet(rng: np.random.Generator, shape: Shape) -> Image:
    """A rug: rough, of one colour or with a repeated figure."""
    height, width = shape
    tone = 110 + 30 * blobs(rng, (5, 5), shape) + float(rng.uniform(8, 26)) * speckle(rng, shape)
    if rng.random() < 0.6:
        side = max(8, round(height * rng.uniform(0.1, 0.4)))
        figure = np.zeros((side, side), np.float32)
        for reach, value in ((0.45, 70), (0.3, -60), (0.16, 90)):
            turn = float(rng.uniform(0, 90))
            cv2.ellipse(
                figure,
                (side // 2, side // 2),
                (round(side * reach), round(side * reach * 0.6)),
                turn,
                0,
                360,
                value,
                -1,
            )
        tone += np.tile(figure, (height // side + 1, width // side + 1))[:height, :width]
    hue = rng.random()
    light = rgb(hue + rng.uniform(-0.1, 0.1), rng.uniform(0.1, 0.6), rng.uniform(0.5, 0.95))
    return colored(tone, rgb(hue, rng.uniform(0.1, 0.7), rng.uniform(0.1, 0.6)), light)


def cover(rng: np.random.Generator, shape: Shape) -> Image:
    """A sheet, bedspread or curtain: plain, striped or quilted, in folds."""
    tone = 128 + 45 * blobs(rng, (4, 4), shape) + 3 * speckle(rng, shape)
    waves = blobs(rng, (int(rng.integers(3, 8)), int(rng.integers(3, 8))), shape)
    tone += float(rng.uniform(0, 40)) * (0.5 - np.abs(np.sin(waves * float(rng.uniform(4, 14)))))
    kind, step = rng.random(), max(6, int(shape[0] * rng.uniform(0.03, 0.12)))
    y, x = np.ogrid[: shape[0], : shape[1]]
    if kind < 0.2:
        tone += (x % step < step // 2) * np.float32(rng.uniform(-40, 40))
    elif kind < 0.35:
        tone -= (((x + y) % step < 2) | ((x - y) % step < 2)) * np.float32(30)
    return colored(tone, rgb(rng.random(), rng.uniform(0.0, 1.0) ** 1.5, rng.uniform(0.25, 0.95)))


def wall(rng: np.random.Generator, shape: Shape) -> Image:
    """An upright surface to hang something on: wall, door, wardrobe or curtain."""
    kind = int(rng.integers(5))
    if kind == 0:
        return boards(rng, shape)
    if kind == 1:
        return cover(rng, shape)
    height, width = shape
    image = colored(128 + 24 * blobs(rng, (3, 3), shape) + 2 * speckle(rng, shape), muted(rng, 110, 240))
    if kind == 2:
        door(image, rng)
    elif kind == 3:  # wallpaper
        step, tint = max(5, int(width * rng.uniform(0.03, 0.15))), muted(rng, 110, 240)
        for x in range(int(rng.integers(step)), width, step):
            cv2.line(image, (x, 0), (x, height), tint, max(1, step // 4))
    if rng.random() < 0.5:
        y = int(rng.uniform(0.8, 1.0) * height)
        image[y:] = boards(rng, (height, width))[y:]
        cv2.rectangle(image, (0, y - height // 30), (width, y), muted(rng, 120, 245), -1)
    return image


def door(image: Image, rng: np.random.Generator) -> None:
    """Paints a panelled door or wardrobe into the image."""
    height, width = image.shape[:2]
    left, reach = int(rng.uniform(-0.2, 0.4) * width), int(rng.uniform(0.6, 1.0) * width)
    leaf = muted(rng, 100, 245)
    edge = tuple(int(channel * 0.72) for channel in leaf)
    cv2.rectangle(image, (left, int(0.04 * height)), (left + reach, height), leaf, -1)
    cv2.rectangle(image, (left, int(0.04 * height)), (left + reach, height), edge, max(1, height // 90))
    columns, rows = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    for column in range(columns):
        for row in range(rows):
            x, y = left + reach * (column + 0.15) / columns, height * (0.08 + row * 0.92 / rows)
            end = round(x + reach * 0.7 / columns), round(y + 0.8 * height / rows)
            cv2.rectangle(image, (round(x), round(y)), end, edge, max(1, height // 160))
    cv2.circle(image, (left + int(0.92 * reach), int(0.55 * height)), max(2, height // 60), (150, 140, 120), -1)


def room(rng: np.random.Generator, shape: Shape) -> Image:
    """A room with a floor and things in it."""
    height, width = shape
    image, floor = wall(rng, shape), int(rng.uniform(0.6, 0.95) * height)
    image[floor:] = pick(rng, (boards, tiles, carpet))(rng, (height, width))[floor:]
    for _ in range(int(rng.integers(1, 7))):
        add_clutter(image, rng)
    return np.asarray(cv2.GaussianBlur(image, (5, 5), 0.3 + 1.2 * float(rng.random())), dtype=np.uint8)


def add_clutter(image: Image, rng: np.random.Generator) -> None:
    """Paints one thing of the room: furniture, a picture, a lamp, a heap of clothes."""
    height, width = image.shape[:2]
    color = muted(rng, 20, 240)
    x, y = int(rng.integers(width)), int(rng.integers(height))
    w, h = int(rng.uniform(0.05, 0.4) * width), int(rng.uniform(0.05, 0.5) * height)
    kind = int(rng.integers(3))
    if kind == 0:
        cv2.rectangle(image, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), color, -1)
    elif kind == 1:
        cv2.ellipse(image, (x, y), (max(2, w // 2), max(2, h // 3)), float(rng.uniform(0, 180)), 0, 360, color, -1)
    else:
        corners = rng.normal(0, 1, (6, 2)) * (w / 2, h / 2) + (x, y)
        cv2.fillPoly(image, [cv2.convexHull(corners.astype(np.int32))], color)


def street(rng: np.random.Generator, shape: Shape) -> Image:
    """Houses or a park under the sky, pavement and road before them, out of focus."""
    height, width = shape
    horizon = int(rng.uniform(0.5, 0.8) * height)
    sky = rgb(rng.uniform(0.55, 0.62), rng.uniform(0.0, 0.5), rng.uniform(0.7, 1.0))
    image = colored(128 + np.linspace(-15, 15, height, dtype=np.float32)[:, None] + 20 * blobs(rng, (4, 4), shape), sky)
    if rng.random() < 0.75:
        x = int(rng.uniform(-0.3, 0.0) * width)
        while x < width:
            reach = int(rng.uniform(0.2, 0.7) * width)
            house(image, rng, (x, int(rng.uniform(-0.2, 0.4) * height)), (x + reach, horizon))
            x += reach
    pave(image, rng, horizon)
    for _ in range(int(rng.integers(0, 4))):
        tree(image, rng, int(rng.integers(width)), horizon)
    if rng.random() < 0.5:
        car(image, rng, int(rng.integers(width)), horizon)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), height / 256 * float(rng.uniform(0.4, 2.2))), dtype=np.uint8)


def house(image: Image, rng: np.random.Generator, start: tuple[int, int], end: tuple[int, int]) -> None:
    """One front: rows of windows above a shop window or a door."""
    front, glass = muted(rng, 70, 220), muted(rng, 30, 150)
    cv2.rectangle(image, start, end, front, -1)
    reach, tall = end[0] - start[0], end[1] - start[1]
    columns, floors = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    for column in range(columns):
        for row in range(floors - 1):
            x, y = start[0] + reach * (column + 0.25) / columns, start[1] + tall * (row + 0.2) / floors
            corner = round(x + 0.5 * reach / columns), round(y + 0.6 * tall / floors)
            cv2.rectangle(image, (round(x), round(y)), corner, glass, -1)
            cv2.rectangle(image, (round(x), round(y)), corner, (225, 222, 215), max(1, tall // 100))
    top = round(end[1] - 0.8 * tall / floors)
    cv2.rectangle(image, (start[0] + reach // 12, top), (end[0] - reach // 12, end[1] - tall // 30), glass, -1)
    if rng.random() < 0.6:  # an awning or a sign
        cv2.rectangle(image, (start[0], top - tall // 14), (end[0], top + tall // 30), muted(rng, 60, 220), -1)


def pave(image: Image, rng: np.random.Generator, horizon: int) -> None:
    """Pavement that runs away from the viewer, or grass, and a strip of road."""
    height, width = image.shape[:2]
    near = (height - horizon, width)
    ground = rgb(0.27, 0.45, 0.55) if rng.random() < 0.2 else muted(rng, 90, 190)
    image[horizon:] = colored(128 + 20 * blobs(rng, (4, 4), near) + 6 * speckle(rng, near), ground)
    if rng.random() < 0.5:
        curb = horizon + (height - horizon) // 3
        cv2.rectangle(image, (0, horizon), (width, curb), (85, 85, 90), -1)
        cv2.line(image, (0, curb), (width, curb), (190, 188, 182), max(1, height // 80))
    else:
        vanish, joint = int(rng.integers(width)), tuple(int(channel * 0.8) for channel in ground)
        for x in range(-width, 2 * width, max(4, width // 5)):
            cv2.line(image, (vanish + (x - vanish) // 4, horizon), (x, height), joint, 1, cv2.LINE_AA)
        for depth in (0.08, 0.2, 0.4, 0.7):
            y = horizon + round(depth * (height - horizon))
            cv2.line(image, (0, y), (width, y), joint, 1)


def tree(image: Image, rng: np.random.Generator, x: int, foot: int) -> None:
    """A trunk and leaves in clumps."""
    height = image.shape[0]
    tall = float(rng.uniform(0.4, 0.9)) * foot
    cv2.line(image, (x, foot), (x, round(foot - 0.6 * tall)), (80, 62, 48), max(2, height // 40))
    for _ in range(9):
        middle = np.array([x, foot - 0.75 * tall]) + rng.normal(0, 0.16, 2) * tall
        leaf = rgb(rng.uniform(0.22, 0.33), 0.5, rng.uniform(0.25, 0.6))
        cv2.circle(image, (round(middle[0]), round(middle[1])), max(2, round(0.17 * tall)), leaf, -1, cv2.LINE_AA)


def car(image: Image, rng: np.random.Generator, x: int, foot: int) -> None:
    """A parked car, seen from its side."""
    unit = image.shape[0] * float(rng.uniform(0.08, 0.14))
    y, paint = foot + 0.3 * unit, rgb(rng.random(), rng.uniform(0, 0.8), rng.uniform(0.2, 0.9))
    body = np.array([(-2, 0), (-2, -0.7), (-1.3, -0.8), (-0.8, -1.4), (0.8, -1.4), (1.3, -0.8), (2, -0.6), (2, 0)])
    glass = np.array([(-1.1, -0.8), (-0.7, -1.25), (0.7, -1.25), (1.1, -0.8)])
    for outline, color in ((body, paint), (glass, (60, 70, 80))):
        cv2.fillPoly(image, [np.round(outline * unit + (x, y)).astype(np.int32)], color, cv2.LINE_AA)
    for side in (-1.2, 1.2):
        cv2.circle(image, (round(x + side * unit), round(y)), max(2, round(0.36 * unit)), (35, 35, 38), -1, cv2.LINE_AA)
