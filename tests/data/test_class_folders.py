"""Tests of the reader of class folders, with the mistakes that people make in them."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fashion_infer.data.class_folders import MAX_CLASSES, class_name, read_class_folders, read_photos
from fashion_infer.errors import DataError


@pytest.fixture
def add(tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes a small picture to a path in the folder `own`."""

    def write(name: str) -> Path:
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((8, 8, 3), 90, np.uint8))
        return path

    return write


def test_a_category_a_folder(add: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("Shoes/b.jpg", "Shoes/a.png", "Hat/c.jpg"):
        add(name)
    data = read_class_folders(tmp_path / "own")
    assert data.category_names == ("Hat", "Shoes")
    assert data.images == ("Hat/c.jpg", "Shoes/a.png", "Shoes/b.jpg")
    assert data.categories.tolist() == [0, 1, 1]
    assert data.image_root == tmp_path / "own"
    assert set(data.splits) == {"train"}
    assert all(data.box(row) is None for row in range(3))


@pytest.mark.parametrize("name", ["evening dress", "платье", "ワンピース", "robe d'été", "a#1 & b"])
def test_names_with_spaces_and_other_scripts(add: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    add(f"{name}/a.jpg")
    add("other/a.jpg")
    assert name in read_class_folders(tmp_path / "own").category_names


def test_a_name_is_one_whatever_system_wrote_it(add: Callable[[str], Path], tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "robe d'été")
    assert apart != "robe d'été"
    assert class_name(f" {apart} ") == "robe d'été"
    add(f"{apart}/a.jpg")
    assert read_class_folders(tmp_path / "own").category_names == ("robe d'été",)
    add("Robe d'été/a.jpg")
    with pytest.raises(DataError, match="have the same name"):
        read_class_folders(tmp_path / "own")


def test_folders_that_programs_leave_are_passed_over(add: Callable[[str], Path], tmp_path: Path) -> None:
    for name in (".ipynb_checkpoints/a.jpg", "__MACOSX/a.jpg", "@eaDir/a.jpg", "Hat/a.jpg", "Tee/a.jpg"):
        add(name)
    add("Hat/.ipynb_checkpoints/a-checkpoint.jpg")
    (tmp_path / "own" / ".DS_Store").write_bytes(b"x")
    data = read_class_folders(tmp_path / "own")
    assert data.category_names == ("Hat", "Tee")
    assert data.images == ("Hat/a.jpg", "Tee/a.jpg")


def test_nested_folders_count_to_the_class_and_are_named(
    add: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("Hat/a.jpg", "Hat/red/b.jpg", "Tee/a.jpg"):
        add(name)
    data = read_class_folders(tmp_path / "own")
    assert data.category_names == ("Hat", "Tee")
    assert data.categories.tolist() == [0, 0, 1]
    assert "photos in its folders (red) count as Hat" in caplog.text


def test_a_folder_too_high(add: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("train/Hat/a.jpg", "train/Tee/a.jpg", "test/Hat/a.jpg"):
        add(name)
    with pytest.raises(DataError, match=r"but folders of photos \(Hat\).*--data .*own/test"):
        read_class_folders(tmp_path / "own")
    assert read_class_folders(tmp_path / "own" / "train").category_names == ("Hat", "Tee")


def test_photos_beside_the_folders_are_named(
    add: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("Hat/a.jpg", "Tee/a.jpg", "lost.jpg"):
        add(name)
    assert len(read_class_folders(tmp_path / "own")) == 2
    assert "1 files beside the class folders are left out, as lost.jpg" in caplog.text


def test_a_class_without_a_photo(add: Callable[[str], Path], tmp_path: Path) -> None:
    add("Hat/a.jpg")
    (tmp_path / "own" / "Tee").mkdir()
    (tmp_path / "own" / "Tee" / "notes.txt").write_text("no photo")
    with pytest.raises(DataError, match="no photo in the class folders Tee"):
        read_class_folders(tmp_path / "own")


def test_no_folder_and_no_class_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_class_folders(tmp_path / "none")
    with pytest.raises(DataError, match="put the photos of each class into a folder of its name"):
        read_class_folders(tmp_path)


def test_ten_thousand_folders_are_products(tmp_path: Path) -> None:
    for number in range(MAX_CLASSES + 1):
        os.mkdir(tmp_path / f"{number}")  # noqa: PTH102 a thousand Paths take longer
    with pytest.raises(DataError, match=rf"{MAX_CLASSES + 1} folders.*fashion-infer index"):
        read_class_folders(tmp_path)


def test_photos_without_classes(add: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("a.jpg", "deep/b.jpg", ".hidden/c.jpg"):
        add(name)
    data = read_photos(tmp_path / "own")
    assert data.images == ("a.jpg", "deep/b.jpg")
    assert data.categories.tolist() == [-1, -1]
    with pytest.raises(DataError, match="is no folder with photos"):
        read_photos(tmp_path / "own" / "a.jpg")
