"""Parsing DeepFashion's annotation files into arrays; every malformed row is reported with its line number.

The first line of a `list_*.txt` file is its number of rows, and the second has the column names (`list_item_*` has
none). Each row has the name of an image or item and values, in columns padded with spaces. Numbers may be padded with
zeros.
"""

import array
import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_infer.data.fashion_data import ABSENT
from fashion_infer.errors import DataError
from fashion_infer.model_spec import LANDMARK_NAMES

Report = Callable[[Path, int, str], None]  # function of a file, a line (from 1) and the fault of the line
ParseRow = Callable[[list[str]], list[int]]  # parses the cells after a row's name; its ValueError describes the fault

SPLITS = ("", "train", "val", "test", "query", "gallery")  # "" for images of no split
SLOTS = {
    1: (0, 1, 2, 3, 6, 7),
    2: (4, 5, 6, 7),
    3: (0, 1, 2, 3, 4, 5, 6, 7),
}  # clothes type -> numbers of its landmarks in LANDMARK_NAMES, in the order of the file
TRUNCATED = 2  # a value of visibility

PLAIN_NUMBERS = re.compile(r"[-+0-9]*")
SPACES = re.compile(r"[ \t\r\n\f\v]+")
DIGITS = bytes(
    byte - 48 if byte in b"01" else byte if byte == 45 else 63 for byte in range(256)
)  # digits 0 and 1 become their values, "-" stays, other characters become "?"
TOUCHING = bytes(49 if 48 <= byte <= 57 else 32 for byte in range(256))


@dataclass(frozen=True)
class Table:
    """The rows of a file: row i of `values` [N, K] belongs to `names[i]`."""

    path: Path
    names: list[str]
    values: NDArray[np.int32] | NDArray[np.int8]

    def aligned(self, names: Sequence[str], *, more: bool = False) -> NDArray[np.int32] | NDArray[np.int8]:
        """The values of the rows with these names, in the order of the names.

        Args:
            names: the names.
            more: whether the file may have rows with other names.

        Raises:
            DataError: a name has no row, or a row has another name.
        """
        if self.names == names:
            return self.values
        rows = {name: row for row, name in enumerate(self.names)}
        for name in names:
            if name not in rows:
                raise DataError(f"{self.path}: no row for {name}")
        if len(self.names) > len(names) and not more:
            extra = min(rows.keys() - set(names))
            raise DataError(f"{self.path}: a row for {extra}, which no split names")
        return self.values[[rows[name] for name in names]]


def fail(path: Path, line: int, message: str) -> None:
    """The Report of a reader: it raises a DataError for the first malformed row."""
    raise DataError(f"{path}:{line}: {message}")


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, without a byte order mark.

    Bytes that are not UTF-8 are kept by surrogate escapes, as Python does for names of files on disk. Some of
    DeepFashion's files hold Chinese names in another encoding.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            yield from file
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def read_rows(path: Path, header: int, report: Report) -> Iterator[tuple[int, str]]:
    """Yield the line number and text of each row, and check the number of rows.

    Args:
        path: the file.
        header: number of lines before the rows; if it is not 0, the first line must be the number of rows.
        report: function that is called with each fault.
    """
    line, count, expected, gap = 0, 0, -1, 0
    for line, text in enumerate(read_lines(path), start=1):
        if line == 1 and header:
            expected = read_count(path, text, report)
        if line <= header:
            continue
        if not text.strip():
            gap = gap or line
            continue
        if gap:
            report(path, gap, "an empty line among the rows")
            gap = 0
        count += 1
        yield line, text
    if line < header:
        report(path, line + 1, f"the file ends within its {header} header lines")
    elif expected >= 0 and count != expected:
        report(path, 1, f"says {expected} rows, the file has {count}")


def read_count(path: Path, text: str, report: Report) -> int:
    """The number of rows in the first line; -1, after a report, if the line is not a number."""
    with contextlib.suppress(ValueError):
        (number,) = whole_numbers(text.split())
        return number
    report(path, 1, f"the number of rows expected, found {text.strip()[:40]!r}")
    return -1


def read_table(path: Path, parse: ParseRow, width: int, *, header: int = 2, report: Report = fail) -> Table:
    """Read a file whose rows have a name and `width` values, as int32 [N, width].

    A row that `parse` refuses or whose name occurred before is reported, and left out if `report` returns.
    """
    names: list[str] = []
    values, unique = array.array("i"), set[str]()
    for line, text in read_rows(path, header, report):
        name, *cells = split_cells(text)
        if name in unique:
            report(path, line, f"{name} has a row already")
            continue
        try:
            row = array.array("i", parse(cells))
        except (ValueError, OverflowError) as error:
            report(path, line, str(error))
            continue
        unique.add(name)
        names.append(name)
        values.extend(row)
    return Table(path, names, np.array(values, dtype=np.int32).reshape(-1, width))


def read_unnamed(path: Path, parse: ParseRow, width: int, *, report: Report = fail) -> NDArray[np.int32]:
    """Read a file of a split in Anno_fine, which has neither header nor names, as int32 [N, width]."""
    values = array.array("i")
    for line, text in read_rows(path, 0, report):
        try:
            values.extend(array.array("i", parse(split_cells(text))))
        except (ValueError, OverflowError) as error:
            report(path, line, str(error))
    return np.array(values, dtype=np.int32).reshape(-1, width)


def integers(count: int, limits: dict[int, tuple[int, int]] | None = None) -> ParseRow:
    """Create a parser of exactly `count` whole numbers; `limits` is {column: (least, greatest value)}."""

    def parse(cells: list[str]) -> list[int]:
        if len(cells) != count:
            raise ValueError(f"{count} values expected, found {len(cells)}")
        numbers = whole_numbers(cells)
        for column, (low, high) in (limits or {}).items():
            if not low <= numbers[column] <= high:
                raise ValueError(f"value {column + 1} is {numbers[column]}, not from {low} to {high}")
        return numbers

    return parse


def whole_numbers(cells: list[str]) -> list[int]:
    """Parse whole numbers of plain digits, which may be padded with zeros; `int` alone would accept 1_0 as 10."""
    plain = PLAIN_NUMBERS.fullmatch("".join(cells)) is not None
    numbers = []
    for cell in cells:
        try:
            numbers.append(int(cell if plain or PLAIN_NUMBERS.fullmatch(cell) else ""))
        except ValueError:
            raise ValueError(f"{cell[:40]!r} is not a whole number") from None
    return numbers


def split_cells(text: str) -> list[str]:
    """Split a row at ASCII spaces. Other Unicode spaces belong to the names, as they do on disk."""
    if text.isascii():
        return text.split()
    return [os.fsdecode(cell) for cell in os.fsencode(text).split()]


def parse_landmarks(cells: list[str]) -> list[int]:
    """Parse a row of landmarks, with or without a variation type.

    Returns:
        25 values: the clothes type, then (visibility, x, y) for each of the 8 landmarks. A landmark that the clothes
        type does not have is (-1, 0, 0); a truncated one has the place (0, 0).
    """
    numbers = whole_numbers(cells)
    slots = SLOTS.get(numbers[0]) if numbers else None
    if slots is None:
        raise ValueError(f"clothes type {numbers[0] if numbers else 'missing'}, not 1, 2 or 3")
    extra = len(numbers) - 1 - 3 * len(slots)
    if extra not in (0, 1):
        raise ValueError(
            f"{len(slots)} landmarks expected of clothes type {numbers[0]}, found {len(numbers) - 1} numbers"
        )
    row = [numbers[0], *(ABSENT, 0, 0) * 8]
    for place, slot in enumerate(slots):
        visibility, x, y = numbers[1 + extra + 3 * place :][:3]
        if visibility not in (0, 1, 2):
            raise ValueError(f"visibility {visibility} of {LANDMARK_NAMES[slot]}, not 0, 1 or 2")
        row[1 + 3 * slot : 4 + 3 * slot] = (visibility, 0, 0) if visibility == TRUNCATED else (visibility, x, y)
    return row


def parse_split(cells: list[str]) -> list[int]:
    """Parse the name of a split to its index in SPLITS."""
    if len(cells) != 1 or cells[0] not in SPLITS:
        raise ValueError(f"a split expected, found {' '.join(cells)[:40]!r}")
    return [SPLITS.index(cells[0])]


def parse_item_split(cells: list[str]) -> list[int]:
    """Parse the item and split of an in-shop image to the item's number and the split's index in SPLITS."""
    if len(cells) != 2:
        raise ValueError(f"an item and a split expected, found {' '.join(cells)[:40]!r}")
    return [item_number(cells[0]), *parse_split(cells[1:])]


def parse_pair(cells: list[str]) -> tuple[str, str, int, int]:
    """Parse a consumer-to-shop row to the consumer image, the shop image, the item's number and the split's index."""
    if len(cells) != 4:
        raise ValueError(f"two images, an item and a split expected, found {len(cells)} cells")
    return cells[0], cells[1], item_number(cells[2]), parse_split(cells[3:])[0]


def type_number(text: str) -> int | None:
    """Parse a number of at most nine plain digits; None if the text is something else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def item_number(text: str) -> int:
    """Parse the name of an item, such as `id_00000017`, to its number, 17."""
    digits = text.removeprefix("id_")
    if digits == text or type_number(digits) is None:
        raise ValueError(f"an item such as id_00000017 expected, found {text[:40]!r}")
    return int(digits)


def read_pairs(path: Path, *, report: Report = fail) -> list[tuple[str, str, int, int]]:
    """Read the rows of the consumer-to-shop partition, see `parse_pair`."""
    pairs = []
    for line, text in read_rows(path, 2, report):
        try:
            pairs.append(parse_pair(split_cells(text)))
        except ValueError as error:
            report(path, line, str(error))
    return pairs


def read_items(path: Path, *, report: Report = fail) -> list[int]:
    """Read the item numbers of a `list_item_*` file, which has a number of rows but no column names."""
    items = []
    for line, text in read_rows(path, 1, report):
        try:
            items.append(item_number(text.strip()))
        except ValueError as error:
            report(path, line, str(error))
    return items


def read_colors(path: Path, *, report: Report = fail) -> dict[str, str]:
    """Read a `list_color_cloth` file as {name of the image: colour}; a colour may have several words."""
    colors: dict[str, str] = {}
    for line, text in read_rows(path, 2, report):
        name, *words = text.split()
        if not words:
            report(path, line, f"an image and its colour expected, found {text.strip()!r}")
        elif name in colors:
            report(path, line, f"{name} has a row already")
        else:
            colors[name] = " ".join(words)
    return colors


def read_labels(path: Path, width: int, *, header: int = 2, named: bool = True, report: Report = fail) -> Table:
    """Read rows of attribute labels as int8 [N, width], each -1, 0 or 1.

    A row may have a thousand cells, so whole rows are translated at once; a Python object for each cell would be slow.
    """
    names: list[str] = []
    values, unique = bytearray(), set[str]()
    for line, text in read_rows(path, header, report):
        name, cells = (*SPACES.split(text.lstrip(), 1), "")[:2] if named else ("", text)
        if named and name in unique:
            report(path, line, f"{name} has a row already")
            continue
        try:
            values += label_codes(cells, width)
        except ValueError as error:
            report(path, line, str(error))
            continue
        unique.add(name)
        names.append(name)
    return Table(path, names, np.frombuffer(values, np.int8).reshape(-1, width))


def label_codes(text: str, width: int) -> bytes:
    """Translate a row of `width` labels to signed bytes."""
    cells = text.encode(errors="replace")
    codes = cells.translate(DIGITS, b" \t\r\n").replace(b"-\x01", b"\xff")
    if len(codes) == width and not codes.translate(None, b"\x00\x01\xff") and b"11" not in cells.translate(TOUCHING):
        return codes
    numbers = whole_numbers(split_cells(text))
    if len(numbers) != width:
        raise ValueError(f"{width} attributes expected, found {len(numbers)}")
    wrong = [number for number in numbers if number not in (-1, 0, 1)]
    if wrong:
        raise ValueError(f"attribute {numbers.index(wrong[0]) + 1} is {wrong[0]}, not -1, 0 or 1")
    return bytes(number & 255 for number in numbers)


def read_typed_names(path: Path, *, report: Report = fail) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Read names, which may contain spaces, and the type's number after each; 0 if the header has no type column."""
    names, types = [], []
    typed = "type" in next(islice(read_lines(path), 1, 2), "")
    for line, text in read_rows(path, 2, report):
        cells = english(split_cells(text))
        number = type_number(cells[-1]) if typed and len(cells) > 1 else 0
        if number is None or (typed and len(cells) < 2):
            report(path, line, f"a name and the number of its type expected, found {text.strip()[:40]!r}")
            continue
        names.append(" ".join(cells[:-1] if typed else cells))
        types.append(number)
    return tuple(names), tuple(types)


def read_type_names(path: Path, *, report: Report = fail) -> dict[int, str]:
    """Read the attribute types of consumer-to-shop as {number: name}.

    The number is the last cell of a row, or else the row's place from 1.
    """
    names: dict[int, str] = {}
    for place, (line, text) in enumerate(read_rows(path, 2, report), start=1):
        cells = english(split_cells(text))
        number = type_number(cells[-1]) if len(cells) > 1 else None
        number, name = (place, " ".join(cells)) if number is None else (number, " ".join(cells[:-1]))
        if number in names:
            report(path, line, f"type {number} has a row already")
        names.setdefault(number, name)
    return names


def english(cells: list[str]) -> list[str]:
    """Leave out the Chinese name before the English one in a row of consumer-to-shop's files."""
    first = next((i for i, cell in enumerate(cells) if cell.isascii() and not cell.startswith("(")), 0)
    return cells[first:]
