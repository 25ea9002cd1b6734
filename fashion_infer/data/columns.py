"""What the readers share: which files of a benchmark are there, and its columns put together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_infer.data import annotations
from fashion_infer.data.annotations import SPLITS
from fashion_infer.data.fashion_data import UNLABELLED, FashionData

WITHOUT = {  # what follows where a file is missing
    "boxes": "the photos are used whole",
    "landmarks": "landmarks are neither trained nor judged",
    "attributes": "attributes are neither trained nor judged",
}


def are_there(paths: Sequence[Path], column: str, missing: list[str]) -> bool:
    """Whether all of a column's files are there; of those that are not, `missing` is told, and what follows."""
    absent = [path for path in paths if not path.exists()]
    missing += [f"{path.parent.name}/{path.name} is not there: {WITHOUT[column]}" for path in absent]
    return not absent


def partition_file(root: Path) -> Path:
    """Every benchmark has its splits at the same place."""
    return root / "Eval" / "list_eval_partition.txt"


def image_root(root: Path) -> Path:
    """The folder that image names start from: `Img/`, or the root where the images were unpacked beside it."""
    return root if (root / "img").is_dir() and not (root / "Img" / "img").is_dir() else root / "Img"


def read_boxes(path: Path, names: list[str], missing: list[str]) -> NDArray[np.integer] | None:
    """The boxes of a file of nothing else, [N, 4]; None where there is none."""
    if not are_there([path], "boxes", missing):
        return None
    return annotations.read_table(path, annotations.integers(4), 4).aligned(names)


def read_listed_landmarks(path: Path, names: list[str], missing: list[str]) -> NDArray[np.integer] | None:
    """Clothes types and landmarks, [N, 25] as `parse_landmarks` has them; None where there are none."""
    if not are_there([path], "landmarks", missing):
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
    """Puts the columns of one benchmark together; what it does not say is filled as `FashionData` has it."""
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
