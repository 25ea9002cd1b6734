"""The command line as people run it: a process, its output and its exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import fashion_infer
from fashion_infer import Predictor

ROOT = Path(__file__).parent.parent


def run(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fashion_infer.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300)


def fails(result: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two good photos and a bad one."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "c.png"):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (80, 60, 3), dtype=np.uint8))
    (folder / "b.jpg").write_text("this is no picture")
    return folder


def test_the_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"{fashion_infer.__version__}\n")


def test_help_names_every_command() -> None:
    shown = run("--help").stdout
    assert all(
        command in shown
        for command in ("predict", "export", "inspect", "bench", "models", "doctor", "train", "data", "demo")
    )


def test_predict_prints_a_table(onnx_model: Path, photos: Path) -> None:
    result = run("predict", onnx_model, photos / "a.jpg")
    assert result.returncode == 0, result.stderr
    assert "a.jpg" in result.stdout


def test_a_low_garment_score_is_said(onnx_model: Path, with_spec: Callable[[Any], Path], photos: Path) -> None:
    with Predictor(onnx_model) as predictor:
        spec = replace(predictor.spec, garment_weights=(0.0,) * 8, garment_bias=-1.0)
    doubted = run("predict", with_spec(spec), photos / "a.jpg")
    assert "no garment? (" in doubted.stdout
    assert "no garment?" not in run("predict", with_spec(replace(spec, garment_bias=1.0)), photos / "a.jpg").stdout


def test_one_bad_image_among_good_ones_is_named_and_the_others_are_done(onnx_model: Path, photos: Path) -> None:
    result = run("predict", onnx_model, photos, "--json")
    fails(result, 4, "1 of 3 images could not be used")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(line["image"]).name for line in lines] == ["a.jpg", "b.jpg", "c.png"]
    assert set(lines[1]) == {"image", "error"}
    assert lines[1]["error"]["type"] == "ImageError"
    assert {"categories", "attributes", "landmarks", "timing_ms", "box"} < set(lines[0])
    assert "embedding" not in lines[0]


def test_the_embedding_comes_when_asked(onnx_model: Path, photos: Path) -> None:
    (line,) = run("predict", onnx_model, photos / "a.jpg", "--json", "--embedding").stdout.splitlines()
    assert np.linalg.norm(json.loads(line)["embedding"]) == pytest.approx(1, abs=1e-5)


def test_pictures_are_saved(onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    result = run("predict", onnx_model, f"{photos}/*.jpg", "--save-vis", tmp_path / "drawn")
    assert result.returncode == 4
    (picture,) = (tmp_path / "drawn").iterdir()
    assert picture.name.endswith("a.jpg.jpg")
    assert cv2.imread(str(picture)) is not None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "nothing.onnx", "a.jpg"], 2, "there is no model"),
        (["predict", "{bad_model}", "a.jpg"], 3, "is not an ONNX file"),
        (["predict", "{onnx_model}", "nothing.jpg"], 4, "nothing.jpg cannot be read: No such file or directory"),
        (["predict", "{onnx_model}", "{empty}"], 4, "holds no images"),
        (["predict", "{onnx_model}", "a.jpg", "--device", "tpu"], 3, "unknown device 'tpu'"),
        (["predict", "{onnx_model}", "a.jpg", "--max-batch", "0"], 2, "max_batch must be at least 1"),
        (["predict", "{onnx_model}"], 2, "Missing argument 'inputs'"),
        (["inspect", "nothing.onnx"], 2, "there is no model file nothing.onnx"),
        (["inspect", "{bad_model}"], 3, "is not an ONNX file"),
        (["export", "nothing.safetensors"], 2, "there is no model file nothing.safetensors"),
        (["export", "{bad_model}"], 3, "{bad_model} is not"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_an_exit_code(
    arguments: list[str], code: int, message: str, onnx_model: Path, tmp_path: Path
) -> None:
    places = {"onnx_model": onnx_model, "bad_model": tmp_path / "bad.onnx", "empty": tmp_path / "empty"}
    places["bad_model"].write_text("no model")
    places["empty"].mkdir()
    result = run(*(argument.format(**places) for argument in arguments), folder=tmp_path)
    fails(result, code, message.format(**places))


def test_inspect(onnx_model: Path) -> None:
    assert json.loads(run("inspect", onnx_model, "--json").stdout)["spec"]["arch"] == "vgg16"
    assert "LandmarkPool" in run("inspect", onnx_model).stdout


def test_export_prints_its_parity_and_writes_beside_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(checkpoint.read_bytes())
    result = run("export", copy, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["parity"]["same_cells"] > 0.5
    assert (tmp_path / "model.onnx").is_file()


def test_a_checkpoint_that_was_never_trained_warns_when_it_predicts(
    checkpoint: Path, tmp_path: Path, photos: Path
) -> None:
    from fashion_infer.training.checkpoint import load_checkpoint, save_checkpoint

    network, spec = load_checkpoint(checkpoint)
    save_checkpoint(tmp_path / "m.safetensors", network, type(spec)(**{**vars(spec), "trained": False}))
    assert run("export", tmp_path / "m.safetensors").returncode == 0
    result = run("predict", tmp_path / "m.onnx", photos / "a.jpg")
    assert result.returncode == 0
    assert "random weights" in result.stderr


def test_doctor() -> None:
    result = run("doctor", "--json")
    assert result.returncode == 0
    facts = json.loads(result.stdout)
    assert facts["installed"]["onnxruntime"]
    assert facts["backends"][0]["works"]
    assert run("doctor").returncode == 0
