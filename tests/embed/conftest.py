"""A catalogue of rendered garments, two of them broken, in chunks of a few."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fashion_infer import Predictor
from fashion_infer.embed import catalogue


@pytest.fixture
def shop(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a table of nine photos: five are in a folder, the fourth is broken, the last missing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalogue, "CHUNK", 4)
    lines = ["path,id,price"]
    for number, picture in enumerate(sorted(pictures.iterdir())[:8]):
        shutil.copy(picture, tmp_path / f"{number}.png")
        name = f"{number}.png" if number < 5 else f"file://{tmp_path}/{number}.png"
        lines.append(f"{name},sku-{number},{10 * number}")
    (tmp_path / "3.png").write_text("no picture")
    (tmp_path / "list.csv").write_text("\n".join([*lines, "gone.png,sku-8,80"]) + "\n")
    return tmp_path


@pytest.fixture(scope="session")
def predictor(onnx_model: Path) -> Iterator[Predictor]:
    """Of the small model with random weights."""
    with Predictor(onnx_model, sessions=1, threads=1) as opened:
        yield opened
