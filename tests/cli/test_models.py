"""`fashion-infer inspect`; `models` is in tests/test_models.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_inspect(run: Callable[..., Any], onnx_model: Path) -> None:
    assert json.loads(run("inspect", onnx_model, "--json").stdout)["spec"]["arch"] == "vgg16"
    assert "LandmarkPool" in run("inspect", onnx_model).stdout
