"""`fashion-infer data`."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_data_check_of_a_whole_and_of_a_damaged_set(run: Callable[..., Any], data: Path, tmp_path: Path) -> None:
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


def test_ctrl_c_ends_synth_soon_and_leaves_no_half_of_a_set(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    words = [*command, "data", "synth", str(tmp_path / "set"), "--images", "20000", "--size", "512"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    end = time.monotonic() + 120
    while not list(tmp_path.rglob("*.jpg")) and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the workers too
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert f"stopped: nothing is left in {tmp_path / 'set'}" in message
    assert "Traceback" not in message
    assert not list((tmp_path / "set").iterdir())
