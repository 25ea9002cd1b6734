"""The TensorRT backend, except for what needs a GPU."""

import json
import logging
import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from fashion_infer import Predictor
from fashion_infer.errors import (
    DeviceError,
    EngineMismatchError,
    ModelError,
    ModelNotFoundError,
    UsageError,
)
from fashion_infer.tensorrt.api import errors_in, load_tensorrt, log_of, recording
from fashion_infer.tensorrt.build import BuildOptions, build_engine
from fashion_infer.tensorrt.engine_file import side_file

trt = pytest.importorskip("tensorrt_rtx")
driver = pytest.importorskip("cuda.bindings.driver")

from fashion_infer.tensorrt.cuda import FATAL, current_gpu, find_gpu, ok, rt, view  # noqa: E402
from fashion_infer.tensorrt.session import TensorRTBackend, batch_sizes, profile_of, split  # noqa: E402

HAS_GPU = rt.cudaGetDeviceCount()[0] == rt.cudaError_t.cudaSuccess
no_gpu = pytest.mark.skipif(HAS_GPU, reason="there is a GPU")


@pytest.fixture(scope="module")
def engine(onnx_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_engine(onnx_model, tmp_path_factory.mktemp("engine") / "net.plan", BuildOptions("rtx", ((1, 4, 8),)))[
        0
    ]


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
    with pytest.raises(
        EngineMismatchError, match=rf"was built by TensorRT 1.6.0.1 \(rtx\), but {trt.__version__} is installed"
    ):
        Predictor(copy)


def test_a_flavour_that_is_not_installed_is_named(copy: Path) -> None:
    _edit(copy, flavour="tensorrt")
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(
            EngineMismatchError, match=r"flavour tensorrt of TensorRT, but rtx is installed: run .*--flavour"
        ):
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
    with pytest.raises(MemoryError, match="the GPU is out of memory"):
        ok((codes.cudaErrorMemoryAllocation, None))
    with pytest.raises(DeviceError, match=r"cudaErrorIllegalAddress: an illegal memory access.*start a new one"):
        ok((codes.cudaErrorIllegalAddress,))
    with pytest.raises(ModelError, match="CUDA failed with cudaErrorInvalidValue: invalid argument"):
        ok((codes.cudaErrorInvalidValue,))
    with pytest.raises(DeviceError, match="cudaErrorIllegalAddress"):
        ok((driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS,))  # the driver's codes have the same numbers
    with pytest.raises(MemoryError):
        ok((driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY, None))


def test_every_code_after_which_cuda_wants_a_new_process_is_fatal() -> None:
    fatal = {
        code.name for code in rt.cudaError_t if "terminated and relaunched" in " ".join((code.__doc__ or "").split())
    }
    assert fatal
    assert fatal <= set(FATAL)


@no_gpu
def test_without_a_gpu_none_can_be_used() -> None:
    with pytest.raises(DeviceError, match="there is no NVIDIA GPU here"):
        find_gpu(0)
    with pytest.raises(DeviceError, match="there is no NVIDIA GPU here"), current_gpu(0):
        raise AssertionError("there is none to be current")


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [
        ([(1, 8, 64)], [1, 2, 4, 8, 16, 32, 64]),
        ([(1, 1, 1)], [1]),
        ([(4, 6, 12)], [4, 6, 8, 12]),
        ([(3, 3, 3)], [3]),
        ([(8, 32, 48)], [8, 16, 32, 48]),
        ([(1, 1, 4), (5, 32, 32)], [1, 2, 4, 8, 16, 32]),
    ],
)
def test_sizes_of_batches(batch: list[tuple[int, int, int]], sizes: list[int]) -> None:
    assert batch_sizes(tuple(batch)) == sizes
    assert batch_sizes(tuple(batch), sizes[-1] * 2) == sizes
    assert batch_sizes(tuple(batch), sizes[0]) == sizes[:1]


def test_no_size_is_larger_than_the_callers_batches_need() -> None:
    assert batch_sizes(((1, 8, 64),), 9) == [1, 2, 4, 8, 16]


def test_the_profile_whose_best_size_is_nearest_runs_a_size() -> None:
    profiles = ((1, 1, 64), (4, 32, 64))
    assert [profile_of(size, profiles) for size in (1, 2, 4, 8, 64)] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        (1, [1]),
        (3, [3]),
        (5, [5]),
        (8, [8]),
        (9, [8, 1]),
        (12, [12]),
        (17, [16, 1]),
        (33, [32, 1]),
        (48, [48]),
        (64, [64]),
        (100, [64, 32, 4]),
        (129, [64, 64, 1]),
    ],
)
def test_batches_are_filled_up_or_go_in_parts(count: int, parts: list[int]) -> None:
    assert split(count, [1, 2, 4, 8, 16, 32, 64]) == parts
    assert sum(parts) == count


def test_a_batch_below_the_smallest_size_is_filled_up() -> None:
    assert split(2, [4, 8]) == [2]
    assert split(11, [4, 8]) == [8, 3]


def test_rtx_says_which_flavour_knows_a_gpu_that_it_does_not() -> None:
    assert load_tensorrt("rtx", (8, 9)) == ("rtx", trt)
    assert load_tensorrt("rtx", (12, 0)) == ("rtx", trt)
    with pytest.raises(
        DeviceError, match=r"no kernels for this GPU, compute capability 9.0 .*8.9.*fashion-infer\[gpu\]"
    ):
        load_tensorrt("rtx", (9, 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_array_over_foreign_memory_reads_and_writes_it(dtype: type[np.generic]) -> None:
    memory = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    array = view(memory.ctypes.data, memory.nbytes).view(dtype).reshape(2, 3, 4)
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


@no_gpu
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "fp8", "device": "cuda:0"}, "unknown precision 'fp8'"),
        ({"precision": "fp16"}, "precision is that of a TensorRT engine"),
    ],
)
def test_a_precision_that_cannot_be_had_is_refused(onnx_model: Path, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Predictor(onnx_model, **arguments)


def test_a_plan_has_its_precision(engine: Path) -> None:
    with pytest.raises(UsageError, match="is built already"):
        Predictor(engine, precision="fp16")
