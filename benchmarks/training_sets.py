"""The training photos of the built-in model with one list of labels: lying and worn garments, shoes and hats."""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion_infer.data.deepfashion import FashionData, read_category

NOT_GARMENTS = {"shoes": "Shoes", "hat": "Hat"}  # folder of the photos -> category used in training only
SAME = {  # rendered attribute -> the photos' name of it
    "long-sleeve": "long_sleeve", "short-sleeve": "short_sleeve", "v-neck": "v_neckline", "crew neck": "crew_neckline",
    "square neck": "square_neckline", "mini": "mini_length", "maxi": "maxi_length",
}  # fmt: skip
HELD_OUT = 8


def sources(photos: Path, worn: Path | None) -> dict[str, FashionData]:
    """Return the sets by name, with one list of labels; some of the worn training photos are moved to val."""
    lying, others = read_category(photos), not_garments(photos / "Img")
    if worn is None:
        lying, others = with_same_labels(lying, others)
        return {"lying": lying, "others": others}
    lying, street, others = with_same_labels(lying, hold_some_out(read_category(worn)), others)
    return {"worn": street, "lying": lying, "others": others}


def hold_some_out(street: FashionData) -> FashionData:
    """Move every eighth block of twenty street photos from train to val; neighbouring photos are of one series."""
    blocks = np.array([int(Path(name).name.split("_")[0]) for name in street.images]) // 20
    held = np.unique(blocks[street.splits == "train"])[3::HELD_OUT]
    splits = np.where((street.splits == "train") & np.isin(blocks, held), "val", street.splits)
    return dataclasses.replace(street, splits=splits)


def joined(sets: dict[str, FashionData], split: str) -> tuple[FashionData, dict[str, NDArray[np.int64]]]:
    """Join a split of all sets into one, and return it with the rows of each set."""
    parts = [data.split(split) for data in sets.values()]
    ends = np.cumsum([len(part) for part in parts])
    rows = {name: np.arange(e - len(p), e) for name, p, e in zip(sets, parts, ends, strict=True)}
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.append(part)
    return whole, rows


def not_garments(images: Path) -> FashionData:
    """Return the shoes and hats of the train and validation folders, whole, without attributes or landmarks."""
    files = [
        (path, split, name)
        for split, folder in (("train", "train"), ("val", "validation"))
        for name in NOT_GARMENTS
        for path in sorted((images / "img" / folder / name).glob("*.jpg"))
    ]
    count = len(files)
    return FashionData(
        image_root=images,
        images=tuple(str(path.relative_to(images)) for path, _, _ in files),
        splits=np.array([split for _, split, _ in files]),
        boxes=np.array([(0, 0, *size_of(path)) for path, _, _ in files], np.float32),
        categories=np.array([list(NOT_GARMENTS).index(name) for _, _, name in files], np.int16),
        attributes=np.zeros((count, 0), np.int8),
        landmarks=np.zeros((count, 8, 2), np.float32),
        visibility=np.full((count, 8), -1, np.int8),
        clothes_types=np.zeros(count, np.int8),
        items=np.full(count, -1, np.int32),
        domains=np.zeros(count, np.int8),
        category_names=tuple(NOT_GARMENTS.values()),
        attribute_names=(),
        attribute_groups=(),
    )


def size_of(path: Path) -> tuple[int, int]:
    """Return width and height of a picture, pixels."""
    with Image.open(path) as image:
        return image.size


def with_same_labels(*sources: FashionData) -> list[FashionData]:
    """Give all sources the same list of categories (those that occur in any of them) and of attributes."""
    used = [{data.category_names[i] for i in data.categories} for data in sources]
    names = dict.fromkeys(
        name
        for data, names_used in zip(sources, used, strict=True)
        for name in data.category_names
        if name in names_used
    )
    groups: dict[str, str] = {}
    for data in sources:
        for name, group in zip(data.attribute_names, data.attribute_groups, strict=True):
            groups.setdefault(SAME.get(name, name), group)
    return [_relabelled(data, tuple(names), groups) for data in sources]


def _relabelled(data: FashionData, categories: tuple[str, ...], groups: dict[str, str]) -> FashionData:
    places = {name: i for i, name in enumerate(categories)}
    numbers = np.array([places.get(name, -1) for name in data.category_names], np.int16)
    attributes = np.zeros((len(data), len(groups)), np.int8)
    columns = {SAME.get(name, name): i for i, name in enumerate(data.attribute_names)}
    for place, name in enumerate(groups):
        if name in columns:
            attributes[:, place] = data.attributes[:, columns[name]]
    return dataclasses.replace(
        data,
        categories=numbers[data.categories],
        attributes=attributes,
        category_names=categories,
        attribute_names=tuple(groups),
        attribute_groups=tuple(groups.values()),
    )
