"""FashionData: the images and labels of one benchmark, or of one split of it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import DataError

SHOP, CONSUMER = 1, 2  # values of `domains`
ABSENT, UNLABELLED = -1, -2  # values of `visibility`


@dataclass(frozen=True)
class FashionData:
    """One benchmark, or some of its rows. Row i of every column is an image, or a garment in an image.

    A benchmark may lack most of the columns. They are filled with the values for unknown, and `missing` says what the
    benchmark lacks and what is therefore neither trained nor judged.

    Attributes:
        image_root: folder of the images.
        images: [N] path of each image relative to `image_root`.
        splits: [N] train, val, test, query, gallery, or "" for none.
        boxes: [N, 4] x1 y1 x2 y2 in pixels; NaN for the whole photo.
        categories: [N] category from 0, or -1 if not labelled.
        attributes: [N, A] 1 positive, -1 negative, 0 unknown.
        landmarks: [N, 8, 2] x y in pixels; 0 if truncated or absent.
        visibility: [N, 8] 0 visible, 1 occluded, 2 truncated, -1 absent (the clothes type has no such landmark), -2 not
            labelled.
        clothes_types: [N] 1 upper, 2 lower, 3 full body, 0 unknown.
        items: [N] number of the item in the image, or -1 if unknown.
        domains: [N] 1 shop, 2 consumer, 0 unknown.
        category_names: name of each category.
        attribute_names: [A] name of each attribute.
        attribute_groups: [A] name of each attribute's group.
        colors: [N] colour of each image, "" if unknown; () if all are unknown.
        missing: sentences that say what the benchmark lacks and what follows from that.
    """

    image_root: Path
    images: tuple[str, ...]
    splits: NDArray[np.str_]
    boxes: NDArray[np.float32]
    categories: NDArray[np.int16]
    attributes: NDArray[np.int8]
    landmarks: NDArray[np.float32]
    visibility: NDArray[np.int8]
    clothes_types: NDArray[np.int8]
    items: NDArray[np.int32]
    domains: NDArray[np.int8]
    category_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    attribute_groups: tuple[str, ...]
    colors: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.images)

    def split(self, *names: str) -> "FashionData":
        """The rows of these splits.

        Raises:
            DataError: a split has no rows; the message lists the splits that have.
        """
        unknown = set(names) - set(self.splits.tolist())
        if unknown:
            raise DataError(
                f"no images in split {sorted(unknown)[0]!r}; there are {', '.join(sorted(set(self.splits.tolist())))}"
            )
        return self.select(np.flatnonzero(np.isin(self.splits, names)))

    def select(self, rows: NDArray[np.integer] | Sequence[int]) -> "FashionData":
        """The rows with these numbers, in their order."""
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
        """The kind of garment [N] for the breakdown of retrieval: the category, or else the folders of the item.

        The folders of `img/WOMEN/Dresses/id_00000002/02_1_front.jpg` are `WOMEN/Dresses`. A kind is "" if it has
        neither.
        """
        folders = [name.split("/")[1:-2] for name in self.images]
        named = [
            self.category_names[category] if category >= 0 else "/".join(folder)
            for category, folder in zip(self.categories.tolist(), folders, strict=True)
        ]
        return np.array(named, np.str_)

    def append(self, other: "FashionData") -> "FashionData":
        """The rows of this set, followed by those of another, whose categories and attributes are matched by name.

        A label of the other set whose name this set lacks is dropped. The other set's items get new numbers. The paths
        of all images become absolute, since the sets have different folders.
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
        categories = np.array([*numbers, -1], np.int16)[other.categories]  # the last entry maps -1 to -1
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
