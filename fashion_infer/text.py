"""Text that users wrote, such as the names of files and labels, printed to the letter and without harm."""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# control characters, among them those that begin a terminal's escapes; what turns the direction of writing;
# and surrogates, which stand for the bytes of a name that is not UTF-8
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    r"""The text with its control characters, and bytes that are not UTF-8, written as \x1b or \n.

    What is left can be printed on any terminal that shows Unicode, in one line.
    """
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte, as `os.fsdecode` keeps it
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()


class UserConsole(Console):
    """A console that takes strings for what they are: no markup, no emoji, nothing that a terminal would obey.

    Where no terminal shows it, lines are neither wrapped nor cut, and a table becomes lines of cells with tabs between.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        """Print on stdout, or on stderr."""
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is printed comes through this method of rich's, the cells of tables among them."""
        return super().render_str(shown(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; names that are too long for a column of a table are continued in its next line."""
        for thing in objects:
            if isinstance(thing, Table):
                self._print_table(thing)
        rest = [thing for thing in objects if not isinstance(thing, Table)]
        if rest or not objects:
            super().print(*rest, **{"soft_wrap": not self.is_terminal, **options})

    def print_cells(self, cells: Iterable[str]) -> None:
        """One line of a table, for those who read it by a program."""
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
