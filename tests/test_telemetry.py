"""A child process predicts with each runtime, then its home is searched for what the makers' statistics leave there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fashion_infer.models import find_model

MODEL = str(find_model("fashionnet-lite-int8"))
PREDICT = """
import sys, time
import numpy as np
from fashion_infer import Predictor
with Predictor(sys.argv[1], backend=sys.argv[2]) as predictor:
    predictor.predict(np.zeros((9, 9, 3), np.uint8))
time.sleep(3)
"""
UNGUARDED = {
    "onnxruntime": "import sys, time, onnxruntime; onnxruntime.InferenceSession(sys.argv[1]); time.sleep(3)",
    "openvino": "import openvino, time; time.sleep(3)",
}


def files_left_by(code: str, backend: str, home: Path) -> list[str]:
    """The files in the home of a child that looks like no CI, without a network where that is allowed."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")}
    offline = ["unshare", "--net"] if _may_unshare() else []
    result = subprocess.run(
        [*offline, sys.executable, "-c", code, MODEL, backend],
        capture_output=True, text=True, timeout=120, env={**kept, "HOME": str(home)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def _may_unshare() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "--net", "true"], capture_output=True).returncode == 0


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_predicting_leaves_no_statistics(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend)
    left = files_left_by(PREDICT, backend, tmp_path)
    assert [name for name in left if not name.startswith(".cache/fashion-infer/")] == []


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_runtime_alone_leaves_some(backend: str, tmp_path: Path) -> None:
    """Or the test above could not fail."""
    pytest.importorskip(backend)
    assert files_left_by(UNGUARDED[backend], backend, tmp_path)


def test_what_the_user_set_is_kept() -> None:
    code = "import fashion_infer, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert result.stdout == "0\n"
