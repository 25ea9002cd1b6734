"""`fashion-infer train`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from fashion_infer.cli import main
from fashion_infer.model_spec import ModelSpec
from tests.training.own import paint, small_network

SMALL = ("--arch", "vgg16", "--width", "0.03", "--image-size", "32", "--batch-size", "4", "--workers", "0")


@pytest.fixture
def refuses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Asserts that a command ends with an exit code and one message of ours.

    It runs in this process, which has loaded torch: loading it would take most of the time of each such command.
    """

    def refuses(arguments: Sequence[object], code: int, message: str) -> None:
        monkeypatch.setattr(sys, "argv", ["fashion-infer", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        complaint = capsys.readouterr().err
        assert end.value.code == code, complaint
        assert message in complaint

    return refuses


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--precision", "int8"), 2, "precision must be one of fp32, bf16, fp16"),
        (("--pooling", "roi", *SMALL), 2, "pooling must be one of"),
        (("--device", "gpu", *SMALL), 3, "torch cannot use device 'gpu'"),
        (("--resume", *SMALL), 1, "holds no run to resume"),
    ],
)
def test_train_says_what_it_cannot_do(
    refuses: Callable[..., None], options: tuple[str, ...], code: int, message: str, data: Path, tmp_path: Path
) -> None:
    arguments = ("train", "--data", data / "category_attribute", "-o", tmp_path / "run", *options)
    refuses(arguments, code, message)


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(
    command: list[str], environment: dict[str, str], data: Path, tmp_path: Path
) -> None:
    arguments = ["train", "--data", data / "category_attribute", "-o", tmp_path, *SMALL, "--epochs", "200"]
    command = [*command, *map(str, arguments), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    end = time.monotonic() + 120
    while not (tmp_path / "model.safetensors").exists() and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the workers too
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    steps = sum('"train"' in line for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert f"stopped after step {steps} of 1400, go on with --resume" in message
    assert "Traceback" not in message
    with safe_open(tmp_path / "state.safetensors", "np") as state:
        assert int(state.metadata()["step"]) == steps


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network."""
    from fashion_infer.training.checkpoint import save_checkpoint

    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_checkpoint(path, *small_network())
    return path


def test_own_categories(run: Callable[..., Any], small: Path, tmp_path: Path) -> None:
    paint(tmp_path / "own", {"Hat": 8, "Shoes": 8})
    paint(tmp_path / "test", {"Hat": 3, "Shoes": 3}, seed=1)
    paint(tmp_path / "none", {"bag": 8})
    options = ("--test", "test", "--none", "none", "-o", "own.safetensors")
    result = run("train", "--from", small, "--data", "own", *options, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "by cross-validation" in result.stdout
    assert "of 16 photos" in result.stdout
    assert "accuracy on the test folder" in result.stdout
    assert "of the photos of other things" in result.stdout
    assert "own.safetensors: fashion-infer export own.safetensors -o own.onnx" in result.stdout
    assert "fewer than 20 photos: Hat (8), Shoes (8)" in result.stderr
    assert json.loads((tmp_path / "own.report.json").read_text())["categories"] == ["Hat", "Shoes"]
    with safe_open(tmp_path / "own.safetensors", "np") as file:
        spec = ModelSpec.from_json(file.metadata()["fashion_infer.model_spec"])
    assert spec.categories == ("Hat", "Shoes")
    more = run("train", "--from", "own.safetensors", "--data", "none", "--add", "-o", "x.safetensors", folder=tmp_path)
    assert more.returncode == 1
    assert "there are photos of bag only" in more.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--from", "fashionnet-lite", "--epochs", "3"), 2, "--epochs cannot be used with --from"),
        (("--from", "nothing"), 2, "there is no model file nothing"),
        (("--from", "fashionnet-lite-int8"), 3, "is in int8: only an fp32 file holds the weights"),
        (("--add", "--none", "x"), 2, "--add, --none cannot be used without --from MODEL"),
        (("--from", "fashionnet-lite", "--add", "--unfreeze"), 2, "choose one"),
        (("--from", "fashionnet-lite"), 1, "no such folder"),
    ],
)
def test_own_categories_say_what_they_cannot_do(
    refuses: Callable[..., None], options: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    refuses(("train", "--data", tmp_path / "own", "-o", tmp_path / "own.safetensors", *options), code, message)
