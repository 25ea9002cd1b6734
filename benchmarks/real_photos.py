"""Write the labelled real photos in DeepFashion's layout: `python benchmarks/real_photos.py PHOTOS OUTPUT`.

PHOTOS holds the public "clothing dataset" by Alexey Grigorev and contributors (CC0 1.0), unpacked in any way: pictures
are looked up by their names. OUTPUT gets them in the folders of their published classes and splits, and their labels as
`Anno_fine/` and `Eval/`. The labels come from real_photos/labels.csv; they were read from each photo against a percent
grid. Photos of the test split were read twice; their third row is the decision where the two readings differed.
"""

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fashion_infer.data.annotations import SLOTS
from fashion_infer.data.deepfashion import CATEGORY_NAMES, FINE_GROUPS
from fashion_infer.synthetic.dataset import landmark_columns, link, write_list

HERE = Path(__file__).parent / "real_photos"
ATTRIBUTES = {  # the 26 of Anno_fine, in its order, by group
    "texture": ("floral", "graphic", "striped", "embroidered", "pleated", "solid", "lattice"),
    "sleeve": ("long_sleeve", "short_sleeve", "sleeveless"),
    "length": ("maxi_length", "mini_length", "no_dress"),
    "neckline": ("crew_neckline", "v_neckline", "square_neckline", "no_neckline"),
    "fabric": ("denim", "chiffon", "cotton", "leather", "faux", "knit"),
    "fit": ("tight", "loose", "conventional"),
}
COLUMN = {"neckline": "neck"}  # columns of labels.csv whose name is not the group's
TYPES = {"u": 1, "l": 2, "f": 3}
SPLITS = ("train", "val", "test")
KINDS = [1] * 20 + [2] * 16 + [3] * 14  # clothes types of the 50 categories


@dataclass(frozen=True)
class Labelled:
    """One photo and its labels as Anno_fine writes them."""

    name: str
    split: str
    category: int  # from 1
    clothes_type: int
    attributes: tuple[int, ...]
    box: tuple[int, ...]
    landmarks: tuple[tuple[int, int, int], ...]  # visibility, x, y of each landmark that the clothes type has


def main(photos: Path, output: Path) -> None:
    """Copy (by hard link where possible) and label every photo.

    Raises:
        SystemExit: A labelled photo is missing.
    """
    with (HERE / "photos.csv").open(encoding="utf-8") as file:
        names = {row["image"]: row["path"].removeprefix("Img/") for row in csv.DictReader(file)}
    paths = {path.stem: path for path in photos.rglob("*.jpg")}
    if missing := sorted(names.keys() - paths.keys()):
        raise SystemExit(f"{photos} lacks {len(missing)} of {len(names)} photos, the first one is {missing[0]}.jpg")
    for image, name in names.items():
        target = output / "Img" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            link(paths[image], target)
    with (HERE / "labels.csv").open(encoding="utf-8") as file:
        last = {row["image"]: row for row in csv.DictReader(file)}  # a later reading decides
    rows = [labelled(row, names[image], output / "Img" / names[image]) for image, row in last.items()]
    write_annotations(output, sorted(rows, key=lambda row: row.name))


def labelled(row: dict[str, str], name: str, path: Path) -> Labelled:
    """Convert a row of labels.csv, with positions in percent of the photo's sides, to labels in pixels."""
    with Image.open(path) as image:
        sides = image.size

    def pixels(percents: Sequence[float]) -> tuple[int, ...]:
        return tuple(min(round(p * sides[i % 2] / 100), sides[i % 2] - 1) for i, p in enumerate(percents))

    def point(text: str) -> tuple[int, int, int]:
        visibility, _, place = text.partition(":")
        x, y = pixels([float(p) for p in place.split(",")]) if visibility != "2" else (0, 0)
        return int(visibility), x, y

    chosen = {name for group in ATTRIBUTES for name in row[COLUMN.get(group, group)].split("+")}
    return Labelled(
        name=name,
        split=row["split"],
        category=CATEGORY_NAMES.index(row["category"]) + 1,
        clothes_type=TYPES[row["type"]],
        attributes=tuple(int(name in chosen) for names in ATTRIBUTES.values() for name in names),
        box=pixels([float(p) for p in row["box"].split(",")]),
        landmarks=tuple(point(text) for text in row["landmarks"].split()),
    )


def write_annotations(output: Path, rows: list[Labelled]) -> None:
    """Write the lists of all photos, and the separate files of each split."""
    folder = output / "Anno_fine"
    numbers = {group: number for number, group in FINE_GROUPS.items()}
    groups = [(name, str(numbers[group])) for group, names in ATTRIBUTES.items() for name in names]
    kinds = [(name, str(kind)) for name, kind in zip(CATEGORY_NAMES, KINDS, strict=True)]
    write_list(folder / "list_attr_cloth.txt", "attribute_name  attribute_type", groups)
    write_list(folder / "list_category_cloth.txt", "category_name  category_type", kinds)
    columns: dict[str, tuple[str, Callable[[Labelled], str]]] = {
        "category_img": ("image_name  category_label", category_of),
        "attr_img": ("image_name  attribute_labels", attributes_of),
        "bbox": ("image_name  x_1  y_1  x_2  y_2", box_of),
        "landmarks": (landmark_columns(""), landmarks_of),
    }
    for name, (heading, text) in columns.items():
        write_list(folder / f"list_{name}.txt", heading, [(row.name, text(row)) for row in rows])
    partition = [(row.name, row.split) for row in rows]
    write_list(output / "Eval" / "list_eval_partition.txt", "image_name  evaluation_status", partition)
    ready = {"": name_of, "_cate": category_of, "_attr": attributes_of, "_bbox": box_of, "_landmarks": points_of}
    for split in SPLITS:
        split_rows = [row for row in rows if row.split == split]
        for part, text in ready.items():
            lines = "".join(f"{text(row)}\n" for row in split_rows)
            (folder / f"{split}{part}.txt").write_text(lines, encoding="utf-8")


def name_of(row: Labelled) -> str:
    """Format the photo's path below Img."""
    return row.name


def category_of(row: Labelled) -> str:
    """Format the number of the category, counted from 1."""
    return str(row.category)


def attributes_of(row: Labelled) -> str:
    """Format 0 or 1 for each attribute."""
    return " ".join(map(str, row.attributes))


def box_of(row: Labelled) -> str:
    """Format the box as four numbers of at least three digits."""
    return "  ".join(f"{value:03d}" for value in row.box)


def landmarks_of(row: Labelled) -> str:
    """Format the clothes type, then the visibility and position of each landmark that it has."""
    return f"{row.clothes_type}  " + "  ".join(f"{v} {x:03d} {y:03d}" for v, x, y in row.landmarks)


def points_of(row: Labelled) -> str:
    """Format the eight positions, with zeros where there is no landmark."""
    places = dict(zip(SLOTS[row.clothes_type], row.landmarks, strict=True))
    return " ".join(f"{x:03d} {y:03d}" for _, x, y in (places.get(slot, (0, 0, 0)) for slot in range(8)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
