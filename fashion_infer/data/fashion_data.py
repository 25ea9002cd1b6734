"""FashionData: the images and labels of one benchmark, or of one split of it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import DataError


@dataclass(frozen=True)
class FashionData:
    """One benchmark, or some rows of it, column by column; row i of every array is image i."""

    image_root: Path
    images: tuple[str, ...]  # relative to image_root
    splits: NDArray[np.str_]  # [N] train val test query gallery
    boxes: NDArray[np.float32]  # [N, 4] x1 y1 x2 y2, pixels
    categories: NDArray[np.int16]  # [N] from 0, -1 unlabelled
    attributes: NDArray[np.int8]  # [N, A] 1 positive, -1 negative, 0 unknown
    landmarks: NDArray[np.float32]  # [N, 8, 2] x y, pixels; 0 where truncated or absent
    visibility: NDArray[np.int8]  # [N, 8] 0 visible, 1 occluded, 2 truncated, -1 not of this clothes type
    clothes_types: NDArray[np.int8]  # [N] 1 upper, 2 lower, 3 full
    items: NDArray[np.int32]  # [N] the number of the item shown, -1 where none is said
    domains: NDArray[np.int8]  # [N] 1 shop, 2 consumer, 0 where not said
    category_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    attribute_groups: tuple[str, ...]  # the group's name of each attribute

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def split(self, *names: str) -> "FashionData":
        """The rows of these splits.

        Raises:
            DataError: there is no such split here; the message lists those there are.
        """
        unknown = set(names) - set(self.splits.tolist())
        if unknown:
            raise DataError(
                f"no images in split {sorted(unknown)[0]!r}; there are {', '.join(sorted(set(self.splits.tolist())))}"
            )
        return self.select(np.flatnonzero(np.isin(self.splits, names)))

    def select(self, rows: NDArray[np.integer] | Sequence[int]) -> "FashionData":
        """The given rows, in the given order."""
        rows = np.asarray(rows, dtype=np.int64)
        columns = {
            field.name: column[rows]
            for field in dataclasses.fields(self)
            if isinstance(column := getattr(self, field.name), np.ndarray)
        }
        return dataclasses.replace(self, images=tuple(self.images[row] for row in rows.tolist()), **columns)

    def append(self, pairs: "FashionData") -> "FashionData":
        """These rows, then those of a retrieval benchmark, categories and attributes matched by name.

        Categories and attributes that these rows do not have are unlabelled in the others. Image names become
        absolute, since the two lie in different folders.
        """
        joined: dict[str, Any] = {
            field.name: np.concatenate([column, getattr(pairs, field.name)])
            for field in dataclasses.fields(self)
            if isinstance(column := getattr(self, field.name), np.ndarray) and field.name != "attributes"
        }
        attributes = np.zeros((len(pairs), len(self.attribute_names)), np.int8)
        for column, name in enumerate(self.attribute_names):
            if name in pairs.attribute_names:
                attributes[:, column] = pairs.attributes[:, pairs.attribute_names.index(name)]
        places = {name: place for place, name in enumerate(self.category_names)}
        numbers = np.array([*(places.get(name, -1) for name in pairs.category_names), -1], np.int16)  # the last of -1
        joined["categories"] = np.concatenate([self.categories, numbers[pairs.categories]])
        joined["attributes"] = np.concatenate([self.attributes, attributes])
        joined["images"] = tuple(
            str(data.image_root.absolute() / name) for data in (self, pairs) for name in data.images
        )
        return dataclasses.replace(self, **joined)
