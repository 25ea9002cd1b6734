"""What would spoil own categories is found before anything is learnt."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fashion_infer.data.class_folders import read_class_folders
from fashion_infer.data.deepfashion import read_category
from fashion_infer.errors import DataError
from fashion_infer.training.model import FashionNet
from fashion_infer.training.own_labels import LEAST, Photos, load_photos, read_own, without_training_photos
from tests.training.own import paint, small_network


@pytest.fixture(scope="module")
def network() -> FashionNet:
    return small_network(heads="all")[0]


def look(network: FashionNet, folder: Path, least: int = LEAST) -> Photos:
    return load_photos(network, read_class_folders(folder), iter, least=least)


def test_the_same_photo_in_two_classes_is_in_neither(
    network: FashionNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path, {"Hat": 7, "Tee": 7})
    shutil.copy(tmp_path / "Hat" / "0_3.png", tmp_path / "Tee" / "other name.png")
    photos = look(network, tmp_path)
    assert len(photos.data) == 13
    assert not {"Hat/0_3.png", "Tee/other name.png"} & set(photos.data.images)
    assert "the same photo in several classes, left out of all of them: Hat/0_3.png, Tee/other name.png" in caplog.text


def test_of_copies_in_a_class_one_is_kept(
    network: FashionNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path, {"Hat": 6, "Tee": 6})
    for copy in ("copy 1.png", "copy 2.png"):
        shutil.copy(tmp_path / "Hat" / "0_3.png", tmp_path / "Hat" / copy)
    assert len(look(network, tmp_path).data) == 12
    assert "2 copies of other photos of their class are left out" in caplog.text


def test_five_copies_of_a_photo_are_one(network: FashionNet, tmp_path: Path) -> None:
    paint(tmp_path, {"Hat": 1, "Tee": 6})
    for number in range(5):
        shutil.copy(tmp_path / "Hat" / "0_0.png", tmp_path / "Hat" / f"{number}.png")
    with pytest.raises(DataError, match=r"at least 5 different photos.*Hat \(1\)"):
        look(network, tmp_path)


def test_nearly_the_same_photo_is_one_group_and_named_where_its_classes_differ(
    network: FashionNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path, {"Hat": 6, "Tee": 6})
    pixels = cv2.imread(str(tmp_path / "Hat" / "0_0.png"))
    cv2.imwrite(str(tmp_path / "Hat" / "again.png"), np.clip(pixels.astype(int) + 1, 0, 255))
    cv2.imwrite(str(tmp_path / "Tee" / "again.png"), np.clip(pixels.astype(int) + 2, 0, 255))
    photos = look(network, tmp_path)
    rows = [photos.data.images.index(name) for name in ("Hat/0_0.png", "Hat/again.png", "Tee/again.png")]
    assert len(set(photos.groups[rows])) == 1
    assert "nearly the same photo in two classes: Hat/" in caplog.text
    assert "and Tee/again.png" in caplog.text


def test_few_photos_are_warned_of_and_four_are_refused(
    network: FashionNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path, {"Hat": 20, "Tee": 5})
    look(network, tmp_path)
    assert "fewer than 20 photos: Tee (5)" in caplog.text
    (tmp_path / "Tee" / "0_4.png").unlink()
    with pytest.raises(DataError, match=r"at least 5 different photos, and better 20; too few: Tee \(4\)"):
        look(network, tmp_path)
    assert len(look(network, tmp_path, least=1).data) == 24


def test_a_class_of_which_no_photo_can_be_read(network: FashionNet, tmp_path: Path) -> None:
    paint(tmp_path, {"Hat": 6})
    (tmp_path / "Tee").mkdir()
    for number in range(6):
        (tmp_path / "Tee" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(DataError, match="no photo of Tee can be used"):
        look(network, tmp_path)


def test_a_photo_that_cannot_be_read_is_named(
    network: FashionNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paint(tmp_path, {"Hat": 6, "Tee": 6})
    (tmp_path / "Tee" / "bad.jpg").write_bytes(b"\xff\xd8\xff no picture")
    photos = look(network, tmp_path)
    assert list(photos.skipped) == ["Tee/bad.jpg"]
    assert "left out: Tee/bad.jpg" in caplog.text


def test_a_test_photo_that_was_learnt_from_judges_nothing(
    network: FashionNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = look(network, paint(tmp_path / "train", {"Hat": 6, "Tee": 6}))
    paint(tmp_path / "test", {"Hat": 3, "Tee": 3}, seed=1)
    shutil.copy(tmp_path / "train" / "Hat" / "0_3.png", tmp_path / "test" / "Hat" / "z.png")
    pixels = cv2.imread(str(tmp_path / "train" / "Tee" / "0_2.png"))
    cv2.imwrite(str(tmp_path / "test" / "Tee" / "z.png"), np.clip(pixels.astype(int) + 1, 0, 255))
    left = without_training_photos(look(network, tmp_path / "test", least=1), training, 8)
    assert not {"Hat/z.png", "Tee/z.png"} & set(left.data.images)
    assert len(left.features) == len(left.groups) == len(left.keys) == len(left.data) > 0
    assert "are in the training folder too and are left out" in caplog.text


def test_deepfashions_layout_gives_the_categories_with_enough_photos(
    larger_set: Path, data_set: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = larger_set
    whole = read_category(folder)
    rows = whole.splits != "test"
    counts = np.bincount(whole.categories[rows & (whole.categories >= 0)], minlength=len(whole.category_names))
    data = read_own(folder)
    assert len(data.category_names) > 2
    assert data.category_names == tuple(n for n, c in zip(whole.category_names, counts, strict=True) if c >= LEAST)
    assert "test" not in data.splits
    assert np.array_equal(np.bincount(data.categories), counts[counts >= LEAST])
    assert data.attribute_names == whole.attribute_names
    names = {image: whole.category_names[c] for image, c in zip(whole.images, whole.categories, strict=True)}
    assert all(data.category_names[c] == names[image] for image, c in zip(data.images, data.categories, strict=True))
    assert "left out, with fewer than 5 photos: " in caplog.text
    with pytest.raises(DataError, match="no category has 5 photos"):
        read_own(data_set / "category_attribute")


def test_boxes_of_one_photo_are_one_group(network: FashionNet, tmp_path: Path) -> None:
    data = read_class_folders(paint(tmp_path, {"Hat": 6, "Tee": 6}))
    twice = data.select([*range(12), 0])
    boxes = twice.boxes.copy()
    boxes[12] = 0, 0, 20, 20
    photos = load_photos(network, replace(twice, boxes=boxes), iter)
    assert photos.groups[12] == photos.groups[0]
