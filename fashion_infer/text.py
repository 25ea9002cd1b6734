"""Safe, exact printing of text from users, such as the names of files and labels."""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# control characters, including those that begin a terminal's escape sequences; characters that change the direction of
# writing; and surrogates, which stand for the bytes of a name that is not UTF-8
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    r"""The text with its control characters, and bytes that are not UTF-8, written as \x1b or \n.

    The result prints on one line of any terminal that shows Unicode.
    """
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # `os.fsdecode` represents an undecodable byte this way
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()


class UserConsole(Console):
    """A console that prints strings literally, without markup, emoji or terminal escape sequences.

    If the output is not a terminal, lines are neither wrapped nor cut, and tables are printed with tabs between cells.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        """Print on stdout, or on stderr."""
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape unsafe characters; rich calls this for every string that it prints, including the cells of tables."""
        return super().render_str(shown(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does; in tables, text that is too long for its column continues on the next line."""
        for item in objects:
            if isinstance(item, Table):
                self._print_table(item)
        others = [item for item in objects if not isinstance(item, Table)]
        if others or not objects:
            super().print(*others, **{"soft_wrap": not self.is_terminal, **options})

    def print_cells(self, cells: Iterable[str]) -> None:
        """Print one line of a table with tabs between the cells, for programs to read."""
        self.file.write("\t".join(shown(cell) for cell in cells) + "\n")

    def _print_table(self, table: Table) -> None:
        if self.is_terminal:
            for column in table.columns:
                column.overflow = "fold"
            super().print(table)
            return
        if table.title:
            super().print(table.title, soft_wrap=True)
        self.print_cells(str(column.header) for column in table.columns)
        for cells in zip(*(column.cells for column in table.columns), strict=True):
            self.print_cells(map(str, cells))
