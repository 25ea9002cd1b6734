"""The few CUDA runtime calls that an engine needs, through cuda-python; no torch, no CuPy."""

from dataclasses import dataclass
from typing import Any

from fashion_infer.errors import DeviceError, missing_extra

try:
    from cuda.bindings import runtime as rt
except ImportError as error:
    raise missing_extra("cuda-python", "rtx", error) from error

_NO_GPU = (rt.cudaError_t.cudaErrorInsufficientDriver, rt.cudaError_t.cudaErrorNoDevice)


@dataclass(frozen=True)
class Gpu:
    """One GPU: its index, name, compute capability and memory in bytes."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory: int


def ok(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA runtime call, which returns `(code,)` or `(code, value)`.

    Raises:
        DeviceError: the call failed; the message has CUDA's name for it and what it means.
    """
    code = result[0]
    if code == rt.cudaError_t.cudaSuccess:
        return result[1] if len(result) == 2 else None
    if code in _NO_GPU:
        raise DeviceError("there is no NVIDIA GPU here, or its driver is missing or too old for this CUDA")
    if code == rt.cudaError_t.cudaErrorMemoryAllocation:
        raise DeviceError("the GPU is out of memory: use fewer sessions, or an engine with a smaller --batch")
    text = rt.cudaGetErrorString(code)[1].decode()
    raise DeviceError(f"CUDA failed with {code.name}: {text}")


def use_gpu(index: int) -> Gpu:
    """Make a GPU the current one of this thread.

    Raises:
        DeviceError: there is none, or not so many.
    """
    count = ok(rt.cudaGetDeviceCount())
    if index >= count:
        raise DeviceError(f"there is no cuda:{index}, the GPUs here are 0 to {count - 1}")
    ok(rt.cudaSetDevice(index))
    found = ok(rt.cudaGetDeviceProperties(index))
    return Gpu(index, found.name.decode(), (found.major, found.minor), found.totalGlobalMem)
