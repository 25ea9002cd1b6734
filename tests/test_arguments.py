import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fashion_infer.arguments import LARGEST, number, several, whole_number
from fashion_infer.errors import UsageError


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers(value: Any) -> None:
    assert (whole_number("n", value), type(whole_number("n", value))) == (3, int)


@pytest.mark.parametrize("value", [0, True, np.True_, 2.0, math.nan, "3", None, [3], np.array(3)])
def test_what_is_no_whole_number_from_1(value: Any) -> None:
    with pytest.raises(UsageError, match="n must be a whole number of at least 1, got "):
        whole_number("n", value)


def test_a_count_that_no_runtime_can_hold() -> None:
    with pytest.raises(UsageError, match=f"n must be at most {LARGEST}, got "):
        whole_number("n", 10**30)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), 1, np.int8(1)])
def test_numbers(value: Any) -> None:
    assert (number("x", value, 0, 1), type(number("x", value))) == (float(value), float)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, True, "0.5", None, 10**400, 1j])
def test_what_is_no_number_from_0_to_1(value: Any) -> None:
    with pytest.raises(UsageError, match="x must be a number of at least 0 and at most 1, got "):
        number("x", value, 0, 1)


def test_a_number_above_a_limit() -> None:
    assert number("x", math.inf, 0, above=True) == math.inf
    with pytest.raises(UsageError, match="x must be a number above 0, got 0"):
        number("x", 0, 0, above=True)


@pytest.mark.parametrize("values", [["a"], ("a",), {"a": 1}, iter("ab"), np.zeros(3)])
def test_several_things(values: Any) -> None:
    assert several("things", values) is values


@pytest.mark.parametrize(
    "values", ["abc", b"abc", bytearray(b"a"), memoryview(b"a"), Path("a"), None, 5, io.BytesIO(b"a")]
)
def test_one_thing_where_several_are_meant(values: Any) -> None:
    with pytest.raises(TypeError, match="things must be an iterable of several, not one "):
        several("things", values)
