"""Photographing a garment: the camera, obstacles in front of the garment, light and lens."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fashion_infer.synthetic.backdrops import fine_noise, muted
from fashion_infer.synthetic.painting import SKINS, Layer, project
from fashion_infer.synthetic.people import PERSON_BOTTOM, PERSON_TOP, Pose
from fashion_infer.synthetic.sketching import Floats
from fashion_infer.synthetic.textures import Image, soften

CONSUMER_ASPECTS = (1.0, 0.8, 0.72)  # width / height of a consumer's photo


def photo_shape(rng: np.random.Generator, size: int, consumer: bool) -> tuple[int, int]:
    """Draw the height and width of a photo in pixels; a shop's photos are square."""
    aspect = CONSUMER_ASPECTS[int(rng.integers(len(CONSUMER_ASPECTS)))] if consumer else 1.0
    return size, round(size * aspect)


def draw_frame(rng: np.random.Generator, outline: Floats, pose: Pose, consumer: bool) -> Floats:
    """Draw what the camera aims at, points [K, 2] in body units: the garment, or more of the person who wears it."""
    if not (pose.worn and consumer):
        return outline
    low, high = outline.min(axis=0), outline.max(axis=0)
    kind = rng.random()
    if kind < 0.35:  # the whole person
        low, high = np.minimum(low, (-0.35, PERSON_TOP)), np.maximum(high, (0.35, PERSON_BOTTOM))
    elif kind < 0.65:  # cut off at the head and at about the knees
        low, high = np.minimum(low, (-0.35, -0.15)), np.maximum(high, (0.35, 1.0))
    return np.stack([low, high])


def place_camera(
    rng: np.random.Generator, outline: Floats, frame: Floats, shape: tuple[int, int], consumer: bool
) -> Floats:
    """Draw a camera, a homography [3, 3] from body units to pixels; a consumer's is tilted and may cut parts off."""
    for _ in range(8):
        camera = draw_camera(rng, frame, shape, consumer)
        if share_inside(project(outline, camera), shape) > 0.55:
            return camera
    return draw_camera(rng, outline, shape, consumer=False)


def draw_camera(rng: np.random.Generator, frame: Floats, shape: tuple[int, int], consumer: bool) -> Floats:
    """Draw a camera without a check of how much of the garment it shows."""
    height, width = shape
    low, high = frame.min(axis=0), frame.max(axis=0)
    zoom = rng.uniform(0.62, 1.3) if consumer else rng.uniform(0.78, 0.93)
    scale = zoom * min(width / (high[0] - low[0]), height / (high[1] - low[1]))
    turn = rng.normal(0.0, 0.12) if consumer else rng.normal(0.0, 0.01)
    shift = rng.uniform(-0.14, 0.14, 2) if consumer else rng.uniform(-0.02, 0.02, 2)
    tilt = rng.uniform(-0.22, 0.22, 2) / (high - low).max() if consumer else np.zeros(2)
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    centred = np.array([[1, 0, -(low[0] + high[0]) / 2], [0, 1, -(low[1] + high[1]) / 2], [0, 0, 1]])
    tilted = np.array([[1, 0, 0], [0, 1, 0], [tilt[0], tilt[1], 1]])
    placed = np.array([[cos, -sin, width * (0.5 + shift[0])], [sin, cos, height * (0.5 + shift[1])], [0, 0, 1]])
    return np.asarray(placed @ tilted @ centred, dtype=np.float64)


def share_inside(points: Floats, shape: tuple[int, int]) -> float:
    """The share of the bounding box of some points that lies in the picture."""
    limit = np.array([shape[1], shape[0]], np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    inside = np.clip(high, 0, limit) - np.clip(low, 0, limit)
    return float(np.prod(inside / (high - low)))


def compose(room: Image, layer: Layer, rng: np.random.Generator) -> Image:
    """Put the painted drawing with its shadow in front of the background."""
    height, width = layer.painted.shape
    alpha = cv2.blur(layer.painted, (2, 2)).astype(np.float32) / 255.0
    offset = np.array([[1, 0, rng.uniform(-0.02, 0.02) * width], [0, 1, rng.uniform(0.0, 0.03) * height]])
    dim = 1.0 - 0.4 * soften(np.asarray(cv2.warpAffine(layer.painted, offset, (width, height)), np.uint8), width / 40)
    shaded = cv2.multiply(room, cv2.merge([dim] * 3), dtype=cv2.CV_8U)
    return np.asarray(cv2.blendLinear(layer.image, shaded, alpha, 1.0 - alpha), dtype=np.uint8)


@dataclass(frozen=True)
class Obstacle:
    """An object between camera and garment: its outline [K, 2] in pixels and its colour."""

    outline: Floats
    color: tuple[int, int, int]


def draw_obstacles(rng: np.random.Generator, near: Floats, shape: tuple[int, int]) -> list[Obstacle]:
    """Draw up to two obstacles, each near a random one of the points `near`, [K, 2] in pixels."""
    size = max(shape)
    obstacles = []
    for _ in range(int(rng.choice(3, p=(0.5, 0.35, 0.15)))):
        centre = near[int(rng.integers(len(near)))] + rng.normal(0, 0.03 * size, 2)
        kind, turn, reach = int(rng.integers(3)), rng.uniform(0, np.pi), rng.uniform(0.05, 0.11) * size
        tone = np.array(muted(rng, 20, 230))
        if kind == 0:  # an arm that reaches into the picture
            outline, tone = arm_towards(centre, reach, shape), np.array(SKINS[int(rng.integers(len(SKINS)))])
        elif kind == 1:  # a bag, a phone
            outline = np.array([(-1, -1.2), (1, -1.2), (1.1, 1.2), (-1.1, 1.2)]) * reach
        else:  # a scarf, a strap
            outline = np.array([(-0.35, -2.5), (0.35, -2.5), (0.3, 2.5), (-0.3, 2.5)]) * reach
        if kind:
            rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
            outline = outline @ rotation + centre
        obstacles.append(Obstacle(outline, (int(tone[0]), int(tone[1]), int(tone[2]))))
    return obstacles


def arm_towards(centre: Floats, reach: float, shape: tuple[int, int]) -> Floats:
    """The outline of an arm that comes from the nearer side of the picture and ends in a fist at `centre`."""
    edge = -20.0 if centre[0] < shape[1] / 2 else shape[1] + 20.0
    start = np.array([edge, centre[1] + 1.5 * reach])
    along = (centre - start) / max(1.0, float(np.hypot(*(centre - start))))
    across = np.array([-along[1], along[0]]) * reach * 0.5
    fist = [
        centre + 0.8 * reach * (np.cos(t) * along + 1.1 * np.sin(t) * across / (reach * 0.5))
        for t in np.linspace(-2.2, 2.2, 9)
    ]
    return np.stack([start - across, *fist, start + across])


def put_in_front(image: Image, obstacles: list[Obstacle]) -> NDArray[np.uint8]:
    """Paint the obstacles into the image and return their mask, uint8 [H, W], 255 where an obstacle is."""
    mask = np.zeros(image.shape[:2], np.uint8)
    for obstacle in obstacles:
        corners = [np.round(obstacle.outline * 16).astype(np.int32)]
        cv2.fillPoly(mask, corners, 255, cv2.LINE_8, 4)
        cv2.fillPoly(image, corners, obstacle.color, cv2.LINE_AA, 4)
        cv2.polylines(image, corners, True, tuple(channel // 2 for channel in obstacle.color), 1, cv2.LINE_AA, 4)
    return mask


def take_photo(image: Image, rng: np.random.Generator) -> Image:
    """Make a consumer's photo of an image: coloured and uneven light, blur, noise and strong JPEG compression."""
    height, width = image.shape[:2]
    tint = rng.uniform(0.88, 1.12, 3) * rng.uniform(0.8, 1.25)
    spots = rng.uniform(0.72, 1.12, (3, 3)).astype(np.float32)
    light = cv2.resize(spots[:, :, None] * tint.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    photo = cv2.multiply(image, light, dtype=cv2.CV_8U)
    chance, strength, quality = rng.random(), rng.uniform(0.4, 1.3), int(rng.integers(30, 80))
    if chance < 0.3:
        photo = cv2.GaussianBlur(photo, (0, 0), strength * width / 256)
    elif chance < 0.45:
        photo = cv2.blur(photo, (1 + round(3 * strength * width / 256), 1))
    grain = cv2.cvtColor(fine_noise(rng, (height, width)), cv2.COLOR_GRAY2BGR)
    share = rng.uniform(0.03, 0.18)
    noisy = cv2.addWeighted(photo, 1.0, grain, share, -128.0 * share)
    encoded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
