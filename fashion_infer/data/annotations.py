"""The rows of DeepFashion's annotation files, file by file: text in, arrays out, every malformed row with its line.

A `list_*.txt` starts with its number of rows, then the column names (`list_item_*` has none), then the rows: the name
of an image or item and values in columns padded with spaces. Numbers may be padded with zeros.
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

Report = Callable[[Path, int, str], None]  # file, line (from 1), what is wrong with it
ParseRow = Callable[[list[str]], list[int]]  # the values after a row's name; a ValueError says what is wrong

SPLITS = ("", "train", "val", "test", "query", "gallery")  # "" for images that no split holds
SLOTS = {
    1: (0, 1, 2, 3, 6, 7),
    2: (4, 5, 6, 7),
    3: (0, 1, 2, 3, 4, 5, 6, 7),
}  # of a clothes type's landmarks, in file order
TRUNCATED = 2  # of a visibility

PLAIN_NUMBERS = re.compile(r"[-+0-9]*")
SPACES = re.compile(r"[ \t\r\n\f\v]+")
DIGITS = bytes(
    byte - 48 if byte in b"01" else byte if byte == 45 else 63 for byte in range(256)
)  # - stays, the rest is ?
TOUCHING = bytes(49 if 48 <= byte <= 57 else 32 for byte in range(256))


@dataclass(frozen=True)
class Table:
    """One file: row i of `values` belongs to `names[i]`."""

    path: Path
    names: list[str]
    values: NDArray[np.int32] | NDArray[np.int8]  # [N, K]

    def aligned(self, names: Sequence[str], *, more: bool = False) -> NDArray[np.int32] | NDArray[np.int8]:
        """The rows of these names, in their order; `more` lets the file have rows for others.

        Raises:
            DataError: a name has no row, or a row a name that is not among these.
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
    """The Report of a reader: the first malformed row ends it."""
    raise DataError(f"{path}:{line}: {message}")


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, without a byte order mark; bytes that are no UTF-8 stay what they are.

    They are kept as in the names of files on disk: some files hold Chinese names in an encoding of their own.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            yield from file
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def read_rows(path: Path, header: int, report: Report) -> Iterator[tuple[int, str]]:
    """The rows below `header` lines with their line numbers; the count of the first line must hold."""
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
    """The number of rows that the first line gives, -1 when it is none."""
    with contextlib.suppress(ValueError):
        (number,) = whole_numbers(text.split())
        return number
    report(path, 1, f"the number of rows expected, found {text.strip()[:40]!r}")
    return -1


def read_table(path: Path, parse: ParseRow, width: int, *, header: int = 2, report: Report = fail) -> Table:
    """Reads a file of one name and `width` values a row, int32 [N, width].

    Rows that `parse` refuses and names that come twice go to `report`; they are left out if that returns.
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
    """Reads one of Anno_fine's ready files, which have neither header nor names; int32 [N, width]."""
    values = array.array("i")
    for line, text in read_rows(path, 0, report):
        try:
            values.extend(array.array("i", parse(split_cells(text))))
        except (ValueError, OverflowError) as error:
            report(path, line, str(error))
    return np.array(values, dtype=np.int32).reshape(-1, width)


def integers(count: int, limits: dict[int, tuple[int, int]] | None = None) -> ParseRow:
    """A parser of exactly `count` whole numbers; `limits` are the least and greatest of some columns."""

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
    """The cells as numbers of plain digits, which may be padded with zeros; `int` alone would take 1_0 for 10."""
    plain = PLAIN_NUMBERS.fullmatch("".join(cells)) is not None
    numbers = []
    for cell in cells:
        try:
            numbers.append(int(cell if plain or PLAIN_NUMBERS.fullmatch(cell) else ""))
        except ValueError:
            raise ValueError(f"{cell[:40]!r} is not a whole number") from None
    return numbers


def split_cells(text: str) -> list[str]:
    """The cells of a row. Other spaces than those of ASCII belong to the names, as they do on disk."""
    if text.isascii():
        return text.split()
    return [os.fsdecode(cell) for cell in os.fsencode(text).split()]


def parse_landmarks(cells: list[str]) -> list[int]:
    """Clothes type and 8 slots of (visibility, x, y), 25 values, from a row with or without a variation type.

    Slots that the clothes type does not have are (-1, 0, 0); a truncated landmark's place is (0, 0).
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
    """The index of a split's name in SPLITS."""
    if len(cells) != 1 or cells[0] not in SPLITS:
        raise ValueError(f"a split expected, found {' '.join(cells)[:40]!r}")
    return [SPLITS.index(cells[0])]


def parse_item_split(cells: list[str]) -> list[int]:
    """Item number and split of an in-shop image."""
    if len(cells) != 2:
        raise ValueError(f"an item and a split expected, found {' '.join(cells)[:40]!r}")
    return [item_number(cells[0]), *parse_split(cells[1:])]


def parse_pair(cells: list[str]) -> tuple[str, str, int, int]:
    """Consumer image, shop image, item number and split of a consumer-to-shop row."""
    if len(cells) != 4:
        raise ValueError(f"two images, an item and a split expected, found {len(cells)} cells")
    return cells[0], cells[1], item_number(cells[2]), parse_split(cells[3:])[0]


def type_number(text: str) -> int | None:
    """A number of at most nine plain digits, None where the text is something else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None


def item_number(text: str) -> int:
    """17 of `id_00000017`."""
    digits = text.removeprefix("id_")
    if digits == text or type_number(digits) is None:
        raise ValueError(f"an item such as id_00000017 expected, found {text[:40]!r}")
    return int(digits)


def read_pairs(path: Path, *, report: Report = fail) -> list[tuple[str, str, int, int]]:
    """The rows of the consumer-to-shop partition."""
    pairs = []
    for line, text in read_rows(path, 2, report):
        try:
            pairs.append(parse_pair(split_cells(text)))
        except ValueError as error:
            report(path, line, str(error))
    return pairs


def read_items(path: Path, *, report: Report = fail) -> list[int]:
    """The item numbers of a `list_item_*` file, which has a count but no column names."""
    items = []
    for line, text in read_rows(path, 1, report):
        try:
            items.append(item_number(text.strip()))
        except ValueError as error:
            report(path, line, str(error))
    return items


def read_colors(path: Path, *, report: Report = fail) -> dict[str, str]:
    """The colours of a `list_color_cloth` file by the name of the image; a colour may be several words."""
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
    """Reads attribute rows, int8 [N, width] of -1, 0 and 1.

    A row's thousand cells must not cost a thousand Python objects: whole rows are translated at once.
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
    """A row of `width` labels as signed bytes."""
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
    """Names, which may contain spaces, and the number of a type after each; 0 where the header announces none."""
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
    """The attribute types of consumer-to-shop by number: the one that ends a row, or the row's place, from 1."""
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
    """The cells without the Chinese name that precedes the English one in consumer-to-shop files."""
    first = next((i for i, cell in enumerate(cells) if cell.isascii() and not cell.startswith("(")), 0)
    return cells[first:]
