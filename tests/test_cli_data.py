"""The commands that read a data set, as people run them: a process, its output and its exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open

from fashion_infer.synthetic.dataset import write_dataset

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-c", "from fashion_infer.cli import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
SMALL = ("--arch", "vgg16", "--width", "0.03", "--image-size", "32", "--batch-size", "4", "--workers", "0")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300)


def fails(result: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "set"
    write_dataset(root, images=40, seed=5, size=64, jobs=1, progress=False)
    return root


def test_eval_says_the_same_of_a_checkpoint_and_of_its_exported_file(
    checkpoint: Path, onnx_model: Path, data: Path
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


def test_eval_prints_a_table_and_what_the_model_does_not_know(onnx_model: Path, data: Path) -> None:
    result = run("eval", onnx_model, "--data", data)
    assert result.returncode == 0, result.stderr
    for words in ("category, 8 images", "retrieval_hit20", "attributes are not the model's", "each label counts as"):
        assert words in result.stdout
    assert "FashionNet in the paper" not in result.stdout


def test_eval_of_nothing(onnx_model: Path, data: Path, tmp_path: Path) -> None:
    fails(run("eval", onnx_model, "--data", tmp_path), 1, "holds no benchmark of DeepFashion")
    fails(run("eval", tmp_path / "none.onnx", "--data", data), 2, "there is no model file")


def test_data_check_of_a_whole_and_of_a_damaged_set(data: Path, tmp_path: Path) -> None:
    result = run("data", "check", data)
    assert result.returncode == 0, result.stderr
    assert "images 40 (official 289,222)" in result.stdout
    damaged = tmp_path / "category_attribute"
    for path in (data / "category_attribute").rglob("*"):
        if path.is_file():
            (damaged / path.relative_to(data / "category_attribute")).parent.mkdir(parents=True, exist_ok=True)
            (damaged / path.relative_to(data / "category_attribute")).write_bytes(path.read_bytes())
    boxes = damaged / "Anno/list_bbox.txt"
    boxes.write_text(boxes.read_text().replace("\n", " 7\n", 4))
    result = run("data", "check", tmp_path, "--no-images")
    assert result.returncode == 1
    assert "wrong: Anno/list_bbox.txt:4" in result.stdout
    result = run("data", "check", tmp_path, "--no-images", "--json")
    assert result.returncode == 1
    assert not json.loads(result.stdout)["ok"]


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
    options: tuple[str, ...], code: int, message: str, data: Path, tmp_path: Path
) -> None:
    fails(run("train", "--data", data / "category_attribute", "-o", tmp_path / "run", *options), code, message)


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", data / "category_attribute", "-o", tmp_path, *SMALL, "--epochs", "200"]
    command = [*COMMAND, *map(str, arguments), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True)
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
