"""The demos' report: one HTML page with its pictures inside."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fashion_infer.bench.report import COLUMNS, NAMES
from fashion_infer.bench.statistics import Estimate
from fashion_infer.files import write_atomically
from fashion_infer.images import Pixels
from fashion_infer.pictures import encode_jpeg
from fashion_infer.prediction import Prediction
from fashion_infer.text import shown

REPORT = "report.html"

_STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; align-items: start }
figure { margin: 0 } img { width: 100% } figcaption { font-size: 14px; color: #444 }
td, th { text-align: left; padding: .1rem 1rem .1rem 0 } td + td { font-variant-numeric: tabular-nums }"""


def write_report(path: Path, sections: Iterable[str]) -> None:
    """Write the page; each section is HTML."""
    page = f"<!doctype html><meta charset=utf-8><title>fashion-infer demo</title><style>{_STYLE}</style>"
    text = page + "<h1>fashion-infer demo</h1>" + "\n".join(sections) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def pictures(title: str, predictions: Sequence[Prediction], names: Sequence[str] | None = None) -> str:
    """Predictions drawn on their images, above a name each: the images' own unless given."""
    given = names or [Path(prediction.image or "").name for prediction in predictions]
    figures = "\n".join(_figure(prediction, name) for prediction, name in zip(predictions, given, strict=True))
    return f"<h2>{html.escape(title)}</h2><div class=pictures>{figures}</div>"


def _figure(prediction: Prediction, name: str) -> str:
    if prediction.error is not None:
        return f"<figure><figcaption>{html.escape(shown(str(prediction.error)))}</figcaption></figure>"
    words = ", ".join(f"{label.name} {label.score:.2f}" for label in prediction.categories[:3])
    picture = f"<img alt='{html.escape(words)}' src='{data_uri(prediction.plot())}'>"
    garment = "" if prediction.is_garment is None else f"a garment: {prediction.is_garment:.2f}"
    caption = "; ".join(words for words in (shown(name), garment) if words)
    return f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>"


def data_uri(pixels: Pixels) -> str:
    """A picture as the address of an image inside the page."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(pixels)).decode()


def latency(found: Mapping[str, Mapping[str, Estimate | None]]) -> str:
    """What `fashion_infer.bench.scenarios.quick` gave, as a table."""
    cells = {NAMES[name]: ["-" if cell is None else str(cell) for cell in row.values()] for name, row in found.items()}
    return table("Latency of one image, ms", cells, COLUMNS)


def machine(facts: Mapping[str, Any]) -> str:
    """What `fashion_infer.bench.environment.environment` gave, as a table."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    known = {name: [str(value)] for name, value in facts.items() if value is not None}
    return table("Measured on", known | {"packages": [versions]})


def table(title: str, rows: Mapping[str, Iterable[str]], columns: Iterable[str] = ()) -> str:
    """Rows by name; `columns` are the heads of their cells."""
    head = "".join(f"<th>{html.escape(column)}" for column in columns)
    lines = [
        f"<tr><td>{html.escape(name)}" + "".join(f"<td>{html.escape(cell)}" for cell in cells)
        for name, cells in rows.items()
    ]
    first = f"<tr><th>{head}" if head else ""
    return f"<h2>{html.escape(title)}</h2><table>{first}{''.join(lines)}</table>"
