"""LandmarkPool in numpy: the reference that all other implementations are tested against.

FashionNet (Liu et al., CVPR 2016) pools its local features around each predicted landmark. The paper does not give the
size of the window or of the pooled result, so both are arguments.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def landmark_pool(features: Floats, landmarks: Floats, gate: Floats, pooled_size: int = 4, bin_size: int = 2) -> Floats:
    """Max-pool a window of the feature map around each landmark and multiply it by the landmark's gate.

    The landmark's cell is (floor(x * W), floor(y * H)), computed in float32 and clamped to the map. The window has a
    side of `pooled_size * bin_size` cells and starts half of that (rounded down) to the left of and above this cell.
    Cells outside the map count as 0. A gate of 0 or below, and a NaN landmark or gate, give exactly 0, even if the
    features are not finite.

    Args:
        features: feature maps [N, C, H, W], of any floating-point type.
        landmarks: landmarks [N, P, 2] as (x, y) in [0, 1] of the network's input.
        gate: gate of each landmark [N, P], in [0, 1].
        pooled_size: k, number of pooled values along each side.
        bin_size: s, side of the square of cells whose maximum is one pooled value.

    Returns:
        Pooled features [N, P, C, k, k], of the type of `features`.

    Raises:
        ValueError: the shapes do not fit together, or a size is below 1.
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
    """Check the shapes and sizes of the arguments of `landmark_pool`.

    Raises:
        ValueError: the shapes do not fit together, or a size is below 1.
    """
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
    """The `side` x `side` cells around (x, y) of a map [C, H, W]; cells outside the map are 0."""
    channels, height, width = feature_map.shape
    left, top = x - side // 2, y - side // 2
    window = np.zeros((channels, side, side), feature_map.dtype)
    x0, x1 = max(left, 0), min(left + side, width)
    y0, y1 = max(top, 0), min(top + side, height)
    window[:, y0 - top : y1 - top, x0 - left : x1 - left] = feature_map[:, y0:y1, x0:x1]
    return window
