"""`fashion-infer data`."""

import json
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
