"""Every CUDA call that engines need, through cuda-python; no torch, no CuPy.

Checked against the documents of CUDA 13, as cuda-python 13 carries them in its docstrings; docs/tensorrt.md says where.
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

ALIGNMENT = 256  # bytes: what TensorRT asks of the memory for activations, and cudaMalloc gives
NO_GPU = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice")
# After these "the process must be terminated and relaunched" to use CUDA again, in the words of its header. Every later
# call returns the same code.
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
ATTEMPTS = 3  # at a capture, before batches of that size go without a graph

logger = logging.getLogger("fashion_infer")
_one_capture = threading.Lock()


@dataclass(frozen=True)
class Gpu:
    """One GPU: its index, name, compute capability and memory in bytes."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory: int


def ok(result: tuple[Any, ...]) -> Any:
    """The value of a call of the CUDA runtime or driver, which returns `(code,)` or `(code, value)`.

    Raises:
        DeviceError: there is no GPU, or it failed in a way that this process cannot recover from.
        MemoryError: the GPU has too little memory free.
        ModelError: anything else; the message has CUDA's name for it and what it means.
    """
    code = result[0]
    if int(code) == 0:
        return result[1] if len(result) == 2 else None
    # The runtime keeps the last error of a thread until it is asked for it: TensorRT, or the application's own code on
    # this thread, would take ours for one of theirs.
    rt.cudaGetLastError()
    code = rt.cudaError_t(int(code))  # the driver's codes have the runtime's numbers
    if code.name in NO_GPU:
        raise DeviceError("there is no NVIDIA GPU here, or its driver is missing or too old for this CUDA")
    if code == rt.cudaError_t.cudaErrorMemoryAllocation:
        raise MemoryError("the GPU is out of memory")
    text = f"CUDA failed with {code.name}: {rt.cudaGetErrorString(code)[1].decode()}"
    if code.name in FATAL:
        raise DeviceError(f"{text} No more work is possible on the GPU in this process: start a new one")
    raise ModelError(text)


def _try(result: tuple[Any, ...]) -> None:
    """A call that may fail without consequence, save that its error is not left behind."""
    if int(result[0]) != 0:
        rt.cudaGetLastError()


def gpu_count() -> int:
    """How many GPUs there are.

    Raises:
        DeviceError: none.
    """
    return int(ok(rt.cudaGetDeviceCount()))


def find_gpu(index: int) -> Gpu:
    """A GPU by its index. The current device of the calling thread stays as it is.

    Raises:
        DeviceError: there is none, or not so many.
    """
    count = gpu_count()
    if index >= count:
        raise DeviceError(f"there is no cuda:{index}, the GPUs here are 0 to {count - 1}")
    properties = ok(rt.cudaGetDeviceProperties(index))
    capability = properties.major, properties.minor
    return Gpu(index, properties.name.decode(), capability, properties.totalGlobalMem)


@contextmanager
def current_gpu(index: int) -> Iterator[None]:
    """Within the block the GPU is the current one of the calling thread; after it, whatever was current before.

    cudaSetDevice would have to be undone by a second one, and that makes a context of some hundred megabytes on the
    GPU it names, which may be one that the application never uses: by default GPU 0. The driver's stack of contexts
    is put back as it was, whether there was a context, another library's, or none. A device's primary context is the
    one that the runtime, and so TensorRT, uses for it.

    Raises:
        DeviceError: the GPU cannot be used.
    """
    ok(cu.cuCtxPushCurrent(_primary_context(index)))
    try:
        yield
    except BaseException:
        rt.cudaGetLastError()  # TensorRT's failures leave one too
        raise
    finally:
        _try(cu.cuCtxPopCurrent())  # its errors are those of earlier work, and whoever waited for that was told


@cache
def _primary_context(index: int) -> Any:
    """It is never released: the runtime keeps it until the process ends too, and what is freed late needs it."""
    gpu_count()  # without a driver this says so, where the driver's own functions fail to load
    ok(cu.cuInit(0))
    return ok(cu.cuDevicePrimaryCtxRetain(ok(cu.cuDeviceGet(index))))


class Owned:
    """CUDA objects that belong together: each is freed once, the last one first."""

    def __init__(self) -> None:
        self._objects: list[tuple[Any, Callable[[Any], Any]]] = []

    def keep(self, value: Any, free: Callable[[Any], Any]) -> Any:
        """Take a handle or address over, and give it back."""
        self._objects.append((value, free))
        return value

    def free(self) -> None:
        """Free everything; the GPU must be current, and nothing may run that uses it."""
        while self._objects:
            value, free = self._objects.pop()
            _try(free(value))  # its error code says nothing that could still be acted on

    def stream(self) -> Any:
        """A new stream that does not wait for the legacy stream, nor that for it: it may be captured at any time."""
        return self.keep(ok(rt.cudaStreamCreateWithFlags(rt.cudaStreamNonBlocking)), rt.cudaStreamDestroy)

    def event(self) -> Any:
        """A new event whose waiters sleep."""
        flags = rt.cudaEventBlockingSync | rt.cudaEventDisableTiming
        return self.keep(ok(rt.cudaEventCreateWithFlags(flags)), rt.cudaEventDestroy)

    def device_memory(self, nbytes: int) -> int:
        """The address of new memory on the GPU."""
        return int(self.keep(ok(rt.cudaMalloc(max(nbytes, 1))), rt.cudaFree))

    def pinned_memory(self, nbytes: int) -> NDArray[np.uint8]:
        """New zeroed, page-locked memory, which the GPU reads and writes with no copy in between."""
        address = self.keep(ok(rt.cudaHostAlloc(nbytes, rt.cudaHostAllocDefault)), rt.cudaFreeHost)
        array = view(int(address), nbytes)
        array.fill(0)
        return array


def let_go(error: BaseException | None) -> None:
    """Empty the frames that an error, and what caused it, came through.

    Their variables would live as long as the error, and TensorRT's objects among them would end where somebody drops
    it: in any thread, after what they use.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def view(address: int, nbytes: int) -> NDArray[np.uint8]:
    """An array over memory that is somebody else's; valid as long as that is."""
    return np.frombuffer(memoryview((ctypes.c_byte * nbytes).from_address(address)), np.uint8)


def copy_to_gpu(address: int, source: NDArray[Any], stream: Any) -> None:
    """Begin to copy a contiguous array in pinned memory to the GPU."""
    kind = rt.cudaMemcpyKind.cudaMemcpyHostToDevice
    ok(rt.cudaMemcpyAsync(address, source.ctypes.data, source.nbytes, kind, stream))


def copy_from_gpu(target: NDArray[Any], address: int, stream: Any) -> None:
    """Begin to copy from the GPU into a contiguous array in pinned memory."""
    kind = rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
    ok(rt.cudaMemcpyAsync(target.ctypes.data, address, target.nbytes, kind, stream))


def wait(stream: Any) -> None:
    """Wait until a stream has done all its work; by default the thread spins, and so wakes at once."""
    ok(rt.cudaStreamSynchronize(stream))


def come_to_rest(stream: Any) -> None:
    """`wait` before what a stream uses is freed: if it failed for good, there is nothing to wait for any more."""
    _try(rt.cudaStreamSynchronize(stream))


def sleep_until_done(stream: Any, event: Any) -> None:
    """Wait likewise, but leave the core to others meanwhile; the thread wakes some tens of microseconds late."""
    ok(rt.cudaEventRecord(event, stream))
    ok(rt.cudaEventSynchronize(event))


def launch_graph(graph: Any, stream: Any) -> None:
    """Begin to run a graph."""
    ok(rt.cudaGraphLaunch(graph, stream))


def capture(owned: Owned, stream: Any, enqueue: Callable[[], None]) -> Any:
    """What `enqueue` puts into a stream, as a graph that is on the GPU already; None where it cannot be captured.

    Others may break a capture: a thread that waits for the whole device, such as torch.cuda.synchronize(), is refused
    and spoils it. So it is tried again, and in the end given up with a warning.

    Raises:
        DeviceError: the GPU failed for good.
    """
    failure = ""  # its text alone: an error holds the frames that it came through, and with them the context
    for _ in range(ATTEMPTS):
        try:
            graph = owned.keep(_captured(stream, enqueue), rt.cudaGraphExecDestroy)
            ok(rt.cudaGraphUpload(graph, stream))  # or the first launch would bear it
            return graph
        except DeviceError:
            raise
        except (FashionInferError, MemoryError) as error:
            failure = str(error)
            wait(stream)  # nothing of the broken attempt is left in it
    logger.warning("going on without a CUDA graph, batches take longer to launch: %s", failure)
    return None


def _captured(stream: Any, enqueue: Callable[[], None]) -> Any:
    """One attempt, as an executable graph; the stream captures no more, whatever happens."""
    with _one_capture, _no_collector():
        # In this mode no other thread's cudaMalloc or cudaFree disturbs; those of this thread do
        ok(rt.cudaStreamBeginCapture(stream, rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
        try:
            enqueue()
        except BaseException:
            result = rt.cudaStreamEndCapture(stream)
            _try(result)  # the first error is the one that says why
            _destroy(result[1])
            raise
        graph = ok(rt.cudaStreamEndCapture(stream))
        try:
            return ok(rt.cudaGraphInstantiate(graph, 0))
        finally:
            _destroy(graph)


def _destroy(graph: Any) -> None:
    if graph is not None and int(graph) != 0:  # a capture that was broken gives none
        _try(rt.cudaGraphDestroy(graph))


@contextmanager
def _no_collector() -> Iterator[None]:
    """Python's collector off: it would free other people's tensors, by cudaFree, in the thread that captures.

    It runs once before, so that as little as possible is due while it is off; the lock around keeps two from
    switching it on and off in each other's time.
    """
    gc.collect()
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
