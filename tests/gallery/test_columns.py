import json
from collections.abc import Callable

import numpy as np
import pytest

from fashion_infer.gallery.columns import Column, Lists, Numbers, Words, mask_of
from fashion_infer.gallery.filters import typed_filter

PRICES = [5, 10.5, None, 7]
SIZES = ["S", None, "M", "S"]
TAGS = [["a", "b"], [], None, ["b"]]


def columns() -> Callable[[str], Column]:
    """A function that returns the columns above by name; their last row was added in a second step."""
    by_name: dict[str, tuple[Column, list[object]]] = {
        "price": (Numbers(np.float64), list(PRICES)),
        "size": (Words(), list(SIZES)),
        "tags": (Lists(), [None if tags is None else json.dumps(tags) for tags in TAGS]),
    }
    for column, values in by_name.values():
        column.extend(3, np.arange(3), values[:3])
        column.extend(4, np.array([3]), values[3:])
    return lambda name: by_name[name][0]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("price<=7", [0, 3]),
        ("price!=7", [0, 1]),
        ("price=null", [2]),
        ("price!=null", [0, 1, 3]),
        ("price in (5, 7, 99)", [0, 3]),
        ("size=S", [0, 3]),
        ("size!=S", [2]),
        ("size>=M", [0, 2, 3]),
        ("size=L", []),
        ("size!=L", [0, 2, 3]),
        ("tags=b", [0, 3]),
        ("tags!=a", [1, 3]),
        ("tags=null", [2]),
        ("tags in (a, c)", [0]),
        ("size=S and price<6", [0]),
        ("size=M or price>10", [1, 2]),
    ],
)
def test_which_rows_meet_a_filter(where: str, rows: list[int]) -> None:
    node = typed_filter(where, {"price": "float", "size": "text", "tags": "list"})
    assert node is not None
    assert np.flatnonzero(mask_of(node, columns(), 4)).tolist() == rows


def test_whole_numbers_are_compared_to_the_last_digit() -> None:
    column = Numbers(np.int64)
    column.extend(2, np.arange(2), [2**62, 2**62 + 1])
    assert column.meets("=", 2**62 + 1).tolist() == [False, True]
    assert column.meets("<", 2**80).tolist() == [True, True]


def test_an_empty_dict_lets_everything_through() -> None:
    node = typed_filter({}, {})
    assert node is not None
    assert mask_of(node, columns(), 4).all()
