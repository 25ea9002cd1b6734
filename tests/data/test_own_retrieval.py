"""Tests of the reader of a user's own retrieval data."""

from pathlib import Path

import numpy as np
import pytest

from fashion_infer.data.benchmarks import benchmarks_in
from fashion_infer.data.own_retrieval import read_retrieval
from fashion_infer.errors import DataError


def write(root: Path, *lines: str, head: str = "image,item,split") -> Path:
    (root / "retrieval.csv").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return root


def test_items_and_splits(tmp_path: Path) -> None:
    rows = ("shop/red dress.jpg,sku-17,gallery", "streets/0001.jpg,sku-17,query", "a.jpg,Mütze,train")
    data = read_retrieval(write(tmp_path, *rows))
    assert data.images == ("shop/red dress.jpg", "streets/0001.jpg", "a.jpg")
    assert data.image_root == tmp_path
    assert data.items.tolist() == [0, 0, 1]
    assert data.splits.tolist() == ["gallery", "query", "train"]
    assert np.isnan(data.boxes).all()
    assert (data.visibility == -2).all()
    assert data.categories.tolist() == [-1] * 3
    assert data.missing == ("retrieval.csv has no boxes: the photos are used whole",)
    assert benchmarks_in(tmp_path) == ["retrieval"]


def test_categories_and_boxes_in_any_order_with_a_byte_order_mark(tmp_path: Path) -> None:
    head = "\ufeffsplit,x1,y1,x2,y2,note,category,item,image"
    rows = ('query,1,2,30.5,40,"a, b",Dress,7,a.jpg', "gallery,,,,,, ,7,b.jpg", "gallery,0,0,5,5,,Tee,8, c.jpg ")
    data = read_retrieval(write(tmp_path, *rows, head=head))
    assert data.images == ("a.jpg", "b.jpg", "c.jpg")
    assert data.boxes[[0, 2]].tolist() == [[1, 2, 30.5, 40], [0, 0, 5, 5]]
    assert data.box(1) is None
    assert data.category_names == ("Dress", "Tee")
    assert data.categories.tolist() == [0, -1, 1]
    assert data.kinds().tolist() == ["Dress", "", "Tee"]
    assert data.missing == ()


@pytest.mark.parametrize(
    ("head", "rows", "message"),
    [
        ("image,item", ["a.jpg,1"], r"retrieval\.csv:1: no column 'split': the first line names image, item, split"),
        ("image,item,split", ["a.jpg,1,test"], r":2: a split is train, query or gallery, found 'test'"),
        ("image,item,split", ["a.jpg,1,query", "b.jpg,,query"], r":3: an image and its item expected"),
        ("image,item,split", ["a.jpg,1"], r":2: another number of cells than the first line"),
        ("image,item,split", ["a.jpg,1,query,more"], r":2: another number of cells than the first line"),
        ("image,item,split", ['"a.jpg,1,query'], r":2: unexpected end of data"),
        ("image,item,split,x1,y1,x2,y2", ["a.jpg,1,query,1,2,3,"], r":2: four numbers x1 y1 x2 y2 expected"),
        ("image,item,split,x1,y1,x2,y2", ["a.jpg,1,query,1,2,3,nan"], r":2: four numbers x1 y1 x2 y2 expected"),
    ],
)
def test_malformed_rows_name_file_and_line(tmp_path: Path, head: str, rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_retrieval(write(tmp_path, *rows, head=head))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_retrieval(tmp_path)
    (tmp_path / "retrieval.csv").write_bytes(b"image,item,split\n\xff.jpg,1,query\n")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_retrieval(tmp_path)
    with pytest.raises(DataError, match="there are no high-resolution photos"):
        read_retrieval(tmp_path, highres=True)
