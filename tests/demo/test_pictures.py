"""The demo of the built-in model, run without torch and without a network."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fashion_infer.demo import pictures as demo
from fashion_infer.errors import ImageError
from fashion_infer.predictor import Predictor
from fashion_infer.synthetic.dataset import to_jpeg
from fashion_infer.synthetic.rendering import render

ROOT = Path(__file__).parents[2]
PICTURES = demo.SHOWN + 1 + len(demo.WITHOUT_GARMENT)
SEARCHES = 3
PROGRAM = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError("the demo opens the network")
    if event == "import" and arguments[0].split(".")[0] in ("torch", "timm", "onnx", "onnxscript", "safetensors"):
        raise ModuleNotFoundError(f"No module named {arguments[0]!r}", name=arguments[0])

sys.addaudithook(refuse)
from fashion_infer.demo import pictures as demo
from fashion_infer.cli import main

demo.BENCH_SECONDS = 0.5
sys.argv[1:] = ["demo", "--photos", "photos"]
main()
"""


def test_the_demo_needs_no_torch_and_no_network_and_leaves_a_report(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "my <b>coat.jpg").write_bytes(to_jpeg(render(1, 0)))
    (photos / "torn.jpg").write_text("no picture")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["report.html"]
    page = (tmp_path / "demo" / "report.html").read_text()
    assert len(re.findall("src='data:image/jpeg;base64,[A-Za-z0-9+/=]{1000,}'", page)) == PICTURES + 1 + SEARCHES
    assert "my &lt;b&gt;coat" in page
    assert "torn.jpg is not an image" in page
    assert len(re.findall("a garment: [01][.]", page)) == PICTURES + 1
    assert "<figcaption>;" not in page  # no picture lacks a name
    assert not re.search("(src|href)=['\"]?(http|//)", page)  # it needs no other file


def test_a_folder_without_photos_is_said_first(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no images"):
        demo.run_demo(tmp_path / "demo", tmp_path, Console(file=io.StringIO()))
    assert not (tmp_path / "demo").exists()


def test_the_examples_are_of_categories_that_the_model_knows() -> None:
    with Predictor(demo.MODEL) as predictor:
        shown = demo.examples(predictor, 5)
        assert len({example.name for example in shown}) == 5
        assert {example.name for example in shown} <= set(predictor.spec.categories)
    for example in shown:
        assert example.prediction.box == example.garment.box
