"""The calls of CUDA, except for what needs a GPU; test_sequence.py tests their order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fashion_infer.errors import DeviceError, ModelError

rt = pytest.importorskip("cuda.bindings.runtime")
driver = pytest.importorskip("cuda.bindings.driver")

from fashion_infer.tensorrt import cuda  # noqa: E402
from fashion_infer.tensorrt.cuda import FATAL, Owned, current_gpu, find_gpu, ok, view  # noqa: E402

HAS_GPU = rt.cudaGetDeviceCount()[0] == rt.cudaError_t.cudaSuccess
no_gpu = pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
STREAM, GRAPH, EVENT = rt.cudaStream_t(0), rt.cudaGraphExec_t(0), rt.cudaEvent_t(0)
ROWS = np.zeros(8, np.uint8)


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


@pytest.mark.parametrize("code", ["cudaErrorInvalidDevice", "cudaErrorMemoryAllocation", "cudaErrorSystemNotReady"])
def test_a_gpu_that_cannot_be_entered_cannot_be_used(code: str) -> None:
    with pytest.raises(DeviceError, match="the GPU cannot be used: "):
        cuda._usable((getattr(rt.cudaError_t, code), None))


def test_a_forked_child_is_told_how_to_start() -> None:
    with pytest.raises(DeviceError, match=r"cudaErrorInitializationError.*start it by spawn"):
        cuda._usable((rt.cudaError_t.cudaErrorInitializationError, None))


@no_gpu
@pytest.mark.parametrize(
    "call",
    [
        lambda owned: owned.stream(),
        lambda owned: owned.event(),
        lambda owned: owned.device_memory(8),
        lambda owned: owned.pinned_memory(8),
        lambda owned: cuda.copy_to_gpu(256, ROWS, STREAM),
        lambda owned: cuda.copy_from_gpu(ROWS, 256, STREAM),
        lambda owned: cuda.wait(STREAM),
        lambda owned: cuda.sleep_until_done(STREAM, EVENT),
        lambda owned: cuda.launch_graph(GRAPH, STREAM),
        lambda owned: cuda.capture(owned, STREAM, lambda: None),
        lambda owned: cuda.check_alive(),
    ],
)
def test_the_real_library_takes_the_arguments_of_every_call(call: Callable[[Owned], Any]) -> None:
    """Without a driver each call fails, but only after cuda-python has converted its arguments."""
    owned = Owned()
    with pytest.raises(DeviceError, match="there is no NVIDIA GPU here"):
        call(owned)
    owned.free()


@no_gpu
def test_the_real_library_takes_every_object_that_is_freed() -> None:
    owned = Owned()
    for value, free in (
        (STREAM, rt.cudaStreamDestroy),
        (EVENT, rt.cudaEventDestroy),
        (256, rt.cudaFree),
        (256, rt.cudaFreeHost),
        (GRAPH, rt.cudaGraphExecDestroy),
    ):
        owned.keep(value, free)
    owned.free()
    cuda.wait_before_freeing(STREAM)
    assert rt.cudaStreamEndCapture(STREAM)[1] is None  # the graph of a capture that failed
    assert rt.cudaGraphInstantiate(rt.cudaGraph_t(0), 0)[1] is None
    assert rt.cudaGraphUpload(GRAPH, STREAM) == rt.cudaGraphDestroy(rt.cudaGraph_t(0))


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
