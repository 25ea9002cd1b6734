"""LandmarkPool in numpy: the definition that every other implementation is tested against.

FashionNet (Liu et al., CVPR 2016) pools its local features around each landmark it predicts; the window and the size
it is pooled to are not published, so both are arguments.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def landmark_pool(features: Floats, landmarks: Floats, gate: Floats, pooled_size: int = 4, bin_size: int = 2) -> Floats:
    """Max-pool a window of the feature map around each landmark and multiply it by the landmark's gate.

    The window is `pooled_size * bin_size` cells a side and starts that many halves (rounded down) left of and above
    the landmark's cell, floor(x * W), floor(y * H), computed in float32 and clamped into the map. Cells outside the
    map count as 0. A gate of 0 or below and a NaN landmark or gate give exactly 0, whatever the features hold.

    Args:
        features: [N, C, H, W].
        landmarks: [N, P, 2] as (x, y), in [0, 1] of the network's input.
        gate: [N, P] in [0, 1].
        pooled_size: k, outputs a side.
        bin_size: s, cells a side that each output is the maximum of.

    Returns:
        [N, P, C, k, k] of the type of `features`.

    Raises:
        ValueError: shapes that do not fit together, or a size below 1.
    """
    check_shapes(features.shape, landmarks.shape, gate.shape, pooled_size, bin_size)
    batch, channels, height, width = features.shape
    points = landmarks.shape[1]
    pooled = np.zeros((batch, points, channels, pooled_size, pooled_size), features.dtype)
    for n, p in np.ndindex(batch, points):
        x, y = landmarks[n, p].astype(np.float32)
        if not gate[n, p] > 0 or np.isnan(x) or np.isnan(y):
            continue
        window = _window(features[n], _cell(x, width), _cell(y, height), pooled_size * bin_size)
        bins = window.reshape(channels, pooled_size, bin_size, pooled_size, bin_size)
        pooled[n, p] = bins.max(axis=(2, 4)) * gate[n, p].astype(features.dtype)
    return pooled


def check_shapes(
    features: tuple[int, ...], landmarks: tuple[int, ...], gate: tuple[int, ...], pooled_size: int, bin_size: int
) -> None:
    """Raise ValueError unless the arguments' shapes and sizes are those of `landmark_pool`."""
    fits = len(features) == 4 and len(landmarks) == 3 and landmarks[::2] == (features[0], 2) and gate == landmarks[:2]
    if not fits:
        raise ValueError(
            f"expected features [N, C, H, W], landmarks [N, P, 2] and gate [N, P], got {features}, {landmarks}, {gate}"
        )
    if pooled_size < 1 or bin_size < 1:
        raise ValueError(f"pooled_size and bin_size must be at least 1, got {pooled_size} and {bin_size}")


def _cell(coordinate: np.float32, cells: int) -> int:
    return int(np.clip(np.floor(coordinate * np.float32(cells)), 0, cells - 1))


def _window(feature_map: Floats, x: int, y: int, side: int) -> Floats:
    """The `side` x `side` cells around (x, y) of a [C, H, W] map, zeros where the window leaves it."""
    channels, height, width = feature_map.shape
    left, top = x - side // 2, y - side // 2
    window = np.zeros((channels, side, side), feature_map.dtype)
    x0, x1 = max(left, 0), min(left + side, width)
    y0, y1 = max(top, 0), min(top + side, height)
    window[:, y0 - top : y1 - top, x0 - left : x1 - left] = feature_map[:, y0:y1, x0:x1]
    return window
