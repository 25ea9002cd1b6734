"""`fashion-infer export` of a checkpoint; engines are in tests/tensorrt, int8 in tests/export."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_export_prints_its_parity_and_writes_beside_the_checkpoint(
    run: Callable[..., Any], checkpoint: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(checkpoint.read_bytes())
    result = run("export", copy, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["parity"]["same_cells"] > 0.5
    assert (tmp_path / "model.onnx").is_file()
