from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_infer.errors import UsageError
from fashion_infer.gallery.values import Value, clean, from_json, from_text, joined_kind, kind_of, to_json

VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.dates(),
    st.datetimes(),
    st.lists(st.text()),
)


class Unprintable:
    """An object that cannot be printed or compared."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Value) -> None:
    kind = kind_of(value)
    assert kind is not None
    again = from_json(to_json(value), kind)
    assert again == value
    assert type(again) is type(value)


def test_a_moment_with_a_time_zone_is_kept_in_utc() -> None:
    moment = datetime(2024, 5, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    (kept,) = clean({"added": moment}).values()
    assert kept == moment
    assert from_json(to_json(kept), "datetime_utc") == datetime(2024, 5, 1, 10, 30, tzinfo=UTC)


def test_the_order_of_moments_is_that_of_their_texts() -> None:
    whole, later = datetime(2024, 5, 1, 12), datetime(2024, 5, 1, 12, 0, 0, 1)
    assert str(to_json(whole)) < str(to_json(later))


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), np.datetime64("NaT"), pd.NA, pd.NaT])
def test_a_missing_value_is_left_out(missing: object) -> None:
    assert clean({"price": missing, "size": "S"}) == {"size": "S"}


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_a_moment_of_numpy_is_a_moment(unit: str) -> None:
    moment = datetime(2024, 5, 1, 12, 30, 5)
    assert clean({"added": np.datetime64(moment, unit)}) == {"added": moment}


def test_numpy_scalars_become_plain() -> None:
    assert clean({"a": np.int32(3), "b": np.bool_(True), "c": np.array(["x", "y"])}) == {
        "a": 3,
        "b": True,
        "c": ["x", "y"],
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"category": "Dress"}, "one of the gallery's own"),
        ({"": 1}, "not empty"),
        ({'a"b': 1}, "without quotes"),
        ({"a": {"b": 1}}, "a dict, which a gallery does not keep"),
        ({"a": [1, 2]}, "list of items that are not all texts"),
        ({"a": 2**70}, "does not fit 64 bits"),
        ({"a": float("inf")}, "infinite"),
        ({"a": Unprintable()}, "a Unprintable, which a gallery does not keep"),
        ({"a": [Unprintable()]}, "list of items that are not all texts"),
    ],
)
def test_what_cannot_be_kept_is_refused(columns: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        clean(columns)


def test_kinds_that_go_together() -> None:
    assert joined_kind("a", None, "text") == "text"
    assert joined_kind("a", "int", "float") == joined_kind("a", "float", "int") == "float"
    with pytest.raises(UsageError, match="'a' holds values of kind int, and now one of kind text"):
        joined_kind("a", "int", "text")


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("TRUE", "bool", True),
        ("-3", "int", -3),
        ("1e3", "float", 1000.0),
        ("2024-05-01", "date", date(2024, 5, 1)),
        ("2024-05-01T10:00+02:00", "datetime_utc", datetime(2024, 5, 1, 8, tzinfo=UTC)),
        ("2024-05-01", "text", "2024-05-01"),
    ],
)
def test_values_from_text(text: str, kind: str, value: Value) -> None:
    assert from_text("a", text, kind) == value


def test_a_text_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="'price' is of kind float, and 'cheap' is not"):
        from_text("price", "cheap", "float")
