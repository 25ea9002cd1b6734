"""`fashion-infer eval`."""

import json
import shutil
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
    assert one["evaluation"]["landmark_error_box"] == pytest.approx(two["evaluation"]["landmark_error_box"], rel=1e-4)
    assert one["evaluation"]["category_top3"] == two["evaluation"]["category_top3"]
    assert one["published"] == {}


def test_eval_prints_a_table_and_what_the_model_does_not_know(
    run: Callable[..., Any], onnx_model: Path, data: Path
) -> None:
    result = run("eval", onnx_model, "--data", data)
    assert result.returncode == 0, result.stderr
    for words in (
        "category, 8 images",
        "retrieval_hit1",
        "retrieval by kind",
        "TOPS/Blazer",
        "attributes are not the model's",
        "each label counts as",
    ):
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
    one, two = (report["category"]["evaluation"] for report in (one, two))
    assert one["landmark_error_box"] == pytest.approx(two["landmark_error_box"], rel=1e-3)
    fails(run("eval", checkpoint, *words, "openvino"), 2, "is a checkpoint, which torch runs")


def test_eval_goes_on_where_one_benchmark_fails(
    run: Callable[..., Any], onnx_model: Path, data: Path, tmp_path: Path
) -> None:
    for name in ("category_attribute", "in_shop"):
        shutil.copytree(data / name, tmp_path / name)
    shutil.rmtree(tmp_path / "in_shop/Img")
    result = run("eval", onnx_model, "--data", tmp_path, "--json")
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert report["category"]["images"] == 8
    assert "no image of the set can be read" in report["in_shop"]["error"]
    assert "in_shop could not be judged: no image of the set" in result.stderr


def test_eval_keeps_every_rank_in_json(run: Callable[..., Any], onnx_model: Path, data: Path) -> None:
    result = run("eval", onnx_model, "--data", data, "--benchmark", "consumer_to_shop", "--json")
    judged = json.loads(result.stdout)["consumer_to_shop"]
    ranks = [query["ranks"] for query in judged["ranks"]]
    assert judged["evaluation"]["retrieval_hit1"] == sum(own[0] <= 1 for own in ranks) / len(ranks)
    precisions = [sum(i / rank for i, rank in enumerate(own, 1)) / len(own) for own in ranks]
    assert judged["evaluation"]["retrieval_map"] == pytest.approx(sum(precisions) / len(precisions))


def test_eval_of_views(
    run: Callable[..., Any], fails: Callable[..., None], onnx_model: Path, data: Path, photos: Path
) -> None:
    result = run("eval", onnx_model, "--data", photos, "--views")
    assert result.returncode == 0, result.stderr
    for words in ("photos: views of 2 photos among 2", "views_recall1", "1 photos could not be used: b.jpg"):
        assert words in result.stdout
    result = run("eval", onnx_model, "--data", data, "--benchmark", "category", "--views", "--seed", 3, "--json")
    report = json.loads(result.stdout)["category"]
    assert (report["photos"], report["queries"]) == (40, 8)
    assert 0 <= report["unlike_views_recall1"] <= report["unlike_views_recall10"] <= 1
    assert 0 <= report["neighbours_same_category"] <= 1
    settings = ("eval", onnx_model, "--data", data)
    fails(run(*settings, "--seed", 3), 2, "--seed and --senders go with --views")
    fails(run(*settings, "--views", "--highres"), 2, "do not go with --views")
    fails(run(*settings, "--gallery", "val+test", "--split", "val"), 2, "--gallery is of the test split")
    fails(run(*settings, "--gallery", "val+test", "--benchmark", "category"), 2, "--gallery is of the test split")
    fails(run(*settings, "--gallery", "val+test", "--benchmark", "retrieval"), 2, "--gallery is of the test split")
    settings = ("eval", onnx_model, "--data", data / "category_attribute")
    fails(run(*settings, "--gallery", "val+test"), 1, "holds no benchmark with a gallery 'val+test'")
    settings = ("eval", onnx_model, "--data", data)
    fails(run(*settings, "--gallery", "all"), 2, "--gallery is test or val+test, got 'all'")
