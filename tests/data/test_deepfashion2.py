"""Tests of DeepFashion2's reader, on files that the tests write in the layout of the data set's readme."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fashion_infer.data.benchmarks import benchmarks_in
from fashion_infer.data.deepfashion2 import CATEGORIES, NAMES, read_deepfashion2
from fashion_infer.data.deepfashion_check import check
from fashion_infer.errors import DataError

COLLARS, SLEEVES, WAIST, HEMS = (0, 1), (2, 3), (4, 5), (6, 7)


def item(category: str, style: int = 0, visibility: int = 2) -> dict[str, Any]:
    """A garment whose landmark number n lies at (10 n, 10 n + 1)."""
    count = CATEGORIES[category][1]
    return {
        "category_name": category,
        "category_id": NAMES.index(category) + 1,
        "style": style,
        "bounding_box": [3, 4, 50, 60],
        "landmarks": [number for n in range(1, count + 1) for number in (10 * n, 10 * n + 1, visibility)],
        "segmentation": [[1, 2, 3, 4, 5, 6]],
        "scale": 2, "occlusion": 1, "zoom_in": 1, "viewpoint": 2,
    }  # fmt: skip


def write(root: Path, folder: str, number: int, source: str, pair_id: int, *items: dict[str, Any]) -> Path:
    path = root / folder / "annos" / f"{number:06}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    garments = {f"item{i}": own for i, own in enumerate(items, 1)}
    path.write_text(json.dumps({**garments, "source": source, "pair_id": pair_id}))
    image = root / folder / "image" / f"{number:06}.jpg"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (600, 800)).save(image)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    top, skirt = "short sleeve top", "skirt"
    write(tmp_path, "train", 1, "user", 1, item(top, style=1), item(skirt, style=2))
    write(tmp_path, "train", 2, "shop", 1, item(top, style=1))
    write(tmp_path, "train", 3, "shop", 2, item(top, style=1), item("trousers"))
    write(tmp_path, "validation", 1, "user", 1, item(top, style=1))
    return tmp_path


def test_one_row_a_garment(root: Path) -> None:
    data = read_deepfashion2(root)
    assert data.images == (
        *["train/image/000001.jpg"] * 2, "train/image/000002.jpg", *["train/image/000003.jpg"] * 2,
        "validation/image/000001.jpg",
    )  # fmt: skip
    assert data.splits.tolist() == ["train"] * 5 + ["val"]
    assert [data.category_names[i] for i in data.categories] == [
        "short sleeve top", "skirt", "short sleeve top", "short sleeve top", "trousers", "short sleeve top",
    ]  # fmt: skip
    assert len(data.category_names) == 13
    assert data.boxes[0].tolist() == [3, 4, 50, 60]
    assert data.clothes_types.tolist() == [1, 2, 1, 1, 2, 1]
    assert data.domains.tolist() == [2, 2, 1, 1, 1, 2]
    assert data.items.tolist() == [0, 1, 0, 2, -1, 3], "style above 0, the same pair, the same set"
    assert data.missing == ("DeepFashion2 labels no attributes: they are neither trained nor judged",)
    assert (data.image_root / data.images[0]).exists()
    assert benchmarks_in(root) == ["deepfashion2"]


# For each category: our landmarks that it lacks, those that stay unlabelled, and the places of the others.
EXPECTED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[int, float]]] = {
    "short sleeve top": (WAIST, (), {0: 2, 1: 6, 2: 9.5, 3: 22.5, 6: 15, 7: 17}),
    "long sleeve top": (WAIST, (), {0: 2, 1: 6, 2: 11.5, 3: 28.5, 6: 19, 7: 21}),
    "short sleeve outwear": (WAIST, COLLARS, {2: 9.5, 3: 22.5, 6: 15, 7: 17}),
    "long sleeve outwear": (WAIST, (), {0: 2, 1: 6, 2: 11.5, 3: 28.5, 6: 19, 7: 21}),
    "vest": (WAIST, SLEEVES, {0: 2, 1: 6, 6: 10, 7: 12}),
    "sling": (WAIST, SLEEVES, {0: 2, 1: 6, 6: 10, 7: 12}),
    "shorts": (COLLARS + SLEEVES, (), {4: 1, 5: 3, 6: 5.5, 7: 8.5}),
    "trousers": (COLLARS + SLEEVES, (), {4: 1, 5: 3, 6: 6.5, 7: 11.5}),
    "skirt": (COLLARS + SLEEVES, (), {4: 1, 5: 3, 6: 5, 7: 7}),
    "short sleeve dress": ((), WAIST, {0: 2, 1: 6, 2: 9.5, 3: 26.5, 6: 17, 7: 19}),
    "long sleeve dress": ((), WAIST, {0: 2, 1: 6, 2: 11.5, 3: 32.5, 6: 21, 7: 23}),
    "vest dress": ((), WAIST + SLEEVES, {0: 2, 1: 6, 6: 12, 7: 14}),
    "sling dress": ((), WAIST + SLEEVES, {0: 2, 1: 6, 6: 12, 7: 14}),
}

# Landmarks that change places in a mirrored garment: the first and last flip pair of public landmark estimators.
MIRRORED = {
    "short sleeve top": {2: 6, 9: 23, 10: 22, 15: 17},
    "long sleeve top": {2: 6, 11: 29, 12: 28, 19: 21},
    "short sleeve outwear": {9: 23, 10: 22, 15: 17},
    "long sleeve outwear": {2: 6, 11: 29, 12: 28, 19: 21},
    "vest": {2: 6, 10: 12},
    "sling": {2: 6, 10: 12},
    "shorts": {1: 3, 5: 9, 6: 8},
    "trousers": {1: 3, 6: 12, 7: 11},
    "skirt": {1: 3, 5: 7},
    "short sleeve dress": {2: 6, 9: 27, 10: 26, 17: 19},
    "long sleeve dress": {2: 6, 11: 33, 12: 32, 21: 23},
    "vest dress": {2: 6, 12: 14},
    "sling dress": {2: 6, 12: 14},
}


@pytest.mark.parametrize("category", NAMES)
def test_landmarks_of_every_category(tmp_path: Path, category: str) -> None:
    write(tmp_path, "train", 1, "shop", 1, item(category))
    data = read_deepfashion2(tmp_path)
    absent, unlabelled, places = EXPECTED[category]
    assert sorted((*absent, *unlabelled, *places)) == list(range(8))
    assert data.visibility[0, list(absent)].tolist() == [-1] * len(absent)
    assert data.visibility[0, list(unlabelled)].tolist() == [-2] * len(unlabelled)
    for slot, number in places.items():
        assert data.visibility[0, slot] == 0
        assert data.landmarks[0, slot].tolist() == pytest.approx([10 * number, 10 * number + 1])


@pytest.mark.parametrize("category", NAMES)
def test_left_and_right_slots_mirror_each_other(category: str) -> None:
    slots = CATEGORIES[category][2]
    pairs = MIRRORED[category]
    left = sorted(number for slot, own in slots.items() if slot.startswith("left") for number in own)
    right = {number for slot, own in slots.items() if slot.startswith("right") for number in own}
    assert left == sorted(pairs)
    assert right == set(pairs.values())
    for slot, own in slots.items():
        if slot.startswith("left"):
            assert {pairs[number] for number in own} == set(slots[slot.replace("left", "right")])


def test_the_categories_have_294_landmarks_in_all() -> None:
    assert sum(count for _, count, _ in CATEGORIES.values()) == 294


def test_visibility(tmp_path: Path) -> None:
    """2 is visible, 1 occluded and 0 not labelled, unlike in DeepFashion; a mean takes the worst of its landmarks."""
    garment = item("short sleeve top")
    for number, code in ((2, 1), (6, 0), (9, 2), (10, 1), (22, 0), (23, 2)):
        garment["landmarks"][3 * number - 1] = code
    write(tmp_path, "train", 1, "shop", 1, garment)
    assert read_deepfashion2(tmp_path).visibility[0].tolist() == [1, -2, 1, -2, -1, -1, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category_name": "hat"}, "item1 is of category 'hat', which is none of the 13"),
        ({"bounding_box": [1, 2, 3]}, "item1's bounding_box has 3 numbers, not 4"),
        ({"bounding_box": [1, 2, 3, "4"]}, "item1's bounding_box holds '4', which is no number"),
        ({"bounding_box": [1, 2, 3, float("nan")]}, "item1's bounding_box holds nan, which is no number"),
        ({"landmarks": [1, 2, 2]}, "item1 is a skirt and has 3 numbers of landmarks, not 24"),
        ({"landmarks": [1, 2, 3] * 8}, "item1 has a landmark whose visibility is not 0, 1 or 2"),
        ({"style": None}, "style holds None, which is no number"),
    ],
)
def test_malformed_garments_name_their_file(root: Path, change: dict[str, Any], message: str) -> None:
    path = write(root, "train", 7, "shop", 3, {**item("skirt"), **change})
    with pytest.raises(DataError, match=f"000007.json: {message}"):
        read_deepfashion2(root)
    report = check(root)
    assert [str(finding) for finding in report.benchmarks[0].findings] == [f"train/annos/000007.json: {message}"]
    path.write_text("{")
    assert "000007.json: Expecting" in str(check(root).benchmarks[0].findings[0])


@pytest.mark.parametrize(
    ("text", "message"), [('{"pair_id": 1}', "no 'source'"), ("[1]", "indices"), ('{"source": "web"}', "no 'web'")]
)
def test_malformed_files(root: Path, text: str, message: str) -> None:
    (root / "train/annos/000008.json").write_text(text)
    with pytest.raises(DataError, match=f"000008.json: .*{message}"):
        read_deepfashion2(root)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no garment in train/annos or validation/annos"):
        read_deepfashion2(tmp_path)
    with pytest.raises(DataError, match="has no high-resolution photos"):
        read_deepfashion2(tmp_path, highres=True)


def test_check_counts_garments_and_finds_missing_photos(root: Path) -> None:
    (benchmark,) = check(root).benchmarks
    assert benchmark.ok
    assert benchmark.counts == {"images": 4, "train": 5, "val": 1, "garments": 6, "categories": 13, "items": 4}
    assert benchmark.files == ("train/annos", "validation/annos")
    (root / "train/image/000002.jpg").unlink()
    assert check(root).benchmarks[0].first_missing_images == ("train/image/000002.jpg",)


def test_one_of_the_two_sets_is_enough(tmp_path: Path) -> None:
    write(tmp_path, "validation", 1, "shop", 1, item("skirt"))
    assert read_deepfashion2(tmp_path).splits.tolist() == ["val"]
    assert check(tmp_path).ok
    assert np.isfinite(read_deepfashion2(tmp_path).boxes).all()
