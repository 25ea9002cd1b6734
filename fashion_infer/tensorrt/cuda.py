"""Every CUDA call that engines need, through cuda-python, without torch or CuPy.

The calls follow the documentation of CUDA 13 in cuda-python's docstrings; docs/tensorrt.md names the passages.
"""

import ctypes
import gc
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.errors import DeviceError, FashionInferError, ModelError, missing_extra

try:
    from cuda.bindings import driver as cu
    from cuda.bindings import runtime as rt
except ImportError as error:
    raise missing_extra("cuda-python", "rtx", error) from error

ALIGNMENT = 256  # bytes; TensorRT requires it of the memory for activations, and cudaMalloc provides it
NO_GPU = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice")
# After one of these errors, by CUDA's header, "the process must be terminated and relaunched" to use CUDA again. Every
# later call returns the same code.
FATAL = (
    "cudaErrorECCUncorrectable",
    "cudaErrorContained",
    "cudaErrorIllegalAddress",
    "cudaErrorLaunchTimeout",
    "cudaErrorContextIsDestroyed",
    "cudaErrorAssert",
    "cudaErrorHardwareStackError",
    "cudaErrorIllegalInstruction",
    "cudaErrorMisalignedAddress",
    "cudaErrorInvalidAddressSpace",
    "cudaErrorInvalidPc",
    "cudaErrorLaunchFailure",
    "cudaErrorTensorMemoryLeak",
    "cudaErrorMpsClientTerminated",
    "cudaErrorExternalDevice",
)
ATTEMPTS = 3  # attempts to capture a graph, after which batches of that size run without one

logger = logging.getLogger("fashion_infer")
_one_capture = threading.Lock()


@dataclass(frozen=True)
class Gpu:
    """A GPU: its index, name, compute capability and memory in bytes."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory: int


def ok(result: tuple[Any, ...]) -> Any:
    """Return the value of a call of the CUDA runtime or driver, or raise its error.

    Args:
        result: the call's result, `(code,)` or `(code, value)`.

    Raises:
        DeviceError: there is no GPU, or it failed in a way from which this process cannot recover.
        MemoryError: the GPU has too little free memory.
        ModelError: any other error; the message has CUDA's name and description of it.
    """
    code = result[0]
    if int(code) == 0:
        return result[1] if len(result) == 2 else None
    # The runtime keeps a thread's last error until a call reads it. Unless it is read here, TensorRT or the
    # application's own code on this thread would take our error for one of theirs.
    rt.cudaGetLastError()
    code = rt.cudaError_t(int(code))  # the driver's codes have the runtime's numbers
    if code.name in NO_GPU:
        raise DeviceError("there is no NVIDIA GPU here, or its driver is missing or too old for this CUDA")
    if code == rt.cudaError_t.cudaErrorMemoryAllocation:
        raise MemoryError("the GPU is out of memory")
    text = f"CUDA failed with {code.name}: {rt.cudaGetErrorString(code)[1].decode()}"
    if code.name in FATAL:
        raise DeviceError(f"{text}. No more work is possible on the GPU in this process: start a new one")
    raise ModelError(text)


def _usable(result: tuple[Any, ...]) -> Any:
    """Return the value of a call that finds or enters a GPU; if it fails, the GPU cannot be used at all.

    Raises:
        DeviceError: the call failed.
    """
    try:
        return ok(result)
    except (ModelError, MemoryError) as error:
        forked = int(result[0]) == rt.cudaError_t.cudaErrorInitializationError
        hint = ". CUDA does not work in a process forked from one that used it: start it by spawn" if forked else ""
        raise DeviceError(f"the GPU cannot be used: {error}{hint}") from error


def _try(result: tuple[Any, ...]) -> None:
    """Ignore the failure of a call, and clear the error that CUDA keeps for the thread."""
    if int(result[0]) != 0:
        rt.cudaGetLastError()


def gpu_count() -> int:
    """Number of GPUs.

    Raises:
        DeviceError: there is none.
    """
    return int(_usable(rt.cudaGetDeviceCount()))


def find_gpu(index: int) -> Gpu:
    """Return the GPU with this index. The calling thread's current device stays as it is.

    Raises:
        DeviceError: there is no GPU, or none with this index.
    """
    count = gpu_count()
    if index >= count:
        raise DeviceError(f"there is no cuda:{index}, the GPUs here are 0 to {count - 1}")
    properties = _usable(rt.cudaGetDeviceProperties(index))
    capability = properties.major, properties.minor
    return Gpu(index, properties.name.decode(), capability, properties.totalGlobalMem)


@contextmanager
def current_gpu(index: int) -> Iterator[None]:
    """Make the GPU the calling thread's current one for the block, and restore the previous one after it.

    The block pushes the GPU's primary context, which the CUDA runtime and TensorRT use, on the driver's stack of
    contexts, and pops it. This restores any previous state: a context of ours, of another library, or none.
    cudaSetDevice is not used, because a second call would have to undo it. That call creates a context of some hundred
    megabytes on the GPU that was current before, by default GPU 0, even if the application never uses that GPU.

    If the block fails, the variables of the functions that failed are deleted while the GPU is still current. Otherwise
    they would live as long as the error, and the TensorRT objects among them would be destroyed wherever it is dropped.

    Args:
        index: index of the GPU.

    Raises:
        DeviceError: the GPU cannot be used.
    """
    _usable(cu.cuCtxPushCurrent(_primary_context(index)))
    try:
        yield
    except BaseException as error:
        rt.cudaGetLastError()  # clears the error that a failure of TensorRT leaves behind
        _clear_frames(error)
        raise
    finally:
        _try(cu.cuCtxPopCurrent())  # it returns only errors of earlier work, which were raised where that was awaited


@cache
def _primary_context(index: int) -> Any:
    """The GPU's primary context. It is never released: the runtime keeps it too, and objects freed late need it."""
    gpu_count()  # raises a clear error if there is no driver; the driver's own functions would fail to load
    _usable(cu.cuInit(0))
    return _usable(cu.cuDevicePrimaryCtxRetain(_usable(cu.cuDeviceGet(index))))


def check_alive() -> None:
    """Raise the error of a GPU that failed for good, which TensorRT reports as a failure of its own call.

    Raises:
        DeviceError: the GPU failed for good.
    """
    owned = Owned()
    owned.event()  # by its documentation, creating an event returns the errors of earlier work
    owned.free()


class Owned:
    """CUDA objects that are freed together, each once and in the reverse order of their creation."""

    def __init__(self) -> None:
        self._objects: list[tuple[Any, Callable[[Any], Any]]] = []

    def keep(self, value: Any, free: Callable[[Any], Any]) -> Any:
        """Add an object, and return it.

        Args:
            value: a handle or an address.
            free: the CUDA call that frees it.
        """
        self._objects.append((value, free))
        return value

    def free(self) -> None:
        """Free all objects. The GPU must be current, and no running work may use them."""
        while self._objects:
            value, free = self._objects.pop()
            _try(free(value))  # nothing could be done about an error any more

    def stream(self) -> Any:
        """Create a stream. It and the legacy stream do not wait for each other, so it can be captured at any time."""
        return self.keep(ok(rt.cudaStreamCreateWithFlags(rt.cudaStreamNonBlocking)), rt.cudaStreamDestroy)

    def event(self) -> Any:
        """Create an event; a thread that waits for it sleeps."""
        flags = rt.cudaEventBlockingSync | rt.cudaEventDisableTiming
        return self.keep(ok(rt.cudaEventCreateWithFlags(flags)), rt.cudaEventDestroy)

    def device_memory(self, nbytes: int) -> int:
        """Allocate memory on the GPU and return its address."""
        return int(self.keep(ok(rt.cudaMalloc(max(nbytes, 1))), rt.cudaFree))

    def pinned_memory(self, nbytes: int) -> NDArray[np.uint8]:
        """Allocate zeroed page-locked memory, which the GPU reads and writes without a copy in between."""
        address = self.keep(ok(rt.cudaHostAlloc(nbytes, rt.cudaHostAllocDefault)), rt.cudaFreeHost)
        array = view(int(address), nbytes)
        array.fill(0)
        return array


def _clear_frames(error: BaseException | None) -> None:
    """Delete the variables of the functions in the tracebacks of an error and of its causes, if they have ended."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def view(address: int, nbytes: int) -> NDArray[np.uint8]:
    """A uint8 array of `nbytes` over memory that another object owns; it must not be used after that is freed."""
    return np.frombuffer(memoryview((ctypes.c_byte * nbytes).from_address(address)), np.uint8)


def copy_to_gpu(address: int, source: NDArray[Any], stream: Any) -> None:
    """Start to copy a contiguous array in pinned memory to an address on the GPU."""
    kind = rt.cudaMemcpyKind.cudaMemcpyHostToDevice
    ok(rt.cudaMemcpyAsync(address, source.ctypes.data, source.nbytes, kind, stream))


def copy_from_gpu(target: NDArray[Any], address: int, stream: Any) -> None:
    """Start to copy from an address on the GPU into a contiguous array in pinned memory."""
    kind = rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
    ok(rt.cudaMemcpyAsync(target.ctypes.data, address, target.nbytes, kind, stream))


def wait(stream: Any) -> None:
    """Wait until a stream has done all its work. By default the thread spins, so it continues without delay."""
    ok(rt.cudaStreamSynchronize(stream))


def wait_before_freeing(stream: Any) -> None:
    """Wait for a stream before its memory is freed; ignore errors, since a failed stream does no more work."""
    _try(rt.cudaStreamSynchronize(stream))


def sleep_until_done(stream: Any, event: Any) -> None:
    """Wait until a stream has done all its work, without using the core.

    The thread continues some tens of microseconds late.
    """
    ok(rt.cudaEventRecord(event, stream))
    ok(rt.cudaEventSynchronize(event))


def launch_graph(graph: Any, stream: Any) -> None:
    """Start to run a graph."""
    ok(rt.cudaGraphLaunch(graph, stream))


def capture(owned: Owned, stream: Any, enqueue: Callable[[], None]) -> Any:
    """Capture the work that `enqueue` puts into a stream as a CUDA graph, and upload the graph to the GPU.

    Another thread may break a capture: if it waits for the whole device during the capture, for example by
    torch.cuda.synchronize(), its call fails and the capture becomes invalid. So the capture is tried several times.

    Args:
        owned: objects to which the graph is added.
        stream: the stream.
        enqueue: function that puts the work into the stream.

    Returns:
        The executable graph; None, with a warning, if no attempt succeeded.

    Raises:
        DeviceError: the GPU failed for good.
    """
    failure = ""  # only the text is kept: an error holds the frames of its traceback, and so the context
    for _ in range(ATTEMPTS):
        try:
            graph = owned.keep(_captured(stream, enqueue), rt.cudaGraphExecDestroy)
            ok(rt.cudaGraphUpload(graph, stream))  # otherwise the first launch would upload it
            return graph
        except DeviceError:
            raise
        except (FashionInferError, MemoryError) as error:
            failure = str(error)
            wait(stream)  # no work of the failed attempt may be left in the stream
    logger.warning("going on without a CUDA graph, batches take longer to launch: %s", failure)
    return None


def _captured(stream: Any, enqueue: Callable[[], None]) -> Any:
    """Make one attempt and return an executable graph. The capture is ended in every case."""
    with _one_capture, _no_collector():
        # In this mode only this thread's calls of cudaMalloc and cudaFree break the capture, not those of others
        ok(rt.cudaStreamBeginCapture(stream, rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
        try:
            enqueue()
        except BaseException:
            result = rt.cudaStreamEndCapture(stream)
            _try(result)  # the error of `enqueue` is the informative one
            _destroy(result[1])
            raise
        graph = ok(rt.cudaStreamEndCapture(stream))
        try:
            return ok(rt.cudaGraphInstantiate(graph, 0))
        finally:
            _destroy(graph)


def _destroy(graph: Any) -> None:
    if graph is not None and int(graph) != 0:  # a capture that failed returns no graph
        _try(rt.cudaGraphDestroy(graph))


@contextmanager
def _no_collector() -> Iterator[None]:
    """Switch Python's garbage collector off for the block.

    The collector could free another library's tensors, by cudaFree, in the thread that captures. It runs once before
    the block, so that little is left to collect. `_one_capture` keeps two blocks from running at the same time, in
    which one would switch the collector on for the other.
    """
    gc.collect()
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
