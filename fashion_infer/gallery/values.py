"""The values of the user's columns: their kinds, and their conversion to and from what is stored.

A column has one kind for all of its rows, which its first value decides: bool, int, float, text, date, datetime,
datetime_utc or list (of texts). A missing value (None, NaN, NaT) fits every kind. A column of whole numbers becomes one
of floats when a row has a fraction; any other mixture is refused. A datetime with a time zone is stored in UTC.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from fashion_infer.errors import UsageError

Value = bool | int | float | str | date | datetime | list[str] | None
KINDS = ("bool", "int", "float", "text", "date", "datetime", "datetime_utc", "list")
OWN = {  # the gallery's own columns that a filter may name, and their kinds
    "id": "text",
    "path": "text",
    "category": "text",
    "category_score": "float",
    "is_garment": "float",
    "attributes": "list",
    "colors": "list",
    "content_hash": "text",
}
RESERVED = {*OWN, "box", "landmarks", "embedding", "error"}  # the columns of an exported file that are not the user's
MAX_INT = 2**63 - 1
FINER = ("ns", "ps", "fs", "as")  # numpy's units of time that are finer than Python's
MISSING = ("NaTType", "NAType")  # the types of pandas' missing values


def clean(columns: Mapping[str, Any]) -> dict[str, Value]:
    """Return the user's columns as plain Python values, without the missing ones.

    Args:
        columns: {name: value}; numpy scalars are converted, and NaN and pandas' missing values count as missing.

    Raises:
        UsageError: the gallery uses a column's name itself, or a value cannot be stored.
    """
    if not hasattr(columns, "items"):  # pandas' Series is no Mapping
        raise UsageError(f"the columns of a row must be a dict, got a {type(columns).__name__}")
    result: dict[str, Value] = {}
    for name, value in columns.items():
        if not isinstance(name, str) or not name or '"' in name or not _is_text(name):
            raise UsageError(
                f"a column's name must be a text that is not empty and without quotes or zero bytes, got {name!r}"
            )
        if name in RESERVED:
            raise UsageError(f"the column {name!r} is one of the gallery's own: give yours another name")
        if (plain := _plain(name, value)) is not None:
            result[name] = plain
    return result


def _plain(name: str, value: Any) -> Value:
    if isinstance(value, np.datetime64) and np.datetime_data(value.dtype)[0] in FINER:
        value = value.astype("datetime64[us]")  # numpy makes a whole number of a finer one
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if value is None or type(value).__name__ in MISSING or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, list | tuple) and not all(isinstance(item, str) for item in value):
        raise UsageError(f"the column {name!r} holds a list of items that are not all texts")
    if not all(map(_is_text, value if isinstance(value, list | tuple) else [value])):
        raise UsageError(f"the column {name!r} holds characters that are no text: {value!r}")
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, datetime):
        try:
            moment = value.astimezone(UTC) if value.tzinfo else value
        except OverflowError as error:
            raise UsageError(f"the column {name!r} holds {value}, which is out of range in UTC") from error
        return datetime(*moment.timetuple()[:6], moment.microsecond, moment.tzinfo)  # drops pandas' nanoseconds
    if isinstance(value, int) and not -MAX_INT - 1 <= value <= MAX_INT:
        raise UsageError(f"the column {name!r} holds {value}, which does not fit 64 bits: give it as a text")
    if isinstance(value, float) and math.isinf(value):
        raise UsageError(f"the column {name!r} holds an infinite number")
    if not isinstance(value, bool | int | float | str | date):
        raise UsageError(f"the column {name!r} holds a {type(value).__name__}, which a gallery does not keep")
    return value


def _is_text(value: Any) -> bool:
    """Whether a text is Unicode without zero bytes, which not all stores can hold; True for values of other types."""
    return not isinstance(value, str) or not re.search("[\0\ud800-\udfff]", value)


def kind_of(value: Value) -> str | None:
    """Return the kind of a plain value, or None for a missing value."""
    if isinstance(value, datetime):
        return "datetime_utc" if value.tzinfo else "datetime"
    kinds = ((bool, "bool"), (int, "int"), (float, "float"), (str, "text"), (date, "date"), (list, "list"))
    return next((kind for python, kind in kinds if isinstance(value, python)), None)


def joined_kind(name: str, before: str | None, kind: str) -> str:
    """Return the kind of a column after it gets a value of another kind.

    Args:
        name: name of the column, for the error message.
        before: kind of the column so far; None for a new column.
        kind: kind of the new value.

    Raises:
        UsageError: the two kinds cannot be mixed.
    """
    if before in (None, kind):
        return kind
    if {before, kind} == {"int", "float"}:
        return "float"
    raise UsageError(f"the column {name!r} holds values of kind {before}, and now one of kind {kind}")


def to_json(value: Value) -> bool | int | float | str | list[str] | None:
    """Return a value as JSON holds it; dates and times become ISO texts of equal length, which sort like the times."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds")
    return value.isoformat() if isinstance(value, date) else value


def from_json(value: Any, kind: str) -> Value:
    """Invert `to_json` for a value of a column of this kind."""
    if value is None:
        return None
    match kind:
        case "date":
            return date.fromisoformat(value)
        case "datetime":
            return datetime.fromisoformat(value)
        case "datetime_utc":
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        case "float":
            return float(value)
        case "bool":
            return bool(value)
    plain: Value = value
    return plain


def from_text(name: str, text: str, kind: str) -> Value:
    """Convert a value written as text, in a CSV file or in a filter, to the column's kind.

    Raises:
        UsageError: the text cannot be read as a value of that kind.
    """
    try:
        match kind:
            case "bool":
                return {"true": True, "false": False}[text.lower()]
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "date":
                return date.fromisoformat(text)
            case "datetime":
                return datetime.fromisoformat(text).replace(tzinfo=None)
            case "datetime_utc":
                moment = datetime.fromisoformat(text)
                return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (KeyError, ValueError) as error:
        raise UsageError(f"the column {name!r} is of kind {kind}, and {text!r} is not") from error
    return text
