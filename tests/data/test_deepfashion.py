"""Tests of the readers, on files that the tests write in the layouts of the official downloads."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_infer.data import annotations, cache
from fashion_infer.data.benchmarks import benchmarks_in
from fashion_infer.data.deepfashion import (
    CATEGORY_NAMES,
    FashionData,
    read_category,
    read_consumer_to_shop,
    read_inshop,
    read_landmarks,
)
from fashion_infer.errors import DataError

A, B, C = "img/Sheer_Blouse/img_00000001.jpg", "img/Cuffed_Jeans/img_00000002.jpg", "img/Maxi_Dress/img_00000003.jpg"
UPPER = "0 146 102  0 173 095  1 094 242  0 205 255  2 000 000  0 182 229"
LOWER = "0 087 004  0 180 005  1 080 250  2 000 000"
FULL = "0 010 020  0 030 020  0 001 090  0 050 090  1 012 060  1 033 061  0 005 199  2 000 000"
UPPER_SLOTS = [[146, 102], [173, 95], [94, 242], [205, 255], [0, 0], [0, 0], [0, 0], [182, 229]]
LOWER_SLOTS = [[0, 0]] * 4 + [[87, 4], [180, 5], [80, 250], [0, 0]]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_list(path: Path, header: str, *rows: str) -> Path:
    return write(path, "\n".join([str(len(rows)), header, *rows]) + "\n")


def write_category(root: Path, anno: str = "Anno", variation: str = "") -> Path:
    """A benchmark of three images in the order A B C; the attribute and box files have another order."""
    folder = root / anno
    write_list(
        folder / "list_category_cloth.txt", "category_name  category_type", *(f"{n}   1" for n in CATEGORY_NAMES)
    )
    write_list(folder / "list_category_img.txt", "image_name  category_label", f"{A}   3", f"{B}  26", f"{C}    41")
    write_list(folder / "list_attr_cloth.txt", "attribute_name  attribute_type", "a-line     3", "art deco print  1")
    write_list(folder / "list_attr_img.txt", "image_name  attribute_labels", f"{B}  -1  1", f"{A}   1  0", f"{C}  0 -1")
    write_list(
        folder / "list_bbox.txt",
        "image_name  x_1 y_1 x_2 y_2",
        f"{C} 001 002 201 302",
        f"{A}  072  079  232  273",
        f"{B}  067 059 155 161",
    )
    rows = (f"{A}  1  {variation}  {UPPER}", f"{B} 2 {variation} {LOWER}", f"{C} 3 {variation} {FULL}")
    write_list(folder / "list_landmarks.txt", "image_name  clothes_type  ...", *rows)
    write_list(
        root / "Eval/list_eval_partition.txt",
        "image_name  evaluation_status",
        f"{A}   train",
        f"{B}   val",
        f"{C}   test",
    )
    return root


@pytest.mark.parametrize("anno", ["Anno", "Anno_coarse"])
@pytest.mark.parametrize("variation", ["", "1"])
def test_category_benchmark_value_by_value(tmp_path: Path, anno: str, variation: str) -> None:
    data = read_category(write_category(tmp_path, anno, variation))
    assert data.images == (A, B, C)
    assert data.splits.tolist() == ["train", "val", "test"]
    assert data.image_root == tmp_path / "Img"
    assert data.boxes.tolist() == [[72, 79, 232, 273], [67, 59, 155, 161], [1, 2, 201, 302]]
    assert data.categories.tolist() == [2, 25, 40]
    assert [data.category_names[i] for i in data.categories] == ["Blouse", "Jeans", "Dress"]
    assert data.attributes.tolist() == [[1, 0], [-1, 1], [0, -1]]
    assert data.attribute_names == ("a-line", "art deco print")
    assert data.attribute_groups == ("shape", "texture")
    assert data.clothes_types.tolist() == [1, 2, 3]
    assert data.visibility.tolist() == [
        [0, 0, 1, 0, -1, -1, 2, 0],
        [-1, -1, -1, -1, 0, 0, 1, 2],
        [0, 0, 0, 0, 1, 1, 0, 2],
    ]
    assert data.landmarks[0].tolist() == UPPER_SLOTS
    assert data.landmarks[1].tolist() == LOWER_SLOTS
    assert data.items.tolist() == [-1, -1, -1]
    assert data.domains.tolist() == [0, 0, 0]
    types = [
        getattr(data, name).dtype for name in ("boxes", "categories", "attributes", "landmarks", "visibility", "items")
    ]
    assert types == [np.float32, np.int16, np.int8, np.float32, np.int8, np.int32]


def test_images_beside_the_annotations_are_found(tmp_path: Path) -> None:
    write_category(tmp_path)
    (tmp_path / "img").mkdir()
    assert read_category(tmp_path).image_root == tmp_path
    (tmp_path / "Img" / "img").mkdir(parents=True)
    assert read_category(tmp_path).image_root == tmp_path / "Img"


def test_split_and_select(tmp_path: Path) -> None:
    data = read_category(write_category(tmp_path))
    assert data.split("test", "train").images == (A, C)
    assert data.select([2, 0, 2]).categories.tolist() == [40, 2, 40]
    assert len(data.select([])) == 0
    with pytest.raises(DataError, match="no images in split 'gallery'; there are test, train, val"):
        data.split("gallery")


def write_fine(root: Path) -> Path:
    """Anno_fine with a file for each split: two images in train, one in val and one in test."""
    folder = root / "Anno_fine"
    write_list(
        folder / "list_category_cloth.txt", "category_name  category_type", *(f"{n}   1" for n in CATEGORY_NAMES)
    )
    write_list(
        folder / "list_attr_cloth.txt", "attribute_name  attribute_type", "floral  1", "long_sleeve  2", "tight  6"
    )
    names = [A, B, C, "img/x/img_00000004.jpg"]
    rows = (f"{A} 1 {UPPER}", f"{B} 2 {LOWER}", f"{C} 3 {FULL}", f"{names[3]} 2 {LOWER}", f"img/other.jpg 2 {LOWER}")
    write_list(folder / "list_landmarks.txt", "image_name  clothes_type ...", *rows)
    upper = "146 102 173 095 094 242 205 255 000 000 000 000 000 000 182 229"
    lower = "000 000 000 000 000 000 000 000 087 004 180 005 080 250 000 000"
    full = "010 020 030 020 001 090 000 000 012 060 033 061 005 199 000 000"
    for split, images, points in (
        ("train", names[:2], (upper, lower)),
        ("val", [C], (full,)),
        ("test", names[3:], (lower,)),
    ):
        write(folder / f"{split}.txt", "".join(f"{name}\n" for name in images))
        write(folder / f"{split}_cate.txt", "".join(f"{3 if name == A else 26}\n" for name in images))
        write(folder / f"{split}_bbox.txt", "".join("001 002 030 040\n" for _ in images))
        write(folder / f"{split}_landmarks.txt", "".join(f"{row}\n" for row in points))
        write(folder / f"{split}_attr.txt", "".join(f"{'1' if name == A else '0'} 0 1\n" for name in images))
    return root


def test_fine_layout(tmp_path: Path) -> None:
    data = read_category(write_fine(tmp_path))
    assert data.splits.tolist() == ["train", "train", "val", "test"]
    assert data.images[2] == C
    assert data.categories.tolist() == [2, 25, 25, 25]
    assert data.attributes.tolist() == [[1, -1, 1], [-1, -1, 1], [-1, -1, 1], [-1, -1, 1]], "0 means no in Anno_fine"
    assert data.attribute_groups == ("texture", "sleeve", "fit")
    assert data.clothes_types.tolist() == [1, 2, 3, 2]
    assert data.visibility[0].tolist() == [0, 0, 1, 0, -1, -1, 2, 0]
    assert data.landmarks[0].tolist() == UPPER_SLOTS
    assert data.visibility[2].tolist() == [0, 0, 0, 2, 1, 1, 0, 2], "a point at 0 0 is cut off whatever the list says"
    assert data.landmarks[3].tolist() == LOWER_SLOTS


def test_layout_can_be_chosen_and_lists_alone_do(tmp_path: Path) -> None:
    write_category(tmp_path, "Anno_fine")
    assert read_category(tmp_path).attributes.tolist() == [[1, -1], [-1, 1], [-1, -1]]
    write_category(tmp_path, "Anno_coarse")
    assert read_category(tmp_path).attributes.tolist() == [[1, 0], [-1, 1], [0, -1]], "coarse is preferred"
    assert read_category(tmp_path, layout="fine").attributes.tolist() == [[1, -1], [-1, 1], [-1, -1]]


def test_fine_files_of_unequal_length(tmp_path: Path) -> None:
    write_fine(tmp_path)
    write(tmp_path / "Anno_fine/train_bbox.txt", "001 002 003 004\n")
    with pytest.raises(DataError, match=r"train_bbox\.txt: 1 rows, but train\.txt names 2 images"):
        read_category(tmp_path)


def write_inshop(root: Path, folder: str = "Anno") -> Path:
    a, b = "img/WOMEN/Dresses/id_00000002/02_1_front.jpg", "img/MEN/Denim/id_00000080/01_3_back.jpg"
    anno = root / "Anno"
    write_list(
        anno / "list_bbox_inshop.txt",
        "image_name clothes_type pose_type x_1 y_1 x_2 y_2",
        f"{a} 3 1 050 049 208 235",
        f"{b} 2 3 119 054 160 250",
    )
    write_list(
        anno / "list_landmarks_inshop.txt",
        "image_name clothes_type variation_type ...",
        f"{b} 2 4 {LOWER}",
        f"{a} 3 1 {FULL}",
    )
    write_list(
        root / "Eval/list_eval_partition.txt",
        "image_name item_id evaluation_status",
        f"{a} id_00000002 query",
        f"{b}  id_00000080  gallery",
    )
    write(anno / "list_item_inshop.txt", "2\nid_00000002\nid_00000080\n")
    write_list(root / folder / "list_attr_cloth.txt", "attribute_names", "3/4 sleeve", "501")
    write_list(
        root / folder / "list_attr_items.txt", "item_id attribute_labels", "id_00000080 -1 1", "id_00000002 1 -1"
    )
    return root


@pytest.mark.parametrize("folder", ["Anno", "Anno/attributes"])
def test_in_shop(tmp_path: Path, folder: str) -> None:
    data = read_inshop(write_inshop(tmp_path, folder))
    assert data.items.tolist() == [2, 80]
    assert data.splits.tolist() == ["query", "gallery"]
    assert data.boxes.tolist() == [[50, 49, 208, 235], [119, 54, 160, 250]]
    assert data.clothes_types.tolist() == [3, 2]
    assert data.landmarks[1].tolist() == LOWER_SLOTS
    assert data.attributes.tolist() == [[1, -1], [-1, 1]], "those of the image's item"
    assert data.attribute_names == ("3/4 sleeve", "501")
    assert data.attribute_groups == ("", "")
    assert data.domains.tolist() == [1, 1]
    assert data.categories.tolist() == [-1, -1]


def test_in_shop_without_attributes_and_items(tmp_path: Path) -> None:
    write_inshop(tmp_path)
    for name in ("list_attr_cloth.txt", "list_attr_items.txt", "list_item_inshop.txt"):
        (tmp_path / "Anno" / name).unlink()
    assert read_inshop(tmp_path).attributes.shape == (2, 0)


PARTITION, SHOP_BOXES = "Eval/list_eval_partition.txt", "Anno/list_bbox_consumer2shop.txt"
CONSUMERS = ["img/TOPS/Tee/id_00000218/comsumer_01.jpg", "img/TOPS/Tee/id_00000218/comsumer_02.jpg"]
SHOP = "img/TOPS/Tee/id_00000218/shop_01.jpg"


def write_consumer_to_shop(root: Path, items: str = "list_item_consumer2shop.txt") -> Path:
    anno = root / "Anno"
    boxes = (
        f"{CONSUMERS[0]} 1 2 029 059 169 274",
        f"{SHOP} 1 1 001 002 003 004",
        f"{CONSUMERS[1]} 1 2 011 012 013 014",
        "img/lone.jpg 2 1 1 1 2 2",
    )
    write_list(anno / "list_bbox_consumer2shop.txt", "image_name clothes_type source_type x_1 y_1 x_2 y_2", *boxes)
    rows = [f"{name} 1 1 {UPPER}" for name in (*CONSUMERS, SHOP)] + [f"img/lone.jpg 2 1 {LOWER}"]
    write_list(anno / "list_landmarks_consumer2shop.txt", "image_name clothes_type variation_type ...", *rows)
    pairs = [f"{consumer}  {SHOP}  id_00000218  val" for consumer in CONSUMERS]
    write_list(
        root / "Eval/list_eval_partition.txt", "image_pair_name_1 image_pair_name_2 item_id evaluation_status", *pairs
    )
    write(anno / items, "1\nid_00000218\n")
    write_list(anno / "list_attr_type.txt", "type (Chinese) type (English)", "图案 texture", "版型 (女) fit type")
    write_list(anno / "list_attr_cloth.txt", "name name attribute_type", "圆领 round neck 2", "条纹 (横) striped 1")
    write_list(anno / "list_attr_items.txt", "item_id attribute_labels", "id_00000218 1 -1")
    return root


@pytest.mark.parametrize("items", ["list_item_consumer2shop.txt", "list_items_consumer2shop.txt"])
def test_consumer_to_shop(tmp_path: Path, items: str) -> None:
    data = read_consumer_to_shop(write_consumer_to_shop(tmp_path, items))
    assert data.images == (CONSUMERS[0], SHOP, CONSUMERS[1], "img/lone.jpg")
    assert data.domains.tolist() == [2, 1, 2, 1]
    assert data.items.tolist() == [218, 218, 218, -1]
    assert data.splits.tolist() == ["val", "val", "val", ""], "an image of no pair stays, in no split"
    assert data.attribute_names == ("round neck", "striped")
    assert data.attribute_groups == ("fit type", "texture")
    assert data.attributes.tolist() == [[1, -1]] * 3 + [[0, 0]]
    assert data.boxes[1].tolist() == [1, 2, 3, 4]
    gallery = data.split("val").select(np.flatnonzero(data.split("val").domains == 1))
    assert gallery.images == (SHOP,), "each shop image once, not once a pair"


@pytest.mark.parametrize("rows", [("图案 texture", "版型 fit"), ("版型 fit 2", "图案 texture 1")])
def test_attribute_types_by_place_or_by_number(tmp_path: Path, rows: tuple[str, str]) -> None:
    path = write_list(tmp_path / "list_attr_type.txt", "...", *rows)
    assert annotations.read_type_names(path) == {1: "texture", 2: "fit"}


def test_a_shop_photo_in_no_pair_is_in_the_split_of_its_item(tmp_path: Path) -> None:
    write_consumer_to_shop(tmp_path)
    folder = "img/TOPS/Tee/id_00000218"
    extra = [f"{folder}/shop_02.jpg", f"{folder}/comsumer_03.jpg", "img/TOPS/Tee/id_00000999/shop_01.jpg"]
    boxes = tmp_path / "Anno/list_bbox_consumer2shop.txt"
    landmarks = tmp_path / "Anno/list_landmarks_consumer2shop.txt"
    for path, rows in (
        (boxes, [f"{name} 1 {2 if 'comsumer' in name else 1} 1 1 2 2" for name in extra]),
        (landmarks, [f"{name} 1 1 {UPPER}" for name in extra]),
    ):
        _, header, *old = path.read_text().splitlines()
        write_list(path, header, *old, *rows)
    data = read_consumer_to_shop(tmp_path)
    members = {name: (item, split) for name, item, split in zip(data.images, data.items, data.splits, strict=True)}
    assert members[extra[0]] == (218, "val")
    assert members[extra[1]] == (-1, ""), "a consumer's photo in no pair is no query"
    assert members[extra[2]] == (-1, ""), "no pair has the item, so its split is unknown"


def test_consumer_to_shop_image_of_two_items(tmp_path: Path) -> None:
    write_consumer_to_shop(tmp_path)
    pairs = (f"{CONSUMERS[0]} {SHOP} id_00000218 val", f"{CONSUMERS[1]} {SHOP} id_00000219 val")
    write_list(tmp_path / "Eval/list_eval_partition.txt", "header", *pairs)
    with pytest.raises(DataError, match=r"shop_01\.jpg is in two items or two splits"):
        read_consumer_to_shop(tmp_path)


@pytest.mark.parametrize("name", ["list_item_consumer2shop.txt", "list_items_consumer2shop.txt"])
def test_item_that_is_not_listed(tmp_path: Path, name: str) -> None:
    write_consumer_to_shop(tmp_path, name)
    write(tmp_path / "Anno" / name, "1\nid_00000001\n")
    with pytest.raises(DataError, match=rf"{name}: no row for item id_00000218"):
        read_consumer_to_shop(tmp_path)


def test_landmark_benchmark(tmp_path: Path) -> None:
    write_list(tmp_path / "Anno/list_bbox.txt", "image_name x_1 y_1 x_2 y_2", "img/00000001.jpg 041 123 365 512")
    write_list(tmp_path / "Anno/list_landmarks.txt", "...", f"img/00000001.jpg 1 5 {UPPER}")
    write_list(tmp_path / "Eval/list_eval_partition.txt", "...", "img/00000001.jpg  test")
    data = read_landmarks(tmp_path)
    assert data.landmarks[0].tolist() == UPPER_SLOTS
    assert data.attributes.shape == (1, 0)
    assert data.split("test").images == ("img/00000001.jpg",)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("list_bbox.txt", "072  079", "072", r"list_bbox\.txt:4: 4 values expected, found 3"),
        ("list_bbox.txt", "079", "7q9", r"list_bbox\.txt:4: '7q9' is not a whole number"),
        ("list_bbox.txt", "079", "99999999999", r"list_bbox\.txt:4: .*maximum"),
        ("list_category_img.txt", "26", "51", r"list_category_img\.txt:4: value 1 is 51, not from 1 to 50"),
        ("list_category_img.txt", "   3", "   0", r"list_category_img\.txt:3: value 1 is 0, not from 1 to 50"),
        ("list_attr_img.txt", "-1  1", "-1  2", r"list_attr_img\.txt:3: attribute 2 is 2, not -1, 0 or 1"),
        ("list_attr_img.txt", "-1  1", "-1", r"list_attr_img\.txt:3: 2 attributes expected, found 1"),
        ("list_attr_img.txt", "-1  1", "-11", r"list_attr_img\.txt:3: 2 attributes expected, found 1"),
        ("list_attr_img.txt", "-1  1", "", r"list_attr_img\.txt:3: 2 attributes expected, found 0"),
        (
            "list_landmarks.txt",
            "1 094 242",
            "3 094 242",
            r"list_landmarks\.txt:3: visibility 3 of left_sleeve, not 0, 1 or 2",
        ),
        ("list_landmarks.txt", "jpg 2 ", "jpg 4 ", r"list_landmarks\.txt:4: clothes type 4, not 1, 2 or 3"),
        (
            "list_landmarks.txt",
            "jpg 2 ",
            "jpg 3 ",
            r"list_landmarks\.txt:4: 8 landmarks expected of clothes type 3, found 12 numbers",
        ),
        (
            "list_landmarks.txt",
            LOWER,
            "",
            r"list_landmarks\.txt:4: 4 landmarks expected of clothes type 2, found 0 numbers",
        ),
        (
            "list_attr_cloth.txt",
            "a-line     3",
            "a-line",
            r"list_attr_cloth\.txt:3: a name and the number of its type expected",
        ),
        ("list_bbox.txt", "3\n", "4\n", r"list_bbox\.txt:1: says 4 rows, the file has 3"),
        ("list_bbox.txt", "3\n", "three\n", r"list_bbox\.txt:1: the number of rows expected, found 'three'"),
        ("list_bbox.txt", A, B, r"list_bbox\.txt:5: .* has a row already"),
        ("list_bbox.txt", A, "img/unknown.jpg", r"list_bbox\.txt: no row for img/Sheer_Blouse/img_00000001\.jpg"),
        ("list_bbox.txt", "302\n", "302\n\n", r"list_bbox\.txt:4: an empty line among the rows"),
        ("../Eval/list_eval_partition.txt", "val", "dev", r"list_eval_partition\.txt:4: a split expected, found 'dev'"),
    ],
)
def test_malformed_rows_name_file_and_line(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    write_category(tmp_path)
    replace(tmp_path / "Anno" / file, old, new)
    with pytest.raises(DataError, match=message):
        read_category(tmp_path)


@pytest.mark.parametrize(
    ("reader", "file", "old", "new", "message"),
    [
        (
            read_inshop,
            PARTITION,
            "id_00000080",
            "80",
            r"partition\.txt:4: an item such as id_00000017 expected, found '80'",
        ),
        (read_inshop, PARTITION, "gallery", "", r"partition\.txt:4: an item and a split expected"),
        (read_inshop, "Anno/list_bbox_inshop.txt", " 3 1 ", " 0 1 ", r"inshop\.txt:3: value 1 is 0, not from 1 to 3"),
        (read_inshop, "Anno/list_attr_items.txt", "_00000080", "_00000081", r"items\.txt: no row for item id_00000080"),
        (
            read_consumer_to_shop,
            PARTITION,
            " val",
            "",
            r"partition\.txt:3: two images, an item and a split expected, found 3",
        ),
        (read_consumer_to_shop, PARTITION, SHOP, "img/no.jpg", r"partition\.txt: img/no\.jpg has no box"),
        (read_consumer_to_shop, SHOP_BOXES, " 1 2 029", " 1 3 029", r"shop\.txt:3: value 2 is 3, not from 1 to 2"),
    ],
)
def test_malformed_retrieval_rows(
    tmp_path: Path, reader: Callable[[Path], FashionData], file: str, old: str, new: str, message: str
) -> None:
    (write_inshop if reader is read_inshop else write_consumer_to_shop)(tmp_path)
    replace(tmp_path / file, old, new)
    with pytest.raises(DataError, match=message):
        reader(tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no list_category_img\.txt in Anno or Anno_coarse or Anno_fine"):
        read_category(tmp_path)
    write_category(tmp_path)
    (tmp_path / "Eval/list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match=r"list_eval_partition\.txt: No such file"):
        read_category(tmp_path)


def remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def assert_unlabelled(data: FashionData) -> None:
    """Without these files the photos are used whole, and there are no landmarks and attributes."""
    assert np.isnan(data.boxes).all()
    assert data.box(0) is None
    assert (data.visibility == -2).all()
    assert data.clothes_types.tolist() == [0] * len(data)
    assert data.attributes.shape == (len(data), 0)


def test_categories_need_neither_boxes_nor_landmarks_nor_attributes(tmp_path: Path) -> None:
    write_category(tmp_path)
    remove(tmp_path / "Anno", "list_bbox.txt", "list_landmarks.txt", "list_attr_cloth.txt", "list_attr_img.txt")
    data = read_category(tmp_path)
    assert_unlabelled(data)
    assert data.categories.tolist() == [2, 25, 40]
    assert data.missing == (
        "Anno/list_attr_cloth.txt is not there: attributes are neither trained nor judged",
        "Anno/list_attr_img.txt is not there: attributes are neither trained nor judged",
        "Anno/list_bbox.txt is not there: the photos are used whole",
        "Anno/list_landmarks.txt is not there: landmarks are neither trained nor judged",
    )


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_fine_set_needs_its_categories_only(tmp_path: Path, split: str) -> None:
    folder = write_fine(tmp_path) / "Anno_fine"
    remove(folder, "list_landmarks.txt", "list_attr_cloth.txt", f"{split}_bbox.txt")
    data = read_category(tmp_path)
    assert_unlabelled(data)
    assert data.categories.tolist() == [2, 25, 25, 25]
    assert [lack.split(" is ")[0] for lack in data.missing] == [
        "Anno_fine/list_attr_cloth.txt",
        f"Anno_fine/{split}_bbox.txt",
        "Anno_fine/list_landmarks.txt",
    ]
    remove(folder, *(path.name for path in folder.glob(f"{split}*.txt")))
    rest = read_category(tmp_path)
    assert split not in rest.splits
    assert rest.boxes[0].tolist() == [1, 2, 30, 40], "the splits that are there have boxes"


def test_the_fine_sets_list_does_without_its_ready_landmarks(tmp_path: Path) -> None:
    folder = write_fine(tmp_path) / "Anno_fine"
    remove(folder, "train_landmarks.txt")
    data = read_category(tmp_path)
    assert data.missing == ()
    assert data.landmarks[0].tolist() == UPPER_SLOTS
    assert data.visibility[2].tolist() == [0, 0, 0, 0, 1, 1, 0, 2]


def test_in_shop_needs_its_partition_only(tmp_path: Path) -> None:
    write_inshop(tmp_path)
    shutil.rmtree(tmp_path / "Anno")
    data = read_inshop(tmp_path)
    assert_unlabelled(data)
    assert data.items.tolist() == [2, 80]
    assert data.splits.tolist() == ["query", "gallery"]
    assert data.kinds().tolist() == ["WOMEN/Dresses", "MEN/Denim"]
    assert len(data.missing) == 4
    assert benchmarks_in(tmp_path) == ["in_shop"]


def test_consumer_to_shop_needs_its_partition_only(tmp_path: Path) -> None:
    write_consumer_to_shop(tmp_path)
    shutil.rmtree(tmp_path / "Anno")
    data = read_consumer_to_shop(tmp_path)
    assert_unlabelled(data)
    assert data.images == (CONSUMERS[0], SHOP, CONSUMERS[1])
    assert data.domains.tolist() == [2, 1, 2]
    assert data.items.tolist() == [218] * 3
    assert benchmarks_in(tmp_path) == ["consumer_to_shop"]


def test_a_partition_of_other_columns_is_no_retrieval_benchmark(tmp_path: Path) -> None:
    write_list(tmp_path / PARTITION, "image_name evaluation_status", f"{A} train")
    assert benchmarks_in(tmp_path) == []


def test_the_landmark_benchmark_needs_no_boxes_but_landmarks(tmp_path: Path) -> None:
    write_list(tmp_path / "Anno/list_landmarks.txt", "...", f"img/00000001.jpg 1 5 {UPPER}")
    write_list(tmp_path / "Eval/list_eval_partition.txt", "...", "img/00000001.jpg  test")
    data = read_landmarks(tmp_path)
    assert data.box(0) is None
    assert data.landmarks[0].tolist() == UPPER_SLOTS
    assert data.missing == ("Anno/list_bbox.txt is not there: the photos are used whole",)
    with pytest.raises(DataError, match="has no high-resolution photos"):
        read_landmarks(tmp_path, highres=True)


def test_an_optional_file_that_is_malformed_is_an_error_all_the_same(tmp_path: Path) -> None:
    write_inshop(tmp_path)
    replace(tmp_path / "Anno/list_landmarks_inshop.txt", " 3 1 ", " 7 1 ")
    with pytest.raises(DataError, match="clothes type 7"):
        read_inshop(tmp_path)


def test_rows_that_no_split_names_are_not_dropped(tmp_path: Path) -> None:
    write_category(tmp_path)
    write_list(tmp_path / "Eval/list_eval_partition.txt", "...", f"{A} train", f"{B} val")
    with pytest.raises(DataError, match=r"list_attr_img\.txt: a row for .*img_00000003\.jpg, which no split names"):
        read_category(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    write_category(tmp_path)
    expected = read_category(tmp_path)
    for path in tmp_path.rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert same(read_category(tmp_path), expected)


def test_colours_of_images(tmp_path: Path) -> None:
    write_inshop(tmp_path, "Anno/attributes")
    b = "img/MEN/Denim/id_00000080/01_3_back.jpg"
    path = write_list(tmp_path / "Anno/attributes/list_color_cloth.txt", "image_name  color", f"{b}  Heather grey/blue")
    data = read_inshop(tmp_path)
    assert data.colors == ("", "Heather grey/blue")
    assert data.select([1]).colors == ("Heather grey/blue",)
    write_list(path, "image_name  color", b)
    with pytest.raises(DataError, match=r"list_color_cloth\.txt:3: an image and its colour expected"):
        read_inshop(tmp_path)


def test_append_matches_names_and_keeps_items_apart(tmp_path: Path) -> None:
    """Shirtdress in one set must not become Blazer in the other because both have the number 1."""
    first = read_category(write_category(tmp_path / "first"))
    second = read_category(write_category(tmp_path / "second"))
    names = ("Blouse", "Spacesuit", "Jeans")
    other = dataclasses.replace(
        second,
        category_names=names,
        categories=np.array([1, 2, -1], np.int16),
        attribute_names=("art deco print", "shiny"),
        items=np.array([0, 4, -1], np.int32),
        colors=("red", "", "blue"),
    )
    own = dataclasses.replace(first, items=np.array([0, -1, 4], np.int32))
    joined = own.append(other)
    assert joined.categories.tolist() == [2, 25, 40, -1, 25, -1]
    assert joined.attributes[3:].tolist() == [[0, other.attributes[row, 0]] for row in range(3)]
    assert joined.items.tolist() == [0, -1, 4, 5, 9, -1]
    assert joined.items.dtype == np.int32
    assert joined.categories.dtype == np.int16
    assert joined.colors == ("", "", "", "red", "", "blue")
    assert joined.images[3] == str(tmp_path / "second/Img" / A)


def test_windows_line_ends_tabs_and_a_header_only_file(tmp_path: Path) -> None:
    write_category(tmp_path)
    for path in tmp_path.rglob("*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").replace(b".jpg ", b".jpg\t"))
    assert read_category(tmp_path).attributes.tolist() == [[1, 0], [-1, 1], [0, -1]]
    with pytest.raises(DataError, match=r"x\.txt:2: the file ends within its 2 header lines"):
        annotations.read_table(write(tmp_path / "x.txt", "0\n"), annotations.integers(1), 1)
    assert annotations.read_table(write(tmp_path / "x.txt", "0\nname\n"), annotations.integers(1), 1).values.shape == (
        0,
        1,
    )


@given(
    labels=st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=40),
    gaps=st.lists(st.sampled_from([" ", "  ", "\t"]), min_size=40, max_size=40),
    padded=st.booleans(),
)
def test_labels_survive_any_spacing(labels: list[int], gaps: list[str], padded: bool) -> None:
    text = "".join(gap + (f"{label:02d}" if padded else str(label)) for gap, label in zip(gaps, labels, strict=False))
    assert np.frombuffer(annotations.label_codes(text, len(labels)), np.int8).tolist() == labels


@given(text=st.text(alphabet=" -012x", max_size=12))
def test_labels_agree_with_a_plain_reading(text: str) -> None:
    """The fast parser accepts the same text as splitting and int(), with the same values."""
    try:
        expected = [int(cell) for cell in text.split()]
    except ValueError:
        expected = []
    if len(expected) == 3 and set(expected) <= {-1, 0, 1}:
        assert np.frombuffer(annotations.label_codes(text, 3), np.int8).tolist() == expected
    else:
        with pytest.raises(ValueError, match=r"attribute|whole number"):
            annotations.label_codes(text, 3)


@given(clothes_type=st.sampled_from([1, 2, 3]), variation=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_landmark_rows_fill_exactly_the_slots_of_their_type(clothes_type: int, variation: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    slots = {1: (0, 1, 2, 3, 6, 7), 2: (4, 5, 6, 7), 3: tuple(range(8))}[clothes_type]
    points = [
        (int(v), int(x), int(y))
        for v, x, y in zip(rng.integers(0, 3, 8), rng.integers(1, 300, 8), rng.integers(1, 300, 8), strict=True)
    ]
    cells = [
        str(clothes_type),
        *(["5"] if variation else []),
        *(f"{value:03d}" for slot in slots for value in points[slot]),
    ]
    row = annotations.parse_landmarks(cells)
    assert row[0] == clothes_type
    for slot, parsed in enumerate(np.reshape(row[1:], (8, 3)).tolist()):
        if slot not in slots:
            assert parsed == [-1, 0, 0]
        else:
            assert parsed == ([2, 0, 0] if points[slot][0] == 2 else list(points[slot]))


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A category benchmark of which a binary copy is kept although it is small."""
    monkeypatch.setattr(cache, "WORTH_KEEPING", 1)
    return write_category(tmp_path)


def same(a: FashionData, b: FashionData) -> bool:
    names = [name for name in a.__dataclass_fields__ if isinstance(getattr(a, name), np.ndarray)]
    texts = ("images", "image_root", "category_names", "attribute_names", "attribute_groups", "colors", "missing")
    equal = all(
        np.array_equal(getattr(a, n), getattr(b, n)) and getattr(a, n).dtype == getattr(b, n).dtype for n in names
    )
    return equal and all(getattr(a, name) == getattr(b, name) for name in texts)


def test_copy_is_used_and_equal(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_category(copied)
    assert [path.name for path in (copied / "Anno").glob("*cache*")] == ["category.cache.npz"]
    monkeypatch.setattr(annotations, "read_table", None)
    assert same(read_category(copied), first)


def test_copy_knows_what_is_missing_and_is_rebuilt_when_it_comes(copied: Path) -> None:
    boxes = (copied / "Anno/list_bbox.txt").read_text()
    (copied / "Anno/list_bbox.txt").unlink()
    first = read_category(copied)
    again = read_category(copied)
    assert (copied / "Anno/category.cache.npz").exists()
    assert again.missing == first.missing == ("Anno/list_bbox.txt is not there: the photos are used whole",)
    assert again.box(0) is None
    (copied / "Anno/list_bbox.txt").write_text(boxes)
    assert read_category(copied).missing == ()


def test_copy_is_rebuilt_when_a_source_changes(copied: Path) -> None:
    read_category(copied)
    path = copied / "Anno/list_category_img.txt"
    replace(path, "   3\n", "   4\n")  # the file keeps its size, so only its time differs
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert read_category(copied).categories.tolist() == [3, 25, 40]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"\x93NUMPY"])
def test_damaged_copy_is_rebuilt(copied: Path, damage: bytes) -> None:
    first = read_category(copied)
    (copied / "Anno/category.cache.npz").write_bytes(damage)
    assert same(read_category(copied), first)
    assert (copied / "Anno/category.cache.npz").stat().st_size > 100


@pytest.mark.parametrize(
    "problem", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")], ids=str
)
def test_nothing_is_kept_where_nothing_can_be_written(
    copied: Path, monkeypatch: pytest.MonkeyPatch, problem: OSError
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr(np, "savez", refuse)
    assert len(read_category(copied)) == 3
    assert not list(copied.rglob("*cache*"))


def test_small_sets_leave_no_files_behind(tmp_path: Path) -> None:
    before = set(write_category(tmp_path).rglob("*"))
    read_category(tmp_path)
    assert set(tmp_path.rglob("*")) == before


def test_appended_categories_are_matched_by_name(tmp_path: Path) -> None:
    def labelled(names: tuple[str, ...], categories: list[int]) -> FashionData:
        count = len(categories)
        return FashionData(
            image_root=tmp_path,
            images=tuple(f"{i}.jpg" for i in range(count)),
            splits=np.full(count, "train"),
            boxes=np.zeros((count, 4), np.float32),
            categories=np.array(categories, np.int16),
            attributes=np.zeros((count, 0), np.int8),
            landmarks=np.zeros((count, 8, 2), np.float32),
            visibility=np.zeros((count, 8), np.int8),
            clothes_types=np.ones(count, np.int8),
            items=np.zeros(count, np.int32),
            domains=np.zeros(count, np.int8),
            category_names=names,
            attribute_names=(),
            attribute_groups=(),
        )

    joined = labelled(("Blazer", "Shirtdress"), [0, 1, -1]).append(
        labelled(("Shirtdress", "Kilt", "Blazer"), [0, 1, 2, -1])
    )
    assert joined.category_names == ("Blazer", "Shirtdress")
    assert joined.categories.tolist() == [0, 1, -1, 1, -1, 0, -1]
