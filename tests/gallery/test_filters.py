import contextlib
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_infer.errors import UsageError
from fashion_infer.gallery.filters import All, AnyOf, Compare, typed_filter

KINDS = {"price": "float", "stock": "int", "size": "text", "new": "bool", "since": "date", "my shop": "text"}


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("price<=50", Compare("price", "<=", 50.0)),
        ("stock > 3", Compare("stock", ">", 3)),
        ("stock>2.5", Compare("stock", ">", 2.5)),
        ("category=Dress", Compare("category", "=", "Dress")),
        ("category != Button-Down", Compare("category", "!=", "Button-Down")),
        ("new=true", Compare("new", "=", True)),
        ("since>=2024-05-01", Compare("since", ">=", date(2024, 5, 1))),
        ("size in (S, M)", Compare("size", "in", ("S", "M"))),
        ("size=null", Compare("size", "=", None)),
        ("size='null'", Compare("size", "=", "null")),
        ("""'my shop'="it's" """, Compare("my shop", "=", "it's")),
        ("attributes=floral", Compare("attributes", "=", "floral")),
        (
            "price<1 or price>9 and new=false",
            AnyOf((Compare("price", "<", 1.0), All((Compare("price", ">", 9.0), Compare("new", "=", False))))),
        ),
        (
            "(price<1 OR price>9) AND new=false",
            All((AnyOf((Compare("price", "<", 1.0), Compare("price", ">", 9.0))), Compare("new", "=", False))),
        ),
    ],
)
def test_filters_as_text(text: str, tree: object) -> None:
    assert typed_filter(text, KINDS) == tree


@pytest.mark.parametrize(
    ("where", "tree"),
    [
        ({"price": {"lte": 50}}, All((Compare("price", "<=", 50),))),
        ({"price": {"gt": 1, "lt": 9}}, All((Compare("price", ">", 1), Compare("price", "<", 9)))),
        ({"size": ["S", "M"]}, All((Compare("size", "in", ("S", "M")),))),
        ({"since": {"gte": "2024-05-01"}}, All((Compare("since", ">=", date(2024, 5, 1)),))),
        (
            {"or": [{"size": "S"}, {"new": True}]},
            All((AnyOf((All((Compare("size", "=", "S"),)), All((Compare("new", "=", True),)))),)),
        ),
        ({"size": None}, All((Compare("size", "=", None),))),
    ],
)
def test_filters_as_dicts(where: dict[str, object], tree: object) -> None:
    assert typed_filter(where, KINDS) == tree


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("colour=red", "no column 'colour'; it has .*price.*size"),
        ("price=cheap", "'price' is of kind float, and 'cheap' is not"),
        ("stock='3'", "holds values of kind int, and now one of kind text"),
        ({"stock": "3"}, "holds values of kind int, and now one of kind text"),
        ({"size": 3}, "holds values of kind text, and now one of kind int"),
        ("new<true", "no order"),
        ("attributes<a", "no order"),
        ("price<null", "cannot be < null"),
        ("price", "the end stands where one of"),
        ("price<=", "the end stands where a name or a value"),
        ("price<=50 size=S", "'size' was not expected"),
        ("(price<=50", "the end stands where '\\)' was expected"),
        ("size in S", "stands where '\\(' was expected"),
        ("size='S", "cannot be understood"),
        ("=", "'=' stands where a name or a value"),
        ("", "the end stands where"),
        ("(" * 60 + "price=1" + ")" * 60, "more than 50 deep"),
        ({"price": {"near": 3}}, "no operator 'near' for 'price': it is one of eq, ne"),
        ({"price": {"in": 3}}, "needs a list"),
        ([1], "a text or a dict"),
    ],
)
def test_what_cannot_be_filtered_by(where: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        typed_filter(where, KINDS)  # type: ignore[arg-type]


def test_no_filter() -> None:
    assert typed_filter(None, KINDS) is None


@given(st.text())
def test_any_text_is_a_filter_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        typed_filter(text, KINDS)
