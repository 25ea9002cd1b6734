"""The runtime of TensorRT engines: everything up to the GPU runs anywhere, the rest where there is one."""

import json
import logging
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from fashion_infer import Predictor
from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend
from fashion_infer.errors import (
    DeviceError,
    EngineMismatchError,
    ModelError,
    ModelNotFoundError,
    UsageError,
)
from fashion_infer.export.precision import TOLERANCES, to_precision
from fashion_infer.onnx_file import load_onnx
from fashion_infer.tensorrt.api import errors_in, load_tensorrt, log_of, recording
from fashion_infer.tensorrt.build import BuildOptions, build_engine
from fashion_infer.tensorrt.engine_file import side_file

trt = pytest.importorskip("tensorrt_rtx")
pytest.importorskip("cuda.bindings.runtime")

from fashion_infer.tensorrt.cuda import ok, rt, use_gpu  # noqa: E402
from fashion_infer.tensorrt.session import TensorRTBackend, batch_sizes, view  # noqa: E402

HAS_GPU = rt.cudaGetDeviceCount()[0] == rt.cudaError_t.cudaSuccess
no_gpu = pytest.mark.skipif(HAS_GPU, reason="there is a GPU")


@pytest.fixture(scope="module")
def engine(onnx_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_engine(onnx_model, tmp_path_factory.mktemp("engine") / "net.plan", BuildOptions("rtx", (1, 4, 8)))[0]


@pytest.fixture
def copy(engine: Path, tmp_path: Path) -> Path:
    """An engine to damage."""
    shutil.copy(side_file(engine), tmp_path)
    return Path(shutil.copy(engine, tmp_path))


def _edit(plan: Path, **changes: object) -> None:
    path = side_file(plan)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@no_gpu
def test_no_gpu_is_said_after_everything_else_was_checked(engine: Path) -> None:
    with pytest.raises(DeviceError, match="there is no NVIDIA GPU here") as caught:
        TensorRTBackend(engine)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@no_gpu
@pytest.mark.parametrize("device", [None, "cuda", "cuda:0", "cuda:7"])
def test_a_predictor_of_a_plan_needs_a_gpu(engine: Path, device: str | None) -> None:
    with pytest.raises(DeviceError, match="there is no NVIDIA GPU here"):
        Predictor(engine, device=device)


@no_gpu
@pytest.mark.parametrize("arguments", [{"device": "cuda:0"}, {"device": "cuda:0", "backend": "tensorrt"}])
def test_no_engine_is_built_for_a_gpu_that_is_not_there(
    onnx_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DeviceError, match="there is no NVIDIA GPU here"):
        Predictor(onnx_model, **arguments)
    assert not list(tmp_path.iterdir())


def test_an_engine_runs_on_no_cpu(engine: Path, onnx_model: Path) -> None:
    with pytest.raises(DeviceError, match=r"an engine runs on cuda, .* not on 'cpu'"):
        Predictor(engine, device="cpu")
    with pytest.raises(DeviceError, match=r"an engine runs on cuda, .* not on 'cpu'"):
        Predictor(onnx_model, backend="tensorrt")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino2"])
def test_an_engine_has_one_backend(engine: Path, backend: str) -> None:
    with pytest.raises(UsageError, match=f"there is no backend '{backend}'"):
        Predictor(engine, backend=backend)


def test_a_truncated_plan_is_refused(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes()[:-100])
    with pytest.raises(EngineMismatchError, match="is truncated, was changed or is another file; run fashion-infer"):
        Predictor(copy)


def test_a_plan_without_its_description_is_refused(copy: Path) -> None:
    side_file(copy).unlink()
    with pytest.raises(EngineMismatchError, match="is missing"):
        Predictor(copy)


def test_another_version_is_refused(copy: Path) -> None:
    _edit(copy, tensorrt="1.6.0.1")
    with pytest.raises(EngineMismatchError, match=rf"was built by TensorRT 1.6.0.1 \(rtx\), here is {trt.__version__}"):
        Predictor(copy)


def test_a_flavour_that_is_not_installed_is_named(copy: Path) -> None:
    _edit(copy, flavour="tensorrt")
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(EngineMismatchError, match=r"flavour tensorrt of TensorRT, here is rtx: run .*--flavour"):
            Predictor(copy)


def test_a_flavour_that_does_not_exist_is_refused(copy: Path) -> None:
    _edit(copy, flavour="tpu")
    with pytest.raises(UsageError, match="no flavour 'tpu' of TensorRT: it is tensorrt or rtx"):
        Predictor(copy)


def test_require_hash_pins_a_plan(engine: Path) -> None:
    with pytest.raises(ModelError, match="expected 00"):
        Predictor(engine, require_hash="00")
    with pytest.raises(ModelNotFoundError):
        Predictor(engine.with_name("none.plan"))


def test_cudas_codes_become_errors() -> None:
    codes = rt.cudaError_t
    assert ok((codes.cudaSuccess,)) is None
    assert ok((codes.cudaSuccess, 5)) == 5
    for code in (codes.cudaErrorInsufficientDriver, codes.cudaErrorNoDevice):
        with pytest.raises(DeviceError, match="there is no NVIDIA GPU here"):
            ok((code, None))
    with pytest.raises(DeviceError, match="out of memory: use fewer sessions, or an engine with a smaller --batch"):
        ok((codes.cudaErrorMemoryAllocation, None))
    with pytest.raises(DeviceError, match="cudaErrorIllegalAddress: an illegal memory access"):
        ok((codes.cudaErrorIllegalAddress,))


@no_gpu
def test_without_a_gpu_none_can_be_used() -> None:
    with pytest.raises(DeviceError, match="there is no NVIDIA GPU here"):
        use_gpu(0)


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [
        ((1, 8, 64), [1, 2, 4, 8, 16, 32, 64]),
        ((1, 1, 1), [1]),
        ((4, 6, 12), [4, 6, 8, 12]),
        ((3, 3, 3), [3]),
        ((8, 32, 48), [8, 16, 32, 48]),
    ],
)
def test_sizes_of_batches(batch: tuple[int, int, int], sizes: list[int]) -> None:
    assert batch_sizes(*batch) == sizes


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_array_over_foreign_memory_reads_and_writes_it(dtype: type[np.generic]) -> None:
    memory = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    array = view(memory.ctypes.data, (2, 3, 4), np.dtype(dtype))
    assert array.dtype == dtype
    assert np.array_equal(array, memory)
    array[1] = 7
    assert (memory[1] == 7).all()
    assert array[:1].ctypes.data == memory.ctypes.data
    assert array[:1].nbytes == memory[:1].nbytes


def test_the_first_installed_flavour_is_chosen() -> None:
    flavour, module = load_tensorrt()
    assert flavour in ("tensorrt", "rtx")
    assert load_tensorrt(flavour) == (flavour, module)
    assert load_tensorrt("rtx") == ("rtx", trt)


def test_tensorrts_messages_are_recorded_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fashion_infer")
    log = log_of(trt)
    assert log_of(trt) is log  # TensorRT ignores a second one
    with recording(trt) as lines:
        log.log(trt.ILogger.ERROR, "bad")
        log.log(trt.ILogger.VERBOSE, "detail")
        log.log(trt.ILogger.ERROR, "bad")
    assert lines == ["ERROR: bad", "VERBOSE: detail", "ERROR: bad"]
    assert errors_in(lines) == "bad"
    assert errors_in(["INFO: last"]) == "INFO: last"
    assert errors_in([]) == "TensorRT gave no reason"
    assert not caplog.text
    log.log(trt.ILogger.WARNING, "careful")
    log.log(trt.ILogger.INFO, "chatter")
    assert "TensorRT: careful" in caplog.text
    assert "chatter" not in caplog.text


def test_messages_of_other_threads_are_not_lost_while_one_records(caplog: pytest.LogCaptureFixture) -> None:
    log = log_of(trt)
    with recording(trt) as lines:
        other = threading.Thread(target=log.log, args=(trt.ILogger.ERROR, "of another engine"))
        other.start()
        other.join()
        log.log(trt.ILogger.ERROR, "of the one being built")
    assert lines == ["ERROR: of another engine", "ERROR: of the one being built"]
    assert "of another engine" in caplog.text
    assert "being built" not in caplog.text


def test_what_is_no_plan_gives_none_and_a_reason() -> None:
    runtime = trt.Runtime(log_of(trt))
    with recording(trt) as lines:
        assert runtime.deserialize_cuda_engine(b"not a plan" * 100) is None
    assert errors_in(lines)


# From here on a GPU is needed. None of this has run yet.
gpu = [pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="there is no GPU")]


@pytest.fixture
def images(onnx_model: Path) -> np.ndarray:
    size = load_onnx(onnx_model)[1].image_size
    return np.random.default_rng(0).integers(0, 256, (20, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("precision", [pytest.param(p, marks=gpu) for p in ("fp32", "fp16", "bf16")])
def test_an_engine_gives_what_onnx_runtime_gives(
    onnx_model: Path, tmp_path: Path, images: np.ndarray, precision: str
) -> None:
    model, _ = load_onnx(onnx_model)
    onnx.save_model(model if precision == "fp32" else to_precision(model, precision), tmp_path / "net.onnx")
    plan, _ = build_engine(tmp_path / "net.onnx", None, BuildOptions(batch=(1, 4, 8)))
    backend, expected = TensorRTBackend(plan), OnnxRuntimeBackend(onnx_model).run(images)
    for count in (0, 1, 3, 8, 20):
        for name, values in backend.run(images[:count]).items():
            assert np.abs(values - expected[name][:count]).max(initial=0) <= TOLERANCES.get(precision, 1e-3), name


@pytest.mark.parametrize("count", [pytest.param(n, marks=gpu) for n in (1, 5, 20)])
def test_graphs_and_threads_change_nothing(engine: Path, images: np.ndarray, count: int) -> None:
    plain = TensorRTBackend(engine, sessions=1, graphs=False).run(images[:count])
    graphs = TensorRTBackend(engine, sessions=2)
    with ThreadPoolExecutor(8) as pool:
        for outputs in pool.map(lambda _: graphs.run(images[:count]), range(64)):
            for name, values in outputs.items():
                assert np.array_equal(values, plain[name]), name
