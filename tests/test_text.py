import io
import os

import pytest
from rich.table import Table

from fashion_infer.text import UserConsole, shown

NAMES = [
    ("dress[bold].jpg", "dress[bold].jpg"),
    ("c[/red]/d.jpg", "c[/red]/d.jpg"),
    (":heart:.jpg", ":heart:.jpg"),
    ("a\x1b[31mb\x07.jpg", r"a\x1b[31mb\x07.jpg"),
    ("a\x9b31mb.jpg", r"a\x9b31mb.jpg"),
    ("a\nerror: b\r\t.jpg", r"a\nerror: b\r\t.jpg"),
    ("gpj.\u202exe", r"gpj.\u202exe"),
    (os.fsdecode(b"Stra\xdfe.jpg"), r"Stra\xdfe.jpg"),
    ("\ud800.jpg", r"\ud800.jpg"),
    ("衣服 Straße 👗 \u0301.jpg", "衣服 Straße 👗 \u0301.jpg"),
    ("a" * 200 + "1.jpg", "a" * 200 + "1.jpg"),
]


def console(terminal: bool, width: int = 80) -> tuple[UserConsole, io.StringIO]:
    opened = UserConsole()
    opened.file = file = io.StringIO()
    opened._force_terminal = terminal
    opened.width = width
    opened.no_color = True
    return opened, file


@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_names_are_printed_literally(name: str, expected: str) -> None:
    assert shown(name) == expected
    for terminal in (False, True):
        opened, file = console(terminal, width=1000)
        opened.print(name)
        assert file.getvalue().rstrip("\n") == expected
        file.getvalue().encode()


@pytest.mark.parametrize(("name", "expected"), NAMES)
def test_without_a_terminal_the_cells_of_a_table_are_not_cut(name: str, expected: str) -> None:
    opened, file = console(terminal=False)
    table = Table("image", "category", title="two images")
    table.add_row(name, "Tee 0.90")
    table.add_row("b", "[red]")
    opened.print(table, "the end")
    assert file.getvalue() == f"two images\nimage\tcategory\n{expected}\tTee 0.90\nb\t[red]\nthe end\n"


def test_on_a_terminal_a_long_name_continues_on_the_next_line() -> None:
    opened, file = console(terminal=True)
    table = Table("image", "category")
    long = "".join(f"{number:03}" for number in range(100)) + ".jpg"
    table.add_row(long, "Tee 0.90")
    opened.print(table)
    cells = [line.split("│")[1].strip() for line in file.getvalue().splitlines() if line.startswith("│")]
    assert "".join(cells) == long
    assert "…" not in file.getvalue()
