"""A user's own retrieval data: photos and a CSV file with the item in each photo.

`retrieval.csv` has the columns `image`, `item` and `split`, in any order, and may have `category` and `x1`, `y1`, `x2`,
`y2`:

    image,item,split
    shop/red-dress.jpg,sku-17,gallery
    streets/0001.jpg,sku-17,query
"""

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_infer.data.annotations import SPLITS
from fashion_infer.data.columns import WITHOUT, build
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.errors import DataError

CSV_NAME = "retrieval.csv"
CORNERS = ("x1", "y1", "x2", "y2")


def read_retrieval(root: Path, *, highres: bool | None = None) -> FashionData:
    """Read a folder of photos with a `retrieval.csv`.

    `image` is a path relative to the folder. `item` is any text that the images of one item share. `split` is train,
    query or gallery; queries are looked up in the gallery. The corners of a box are in pixels. If they are empty or
    their columns are missing, the whole photo is used.

    Args:
        root: the folder.
        highres: must not be True, because there are no other photos than those in the file.

    Raises:
        DataError: the file cannot be read, a column is missing, a row is malformed, or `highres` is True.
    """
    root = Path(root)
    path = root / CSV_NAME
    if highres:
        raise DataError(f"{path}: there are no high-resolution photos beside those that the file names")
    rows = read_csv(path, required=("image", "item", "split"))
    for line, row in rows:
        if row["split"] not in ("train", "query", "gallery"):
            raise DataError(f"{path}:{line}: a split is train, query or gallery, found {row['split']!r}")
        if not (row["image"] and row["item"]):
            raise DataError(f"{path}:{line}: an image and its item expected")
    items, _ = numbered([row["item"] for _, row in rows])
    categories, category_names = numbered([row.get("category", "") for _, row in rows])
    boxes = np.array([read_box(path, line, row) for line, row in rows], np.float64).reshape(-1, 4)
    data = build(
        root,
        [row["image"] for _, row in rows],
        splits=np.array([SPLITS.index(row["split"]) for _, row in rows], np.int64),
        boxes=boxes,
        landmarks=None,
        items=items,
        categories=categories,
        category_names=category_names,
        missing=[f"{CSV_NAME} has no boxes: {WITHOUT['boxes']}"] if np.isnan(boxes).all() else (),
    )
    return replace(data, image_root=root)


def read_csv(path: Path, required: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Read the rows of a CSV file with a header, each with its line number; spaces around cells are removed.

    Raises:
        DataError: the file cannot be read, is not a CSV file or lacks a column, or a row has too few or too many cells.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            absent = [name for name in required if name not in (reader.fieldnames or ())]
            if absent:
                raise DataError(f"{path}:1: no column {absent[0]!r}: the first line names {', '.join(required)}")
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise DataError(f"{path}:{reader.reader.line_num}: {error}") from error
    for line, row in rows:
        if None in row or None in row.values():
            raise DataError(f"{path}:{line}: another number of cells than the first line")
    return [(line, {name: cell.strip() for name, cell in row.items()}) for line, row in rows]


def read_box(path: Path, line: int, row: dict[str, str]) -> list[float]:
    """The corners of a row's box, NaN if the cells are empty or the columns are missing."""
    cells = [row.get(name, "") for name in CORNERS]
    if not any(cells):
        return [np.nan] * 4
    if not all(re.fullmatch(r"-?\d+(\.\d+)?", cell) for cell in cells):
        raise DataError(f"{path}:{line}: four numbers x1 y1 x2 y2 expected, found {' '.join(cells)!r}")
    return [float(cell) for cell in cells]


def numbered(names: list[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number the names in the order of first appearance, -1 for an empty name; returns numbers [N] and the names."""
    number_of = {name: number for number, name in enumerate(dict.fromkeys(name for name in names if name))}
    return np.array([number_of.get(name, -1) for name in names], np.int64), tuple(number_of)
