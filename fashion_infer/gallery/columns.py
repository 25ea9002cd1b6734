"""Columns of a gallery in memory, as typed arrays that a filter is tested on: one value a position of the Snapshot."""

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
        """Grow to `length` positions and fill in values as they are stored; None and what is left out is missing."""
        ...

    def present(self) -> Mask:
        """Where there is a value."""
        ...

    def meets(self, sign: str, value: Value) -> Mask:
        """Where there is a value and it compares so (=, !=, <, <=, >, >=) with another that is not None."""
        ...


class Numbers:
    """Whole numbers or floats."""

    def __init__(self, dtype: type[np.int64] | type[np.float64]) -> None:
        self._values = np.empty(0, dtype)
        self._present = np.empty(0, np.bool_)

    def extend(self, length: int, positions: Positions, values: Sequence[Any]) -> None:
        self._values = _grown(self._values, length, 0)
        self._present = _grown(self._present, length, False)
        there = np.array([value is not None for value in values], np.bool_)
        self._values[positions[there]] = [value for value in values if value is not None]
        self._present[positions[there]] = True

    def present(self) -> Mask:
        return self._present

    def meets(self, sign: str, value: Value) -> Mask:
        met: Mask = COMPARE[sign](self._values, value) & self._present
        return met


class Words:
    """Texts, dates, times and yes or no: each different value is compared once."""

    def __init__(self) -> None:
        self._codes = np.empty(0, np.int32)
        self._known: dict[Any, int] = {}

    def extend(self, length: int, positions: Positions, values: Sequence[Any]) -> None:
        self._codes = _grown(self._codes, length, -1)
        self._codes[positions] = [
            -1 if value is None else self._known.setdefault(value, len(self._known)) for value in values
        ]

    def present(self) -> Mask:
        there: Mask = self._codes >= 0
        return there

    def meets(self, sign: str, value: Value) -> Mask:
        plain = to_json(value)
        if sign == "=":
            met: Mask = self._codes == self._known.get(plain, -2)
            return met
        met_by_code = [bool(COMPARE[sign](word, plain)) for word in self._known]
        lookup = np.array([*met_by_code, False], np.bool_)  # the code -1 of a missing value is the last
        return lookup[self._codes]


class Lists:
    """Lists of texts: a list equals a text that is one of its items."""

    def __init__(self) -> None:
        self._items = np.empty(0, np.int32)  # the codes of the items of all lists,
        self._owners = np.empty(0, np.int64)  # and the position of the list that each belongs to
        self._present = np.empty(0, np.bool_)
        self._known: dict[str, int] = {}

    def extend(self, length: int, positions: Positions, values: Sequence[Any]) -> None:
        self._present = _grown(self._present, length, False)
        lists = [None if value is None else json.loads(value) for value in values]
        self._present[positions] = [items is not None for items in lists]
        items = [self._known.setdefault(item, len(self._known)) for items in lists for item in items or ()]
        counts = np.array([len(items or ()) for items in lists], np.int64)
        self._items = np.concatenate([self._items, np.array(items, np.int32)])
        self._owners = np.concatenate([self._owners, np.repeat(positions, counts)])

    def present(self) -> Mask:
        return self._present

    def meets(self, sign: str, value: Value) -> Mask:
        met = np.zeros(len(self._present), np.bool_)
        met[self._owners[self._items == self._known.get(str(value), -2)]] = True
        return met if sign == "=" else self._present & ~met


def column_of(kind: str) -> Column:
    """An empty column of a kind."""
    if kind in ("int", "float"):
        return Numbers(np.int64 if kind == "int" else np.float64)
    return Lists() if kind == "list" else Words()


def mask_of(node: Filter, column: Callable[[str], Column], length: int) -> Mask:
    """Which positions meet a typed filter.

    Args:
        node: from `typed_filter`.
        column: gives the column of a name.
        length: positions.
    """
    if isinstance(node, Compare):
        return _tested(node, column(node.column))
    parts = (mask_of(part, column, length) for part in node.parts)
    together = np.logical_and if isinstance(node, All) else np.logical_or
    mask = np.full(length, isinstance(node, All))
    for part in parts:
        mask = together(mask, part)
    return mask


def _tested(test: Compare, column: Column) -> Mask:
    if test.operator == "in":
        return _any(_tested(Compare(test.column, "=", value), column) for value in test.value)
    if test.value is None:
        return ~column.present() if test.operator == "=" else column.present()
    return column.meets(test.operator, test.value)


def _any(masks: Iterable[Mask]) -> Mask:
    result: Mask = np.logical_or.reduce(list(masks))
    return result


def _grown(values: NDArray[Any], length: int, fill: Any) -> NDArray[Any]:
    return np.concatenate([values, np.full(length - len(values), fill, values.dtype)])
