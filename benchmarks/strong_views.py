"""Changed views of a photo, in full size and as thumbnails, for the fit of `photo_embedding.py`."""

import cv2
import numpy as np

from fashion_infer.images import Pixels

TURN, TILT = 15.0, 0.07  # largest rotation, degrees; largest move of a corner, as a share of a side
KEPT = (0.65, 0.95)  # share of each side that the crop keeps
LIGHT, CONTRAST, LAMP = (0.65, 1.35), (0.75, 1.25), (0.88, 1.12)  # factors: brightness, contrast, each colour channel
QUALITY = (35, 80)  # quality of the JPEG
SMALL = (80, 200)  # long side of a small view, pixels


def strong_view(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """Crop, rotate and tilt a photo, change its light and colours, and compress it as a JPEG.

    Args:
        photo: uint8 [H, W, 3] RGB.
        rng: Source of random numbers.

    Returns:
        uint8 [h, w, 3] RGB, where h and w are 65 to 95 % of the photo's. Beyond its borders the photo is mirrored.
    """
    sides = np.array(photo.shape[1::-1], np.float64)
    cut = rng.uniform(*KEPT, 2) * sides
    centre = cut / 2 + rng.uniform(0, 1, 2) * (sides - cut)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * cut + rng.uniform(-TILT, TILT, (4, 2)) * cut
    turn = np.radians(rng.uniform(-TURN, TURN))
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    width, height = max(1, round(cut[0])), max(1, round(cut[1]))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    transform = cv2.getPerspectiveTransform((corners @ rotation + centre).astype(np.float32), target)
    part = cv2.warpPerspective(photo, transform, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    lamp = rng.uniform(*LAMP, 3) * rng.uniform(*LIGHT)
    lit = ((part.astype(np.float32) - 128) * rng.uniform(*CONTRAST) + 128) * lamp
    bgr = np.ascontiguousarray(lit.clip(0, 255).astype(np.uint8)[..., ::-1])
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*QUALITY))])[1]
    return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]).astype(np.uint8, copy=False)


def small_view(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """Change a photo as `strong_view` does, and shrink it to a thumbnail with a long side of 80 to 200 pixels.

    Args:
        photo: uint8 [H, W, 3] RGB.
        rng: Source of random numbers.

    Returns:
        uint8 [h, w, 3] RGB.
    """
    view = strong_view(photo, rng)
    scale = rng.uniform(*SMALL) / max(view.shape[:2])
    if scale >= 1:
        return view
    size = max(1, round(view.shape[1] * scale)), max(1, round(view.shape[0] * scale))
    return cv2.resize(view, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
