"""The training demo (`make demo-train`) with small settings."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fashion_infer.demo import training as demo
from fashion_infer.errors import ImageError
from fashion_infer.predictor import Predictor
from fashion_infer.synthetic.dataset import to_jpeg
from fashion_infer.synthetic.rendering import render


def test_the_chain_leaves_a_model_and_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "IMAGES", 48)
    monkeypatch.setattr(demo, "SHOWN", 4)
    monkeypatch.setattr(demo, "BENCH_SECONDS", 0.5)
    monkeypatch.setattr(demo, "CONFIG", replace(demo.CONFIG, epochs=1, image_size=64, workers=0))
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "my <b>coat.jpg").write_bytes(to_jpeg(render(1, 0)))
    (photos / "torn.jpg").write_text("no picture")
    report = demo.run_training_demo(tmp_path / "demo", photos, Console(file=io.StringIO()))
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"fashionnet.onnx", "report.html"}
    page = report.read_text()
    assert len(re.findall("<img ", page)) == demo.SHOWN + 2
    assert len(re.findall("src='data:image/jpeg;base64,[A-Za-z0-9+/=]{1000,}'", page)) == demo.SHOWN + 2
    assert "my &lt;b&gt;coat" in page
    assert "torn.jpg is not an image" in page
    assert "nothing about DeepFashion" in page
    assert not re.search("(src|href)=['\"]?(http|//)", page)  # it needs no other file
    with Predictor(tmp_path / "demo" / "fashionnet.onnx") as predictor:
        assert predictor.spec.trained


def test_a_folder_without_photos_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no images"):
        demo.run_training_demo(tmp_path / "demo", tmp_path, Console(file=io.StringIO()))
    assert not (tmp_path / "demo").exists()
