"""The benchmarks: how to recognise them in a folder, their readers, and the counts of the published data sets."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from fashion_infer.data import annotations, deepfashion
from fashion_infer.data.columns import partition_file
from fashion_infer.data.deepfashion2 import read_deepfashion2
from fashion_infer.data.fashion_data import FashionData
from fashion_infer.data.own_retrieval import CSV_NAME, read_retrieval
from fashion_infer.errors import DataError

OFFICIAL: dict[str, dict[str, int]] = {
    "category": {
        "images": 289_222,
        "train": 209_222,
        "val": 40_000,
        "test": 40_000,
        "categories": 50,
        "attributes": 1000,
    },
    "category_fine": {
        "images": 20_000,
        "train": 14_000,
        "val": 2_000,
        "test": 4_000,
        "categories": 50,
        "attributes": 26,
    },
    "in_shop": {
        "images": 52_712,
        "train": 25_882,
        "query": 14_218,
        "gallery": 12_612,
        "items": 7_982,
        "attributes": 463,
    },
    "consumer_to_shop": {"images": 239_557, "pairs": 195_540, "items": 33_881, "attributes": 303},
    "landmarks": {"images": 123_016, "train": 83_033, "val": 19_992, "test": 19_991},
    "retrieval": {},
    "deepfashion2": {},
}
MARKERS = {  # patterns of the files by which a benchmark is recognised
    "category_fine": ("Anno_fine/*.txt",),
    "category": ("Anno*/list_category_*.txt", "Anno*/list_attr_img.txt"),
    "in_shop": ("Anno/*_inshop.txt",),
    "consumer_to_shop": ("Anno/*_consumer2shop.txt",),
    "landmarks": ("Anno/list_joints.txt", "Anno/list_landmarks.txt", "Anno/list_bbox.txt"),
    "retrieval": (CSV_NAME,),
    "deepfashion2": ("train/annos/*.json", "validation/annos/*.json"),
}
COLUMNS_OF_PARTITION = {3: "in_shop", 4: "consumer_to_shop"}  # number of the partition's columns -> benchmark


class Reader(Protocol):
    """A function that reads a benchmark's folder; for `highres` see `highres.at_true_size`."""

    def __call__(self, root: Path, *, highres: bool | None = None) -> FashionData: ...


READERS: dict[str, Reader] = {
    "category": partial(deepfashion.read_category, layout="coarse"),
    "category_fine": partial(deepfashion.read_category, layout="fine"),
    "in_shop": deepfashion.read_inshop,
    "consumer_to_shop": deepfashion.read_consumer_to_shop,
    "landmarks": deepfashion.read_landmarks,
    "retrieval": read_retrieval,
    "deepfashion2": read_deepfashion2,
}


def find_benchmarks(root: Path) -> list[tuple[Path, str]]:
    """Find the folder and name of every benchmark in `root` and its direct subfolders.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    return [(folder, benchmark) for folder in folders for benchmark in benchmarks_in(folder)]


def benchmarks_in(folder: Path) -> list[str]:
    """The benchmarks whose files lie in this folder. If only landmark files are there, it is the landmark benchmark."""
    present = [name for name, patterns in MARKERS.items() if any(any(folder.glob(pattern)) for pattern in patterns)]
    if "category_fine" in present and not any(
        (folder / anno / "list_category_img.txt").exists() for anno in ("Anno", "Anno_coarse")
    ):
        present = [name for name in present if name != "category"]
    if not present:
        return list(_from_partition_alone(folder))
    return present if present == ["landmarks"] else [name for name in present if name != "landmarks"]


def _from_partition_alone(folder: Path) -> Iterator[str]:
    """The retrieval benchmark of a folder that has only the partition, recognised by the partition's columns."""
    path = partition_file(folder)
    if path.is_file():
        row = next(islice(annotations.read_lines(path), 2, 3), "").split()
        if len(row) in COLUMNS_OF_PARTITION and row[-2].startswith("id_"):
            yield COLUMNS_OF_PARTITION[len(row)]


def has_official_counts(benchmark: str, counts: dict[str, int]) -> bool:
    """Whether a benchmark has the counts of the published one; if it has no attributes, they are not compared."""
    official = OFFICIAL[benchmark]
    expected = {name: number for name, number in official.items() if name in counts or name != "attributes"}
    return "images" in official and all(counts.get(name) == number for name, number in expected.items())


def count(root: Path, benchmark: str, data: FashionData) -> dict[str, int]:
    """Count the images in all and by split, and whatever else the official descriptions count."""
    counts = {"images": len(set(data.images))}
    counts |= {
        str(split): int(number)
        for split, number in zip(*np.unique(data.splits, return_counts=True), strict=True)
        if split
    }
    if len(data) > counts["images"]:
        counts["garments"] = len(data)
    if data.category_names:
        counts["categories"] = len(data.category_names)
    if data.attribute_names:
        counts["attributes"] = len(data.attribute_names)
    if (data.items >= 0).any():
        counts["items"] = len(np.unique(data.items[data.items >= 0]))
    if any(data.colors):
        counts["colors"] = len(set(data.colors) - {""})
    if benchmark == "consumer_to_shop":
        counts["pairs"] = len(annotations.read_pairs(partition_file(root)))
    return counts
