"""HTML pages that need no other file, in one style, and the elements of the reports.

The functions take plain text, escape it, and return HTML.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from fashion_infer.files import write_atomically
from fashion_infer.images import Pixels
from fashion_infer.pictures import encode_jpeg
from fashion_infer.text import shown

COLOURS = {  # also used by plots and contact sheets
    "ink": "#1d1d1f",
    "muted": "#66666c",
    "line": "#dedcd6",
    "paper": "#ffffff",
    "panel": "#f6f4ef",
    "accent": "#0b6e66",
    "second": "#c26a1b",
    "third": "#5b4b9a",
    "good": "#0a7d32",
    "fair": "#a06a00",
    "poor": "#77777d",
}


@cache
def stylesheet() -> str:
    """The CSS of every page: the colours as custom properties, followed by style.css."""
    properties = "; ".join(f"--{name}: {colour}" for name, colour in COLOURS.items())
    return f":root {{ {properties} }}\n" + files("fashion_infer").joinpath("style.css").read_text(encoding="utf-8")


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Write a page.

    Args:
        path: path of the file to write.
        title: plain text, used as the heading too.
        sections: HTML of each section, such as the results of the functions below.

    Raises:
        OutputError: the file cannot be written.
    """
    head = (
        "<!doctype html>\n<html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escaped(title)}</title>\n<style>{stylesheet()}</style>\n<h1>{escaped(title)}</h1>\n"
    )
    page = head + "\n".join(sections) + "\n</html>\n"
    write_atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8", errors="backslashreplace"))


def escaped(text: str) -> str:
    """Escape text so that HTML shows it literally."""
    return html.escape(shown(text))


def section(title: str, *parts: str) -> str:
    """A heading with HTML below it."""
    return f"<h2>{escaped(title)}</h2>\n" + "\n".join(parts)


def paragraph(text: str, *, lead: bool = False) -> str:
    """A paragraph; `lead` marks the one to read first."""
    return f"<p class=lead>{escaped(text)}</p>" if lead else f"<p>{escaped(text)}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table of numbers; the first column names each row."""
    head = "".join(f"<th scope=col>{escaped(column)}" for column in columns)
    lines = (
        f"<tr><th scope=row>{escaped(first)}" + "".join(f"<td>{escaped(cell)}" for cell in cells)
        for first, *cells in rows
    )
    title = f"<caption>{escaped(caption)}</caption>" if caption else ""
    return f"<div class=scroll><table>{title}<thead><tr>{head}</thead><tbody>{''.join(lines)}</tbody></table></div>"


def facts(values: Mapping[str, str]) -> str:
    """A list of names with a text for each."""
    return "<dl>" + "".join(f"<dt>{escaped(name)}<dd>{escaped(value)}" for name, value in values.items()) + "</dl>"


def details(summary: str, *parts: str) -> str:
    """HTML that is folded away below a summary line."""
    return f"<details><summary>{escaped(summary)}</summary>\n" + "\n".join(parts) + "</details>"


def figure(pixels: Pixels | None, alternative: str, caption: str) -> str:
    """A picture, uint8 [H, W, 3] RGB, with a caption; without a picture the caption alone."""
    picture = "" if pixels is None else f"<img alt='{escaped(alternative)}' src='{_data_uri(pixels)}'>"
    return f"<figure>{picture}<figcaption>{escaped(caption)}</figcaption></figure>"


def gallery(figures: Iterable[str]) -> str:
    """Figures side by side, as many as the width has room for."""
    return f"<div class=pictures>{''.join(figures)}</div>"


def _data_uri(pixels: Pixels) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(pixels)).decode()
