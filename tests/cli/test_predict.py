"""`fashion-infer predict`."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fashion_infer import Predictor
from fashion_infer.text import shown


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


def test_a_model_that_was_never_trained_warns_when_it_predicts(
    run: Callable[..., Any], onnx_model: Path, with_spec: Callable[..., Path], photos: Path
) -> None:
    with Predictor(onnx_model) as predictor:
        spec = replace(predictor.spec, trained=False)
    assert "random weights" not in run("predict", onnx_model, photos / "a.jpg").stderr
    result = run("predict", with_spec(spec), photos / "a.jpg")
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


# ---- names to the letter, bad things that spoil nothing, and what cannot be written

MODEL = "fashionnet-lite"
NAMES = [
    "dress[bold].jpg",
    "c[/red]/a.jpg",
    ":heart:.jpg",
    "a\x1b[31mred.jpg",
    "new\nline.jpg",
    os.fsdecode(b"Stra\xdfe.jpg"),
    "衣服.jpg",
    "x" * 200 + "1.jpg",
    "x" * 200 + "2.jpg",
    "a/b.jpg",
    "a_b.jpg",
]


@pytest.fixture(scope="module")
def odd_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "photos"
    picture = cv2.imencode(".jpg", np.full((64, 48, 3), 90, np.uint8))[1].tobytes()
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture)
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_any_name_is_printed_whole_and_its_picture_written(
    command: list[str], environment: dict[str, str], odd_names: Path, tmp_path: Path, encoding: str
) -> None:
    words = [*command, "predict", MODEL, ".", "--save-vis", str(tmp_path / "drawn")]
    settings = environment | {"COLUMNS": "80", "PYTHONIOENCODING": encoding}
    result = subprocess.run(words, capture_output=True, env=settings, cwd=odd_names, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert b"\x1b" not in result.stdout + result.stderr
    head, *lines = result.stdout.decode(encoding).splitlines()
    assert head.split("\t")[0] == "image"
    letters = [shown(name).encode(encoding, "backslashreplace").decode(encoding) for name in NAMES]
    assert sorted(line.split("\t")[0] for line in lines) == sorted(letters)
    assert len(list((tmp_path / "drawn").iterdir())) == len(NAMES)


def test_json_gives_the_very_names(run: Callable[..., Any], odd_names: Path) -> None:
    result = run("predict", MODEL, ".", "--json", folder=odd_names)
    assert sorted(json.loads(line)["image"] for line in result.stdout.splitlines()) == sorted(NAMES)


def test_each_bad_input_fails_alone(
    run: Callable[..., Any], fails: Callable[..., None], photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "IMG_1").write_bytes((photos / "a.jpg").read_bytes())
    (tmp_path / "some" / "b.heic").write_bytes(b"-")
    bad = ["empty", "none/*.jpg", "https://a.b/c.jpg", "x" * 300, os.fsdecode(b"\xdf.jpg")]
    result = run("predict", MODEL, *bad, photos / "a.jpg", "some", "--json", folder=tmp_path)
    fails(result, 4, "5 of 7 images could not be used")
    assert "some: skipped 1 of 2 files: 1 .heic (no decoder for it)" in result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["image"] for line in lines if "error" in line} == {*bad}
    assert [line["image"] for line in lines if "error" not in line] == [str(photos / "a.jpg"), "some/IMG_1"]


def test_pictures_are_drawn_on_what_was_decoded(
    command: list[str], environment: dict[str, str], photos: Path, tmp_path: Path
) -> None:
    Image.new("1", (9000, 8000)).save(tmp_path / "large.png")
    words = [*command, "predict", MODEL, "/dev/stdin", str(tmp_path / "large.png"), "--max-pixels", "100000000"]
    words += ["--save-vis", str(tmp_path / "drawn")]
    content = (photos / "a.jpg").read_bytes()
    result = subprocess.run(words, input=content, capture_output=True, env=environment, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "drawn").iterdir())) == 2


LIMITED = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
LIMITED += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "


def test_pictures_that_cannot_be_written_are_counted_and_the_results_printed(
    command: list[str], environment: dict[str, str], photos: Path, tmp_path: Path
) -> None:
    words = [*command[:2], LIMITED + command[2], "predict", MODEL, str(photos / "a.jpg"), str(photos / "c.png")]
    words += ["--save-vis", str(tmp_path / "drawn")]
    result = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert result.returncode == 1, result.stderr
    assert result.stderr.count("cannot be written: File too large") == 2
    assert f"2 of 2 pictures could not be written to {tmp_path / 'drawn'}" in result.stderr
    assert result.stdout.count(str(photos)) == 2
    assert not list((tmp_path / "drawn").iterdir())


def test_a_file_is_no_folder_for_pictures(run: Callable[..., Any], fails: Callable[..., None], photos: Path) -> None:
    result = run("predict", MODEL, photos / "a.jpg", "--save-vis", photos / "b.jpg")
    fails(result, 2, f"{photos / 'b.jpg'} cannot be a folder of pictures: File exists")


def test_an_embedding_has_no_place_in_the_table(
    run: Callable[..., Any], fails: Callable[..., None], photos: Path
) -> None:
    fails(run("predict", MODEL, photos / "a.jpg", "--embedding"), 2, "--embedding goes with --json")
    fails(run("predict", MODEL, photos, "--embedding", "--format", "csv"), 2, "csv has no room for it")


# ---- formats


def test_json_is_one_of_the_formats(run: Callable[..., Any], fails: Callable[..., None], photos: Path) -> None:
    lines = run("predict", MODEL, photos / "a.jpg", "--format", "json", "--embedding").stdout.splitlines()
    assert len(json.loads(lines[0])["embedding"]) == 256
    result = run("predict", MODEL, photos / "a.jpg", "--json", "--format", "csv")
    fails(result, 2, "--json and --format csv are two formats: give one of them")


def test_csv_has_a_line_an_image(run: Callable[..., Any], fails: Callable[..., None], photos: Path) -> None:
    result = run("predict", MODEL, photos, "--format", "csv")
    fails(result, 4, "1 of 3 images could not be used")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [Path(row["image"]).name for row in rows] == ["a.jpg", "b.jpg", "c.png"]
    assert rows[1]["error"].startswith("ImageError: ")
    assert (rows[0]["width"], rows[0]["error"], rows[1]["category"]) == ("60", "", "")
    assert 0 < float(rows[0]["category_score"]) < 1
    assert rows[0]["left_hem_visibility"] in ("visible", "occluded", "truncated")


def test_coco_is_one_data_set(run: Callable[..., Any], fails: Callable[..., None], photos: Path) -> None:
    result = run("predict", MODEL, photos, "--format", "coco")
    fails(result, 4, "1 of 3 images could not be used")
    data = json.loads(result.stdout)
    assert [Path(image["file_name"]).name for image in data["images"]] == ["a.jpg", "c.png"]
    assert len(data["annotations"]) == 2
    assert [error["error"]["type"] for error in data["errors"]] == ["ImageError"]
    assert len(data["categories"]) == 39


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without /dev/full")
def test_a_full_disk_behind_stdout_is_said(command: list[str], environment: dict[str, str], photos: Path) -> None:
    words = [*command, "predict", MODEL, str(photos / "a.jpg"), "--json"]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            words, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=300, check=False
        )
    assert (result.returncode, result.stderr.strip()) == (1, "error: No space left on device")
