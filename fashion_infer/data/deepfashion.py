"""DeepFashion's four benchmarks, each read from its download into one FashionData.

A benchmark's folder is what its download unpacks to: `Img/`, `Eval/`, and the annotations in `Anno/`, `Anno_coarse/` or
`Anno_fine/`. The files' rows are described in `annotations`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fashion_infer.data import annotations
from fashion_infer.data.annotations import ABSENT, SPLITS, TRUNCATED
from fashion_infer.data.cache import cached
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import DataError

__all__ = ["CATEGORY_NAMES", "FashionData", "read_category", "read_consumer_to_shop", "read_inshop", "read_landmarks"]

Layout = Literal["coarse", "fine"]
CATEGORY_NAMES = (
    "Anorak", "Blazer", "Blouse", "Bomber", "Button-Down", "Cardigan", "Flannel", "Halter", "Henley", "Hoodie",
    "Jacket", "Jersey", "Parka", "Peacoat", "Poncho", "Sweater", "Tank", "Tee", "Top", "Turtleneck",
    "Capris", "Chinos", "Culottes", "Cutoffs", "Gauchos", "Jeans", "Jeggings", "Jodhpurs", "Joggers", "Leggings",
    "Sarong", "Shorts", "Skirt", "Sweatpants", "Sweatshorts", "Trunks",
    "Caftan", "Cape", "Coat", "Coverup", "Dress", "Jumpsuit", "Kaftan", "Kimono", "Nightdress", "Onesie", "Robe",
    "Romper", "Shirtdress", "Sundress",
)  # fmt: skip
COARSE_GROUPS = {1: "texture", 2: "fabric", 3: "shape", 4: "part", 5: "style"}  # by type number
FINE_GROUPS = {1: "texture", 2: "sleeve", 3: "length", 4: "neckline", 5: "fabric", 6: "fit"}
READY_SPLITS = ("train", "val", "test")


def read_category(root: Path, *, layout: Layout | None = None) -> FashionData:
    """Reads the Category and Attribute Prediction benchmark.

    Args:
        root: the benchmark's folder.
        layout: the 1000 attributes of `Anno/` or `Anno_coarse/`, or the 26 of `Anno_fine/`; None: the first there is.

    Raises:
        DataError: a file is missing or a row malformed.
    """
    root = Path(root)
    folder = category_folder(root, layout)
    if folder.name == "Anno_fine" and (folder / "train.txt").exists():
        return cached(folder, "fine", fine_files(folder), lambda: read_fine(root, folder))
    lists = ("category_cloth", "category_img", "attr_cloth", "attr_img", "bbox", "landmarks")
    files = [*(folder / f"list_{name}.txt" for name in lists), partition_file(root)]
    return cached(folder, "category", files, lambda: read_coarse(root, folder))


def category_folder(root: Path, layout: Layout | None) -> Path:
    """Where the annotations of the category benchmark lie."""
    names = {"coarse": ("Anno", "Anno_coarse"), "fine": ("Anno_fine",), None: ("Anno", "Anno_coarse", "Anno_fine")}[
        layout
    ]
    for name in names:
        if (root / name / "list_category_img.txt").exists() or (root / name / "train.txt").exists():
            return root / name
    raise DataError(f"{root}: no list_category_img.txt in {' or '.join(names)}")


def partition_file(root: Path) -> Path:
    """Every benchmark has its splits at the same place."""
    return root / "Eval" / "list_eval_partition.txt"


def image_root(root: Path) -> Path:
    """The folder that image names start from: `Img/`, or the root where the images were unpacked beside it."""
    return root if (root / "img").is_dir() and not (root / "Img" / "img").is_dir() else root / "Img"


def read_coarse(root: Path, folder: Path) -> FashionData:
    """The category benchmark from its list files; Anno_fine's zeros are negatives."""
    fine = folder.name == "Anno_fine"
    partition = annotations.read_table(partition_file(root), annotations.parse_split, 1)
    names = partition.names
    attribute_names, groups = read_attribute_names(folder, FINE_GROUPS if fine else COARSE_GROUPS)
    category_names, _ = annotations.read_typed_names(folder / "list_category_cloth.txt")
    categories = annotations.read_table(
        folder / "list_category_img.txt", annotations.integers(1, {0: (1, len(category_names))}), 1
    )
    attributes = annotations.read_labels(folder / "list_attr_img.txt", len(attribute_names)).aligned(names)
    return build(
        root,
        names,
        splits=partition.values[:, 0],
        boxes=annotations.read_table(folder / "list_bbox.txt", annotations.integers(4), 4).aligned(names),
        landmarks=annotations.read_table(folder / "list_landmarks.txt", annotations.parse_landmarks, 25).aligned(names),
        categories=categories.aligned(names)[:, 0] - 1,
        attributes=zeros_are_negative(attributes) if fine else attributes,
        category_names=category_names,
        attribute_names=attribute_names,
        attribute_groups=groups,
    )


def zeros_are_negative(attributes: NDArray[np.integer]) -> NDArray[np.integer]:
    """Anno_fine marks what is absent with 0."""
    return np.where(attributes == 0, -1, attributes)


def fine_files(folder: Path) -> list[Path]:
    """The files of Anno_fine that are read."""
    ready = [
        folder / f"{split}{part}.txt"
        for split in READY_SPLITS
        for part in ("", "_attr", "_cate", "_bbox", "_landmarks")
    ]
    return [*ready, *(folder / f"list_{name}.txt" for name in ("category_cloth", "attr_cloth", "landmarks"))]


def read_fine(root: Path, folder: Path) -> FashionData:
    """Anno_fine from its ready splits; clothes types and visibilities come from `list_landmarks.txt`."""
    attribute_names, groups = read_attribute_names(folder, FINE_GROUPS)
    category_names, _ = annotations.read_typed_names(folder / "list_category_cloth.txt")
    names: list[str] = []
    splits: list[int] = []
    for split in READY_SPLITS:
        images = read_image_names(folder / f"{split}.txt")
        names += images
        splits += [SPLITS.index(split)] * len(images)

    def columns(part: str, read: Callable[[Path], NDArray[np.integer]]) -> NDArray[np.integer]:
        return np.concatenate(
            [same_length(folder, split, part, read, splits.count(SPLITS.index(split))) for split in READY_SPLITS]
        )

    points = columns("landmarks", lambda path: annotations.read_unnamed(path, annotations.integers(16), 16)).reshape(
        -1, 8, 2
    )
    listed = annotations.read_table(folder / "list_landmarks.txt", annotations.parse_landmarks, 25).aligned(
        names, more=True
    )
    attributes = columns(
        "attr", lambda path: annotations.read_labels(path, len(attribute_names), header=0, named=False).values
    )
    category = annotations.integers(1, {0: (1, len(category_names))})
    return build(
        root,
        names,
        splits=np.array(splits),
        boxes=columns("bbox", lambda path: annotations.read_unnamed(path, annotations.integers(4), 4)),
        landmarks=with_points(listed, points),
        categories=columns("cate", lambda path: annotations.read_unnamed(path, category, 1))[:, 0] - 1,
        attributes=zeros_are_negative(attributes),
        category_names=category_names,
        attribute_names=attribute_names,
        attribute_groups=groups,
    )


def read_image_names(path: Path) -> list[str]:
    """One image a line."""
    return [text.strip(" \t\r\n\f\v") for _, text in annotations.read_rows(path, 0, annotations.fail)]


def same_length(
    folder: Path, split: str, part: str, read: Callable[[Path], NDArray[np.integer]], count: int
) -> NDArray[np.integer]:
    """One of a split's ready files, which goes with its `split.txt` line by line."""
    path = folder / f"{split}_{part}.txt"
    rows = read(path)
    if len(rows) != count:
        raise DataError(f"{path}: {len(rows)} rows, but {split}.txt names {count} images")
    return rows


def with_points(listed: NDArray[np.integer], points: NDArray[np.integer]) -> NDArray[np.integer]:
    """Rows of `list_landmarks.txt`, [N, 25], with the points of the ready files, [N, 8, 2]; (0, 0) there is cut off."""
    slots = listed[:, 1:].reshape(-1, 8, 3)
    absent = slots[:, :, 0] == ABSENT
    cut_off = ~absent & ((points == 0).all(axis=2) | (slots[:, :, 0] == TRUNCATED))
    visibility = np.where(cut_off, TRUNCATED, slots[:, :, 0])
    places = np.where((absent | cut_off)[:, :, None], 0, points)
    merged = np.concatenate([visibility[:, :, None], places], axis=2)
    return np.concatenate([listed[:, :1], merged.reshape(-1, 24)], axis=1)


def read_inshop(root: Path) -> FashionData:
    """Reads the In-shop Clothes Retrieval benchmark; its attributes belong to items.

    Raises:
        DataError: a file is missing or a row malformed.
    """
    root = Path(root)
    folder = root / "Anno"
    lists = [folder / f"list_{name}_inshop.txt" for name in ("bbox", "landmarks")]
    files = [*lists, partition_file(root), *attribute_files(folder), *item_files(folder)]
    return cached(folder, "inshop", files, lambda: read_inshop_text(root, folder))


def read_inshop_text(root: Path, folder: Path) -> FashionData:
    """The in-shop benchmark from its text files."""
    partition = annotations.read_table(partition_file(root), annotations.parse_item_split, 2)
    names = partition.names
    check_items(folder, partition.values[:, 0])
    attribute_names, groups, attributes = read_item_attributes(folder, partition.values[:, 0])
    return build(
        root,
        names,
        splits=partition.values[:, 1],
        boxes=annotations.read_table(folder / "list_bbox_inshop.txt", annotations.integers(6, {0: (1, 3)}), 6).aligned(
            names
        )[:, 2:],
        landmarks=annotations.read_table(folder / "list_landmarks_inshop.txt", annotations.parse_landmarks, 25).aligned(
            names
        ),
        items=partition.values[:, 0],
        domains=np.ones(len(names), np.int8),
        attributes=attributes,
        attribute_names=attribute_names,
        attribute_groups=groups,
    )


def read_consumer_to_shop(root: Path) -> FashionData:
    """Reads the Consumer-to-shop Clothes Retrieval benchmark, every image once however many pairs it is in.

    Raises:
        DataError: a file is missing, a row malformed, or an image in two items or splits.
    """
    root = Path(root)
    folder = root / "Anno"
    lists = [folder / f"list_{name}_consumer2shop.txt" for name in ("bbox", "landmarks")]
    lists += folder.glob("list_attr_type.txt")
    files = [*lists, partition_file(root), *attribute_files(folder), *item_files(folder)]
    return cached(folder, "consumer_to_shop", files, lambda: read_consumer_to_shop_text(root, folder))


def read_consumer_to_shop_text(root: Path, folder: Path) -> FashionData:
    """The consumer-to-shop benchmark from its text files."""
    boxes = annotations.read_table(
        folder / "list_bbox_consumer2shop.txt", annotations.integers(6, {0: (1, 3), 1: (1, 2)}), 6
    )
    names = boxes.names
    paired = members_of_pairs(partition_file(root), set(names))
    items = np.array([paired.get(name, (-1, 0))[0] for name in names])
    check_items(folder, items)
    attribute_names, groups, attributes = read_item_attributes(folder, items)
    landmarks = annotations.read_table(folder / "list_landmarks_consumer2shop.txt", annotations.parse_landmarks, 25)
    return build(
        root,
        names,
        splits=np.array([paired.get(name, (-1, 0))[1] for name in names]),
        boxes=boxes.values[:, 2:],
        landmarks=landmarks.aligned(names),
        items=items,
        domains=boxes.values[:, 1],
        attributes=attributes,
        attribute_names=attribute_names,
        attribute_groups=groups,
    )


def members_of_pairs(path: Path, known: set[str]) -> dict[str, tuple[int, int]]:
    """Item and split of every image that is in a pair."""
    members: dict[str, tuple[int, int]] = {}
    for consumer, shop, item, split in annotations.read_pairs(path):
        for name in (consumer, shop):
            if name not in known:
                raise DataError(f"{path}: {name} has no box")
            if members.setdefault(name, (item, split)) != (item, split):
                raise DataError(f"{path}: {name} is in two items or two splits")
    return members


def read_landmarks(root: Path) -> FashionData:
    """Reads the Fashion Landmark Detection benchmark.

    Raises:
        DataError: a file is missing or a row malformed.
    """
    root = Path(root)
    folder = root / "Anno"
    files = [folder / "list_bbox.txt", folder / "list_landmarks.txt", partition_file(root)]
    return cached(folder, "landmarks", files, lambda: read_landmarks_text(root, folder))


def read_landmarks_text(root: Path, folder: Path) -> FashionData:
    """The landmark benchmark from its text files."""
    partition = annotations.read_table(partition_file(root), annotations.parse_split, 1)
    names = partition.names
    return build(
        root,
        names,
        splits=partition.values[:, 0],
        boxes=annotations.read_table(folder / "list_bbox.txt", annotations.integers(4), 4).aligned(names),
        landmarks=annotations.read_table(folder / "list_landmarks.txt", annotations.parse_landmarks, 25).aligned(names),
    )


def build(
    root: Path,
    names: list[str],
    *,
    splits: NDArray[np.integer],
    boxes: NDArray[np.integer],
    landmarks: NDArray[np.integer],
    categories: NDArray[np.integer] | None = None,
    attributes: NDArray[np.integer] | None = None,
    items: NDArray[np.integer] | None = None,
    domains: NDArray[np.integer] | None = None,
    category_names: tuple[str, ...] = (),
    attribute_names: tuple[str, ...] = (),
    attribute_groups: tuple[str, ...] = (),
) -> FashionData:
    """Puts the columns of one benchmark together; what a benchmark does not say is -1, or 0 for domains."""
    count = len(names)
    slots = landmarks[:, 1:].reshape(count, 8, 3)
    return FashionData(
        image_root=image_root(root),
        images=tuple(names),
        splits=np.array(SPLITS)[splits],
        boxes=boxes.astype(np.float32),
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
    )


def read_attribute_names(folder: Path, groups: Mapping[int, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the attributes and the name of each one's group; a number without a name stays a number."""
    names, types = annotations.read_typed_names(folder / "list_attr_cloth.txt")
    return names, tuple(groups.get(number, str(number or "")) for number in types)


def attribute_files(folder: Path) -> list[Path]:
    """A retrieval benchmark's attribute files, in `Anno/attributes/` in some downloads; [] where it has none."""
    inner = folder / "attributes" if (folder / "attributes").is_dir() else folder
    files = [inner / "list_attr_cloth.txt", inner / "list_attr_items.txt"]
    return files if any(file.exists() for file in files) else []


def item_files(folder: Path) -> list[Path]:
    """The list of a retrieval benchmark's items, under whichever spelling there is; [] where it has none."""
    return sorted(folder.glob("list_item_*.txt")) + sorted(folder.glob("list_items_*.txt"))


def check_items(folder: Path, items: NDArray[np.integer]) -> None:
    """Every item shown must be listed, where there is a list."""
    for path in item_files(folder):
        unlisted = sorted(set(items.tolist()) - set(annotations.read_items(path)) - {-1})
        if unlisted:
            raise DataError(f"{path}: no row for item id_{unlisted[0]:08d}")


def read_item_attributes(
    folder: Path, items: NDArray[np.integer]
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.int8]]:
    """Attribute names, groups, and the labels of the items shown, int8 [N, A]; images of no item have 0 throughout."""
    files = attribute_files(folder)
    if not files:
        return (), (), np.zeros((len(items), 0), np.int8)
    types = files[0].with_name("list_attr_type.txt")
    group_names = annotations.read_type_names(types) if types.exists() else {}
    names, groups = read_attribute_names(files[0].parent, group_names)
    table = annotations.read_labels(files[1], len(names))
    try:
        row_of = {annotations.item_number(name): row for row, name in enumerate(table.names)}
    except ValueError as error:
        raise DataError(f"{table.path}: {error}") from error
    row_of[-1] = len(row_of)
    missing = sorted(set(items.tolist()) - row_of.keys())
    if missing:
        raise DataError(f"{table.path}: no row for item id_{missing[0]:08d}")
    labels = np.concatenate([table.values, np.zeros((1, len(names)), np.int8)])
    return names, groups, labels[[row_of[item] for item in items.tolist()]].astype(np.int8, copy=False)
