"""`fashion-infer eval`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_eval_says_the_same_of_a_checkpoint_and_of_its_exported_file(
    run: Callable[..., Any], checkpoint: Path, onnx_model: Path, data: Path
) -> None:
    first, second = (
        run("eval", model, "--data", data, "--benchmark", "category", "--json") for model in (checkpoint, onnx_model)
    )
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    one, two = (json.loads(result.stdout)["category"] for result in (first, second))
    assert one["images"] == two["images"] == 8
    assert one["evaluation"]["landmark_error"] == pytest.approx(two["evaluation"]["landmark_error"], rel=1e-4)
    assert one["evaluation"]["category_top3"] == two["evaluation"]["category_top3"]
    assert one["published"] == {}


def test_eval_prints_a_table_and_what_the_model_does_not_know(
    run: Callable[..., Any], onnx_model: Path, data: Path
) -> None:
    result = run("eval", onnx_model, "--data", data)
    assert result.returncode == 0, result.stderr
    for words in ("category, 8 images", "retrieval_hit20", "attributes are not the model's", "each label counts as"):
        assert words in result.stdout
    assert "FashionNet in the paper" not in result.stdout


def test_eval_of_nothing(
    run: Callable[..., Any], fails: Callable[..., None], onnx_model: Path, data: Path, tmp_path: Path
) -> None:
    fails(run("eval", onnx_model, "--data", tmp_path), 1, "holds no benchmark of DeepFashion")
    fails(run("eval", tmp_path / "none.onnx", "--data", data), 2, "there is no model file")


def test_eval_in_another_runtime(
    run: Callable[..., Any], fails: Callable[..., None], checkpoint: Path, onnx_model: Path, data: Path
) -> None:
    words = ("--data", data, "--benchmark", "category", "--json", "--backend")
    one, two = (json.loads(run("eval", onnx_model, *words, name).stdout) for name in ("onnxruntime", "openvino"))
    one, two = (found["category"]["evaluation"] for found in (one, two))
    assert one["landmark_error"] == pytest.approx(two["landmark_error"], rel=1e-3)
    fails(run("eval", checkpoint, *words, "openvino"), 2, "is a checkpoint, which torch runs")
