"""Engines on an NVIDIA GPU, by every installed flavour that supports it."""

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from fashion_infer import Predictor
from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
from fashion_infer.onnx_file import load_onnx
from fashion_infer.precision import TOLERANCES, to_precision
from fashion_infer.tensorrt.api import MODULES, load_tensorrt, supports
from fashion_infer.tensorrt.build import BuildOptions, build_engine

rt = pytest.importorskip("cuda.bindings.runtime")

from fashion_infer.tensorrt.cuda import find_gpu  # noqa: E402
from fashion_infer.tensorrt.session import TensorRTBackend  # noqa: E402

HAS_GPU = rt.cudaGetDeviceCount()[0] == rt.cudaError_t.cudaSuccess


def _runnable() -> list[str]:
    """The installed flavours that have kernels for this machine's GPU."""
    if not HAS_GPU:
        return []
    capability = find_gpu(0).compute_capability
    return [name for name, (module, _) in MODULES.items() if find_spec(module) and _supports(name, capability)]


def _supports(flavour: str, capability: tuple[int, int]) -> bool:
    return supports(flavour, load_tensorrt(flavour)[1], capability)


flavours = pytest.mark.parametrize(
    "flavour",
    [pytest.param(name, marks=pytest.mark.gpu) for name in _runnable()]
    or [
        pytest.param(
            "none", marks=[pytest.mark.gpu, pytest.mark.skip("no installed TensorRT supports a GPU of this machine")]
        )
    ],
)


@pytest.fixture
def images(onnx_model: Path) -> np.ndarray:
    size = load_onnx(onnx_model)[1].image_size
    return np.random.default_rng(0).integers(0, 256, (20, size, size, 3), dtype=np.uint8)


@flavours
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_engine_gives_what_onnx_runtime_gives(
    onnx_model: Path, tmp_path: Path, images: np.ndarray, precision: str, flavour: str
) -> None:
    model, _ = load_onnx(onnx_model)
    onnx.save_model(model if precision == "fp32" else to_precision(model, precision), tmp_path / "net.onnx")
    plan, _ = build_engine(tmp_path / "net.onnx", None, BuildOptions(flavour, ((1, 1, 2), (3, 8, 8)), device=0))
    backend, expected = TensorRTBackend(plan), OnnxRuntimeBackend(onnx_model).run(images)
    try:
        for count in (1, 3, 8, 20):
            for name, values in backend.run(images[:count]).items():
                assert np.abs(values - expected[name][:count]).max() <= TOLERANCES.get(precision, 1e-3), name
    finally:
        backend.close()


@flavours
@pytest.mark.parametrize("count", [1, 5, 20])
def test_graphs_and_threads_change_nothing(
    onnx_model: Path, tmp_path: Path, images: np.ndarray, count: int, flavour: str
) -> None:
    plan, _ = build_engine(onnx_model, tmp_path / "net.plan", BuildOptions(flavour, ((1, 4, 8),), device=0))
    plain = TensorRTBackend(plan, sessions=1, graphs=False)
    expected = plain.run(images[:count])
    plain.close()
    with Predictor(plan, sessions=2) as predictor, ThreadPoolExecutor(8) as pool:
        for outputs in pool.map(lambda _: predictor.run(images[:count]), range(64)):
            for name, values in outputs.items():
                assert np.allclose(values, expected[name], atol=1e-3), name
