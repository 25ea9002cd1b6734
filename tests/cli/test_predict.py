"""`fashion-infer predict`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fashion_infer import Predictor


def test_predict_prints_a_table(run: Callable[..., Any], onnx_model: Path, photos: Path) -> None:
    result = run("predict", onnx_model, photos / "a.jpg")
    assert result.returncode == 0, result.stderr
    assert "a.jpg" in result.stdout


def test_a_low_garment_score_is_said(
    run: Callable[..., Any], onnx_model: Path, with_spec: Callable[[Any], Path], photos: Path
) -> None:
    with Predictor(onnx_model) as predictor:
        spec = replace(predictor.spec, garment_weights=(0.0,) * 8, garment_bias=-1.0)
    doubted = run("predict", with_spec(spec), photos / "a.jpg")
    assert "no garment? (" in doubted.stdout
    assert "no garment?" not in run("predict", with_spec(replace(spec, garment_bias=1.0)), photos / "a.jpg").stdout


def test_one_bad_image_among_good_ones_is_named_and_the_others_are_done(
    run: Callable[..., Any], fails: Callable[..., None], onnx_model: Path, photos: Path
) -> None:
    result = run("predict", onnx_model, photos, "--json")
    fails(result, 4, "1 of 3 images could not be used")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(line["image"]).name for line in lines] == ["a.jpg", "b.jpg", "c.png"]
    assert set(lines[1]) == {"image", "error"}
    assert lines[1]["error"]["type"] == "ImageError"
    assert {"categories", "attributes", "landmarks", "timing_ms", "box"} < set(lines[0])
    assert "embedding" not in lines[0]


def test_the_embedding_comes_when_asked(run: Callable[..., Any], onnx_model: Path, photos: Path) -> None:
    (line,) = run("predict", onnx_model, photos / "a.jpg", "--json", "--embedding").stdout.splitlines()
    assert np.linalg.norm(json.loads(line)["embedding"]) == pytest.approx(1, abs=1e-5)


def test_pictures_are_saved(run: Callable[..., Any], onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    result = run("predict", onnx_model, f"{photos}/*.jpg", "--save-vis", tmp_path / "drawn")
    assert result.returncode == 4
    (picture,) = (tmp_path / "drawn").iterdir()
    assert picture.name.endswith("a.jpg.jpg")
    assert cv2.imread(str(picture)) is not None


def test_a_checkpoint_that_was_never_trained_warns_when_it_predicts(
    run: Callable[..., Any], checkpoint: Path, tmp_path: Path, photos: Path
) -> None:
    from fashion_infer.training.checkpoint import load_checkpoint, save_checkpoint

    network, spec = load_checkpoint(checkpoint)
    save_checkpoint(tmp_path / "m.safetensors", network, type(spec)(**{**vars(spec), "trained": False}))
    assert run("export", tmp_path / "m.safetensors").returncode == 0
    result = run("predict", tmp_path / "m.onnx", photos / "a.jpg")
    assert result.returncode == 0
    assert "random weights" in result.stderr


def test_a_backend_by_its_name(
    run: Callable[..., Any], fails: Callable[..., None], onnx_model: Path, photos: Path
) -> None:
    lines = [
        json.loads(run("predict", onnx_model, photos / "a.jpg", "--json", "--backend", backend).stdout)
        for backend in ("onnxruntime", "openvino")
    ]
    scores = [[category["score"] for category in line["categories"]] for line in lines]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    fails(run("predict", onnx_model, photos / "a.jpg", "--backend", "tflite"), 2, "there is no backend 'tflite'")
