"""The labels that come with the repository, on blank photos: the real ones are not in it."""

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import real_photos

from fashion_infer.data.deepfashion import FashionData, read_category

COUNT = 60


def rows(name: str) -> list[dict[str, str]]:
    with (real_photos.HERE / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def labels() -> list[dict[str, str]]:
    return rows("labels.csv")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FashionData:
    """Every photo that the labels ask for is the same blank one, by hard links."""
    photos, output = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("made")
    blank = photos / "blank.png"
    cv2.imwrite(str(blank), np.zeros((500, 400, 3), np.uint8))
    for row in rows("photos.csv"):
        os.link(blank, photos / f"{row['image']}.jpg")
    real_photos.main(photos, output)
    return read_category(output)


def test_the_splits_are_whole(made: FashionData) -> None:
    counts = {split: int((made.splits == split).sum()) for split in ("train", "val", "test")}
    assert counts == {"train": 2995, "val": 301, "test": 287}


def test_a_photo_has_what_was_read(made: FashionData, labels: list[dict[str, str]]) -> None:
    for row in [row for row in labels if row["reading"] == "1" and row["split"] == "train"][:COUNT]:
        i = next(i for i, name in enumerate(made.images) if row["image"] in name)
        assert made.category_names[made.categories[i]] == row["category"]
        positive = {made.attribute_names[a] for a in np.flatnonzero(made.attributes[i] > 0)}
        groups = ("texture", "sleeve", "length", "neck", "fabric", "fit")
        assert positive == {name for group in groups for name in row[group].split("+")}
        percents = [float(value) for value in row["box"].split(",")]
        np.testing.assert_allclose(made.boxes[i], np.array(percents) * [4, 5, 4, 5], atol=1)
        seen = made.visibility[i][made.visibility[i] >= 0].tolist()
        assert seen == [int(point[0]) for point in row["landmarks"].split()]


def test_the_third_reading_of_a_test_photo_decides(made: FashionData, labels: list[dict[str, str]]) -> None:
    readings: dict[str, dict[str, str]] = {}
    for row in labels:
        if row["split"] == "test":
            readings.setdefault(row["image"], {})[row["reading"]] = row["category"]
    disputed = {image: categories for image, categories in readings.items() if categories["1"] != categories["2"]}
    assert len(readings) == 287
    assert len(disputed) == 23, "two readings of the category agree for 92.0 %"
    for image, categories in disputed.items():
        i = next(i for i, name in enumerate(made.images) if image in name)
        assert made.category_names[made.categories[i]] == categories["3"]


def test_a_missing_photo_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="lacks 4029 of 4029 photos"):
        real_photos.main(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
