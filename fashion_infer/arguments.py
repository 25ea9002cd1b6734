"""Checks of arguments that users pass, so that all parts of the package have the same rules."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, TypeVar

from fashion_infer.errors import UsageError

LARGEST = 2**31 - 1  # the runtimes store counts in 32 bits
LARGEST_SEED = 2**63 - 1  # torch stores seeds in 64 bits

Many = TypeVar("Many", bound=Iterable[Any])


def whole_number(name: str, value: Any, low: int = 1, high: int = LARGEST) -> int:
    """Return a whole number as a Python int; numpy's integers are accepted, truth values are not.

    Args:
        name: name of the argument, for the message.
        value: the argument.
        low: smallest accepted number.
        high: largest accepted number.

    Raises:
        UsageError: the argument is something else, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < low:
        raise UsageError(f"{name} must be a whole number of at least {low}, got {value!r}")
    if int(value) > high:
        raise UsageError(f"{name} must be at most {high}, got {value!r}")
    return int(value)


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> float:
    """Return a number as a Python float; numpy's numbers are accepted, NaN and truth values are not.

    Args:
        name: name of the argument, for the message.
        value: the argument.
        low: smallest accepted number.
        high: largest accepted number.
        above: whether the number must be larger than `low`.

    Raises:
        UsageError: the argument is something else, or out of range.
    """
    limits = "" if low == -math.inf else f" above {low:g}" if above else f" of at least {low:g}"
    limits += "" if high == math.inf else f"{' and' if limits else ' of'} at most {high:g}"
    try:
        plain = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        plain = math.nan
    if not low <= plain <= high or (above and plain == low):
        raise UsageError(f"{name} must be a number{limits}, got {value!r}")
    return plain


def several(name: str, values: Many, *kinds: type) -> Many:
    """Return an iterable of several things, but refuse a single thing that can be iterated over as well.

    Without this check a text would be taken for its letters, and a file for its lines.

    Args:
        name: name of the argument, for the message.
        values: the argument.
        kinds: further classes of single things, besides texts, bytes and files.

    Raises:
        TypeError: the argument is a single thing, or cannot be iterated over.
    """
    single = isinstance(values, (str, bytes, bytearray, memoryview, *kinds)) or hasattr(values, "read")
    if single or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be an iterable of several, not one {type(values).__name__}")
    return values
