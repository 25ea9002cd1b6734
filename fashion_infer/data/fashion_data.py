"""FashionData: the images and labels of one benchmark, or of one split of it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import DataError

SHOP, CONSUMER = 1, 2  # of `domains`
ABSENT, UNLABELLED = -1, -2  # of `visibility`


@dataclass(frozen=True)
class FashionData:
    """One benchmark, or some rows of it, column by column; row i of every array is image i, or garment i of one.

    A benchmark may lack most of these columns: what its files do not say is filled with "unknown", and `missing` says
    in plain words what is not there and what therefore is neither trained nor judged.
    """

    image_root: Path
    images: tuple[str, ...]  # relative to image_root
    splits: NDArray[np.str_]  # [N] train val test query gallery
    boxes: NDArray[np.float32]  # [N, 4] x1 y1 x2 y2, pixels; NaN for the whole photo
    categories: NDArray[np.int16]  # [N] from 0, -1 unlabelled
    attributes: NDArray[np.int8]  # [N, A] 1 positive, -1 negative, 0 unknown
    landmarks: NDArray[np.float32]  # [N, 8, 2] x y, pixels; 0 where truncated or absent
    visibility: NDArray[
        np.int8
    ]  # [N, 8] 0 visible, 1 occluded, 2 truncated, -1 not of this clothes type, -2 not labelled
    clothes_types: NDArray[np.int8]  # [N] 1 upper, 2 lower, 3 full, 0 where not said
    items: NDArray[np.int32]  # [N] the number of the item shown, -1 where none is said
    domains: NDArray[np.int8]  # [N] 1 shop, 2 consumer, 0 where not said
    category_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    attribute_groups: tuple[str, ...]  # the group's name of each attribute
    colors: tuple[str, ...] = ()  # of each image, "" where not said; () where none is
    missing: tuple[str, ...] = ()  # what the benchmark lacks, and what follows, a sentence each

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
        images = tuple(self.images[row] for row in rows.tolist())
        colors = tuple(self.colors[row] for row in rows.tolist()) if self.colors else ()
        return dataclasses.replace(self, images=images, colors=colors, **columns)

    def box(self, row: int) -> NDArray[np.float64] | None:
        """The box of a row, x1 y1 x2 y2 in pixels, or None for the whole photo."""
        box = self.boxes[row].astype(np.float64)
        return None if np.isnan(box).any() else box

    def kinds(self) -> NDArray[np.str_]:
        """[N], what measures of retrieval are broken down by: the category, or the folders of the photo's item.

        Such as `WOMEN/Dresses` of `img/WOMEN/Dresses/id_00000002/02_1_front.jpg`; "" where neither says anything.
        """
        folders = [name.split("/")[1:-2] for name in self.images]
        named = [
            self.category_names[category] if category >= 0 else "/".join(folder)
            for category, folder in zip(self.categories.tolist(), folders, strict=True)
        ]
        return np.array(named, np.str_)

    def append(self, other: "FashionData") -> "FashionData":
        """These rows, then those of another set, whose categories and attributes are matched by name.

        What the other set calls by a name that this one does not have is unlabelled. Its items get other numbers, and
        image names become absolute, since the two lie in different folders.
        """
        joined: dict[str, Any] = {
            field.name: np.concatenate([column, getattr(other, field.name)])
            for field in dataclasses.fields(self)
            if isinstance(column := getattr(self, field.name), np.ndarray)
            and field.name not in ("attributes", "categories", "items")
        }
        numbers = [
            self.category_names.index(name) if name in self.category_names else -1 for name in other.category_names
        ]
        categories = np.array([*numbers, -1], np.int16)[other.categories]  # the last one is for -1
        attributes = np.zeros((len(other), len(self.attribute_names)), np.int8)
        for column, name in enumerate(self.attribute_names):
            if name in other.attribute_names:
                attributes[:, column] = other.attributes[:, other.attribute_names.index(name)]
        shift = self.items.max(initial=-1) + 1
        joined["items"] = np.concatenate([self.items, np.where(other.items < 0, -1, other.items + shift)])
        joined["categories"] = np.concatenate([self.categories, categories])
        joined["attributes"] = np.concatenate([self.attributes, attributes])
        joined["images"] = tuple(
            str(data.image_root.absolute() / name) for data in (self, other) for name in data.images
        )
        if self.colors or other.colors:
            joined["colors"] = tuple(color for data in (self, other) for color in data.colors or ("",) * len(data))
        joined["missing"] = tuple(dict.fromkeys((*self.missing, *other.missing)))
        return dataclasses.replace(self, **joined)
