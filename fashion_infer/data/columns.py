"""Functions that the readers share: they check which files of a benchmark exist, and build a FashionData."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_infer.data import annotations
from fashion_infer.data.annotations import SPLITS
from fashion_infer.data.fashion_data import UNLABELLED, FashionData

WITHOUT = {  # the consequence of a missing file
    "boxes": "the photos are used whole",
    "landmarks": "landmarks are neither trained nor judged",
    "attributes": "attributes are neither trained nor judged",
}


def all_exist(paths: Sequence[Path], column: str, missing: list[str]) -> bool:
    """Whether all files of a column exist; a sentence for each absent file is appended to `missing`."""
    absent = [path for path in paths if not path.exists()]
    missing += [f"{path.parent.name}/{path.name} is not there: {WITHOUT[column]}" for path in absent]
    return not absent


def partition_file(root: Path) -> Path:
    """The file with the splits, which has the same place in every benchmark."""
    return root / "Eval" / "list_eval_partition.txt"


def image_root(root: Path) -> Path:
    """The folder that image names are relative to: `Img/`, or the root if the images were unpacked there."""
    return root if (root / "img").is_dir() and not (root / "Img" / "img").is_dir() else root / "Img"


def read_boxes(path: Path, names: list[str], missing: list[str]) -> NDArray[np.integer] | None:
    """Read the boxes of a file that holds only boxes, [N, 4]; None if there is no such file."""
    if not all_exist([path], "boxes", missing):
        return None
    return annotations.read_table(path, annotations.integers(4), 4).aligned(names)


def read_listed_landmarks(path: Path, names: list[str], missing: list[str]) -> NDArray[np.integer] | None:
    """Read clothes types and landmarks, [N, 25] as in `parse_landmarks`; None if there is no such file."""
    if not all_exist([path], "landmarks", missing):
        return None
    return annotations.read_table(path, annotations.parse_landmarks, 25).aligned(names)


def build(
    root: Path,
    names: list[str],
    *,
    splits: NDArray[np.integer],
    boxes: NDArray[np.integer] | NDArray[np.floating] | None,
    landmarks: NDArray[np.integer] | None,
    categories: NDArray[np.integer] | None = None,
    attributes: NDArray[np.integer] | None = None,
    items: NDArray[np.integer] | None = None,
    domains: NDArray[np.integer] | None = None,
    category_names: tuple[str, ...] = (),
    attribute_names: tuple[str, ...] = (),
    attribute_groups: tuple[str, ...] = (),
    colors: tuple[str, ...] = (),
    missing: Sequence[str] = (),
) -> FashionData:
    """Build a FashionData from the columns of one benchmark; columns that it lacks get the values for unknown.

    Args:
        root: the benchmark's folder.
        names: [N] images, relative to `image_root(root)`.
        splits: [N] index of each image's split in SPLITS.
        boxes: [N, 4] x1 y1 x2 y2 in pixels, NaN for the whole photo.
        landmarks: [N, 25] clothes types and landmarks, see `parse_landmarks`.
        categories: [N] category from 0, or -1.
        attributes: [N, A] 1 positive, -1 negative, 0 unknown.
        items: [N] number of the item, or -1.
        domains: [N] 1 shop, 2 consumer, 0 unknown.
        category_names: name of each category.
        attribute_names: [A] name of each attribute.
        attribute_groups: [A] name of each attribute's group.
        colors: [N] colour of each image, or ().
        missing: sentences for `FashionData.missing`.
    """
    count = len(names)
    if landmarks is None:
        landmarks = np.tile([0, *(UNLABELLED, 0, 0) * 8], (count, 1))
    slots = landmarks[:, 1:].reshape(count, 8, 3)
    return FashionData(
        image_root=image_root(root),
        images=tuple(names),
        splits=np.array(SPLITS)[splits],
        boxes=np.full((count, 4), np.nan, np.float32) if boxes is None else boxes.astype(np.float32),
        categories=np.full(count, -1, np.int16) if categories is None else categories.astype(np.int16),
        attributes=np.zeros((count, 0), np.int8) if attributes is None else attributes.astype(np.int8, copy=False),
        landmarks=slots[:, :, 1:].astype(np.float32),
        visibility=slots[:, :, 0].astype(np.int8),
        clothes_types=landmarks[:, 0].astype(np.int8),
        items=np.full(count, -1, np.int32) if items is None else items.astype(np.int32),
        domains=np.zeros(count, np.int8) if domains is None else domains.astype(np.int8),
        category_names=category_names,
        attribute_names=attribute_names,
        attribute_groups=attribute_groups,
        colors=colors,
        missing=tuple(missing),
    )
