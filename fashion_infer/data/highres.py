"""High-resolution photos: DeepFashion's boxes and landmarks are in pixels of small photos and must be scaled.

The In-shop and the category benchmark have small photos in `img/` and, as another download, large ones in
`img_highres/`. Their only annotations are in pixels of the small photos. By the data set's readme files, In-shop's
small photos are 256 x 256, with the photo shrunk to fit and centred; the other small photos have a long side of 300.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import DataError

IN_SHOP_SIDE = 256
LONG_SIDE = 300
SMALL, LARGE = "img", "img_highres"  # folders, and the first part of the images' names

SmallSize = Callable[[int, int], tuple[float, float]]  # (width, height) of a photo -> (width, height) of the small one
Size = tuple[float, float]  # width, height


def longest_side(width: int, height: int) -> Size:
    """The size of a small photo with a long side of 300."""
    scale = LONG_SIDE / max(width, height)
    return width * scale, height * scale


def at_true_size(data: FashionData, root: Path, highres: bool | None, small_size: SmallSize) -> FashionData:
    """Scale boxes and landmarks to pixels of the high-resolution photos if these are to be used.

    The size of each photo is read from its header; the labels of a photo that cannot be opened stay as they are. The
    labels refer to the size of the small photo, or, if it does not exist, to the result of `small_size`.

    Args:
        data: rows with boxes and landmarks in pixels of the small photos.
        root: the benchmark's folder.
        highres: True to use high-resolution photos, which are in `img_highres/`, or in `img/` if there is no such
            folder; False to use the small ones; None to use high-resolution photos only if there is `img_highres/` but
            no `img/`.
        small_size: function that maps the width and height of a photo to those of its small photo.

    Raises:
        DataError: high-resolution photos are to be used, but no photo can be opened.
    """
    places = {name: [place for place in (root / "Img", root) if (place / name).is_dir()] for name in (SMALL, LARGE)}
    if highres is None:
        highres = bool(places[LARGE]) and not places[SMALL]
    if not highres:
        return data
    names = data.images
    folder = data.image_root
    if places[LARGE]:
        folder = places[LARGE][0]
        names = tuple(LARGE + name[len(SMALL) :] if name.startswith(f"{SMALL}/") else name for name in data.images)
    small_ones = [data.image_root / name for name in data.images] if places[LARGE] else [None] * len(names)
    with ThreadPoolExecutor() as pool:
        true = list(pool.map(size_of, [folder / name for name in names]))
        small = list(pool.map(size_of, small_ones))
    if len(names) and not any(true):
        raise DataError(f"{folder / names[0]}: no photo of the set is there, so its labels cannot be scaled")
    transforms = np.array(
        [placed(t, s or small_size(*t)) if t else (1, 0, 0) for t, s in zip(true, small, strict=True)]
    )
    scale, shift = transforms[:, :1], transforms[:, 1:]
    labelled = (data.visibility == 0) | (data.visibility == 1)
    points = data.landmarks * scale[:, None] + shift[:, None]
    return replace(
        data,
        image_root=folder,
        images=names,
        boxes=(data.boxes * scale + np.tile(shift, 2)).astype(np.float32),
        landmarks=np.where(labelled[..., None], points, data.landmarks).astype(np.float32),
    )


def size_of(path: Path | None) -> tuple[int, int] | None:
    """Read the width and height of a photo from its header; None if it cannot be opened."""
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def placed(true: Size, small: Size) -> tuple[float, float, float]:
    """The mapping of a label from the small photo to the true one.

    The small photo is the true one, shrunk to fit and centred; it has no margin if both have the same aspect ratio.

    Returns:
        (scale, x, y): the label at p in the small photo lies at scale * p + (x, y) in the true one.
    """
    scale = max(true[0] / small[0], true[1] / small[1])
    x, y = ((t - s * scale) / 2 for t, s in zip(true, small, strict=True))
    return scale, x, y
