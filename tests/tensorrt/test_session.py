"""The TensorRT backend, except for what needs a GPU."""

import json
import logging
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

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
from fashion_infer.onnx_file import load_onnx
from fashion_infer.tensorrt.api import errors_in, load_tensorrt, log_of, recording
from fashion_infer.tensorrt.build import BuildOptions, build_engine
from fashion_infer.tensorrt.engine_file import read_engine, side_file

trt = pytest.importorskip("tensorrt_rtx")
rt = pytest.importorskip("cuda.bindings.runtime")

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


@pytest.mark.parametrize("stand_in", ["rtx"], indirect=True)
def test_a_predictor_builds_an_engine_for_its_batches_in_its_precision(
    stand_in: Any, onnx_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the engine's run is the stand-in's; it is converted, checked and built by TensorRT for RTX itself."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caplog.set_level(logging.INFO, "fashion_infer")
    spec, engine = load_onnx(onnx_model)[1], stand_in.trt.engine
    pictures = np.full((9, spec.image_size, spec.image_size, 3), 7, np.uint8)
    for max_batch, profiles in ((8, ((1, 1, 4), (5, 8, 8))), (2, ((1, 1, 2),)), (8, ((1, 1, 4), (5, 8, 8)))):
        stand_in.trt.engine = type(engine)(stand_in, spec, profiles, engine._context)
        with Predictor(onnx_model, device="cuda:0", precision="fp16", max_batch=max_batch) as predictor:
            assert (predictor.run(pictures)["category"] == 7).all()
    built = [read_engine(plan)[1] for plan in tmp_path.glob("fashion-infer/engines/*.plan")]
    assert sorted((facts.precision, facts.profiles, facts.compute_capability) for facts in built) == [
        ("fp16", ((1, 1, 2),), "8.9"),
        ("fp16", ((1, 1, 4), (5, 8, 8)), "8.9"),
    ]  # the third Predictor uses the first one's
    assert caplog.text.count("built an engine in fp16, by TensorRT") == 2
    assert stand_in.violations == []
    assert stand_in.left == []
