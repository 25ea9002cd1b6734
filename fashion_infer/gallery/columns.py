"""Columns of a gallery in memory, on which filters are evaluated: arrays with a value for each Snapshot position."""

import json
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fashion_infer.gallery.filters import All, Compare, Filter
from fashion_infer.gallery.values import Value, to_json

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Column(Protocol):
    """The values of one column."""

    def extend(self, length: int, positions: Positions, values: Sequence[Any]) -> None:
        """Grow to `length` positions and set the stored values at `positions`; None and unset positions are missing."""
        ...

    def present(self) -> Mask:
        """Return a mask of the positions that have a value."""
        ...

    def meets(self, sign: str, value: Value) -> Mask:
        """Return a mask of the positions whose value satisfies a comparison; a missing value satisfies none.

        Args:
            sign: one of =, !=, <, <=, >, >=.
            value: value to compare with, not None.
        """
        ...


class Numbers:
    """A column of whole numbers or floats."""

    def __init__(self, dtype: type[np.int64] | type[np.float64]) -> None:
        self._values = np.empty(0, dtype)
        self._present = np.empty(0, np.bool_)

    def extend(self, length: int, positions: Positions, values: Sequence[Any]) -> None:
        self._values = _padded(self._values, length, 0)
        self._present = _padded(self._present, length, False)
        has_value = np.array([value is not None for value in values], np.bool_)
        self._values[positions[has_value]] = [value for value in values if value is not None]
        self._present[positions[has_value]] = True

    def present(self) -> Mask:
        return self._present

    def meets(self, sign: str, value: Value) -> Mask:
        mask: Mask = COMPARE[sign](self._values, value) & self._present
        return mask


class Words:
    """A column of texts, dates, times or booleans, stored as codes, so that each distinct value is compared once."""

    def __init__(self) -> None:
        self._codes = np.empty(0, np.int32)  # -1 where the value is missing
        self._code_of: dict[Any, int] = {}

    def extend(self, length: int, positions: Positions, values: Sequence[Any]) -> None:
        self._codes = _padded(self._codes, length, -1)
        self._codes[positions] = [
            -1 if value is None else self._code_of.setdefault(value, len(self._code_of)) for value in values
        ]

    def present(self) -> Mask:
        mask: Mask = self._codes >= 0
        return mask

    def meets(self, sign: str, value: Value) -> Mask:
        plain = to_json(value)
        if sign == "=":
            mask: Mask = self._codes == self._code_of.get(plain, -2)  # no position has the code -2
            return mask
        result_by_code = [bool(COMPARE[sign](word, plain)) for word in self._code_of]
        lookup = np.array([*result_by_code, False], np.bool_)  # the code -1 selects the last entry
        return lookup[self._codes]


class Lists:
    """A column of lists of texts; a list equals a text if the text is one of its items."""

    def __init__(self) -> None:
        self._items = np.empty(0, np.int32)  # the codes of the items of all lists
        self._owners = np.empty(0, np.int64)  # for each item, the position of its list
        self._present = np.empty(0, np.bool_)
        self._code_of: dict[str, int] = {}

    def extend(self, length: int, positions: Positions, values: Sequence[Any]) -> None:
        self._present = _padded(self._present, length, False)
        lists = [None if value is None else json.loads(value) for value in values]
        self._present[positions] = [items is not None for items in lists]
        codes = [self._code_of.setdefault(item, len(self._code_of)) for items in lists for item in items or ()]
        counts = np.array([len(items or ()) for items in lists], np.int64)
        self._items = np.concatenate([self._items, np.array(codes, np.int32)])
        self._owners = np.concatenate([self._owners, np.repeat(positions, counts)])

    def present(self) -> Mask:
        return self._present

    def meets(self, sign: str, value: Value) -> Mask:
        contains = np.zeros(len(self._present), np.bool_)
        contains[self._owners[self._items == self._code_of.get(str(value), -2)]] = True
        return contains if sign == "=" else self._present & ~contains


def column_of(kind: str) -> Column:
    """Return an empty column of a kind (see `values.KINDS`)."""
    if kind in ("int", "float"):
        return Numbers(np.int64 if kind == "int" else np.float64)
    return Lists() if kind == "list" else Words()


def mask_of(node: Filter, column: Callable[[str], Column], length: int) -> Mask:
    """Return a mask of the positions that satisfy a filter.

    Args:
        node: filter from `typed_filter`.
        column: function that returns the column with a name.
        length: number of positions.
    """
    if isinstance(node, Compare):
        return _compared(node, column(node.column))
    parts = (mask_of(part, column, length) for part in node.parts)
    combine = np.logical_and if isinstance(node, All) else np.logical_or
    mask = np.full(length, isinstance(node, All))
    for part in parts:
        mask = combine(mask, part)
    return mask


def _compared(test: Compare, column: Column) -> Mask:
    if test.operator == "in":
        return _any(_compared(Compare(test.column, "=", value), column) for value in test.value)
    if test.value is None:
        return ~column.present() if test.operator == "=" else column.present()
    return column.meets(test.operator, test.value)


def _any(masks: Iterable[Mask]) -> Mask:
    result: Mask = np.logical_or.reduce(list(masks))
    return result


def _padded(values: NDArray[Any], length: int, fill: Any) -> NDArray[Any]:
    return np.concatenate([values, np.full(length - len(values), fill, values.dtype)])
