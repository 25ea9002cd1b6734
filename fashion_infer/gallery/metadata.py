"""The user's columns from a CSV or Parquet file, joined to the photos by path or by id."""

import csv
import io
import re
from pathlib import Path
from typing import Any

from fashion_infer.errors import UsageError
from fashion_infer.gallery.values import RESERVED, Value, clean, from_text

KEYS = ("path", "id")
MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None")  # cells of a CSV that mean a missing value
TEXT = ("item",)  # columns that stay text even if all cells look like numbers
_KINDS = (
    ("bool", re.compile(r"(?i:true|false)")),
    ("int", re.compile(r"[+-]?(0|[1-9]\d{0,17})")),  # not 007: leading zeros would be lost
    ("float", re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?")),
    ("date", re.compile(r"\d{4}-\d\d-\d\d")),
    ("datetime", re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?")),
    ("datetime_utc", re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")),
)


class Metadata:
    """A table of the user's columns.

    Attributes:
        key: name of the column by which the table is joined to photos, "path" or "id".
        unused: keys of the table for which no photo has been looked up.
    """

    def __init__(self, path: Path) -> None:
        """Read the table.

        Args:
            path: path of a .csv file (UTF-8, with a header) or of a .parquet file, with a column "path" or "id".

        Raises:
            UsageError: the file cannot be read, has neither column, has a key twice, or has a column whose name the
                gallery uses itself.
        """
        columns = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
        keys = [key for key in KEYS if key in columns]
        if not keys:
            raise UsageError(f"{path} has no column to join by: it needs path or id, and has {', '.join(columns)}")
        self.key = keys[0]
        names = [str(name) for name in columns.pop(self.key)]
        if reserved := columns.keys() & RESERVED:
            raise UsageError(f"{path}: the column {min(reserved)!r} is one of the gallery's own: give it another name")
        self._places = {name: place for place, name in enumerate(names)}
        if len(self._places) < len(names):
            repeated = next(name for place, name in enumerate(names) if self._places[name] != place)
            raise UsageError(f"{path} has the {self.key} {repeated!r} twice")
        self._columns = columns
        self.unused = set(self._places)

    def columns_of(self, key: str) -> dict[str, Value] | None:
        """Return the columns of the photo with this path or id, or None if the table does not have it."""
        place = self._places.get(key)
        if place is None:
            return None
        self.unused.discard(key)
        return clean({name: values[place] for name, values in self._columns.items()})


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    import fashion_infer.gallery.parquet  # noqa: F401  raises an error that names the extra if pyarrow is missing

    try:
        columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}") from error
    return columns


def _read_csv(path: Path) -> dict[str, list[Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a CSV file with a header, in UTF-8: {error}") from error
    return columns_of_csv(str(path), text)


def columns_of_csv(name: str, text: str) -> dict[str, list[Any]]:
    """Read a CSV file with a header; each column gets the narrowest kind that fits all of its cells.

    Args:
        name: name of the file, for error messages.
        text: content of the file.

    Returns:
        The values of each column, by the column's name; None for a missing value.

    Raises:
        UsageError: the file has no header, two columns have the same name, or a row has more or fewer cells.
    """
    try:
        header, *lines = csv.reader(io.StringIO(text, newline=""))
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{name} cannot be read as a CSV file with a header, in UTF-8: {error}") from error
    lines = [line for line in lines if line]
    for number, line in enumerate(lines, 2):
        if len(line) != len(header):
            raise UsageError(f"{name}, row {number}: it has {len(line)} cells, the header {len(header)}")
    if len(set(header)) < len(header):
        raise UsageError(f"{name}: two columns have the same name")
    return {column: _typed(column, [line[i] for line in lines]) for i, column in enumerate(header)}


def _typed(name: str, cells: list[str]) -> list[Value]:
    """Convert the texts of a column to the narrowest kind that fits all of them."""
    values = [None if cell in MISSING else cell for cell in cells]
    kind = "text"
    if name not in (*KEYS, *TEXT):
        matching = (k for k, form in _KINDS if all(form.fullmatch(value) for value in values if value is not None))
        kind = next(matching, "text") if any(values) else "text"
    try:
        return [None if value is None else from_text(name, value, kind) for value in values]
    except UsageError:
        return list(values)  # such as 2024-02-31, which only looks like a date
