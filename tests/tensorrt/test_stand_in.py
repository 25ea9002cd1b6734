"""The stand-in itself: it has no calls that the real modules lack, and it notices what it is for."""

import sys
from typing import Any

import pytest

rt = pytest.importorskip("cuda.bindings.runtime")
driver = pytest.importorskip("cuda.bindings.driver")
trt = pytest.importorskip("tensorrt_rtx")

OWN = {"answer", "array", "compute", "loaded_by", "may_fail", "watch"}  # methods that are no calls


def _calls(kind: type) -> set[str]:
    own = (name for parent in kind.__mro__[:-1] for name in vars(parent))
    return {name for name in own if not name.startswith("_")} - OWN


def test_the_real_modules_have_every_call(stand_in: Any) -> None:
    cuda, tensorrt = sys.modules["stand_in"], sys.modules["stand_in_engine"]
    for kind, real in (
        (cuda.Runtime, rt),
        (cuda.Driver, driver),
        (tensorrt.Runtime, trt.Runtime),
        (tensorrt.LoadedEngine, trt.ICudaEngine),
        (tensorrt.RuntimeConfig, trt.IRuntimeConfig),
        (tensorrt.RuntimeCache, trt.IRuntimeCache),
        (tensorrt.RtxContext, trt.IExecutionContext),
    ):
        calls = _calls(kind)
        assert calls
        assert {name for name in calls if not hasattr(real, name)} == set(), kind


def test_the_stand_in_notices_what_it_is_for(stand_in: Any) -> None:
    """Each rule is broken once, by hand."""
    from fashion_infer.tensorrt import cuda

    owned = cuda.Owned()
    stream = owned.stream()
    with cuda.current_gpu(0):
        cuda.rt.cudaStreamBeginCapture(stream, rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        cuda.rt.cudaMalloc(5)
        cuda.rt.cudaStreamSynchronize(stream)
        cuda.rt.cudaStreamEndCapture(stream)
        cuda.rt.cudaMemcpyAsync(0, 0, 8, rt.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)
        cuda.rt.cudaFree(12345)
        cuda.rt.cudaStreamDestroy(stream)
        cuda.rt.cudaStreamSynchronize(stream)
        stand_in.trt.Runtime(None).deserialize_cuda_engine(b"").create_execution_context(None).execute_async_v3(stream)
    stand_in.trt.Runtime(None)
    cuda.rt.cudaSetDevice(1)
    text = "\n".join(stand_in.violations)
    for rule in (
        "cudaStreamCreate with no current device",
        "cudaMalloc during a capture of the same thread",
        "with Python's collector on",
        "is waited for while it captures",
        "are not device memory",
        "freed twice, or never was",
        "is used after its end",
        "before shape, memory or addresses are set",
        "Runtime ends with no current device",
        "cudaSetDevice changes the device",
    ):
        assert rule in text, rule
