"""DeepFashion's four benchmarks, each read from its download into a FashionData.

A benchmark's folder has the layout of its download: `Img/`, `Eval/`, and the annotations in `Anno/`, `Anno_coarse/` or
`Anno_fine/`. The module `annotations` describes the rows of the files. Some files may be missing: without boxes the
photos are used whole, and landmarks, attributes or colours may be unknown; `FashionData.missing` lists what is missing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fashion_infer.data import annotations
from fashion_infer.data.annotations import SPLITS, TRUNCATED
from fashion_infer.data.cache import cached
from fashion_infer.data.columns import all_exist, build, partition_file, read_boxes, read_listed_landmarks
from fashion_infer.data.fashion_data import ABSENT, CONSUMER, SHOP, FashionData
from fashion_infer.data.highres import IN_SHOP_SIDE, at_true_size, longest_side
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


def read_category(root: Path, *, layout: Layout | None = None, highres: bool | None = None) -> FashionData:
    """Read the Category and Attribute Prediction benchmark. Its categories and splits are required.

    Args:
        root: the benchmark's folder.
        layout: "coarse" for the 1000 attributes of `Anno/` or `Anno_coarse/`, "fine" for the 26 of `Anno_fine/`; None
            means the first of these that exists.
        highres: whether to use the high-resolution photos, see `highres.at_true_size`.

    Raises:
        DataError: a required file is missing, or a row is malformed.
    """
    root = Path(root)
    folder = category_folder(root, layout)
    if folder.name == "Anno_fine" and (folder / "train.txt").exists():
        data = cached(folder, "fine", fine_files(folder), lambda: read_fine(root, folder))
    else:
        lists = ("category_cloth", "category_img", "attr_cloth", "attr_img", "bbox", "landmarks")
        files = [*(folder / f"list_{name}.txt" for name in lists), partition_file(root)]
        data = cached(folder, "category", files, lambda: read_coarse(root, folder))
    return at_true_size(data, root, highres, longest_side)


def category_folder(root: Path, layout: Layout | None) -> Path:
    """The folder of the category benchmark's annotations."""
    names = {"coarse": ("Anno", "Anno_coarse"), "fine": ("Anno_fine",), None: ("Anno", "Anno_coarse", "Anno_fine")}[
        layout
    ]
    for name in names:
        if (root / name / "list_category_img.txt").exists() or (root / name / "train.txt").exists():
            return root / name
    raise DataError(f"{root}: no list_category_img.txt in {' or '.join(names)}")


def read_coarse(root: Path, folder: Path) -> FashionData:
    """Read the category benchmark from its list files."""
    fine = folder.name == "Anno_fine"
    partition = annotations.read_table(partition_file(root), annotations.parse_split, 1)
    names = partition.names
    missing: list[str] = []
    attribute_names, groups, attributes = read_image_attributes(folder, names, missing)
    category_names, _ = annotations.read_typed_names(folder / "list_category_cloth.txt")
    categories = annotations.read_table(
        folder / "list_category_img.txt", annotations.integers(1, {0: (1, len(category_names))}), 1
    )
    return build(
        root,
        names,
        splits=partition.values[:, 0],
        boxes=read_boxes(folder / "list_bbox.txt", names, missing),
        landmarks=read_listed_landmarks(folder / "list_landmarks.txt", names, missing),
        categories=categories.aligned(names)[:, 0] - 1,
        attributes=zeros_are_negative(attributes) if fine else attributes,
        category_names=category_names,
        attribute_names=attribute_names,
        attribute_groups=groups,
        missing=missing,
    )


def read_image_attributes(
    folder: Path, names: list[str], missing: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.integer]]:
    """Read the attributes' names and groups, and the labels of the images [N, A]; A is 0 if a file is missing."""
    files = folder / "list_attr_cloth.txt", folder / "list_attr_img.txt"
    if not all_exist(files, "attributes", missing):
        return (), (), np.zeros((len(names), 0), np.int8)
    attribute_names, groups = read_attribute_names(folder, groups_of(folder))
    return attribute_names, groups, annotations.read_labels(files[1], len(attribute_names)).aligned(names)


def groups_of(folder: Path) -> Mapping[int, str]:
    """The names of the attribute groups by number; the category benchmark's files have only the numbers."""
    return FINE_GROUPS if folder.name == "Anno_fine" else COARSE_GROUPS


def zeros_are_negative(attributes: NDArray[np.integer]) -> NDArray[np.integer]:
    """Replace 0 by -1: Anno_fine writes 0 for an attribute that a garment does not have."""
    return np.where(attributes == 0, -1, attributes)


def fine_files(folder: Path) -> list[Path]:
    """The files of Anno_fine that the reader looks for."""
    ready = [
        folder / f"{split}{part}.txt"
        for split in READY_SPLITS
        for part in ("", "_attr", "_cate", "_bbox", "_landmarks")
    ]
    return [*ready, *(folder / f"list_{name}.txt" for name in ("category_cloth", "attr_cloth", "landmarks"))]


def read_fine(root: Path, folder: Path) -> FashionData:
    """Read Anno_fine from the files of its splits; clothes types and visibilities come from `list_landmarks.txt`."""
    missing: list[str] = []
    category_names, _ = annotations.read_typed_names(folder / "list_category_cloth.txt")
    images = {
        split: read_image_names(folder / f"{split}.txt") for split in READY_SPLITS if (folder / f"{split}.txt").exists()
    }
    names = [name for split_names in images.values() for name in split_names]

    def column(part: str, read: Callable[[Path], NDArray[np.integer]]) -> NDArray[np.integer]:
        return np.concatenate(
            [same_length(folder / f"{split}_{part}.txt", read, split_names) for split, split_names in images.items()]
        )

    def is_whole(part: str, kind: str) -> bool:
        return all_exist([folder / f"{split}_{part}.txt" for split in images], kind, missing)

    attribute_names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    attributes = boxes = None
    if all_exist([folder / "list_attr_cloth.txt"], "attributes", missing) and is_whole("attr", "attributes"):
        attribute_names, groups = read_attribute_names(folder, FINE_GROUPS)
        width = len(attribute_names)
        attributes = column("attr", lambda path: annotations.read_labels(path, width, header=0, named=False).values)
    if is_whole("bbox", "boxes"):
        boxes = column("bbox", lambda path: annotations.read_unnamed(path, annotations.integers(4), 4))
    landmarks: NDArray[np.integer] | None = None
    if all_exist([folder / "list_landmarks.txt"], "landmarks", missing):
        listed = annotations.read_table(folder / "list_landmarks.txt", annotations.parse_landmarks, 25)
        landmarks = listed.aligned(names, more=True)
        if all((folder / f"{split}_landmarks.txt").exists() for split in images):
            points = column("landmarks", lambda path: annotations.read_unnamed(path, annotations.integers(16), 16))
            landmarks = with_points(landmarks, points.reshape(-1, 8, 2))
    category = annotations.integers(1, {0: (1, len(category_names))})
    return build(
        root,
        names,
        splits=np.array([SPLITS.index(split) for split, split_names in images.items() for _ in split_names]),
        boxes=boxes,
        landmarks=landmarks,
        categories=column("cate", lambda path: annotations.read_unnamed(path, category, 1))[:, 0] - 1,
        attributes=None if attributes is None else zeros_are_negative(attributes),
        category_names=category_names,
        attribute_names=attribute_names,
        attribute_groups=groups,
        missing=missing,
    )


def read_image_names(path: Path) -> list[str]:
    """Read a file that has the name of an image in each line."""
    return [text.strip(" \t\r\n\f\v") for _, text in annotations.read_rows(path, 0, annotations.fail)]


def same_length(path: Path, read: Callable[[Path], NDArray[np.integer]], images: list[str]) -> NDArray[np.integer]:
    """Read a file of a split in Anno_fine and check that it has a row for each of the split's images."""
    rows = read(path)
    if len(rows) != len(images):
        split = path.name.split("_")[0]
        raise DataError(f"{path}: {len(rows)} rows, but {split}.txt names {len(images)} images")
    return rows


def with_points(listed: NDArray[np.integer], points: NDArray[np.integer]) -> NDArray[np.integer]:
    """Put the points of the splits' files, [N, 8, 2], into the rows of `list_landmarks.txt`, [N, 25].

    A point at (0, 0) means that the landmark is truncated.
    """
    slots = listed[:, 1:].reshape(-1, 8, 3)
    absent = slots[:, :, 0] == ABSENT
    truncated = ~absent & ((points == 0).all(axis=2) | (slots[:, :, 0] == TRUNCATED))
    visibility = np.where(truncated, TRUNCATED, slots[:, :, 0])
    places = np.where((absent | truncated)[:, :, None], 0, points)
    merged = np.concatenate([visibility[:, :, None], places], axis=2)
    return np.concatenate([listed[:, :1], merged.reshape(-1, 24)], axis=1)


def read_inshop(root: Path, *, highres: bool | None = None) -> FashionData:
    """Read the In-shop Clothes Retrieval benchmark. Only its partition is required. Attributes belong to items.

    Args:
        root: the benchmark's folder.
        highres: see `read_category`.

    Raises:
        DataError: the partition is missing, or a row is malformed.
    """
    root = Path(root)
    files = [*retrieval_files(root / "Anno", "inshop"), partition_file(root)]
    data = cached(partition_file(root).parent, "inshop", files, lambda: read_inshop_text(root, root / "Anno"))
    return at_true_size(data, root, highres, lambda width, height: (IN_SHOP_SIDE, IN_SHOP_SIDE))


def read_inshop_text(root: Path, folder: Path) -> FashionData:
    """Read the in-shop benchmark from its text files."""
    partition = annotations.read_table(partition_file(root), annotations.parse_item_split, 2)
    names = partition.names
    check_items(folder, partition.values[:, 0])
    missing: list[str] = []
    attribute_names, groups, attributes = read_item_attributes(folder, partition.values[:, 0], missing)
    boxes = None
    if all_exist([folder / "list_bbox_inshop.txt"], "boxes", missing):
        table = annotations.read_table(folder / "list_bbox_inshop.txt", annotations.integers(6, {0: (1, 3)}), 6)
        boxes = table.aligned(names)[:, 2:]
    return build(
        root,
        names,
        splits=partition.values[:, 1],
        boxes=boxes,
        landmarks=read_listed_landmarks(folder / "list_landmarks_inshop.txt", names, missing),
        items=partition.values[:, 0],
        domains=np.full(len(names), SHOP, np.int8),
        attributes=attributes,
        attribute_names=attribute_names,
        attribute_groups=groups,
        colors=read_colors(folder, names),
        missing=missing,
    )


def read_consumer_to_shop(root: Path, *, highres: bool | None = None) -> FashionData:
    """Read the Consumer-to-shop Clothes Retrieval benchmark. An image has one row even if it is in several pairs.

    Only the partition is required. A shop photo that is in no pair is a photo of the gallery too: its folder names its
    item, and it gets the split of that item.

    Args:
        root: the benchmark's folder.
        highres: see `read_category`.

    Raises:
        DataError: the partition is missing, a row is malformed, or an image belongs to two items or splits.
    """
    root = Path(root)
    files = [*retrieval_files(root / "Anno", "consumer2shop"), partition_file(root)]
    data = cached(
        partition_file(root).parent, "consumer_to_shop", files, lambda: read_consumer_to_shop_text(root, root / "Anno")
    )
    return at_true_size(data, root, highres, longest_side)


def read_consumer_to_shop_text(root: Path, folder: Path) -> FashionData:
    """Read the consumer-to-shop benchmark from its text files."""
    missing: list[str] = []
    pairs = annotations.read_pairs(partition_file(root))
    table = None
    if all_exist([folder / "list_bbox_consumer2shop.txt"], "boxes", missing):
        limits = {0: (1, 3), 1: (SHOP, CONSUMER)}
        table = annotations.read_table(folder / "list_bbox_consumer2shop.txt", annotations.integers(6, limits), 6)
        names, domains = table.names, table.values[:, 1]
    else:
        sides = {name: side for pair in pairs for name, side in ((pair[0], CONSUMER), (pair[1], SHOP))}
        names, domains = list(sides), np.array(list(sides.values()))
    members = members_of_pairs(partition_file(root), pairs, set(names))
    members |= unpaired_shop_photos(names, domains, members)
    items = np.array([members.get(name, (-1, 0))[0] for name in names], np.int32)
    check_items(folder, items)
    attribute_names, groups, attributes = read_item_attributes(folder, items, missing)
    return build(
        root,
        names,
        splits=np.array([members.get(name, (-1, 0))[1] for name in names], np.int8),
        boxes=None if table is None else table.values[:, 2:],
        landmarks=read_listed_landmarks(folder / "list_landmarks_consumer2shop.txt", names, missing),
        items=items,
        domains=domains,
        attributes=attributes,
        attribute_names=attribute_names,
        attribute_groups=groups,
        colors=read_colors(folder, names),
        missing=missing,
    )


def retrieval_files(folder: Path, suffix: str) -> list[Path]:
    """The files of a retrieval benchmark except its partition, whether they exist or not."""
    lists = [folder / f"list_{name}_{suffix}.txt" for name in ("bbox", "landmarks")]
    inner = attribute_folder(folder)
    names = ("list_attr_cloth", "list_attr_items", "list_attr_type", "list_color_cloth")
    return [*lists, *(inner / f"{name}.txt" for name in names), *item_files(folder)]


def members_of_pairs(
    path: Path, pairs: Sequence[tuple[str, str, int, int]], boxed: set[str]
) -> dict[str, tuple[int, int]]:
    """The item and split of every image that is in a pair."""
    members: dict[str, tuple[int, int]] = {}
    for consumer, shop, item, split in pairs:
        for name in (consumer, shop):
            if name not in boxed:
                raise DataError(f"{path}: {name} has no box")
            if members.setdefault(name, (item, split)) != (item, split):
                raise DataError(f"{path}: {name} is in two items or two splits")
    return members


def unpaired_shop_photos(
    names: Sequence[str], domains: NDArray[np.integer], members: Mapping[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """The item and split of the shop photos that are in no pair, by the item's folder, such as `id_00000218`."""
    split_of: dict[int, set[int]] = {}
    for item, split in members.values():
        split_of.setdefault(item, set()).add(split)
    unpaired = {}
    for name, domain in zip(names, domains.tolist(), strict=True):
        folder = name.split("/")[-2:-1]
        if domain != SHOP or name in members or not (folder and re.fullmatch(r"id_\d{1,9}", folder[0])):
            continue
        item = annotations.item_number(folder[0])
        if len(splits := split_of.get(item, set())) == 1:
            unpaired[name] = (item, min(splits))
    return unpaired


def read_landmarks(root: Path, *, highres: bool | None = None) -> FashionData:
    """Read the Fashion Landmark Detection benchmark. Its landmarks and its partition are required.

    Args:
        root: the benchmark's folder.
        highres: must not be True, because there are no high-resolution photos.

    Raises:
        DataError: a required file is missing, a row is malformed, or `highres` is True.
    """
    root = Path(root)
    if highres:
        raise DataError(f"{root}: the landmark benchmark has no high-resolution photos")
    folder = root / "Anno"
    files = [folder / "list_bbox.txt", folder / "list_landmarks.txt", partition_file(root)]
    return cached(folder, "landmarks", files, lambda: read_landmarks_text(root, folder))


def read_landmarks_text(root: Path, folder: Path) -> FashionData:
    """Read the landmark benchmark from its text files."""
    partition = annotations.read_table(partition_file(root), annotations.parse_split, 1)
    names = partition.names
    missing: list[str] = []
    return build(
        root,
        names,
        splits=partition.values[:, 0],
        boxes=read_boxes(folder / "list_bbox.txt", names, missing),
        landmarks=annotations.read_table(folder / "list_landmarks.txt", annotations.parse_landmarks, 25).aligned(names),
        missing=missing,
    )


def read_attribute_names(folder: Path, groups: Mapping[int, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read the names of the attributes and of their groups; a group without a name is called by its number."""
    names, types = annotations.read_typed_names(folder / "list_attr_cloth.txt")
    return names, tuple(groups.get(number, str(number or "")) for number in types)


def attribute_folder(folder: Path) -> Path:
    """The folder of a retrieval benchmark's attribute files; in some downloads it is `Anno/attributes/`."""
    return folder / "attributes" if (folder / "attributes").is_dir() else folder


def read_colors(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Read the colour of each image, "" if the file has none for it; () if there is no file."""
    path = attribute_folder(folder) / "list_color_cloth.txt"
    if not path.exists():
        return ()
    colors = annotations.read_colors(path)
    return tuple(colors.get(name, "") for name in names)


def item_files(folder: Path) -> list[Path]:
    """The files that list a retrieval benchmark's items, in both spellings of their names; [] if there is none."""
    return sorted(folder.glob("list_item_*.txt")) + sorted(folder.glob("list_items_*.txt"))


def check_items(folder: Path, items: NDArray[np.integer]) -> None:
    """Raise a DataError if an item of an image is missing in a list of items."""
    for path in item_files(folder):
        unlisted = sorted(set(items.tolist()) - set(annotations.read_items(path)) - {-1})
        if unlisted:
            raise DataError(f"{path}: no row for item id_{unlisted[0]:08d}")


def read_item_attributes(
    folder: Path, items: NDArray[np.integer], missing: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...], NDArray[np.int8]]:
    """Read the attributes' names and groups, and the labels of the images' items, int8 [N, A].

    Args:
        folder: the folder `Anno`.
        items: [N] number of the item of each image, or -1, for which all labels are 0.
        missing: list to which a sentence for each missing file is appended.
    """
    files = [attribute_folder(folder) / f"list_attr_{name}.txt" for name in ("cloth", "items")]
    if not all_exist(files, "attributes", missing):
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
    unlisted = sorted(set(items.tolist()) - row_of.keys())
    if unlisted:
        raise DataError(f"{table.path}: no row for item id_{unlisted[0]:08d}")
    labels = np.concatenate([table.values, np.zeros((1, len(names)), np.int8)])
    return names, groups, labels[[row_of[item] for item in items.tolist()]].astype(np.int8, copy=False)
