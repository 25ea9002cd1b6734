"""`fashion-infer train`."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

SMALL = ("--arch", "vgg16", "--width", "0.03", "--image-size", "32", "--batch-size", "4", "--workers", "0")


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
    run: Callable[..., Any],
    fails: Callable[..., None],
    options: tuple[str, ...],
    code: int,
    message: str,
    data: Path,
    tmp_path: Path,
) -> None:
    fails(run("train", "--data", data / "category_attribute", "-o", tmp_path / "run", *options), code, message)


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
