"""High-resolution photos: DeepFashion's boxes and landmarks are pixels of small photos; the large ones lie beside them.

The In-shop and the category benchmark come with `img/` and, by another download, `img_highres/`, and with one set of
annotations that counts pixels of the small photos: In-shop's are 256 x 256, into which the photo was shrunk and centred
with its aspect kept, the others' have a long side of 300 (the data set's own readme files).
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

SmallSize = Callable[[int, int], tuple[float, float]]  # of a photo's true size: the size its labels refer to
Size = tuple[float, float]  # width, height


def longest_side(width: int, height: int) -> Size:
    """The size that labels refer to where the small photos have a long side of 300."""
    scale = LONG_SIDE / max(width, height)
    return width * scale, height * scale


def at_true_size(data: FashionData, root: Path, highres: bool | None, small_size: SmallSize) -> FashionData:
    """The same rows on the high-resolution photos, boxes and landmarks in their pixels, where these are to be used.

    The size of each photo is read from its header; a photo that cannot be opened keeps its labels as they are. The size
    that the labels refer to is that of the small photo where it is there, or else what `small_size` says.

    Args:
        data: as the annotations have it.
        root: the benchmark's folder.
        highres: True: the photos are high-resolution ones, in `img_highres/`, or in `img/` where there is no such
            folder; False: they are the small ones; None: high-resolution only where `img_highres/` is there and `img/`
            is not.
        small_size: width and height of a photo -> width and height that its labels refer to.

    Raises:
        DataError: high-resolution photos are to be used, and no photo is there.
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
    """Width and height of a photo from its header; None where it cannot be opened."""
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def placed(true: Size, small: Size) -> tuple[float, float, float]:
    """(scale, x, y): a label at p of the small photo lies at scale * p + (x, y) of the true one.

    The small photo is the true one, shrunk to fit and centred; where both have one aspect there is no margin.
    """
    scale = max(true[0] / small[0], true[1] / small[1])
    x, y = ((t - s * scale) / 2 for t, s in zip(true, small, strict=True))
    return scale, x, y
