"""A stand-in for the CUDA runtime and driver and for TensorRT's engine that records calls and checks their order.

It checks rules, not results: the rules that the documentation of CUDA 13 and TensorRT states for the calls of
`fashion_infer.tensorrt`. It tells nothing about what a GPU computes, or how fast. As on a GPU, work is only done when a
call waits for it, so code that reads or overwrites a buffer too early gets the wrong images.
"""

import ctypes
import gc
import itertools
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

Op = Callable[[], None]


class Memory:
    """An allocation, on the device or pinned; both are ordinary memory here."""

    def __init__(self, nbytes: int) -> None:
        self.data = np.zeros(nbytes + 512, np.uint8)
        self.address = -(-self.data.ctypes.data // 256) * 256
        self.end = self.address + nbytes


class Stream:
    def __init__(self) -> None:
        self.pending: list[Op] = []
        self.captured: list[Op] | None = None  # while it captures
        self.thread = 0  # identifier of the thread that began the capture
        self.broken = False
        self.sources: set[int] = set()  # identities of the contexts whose work is captured


class StandIn:
    """CUDA and TensorRT for one test.

    Attributes:
        violations: a sentence for each broken rule.
        calls: names of the calls that may fail, in order.
        fail: {number of the call: error code that it returns instead of success}.
    """

    def __init__(self, rt: Any) -> None:
        self.real, self.codes = rt, rt.cudaError_t
        self.violations: list[str] = []
        self.calls: list[str] = []
        self.fail: dict[int, Any] = {}
        self.spared: set[str] = set()  # names of calls that do not fail
        self.sticky: Any = None
        self.lock = threading.RLock()
        self.local = threading.local()
        self.handles: dict[int, Any] = {}  # the objects that exist, by number
        self.ever: set[int] = set()
        self.numbers = itertools.count(1000)
        self.memory: dict[str, list[Memory]] = {"device": [], "pinned": []}
        self.contexts: weakref.WeakSet[Any] = weakref.WeakSet()
        self.objects: weakref.WeakSet[Any] = weakref.WeakSet()  # TensorRT's other objects
        self.breaks_captures = 0  # how many captures another thread will spoil

    # CUDA keeps these two for each thread
    @property
    def stack(self) -> list[int]:
        if not hasattr(self.local, "stack"):
            self.local.stack = []
        return self.local.stack

    @property
    def last_error(self) -> Any:
        return getattr(self.local, "last_error", self.codes.cudaSuccess)

    def breach(self, text: str) -> None:
        self.violations.append(text)

    def call(self, name: str, work: Callable[[], Any], *, captured: bool = False) -> tuple[Any, ...]:
        """Make a call of CUDA that may fail: check the rules of all calls, then do its work."""
        with self.lock:
            number = len(self.calls)
            self.calls.append(name)
            if not self.stack and self.sticky is None:
                self.breach(f"{name} with no current device")
            capturing = [s for s in self.handles.values() if isinstance(s, Stream) and s.captured is not None]
            mine = [stream for stream in capturing if stream.thread == threading.get_ident()]
            if mine and not captured:
                self.breach(f"{name} during a capture of the same thread")
            if capturing and gc.isenabled():
                self.breach(f"{name} during a capture with Python's collector on")
            code = self.sticky or (None if name in self.spared else self.fail.get(number))
            if code is None:
                code, value = self.codes.cudaSuccess, work()
                return (code,) if value is None else (code, value)
            if code == self.codes.cudaErrorIllegalAddress:
                self.sticky = code
            for stream in mine:
                stream.broken = True
            self.local.last_error = code
            return code, None

    def new(self, value: Any) -> int:
        number = next(self.numbers)
        self.handles[number] = value
        self.ever.add(number)
        return number

    def get(self, handle: Any, kind: type) -> Any:
        value = self.handles.get(int(handle))
        if not isinstance(value, kind):
            self.breach(f"{kind.__name__} {int(handle)} is used {'after its end' if int(handle) in self.ever else ''}")
            return kind() if kind is Stream else None
        return value

    def destroy(self, handle: Any, kind: type) -> None:
        if self.get(handle, kind) is not None:
            self.handles.pop(int(handle), None)

    def inside(self, kind: str, address: int, nbytes: int) -> None:
        if not any(m.address <= address and address + nbytes <= m.end for m in self.memory[kind]):
            self.breach(f"{nbytes} bytes at {address} are not {kind} memory")

    def take(self, kind: str, nbytes: int) -> int:
        memory = Memory(nbytes)
        self.memory[kind].append(memory)
        return memory.address

    def give(self, kind: str, address: int) -> None:
        alive = [m for m in self.memory[kind] if m.address == int(address)]
        if len(alive) != 1:
            self.breach(f"{kind} memory {address} is freed twice, or never was")
            return
        if any(s.pending for s in self.handles.values() if isinstance(s, Stream)) and self.sticky is None:
            self.breach(f"{kind} memory is freed while a stream still works")
        used = (place for context in self.contexts for place in (*context.addresses.values(), context.activations))
        if any(place is not None and alive[0].address <= place < alive[0].end for place in used):
            self.breach("device memory is freed before the contexts that use it")
        self.memory[kind].remove(alive[0])

    def put(self, stream: Any, op: Op, context: int | None = None) -> None:
        target: Stream = self.get(stream, Stream)
        if target.captured is None:
            target.pending.append(op)
        else:
            target.captured.append(op)
            if context is not None:
                target.sources.add(context)

    def finish(self, stream: Any) -> None:
        target: Stream = self.get(stream, Stream)
        if target.captured is not None:
            self.breach("a stream is waited for while it captures")
        for op in target.pending:
            op()
        target.pending.clear()

    @property
    def left(self) -> list[str]:
        """The kinds of the objects and memory that were not freed."""
        memory = [kind for kind, alive in self.memory.items() for _ in alive]
        return [type(value).__name__ for value in (*self.handles.values(), *self.contexts, *self.objects)] + memory


class Runtime:
    """The functions of `cuda.bindings.runtime` that are called; names, codes and kinds are the real ones."""

    def __init__(self, cuda: StandIn, properties: Any) -> None:
        self._cuda, self._properties = cuda, properties

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cuda.real, name)

    def cudaGetDeviceCount(self) -> tuple[Any, int]:
        return self._cuda.codes.cudaSuccess, 2

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, Any]:
        return self._cuda.codes.cudaSuccess, self._properties

    def cudaSetDevice(self, index: int) -> tuple[Any]:
        self._cuda.breach("cudaSetDevice changes the device of a thread")
        return (self._cuda.codes.cudaSuccess,)

    def cudaGetLastError(self) -> tuple[Any]:
        before = self._cuda.last_error
        self._cuda.local.last_error = self._cuda.codes.cudaSuccess
        return (before,)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        if flags != self._cuda.real.cudaStreamNonBlocking:
            self._cuda.breach("a stream that waits for the legacy stream")
        return self._cuda.call("cudaStreamCreate", lambda: self._cuda.new(Stream()))

    def cudaStreamDestroy(self, stream: Any) -> Any:
        return self._cuda.call("cudaStreamDestroy", lambda: self._cuda.destroy(stream, Stream))

    def cudaStreamSynchronize(self, stream: Any) -> Any:
        return self._cuda.call("cudaStreamSynchronize", lambda: self._cuda.finish(stream))

    def cudaEventCreateWithFlags(self, flags: int) -> Any:
        return self._cuda.call("cudaEventCreate", lambda: self._cuda.new(SimpleNamespace(stream=None)))

    def cudaEventDestroy(self, event: Any) -> Any:
        return self._cuda.call("cudaEventDestroy", lambda: self._cuda.destroy(event, SimpleNamespace))

    def cudaEventRecord(self, event: Any, stream: Any) -> Any:
        def record() -> None:
            self._cuda.get(event, SimpleNamespace).stream = stream

        return self._cuda.call("cudaEventRecord", record)

    def cudaEventSynchronize(self, event: Any) -> Any:
        return self._cuda.call(
            "cudaEventSynchronize", lambda: self._cuda.finish(self._cuda.get(event, SimpleNamespace).stream)
        )

    def cudaMalloc(self, nbytes: int) -> Any:
        return self._cuda.call("cudaMalloc", lambda: self._cuda.take("device", nbytes))

    def cudaFree(self, address: int) -> Any:
        return self._cuda.call("cudaFree", lambda: self._cuda.give("device", address))

    def cudaHostAlloc(self, nbytes: int, flags: int) -> Any:
        return self._cuda.call("cudaHostAlloc", lambda: self._cuda.take("pinned", nbytes))

    def cudaFreeHost(self, address: int) -> Any:
        return self._cuda.call("cudaFreeHost", lambda: self._cuda.give("pinned", address))

    def cudaMemcpyAsync(self, to: int, source: int, nbytes: int, kind: Any, stream: Any) -> Any:
        up = kind == self._cuda.real.cudaMemcpyKind.cudaMemcpyHostToDevice

        def copy() -> None:
            self._cuda.inside("device" if up else "pinned", to, nbytes)
            self._cuda.inside("pinned" if up else "device", source, nbytes)
            self._cuda.put(stream, lambda: ctypes.memmove(to, source, nbytes) and None)

        return self._cuda.call("cudaMemcpyAsync", copy, captured=True)

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> Any:
        def begin() -> None:
            target = self._cuda.get(stream, Stream)
            if target.captured is not None or target.pending:
                self._cuda.breach("a capture begins in a stream that captures or works")
            if mode != self._cuda.real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal:
                self._cuda.breach("a capture that other threads' allocations break")
            target.captured, target.thread, target.sources = [], threading.get_ident(), set()
            target.broken = self._cuda.breaks_captures > 0
            self._cuda.breaks_captures -= target.broken

        return self._cuda.call("cudaStreamBeginCapture", begin)

    def cudaStreamEndCapture(self, stream: Any) -> Any:
        def end() -> int:
            target = self._cuda.get(stream, Stream)
            if target.captured is None or target.thread != threading.get_ident():
                self._cuda.breach("a capture ends that did not begin, or in another thread")
            return self._cuda.new(SimpleNamespace(graph=target.captured or [], contexts=target.sources))

        target = self._cuda.get(stream, Stream)
        result = self._cuda.call("cudaStreamEndCapture", end, captured=True)
        broken, target.captured, target.broken = target.broken, None, False
        if broken:
            if result[0] == self._cuda.codes.cudaSuccess:
                self._cuda.handles.pop(result[1])
            self._cuda.local.last_error = self._cuda.codes.cudaErrorStreamCaptureInvalidated
            return self._cuda.codes.cudaErrorStreamCaptureInvalidated, 0
        return result

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        def instantiate() -> int:
            captured = self._cuda.get(graph, SimpleNamespace)
            return self._cuda.new(SimpleNamespace(exec=list(captured.graph), contexts=set(captured.contexts)))

        return self._cuda.call("cudaGraphInstantiate", instantiate)

    def cudaGraphDestroy(self, graph: Any) -> Any:
        return self._cuda.call("cudaGraphDestroy", lambda: self._cuda.destroy(graph, SimpleNamespace))

    def cudaGraphExecDestroy(self, graph: Any) -> Any:
        return self._cuda.call("cudaGraphExecDestroy", lambda: self._cuda.destroy(graph, SimpleNamespace))

    def cudaGraphUpload(self, graph: Any, stream: Any) -> Any:
        return self._cuda.call("cudaGraphUpload", lambda: self._cuda.get(graph, SimpleNamespace) and None)

    def cudaGraphLaunch(self, graph: Any, stream: Any) -> Any:
        def launch() -> None:
            for op in self._cuda.get(graph, SimpleNamespace).exec:
                self._cuda.put(stream, op)

        return self._cuda.call("cudaGraphLaunch", launch)


class Driver:
    """The functions of `cuda.bindings.driver` that are called."""

    def __init__(self, cuda: StandIn) -> None:
        self._cuda = cuda

    def cuInit(self, flags: int) -> tuple[Any]:
        return (0,)

    def cuDeviceGet(self, index: int) -> tuple[Any, int]:
        return 0, index

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[Any, int]:
        return 0, 100 + device

    def cuCtxPushCurrent(self, context: int) -> tuple[Any]:
        if self._cuda.sticky is not None:
            return (self._cuda.sticky,)
        self._cuda.stack.append(context)
        return (0,)

    def cuCtxPopCurrent(self) -> tuple[Any, int]:
        return 0, self._cuda.stack.pop()
