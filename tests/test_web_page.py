"""Elements of HTML pages: all text is escaped, and pages fetch no other file."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fashion_infer.errors import OutputError
from fashion_infer.web_page import (
    COLOURS,
    details,
    facts,
    figure,
    gallery,
    paragraph,
    section,
    stylesheet,
    table,
    write_page,
)

ODD = "<b>&\x1b'\""
SAFE = "&lt;b&gt;&amp;\\x1b&#x27;&quot;"


@pytest.mark.parametrize(
    "html",
    [
        section(ODD),
        paragraph(ODD),
        table([ODD], []),
        table(["a"], [[ODD]]),
        table(["a", "b"], [["c", ODD]]),
        table(["a"], [], ODD),
        facts({ODD: "a"}),
        facts({"a": ODD}),
        details(ODD),
        figure(None, "", ODD),
        figure(np.zeros((4, 4, 3), np.uint8), ODD, ""),
    ],
)
def test_text_is_shown_literally(html: str) -> None:
    assert SAFE in html
    assert "<b>" not in html


def test_a_table_names_its_columns_and_rows() -> None:
    html = table(["ms", "p50", "p90"], [["decode", "1.0", "2.0"], ["compute", "3.0", "4.0"]], "stages")
    assert re.findall(r"<th scope=col>([^<]*)", html) == ["ms", "p50", "p90"]
    assert re.findall(r"<th scope=row>([^<]*)", html) == ["decode", "compute"]
    assert re.findall(r"<td>([^<]*)", html) == ["1.0", "2.0", "3.0", "4.0"]
    assert "<caption>stages</caption>" in html


def test_the_style_uses_only_colours_that_are_defined() -> None:
    names = set(re.findall(r"var\(--([a-z]+)\)", stylesheet()))
    assert names <= set(COLOURS)
    assert not re.search(r"#[0-9a-f]{3,6}\b", stylesheet().split("\n", 1)[1])  # every colour is in COLOURS
    assert "url(" not in stylesheet()


def test_a_page_is_one_file_for_screens_of_any_width(tmp_path: Path) -> None:
    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.names.append(tag)

    picture = figure(np.zeros((4, 4, 3), np.uint8), "black", "a")
    write_page(tmp_path / "page.html", "Title", [section("One", paragraph("text", lead=True)), gallery([picture] * 3)])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.names.count("img") == 3
    assert tags.names.count("h1") == 1
    assert "width=device-width" in text
    assert not re.search(r"(src|href)=['\"]?(http|//)", text)
    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_page(tmp_path / "file" / "page.html", "Title", [])
