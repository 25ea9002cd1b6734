"""The sections of the demos' reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fashion_infer.bench.report import COLUMNS, NAMES
from fashion_infer.bench.statistics import Estimate
from fashion_infer.prediction import Prediction
from fashion_infer.web_page import facts, figure, gallery, section, table

REPORT = "report.html"
TITLE = "fashion-infer demo"


def pictures(title: str, predictions: Sequence[Prediction], names: Sequence[str] | None = None) -> str:
    """Return a section with predictions drawn on their images; the name below each is by default that of its file."""
    names = names or [Path(prediction.image or "").name for prediction in predictions]
    return section(title, gallery(_figure(*pair) for pair in zip(predictions, names, strict=True)))


def _figure(prediction: Prediction, name: str) -> str:
    if prediction.error is not None:
        return figure(None, "", str(prediction.error))
    categories = ", ".join(f"{label.name} {label.score:.2f}" for label in prediction.categories[:3])
    garment = "" if prediction.is_garment is None else f"a garment: {prediction.is_garment:.2f}"
    return figure(prediction.plot(), categories, "; ".join(words for words in (name, garment) if words))


def latency(percentiles: Mapping[str, Mapping[str, Estimate | None]]) -> str:
    """Return a section with the percentiles from `fashion_infer.bench.scenarios.quick` as a table."""
    rows = [
        [NAMES[name], *("-" if value is None else str(value) for value in row.values())]
        for name, row in percentiles.items()
    ]
    return section("Latency of one image", table(["milliseconds", *COLUMNS], rows))


def machine(environment: Mapping[str, Any]) -> str:
    """Return a section with the result of `fashion_infer.bench.environment.environment` as a list."""
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    values = {name: str(value) for name, value in environment.items() if value is not None}
    return section("Measured on", facts(values | {"packages": versions}))
