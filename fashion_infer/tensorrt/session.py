"""TensorRT: engines that `fashion-infer export --engine` built, on an NVIDIA GPU.

A session is one stream, one set of pinned host and device buffers, and for each size of batch a context and the CUDA
graph captured from it: copy in, compute, copy out are one launch. Sessions of one engine share its weights and run at
the same time, so that one copies while another computes.
"""

import ctypes
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs, run_in_parts
from fashion_infer.devices import gpu_index
from fashion_infer.errors import DeviceError, EngineMismatchError, MissingExtraError, missing_extra
from fashion_infer.files import cache_folder, write_atomically
from fashion_infer.model_file import ModelFile, read_model
from fashion_infer.model_spec import INPUT_NAME, OUTPUT_NAMES
from fashion_infer.tensorrt.api import errors_in, load_tensorrt, log_of, recording
from fashion_infer.tensorrt.cuda import ok, use_gpu
from fashion_infer.tensorrt.engine_file import EngineFile, check_fingerprint, read_engine

try:
    from cuda.bindings import runtime as rt
except ImportError as error:
    raise missing_extra("cuda-python", "rtx", error) from error

logger = logging.getLogger("fashion_infer")


class TensorRTBackend:
    """An engine and its sessions, each of which one thread at a time may use."""

    def __init__(
        self, model: Path | ModelFile, *, device: str = "cuda:0", sessions: int = 2, graphs: bool = True
    ) -> None:
        """Load an engine; everything that can be wrong with it is checked before TensorRT sees it.

        Args:
            model: the .plan file, with its .json beside it. A plan is native code: load only those you trust.
            device: "cuda:0" and so on.
            sessions: batches that run at the same time; each takes GPU memory for its activations.
            graphs: False launches kernel by kernel, to compare with.

        Raises:
            EngineMismatchError: for another TensorRT or GPU, truncated, changed, or without its description.
            MissingExtraError: no TensorRT is installed.
            DeviceError: there is no such GPU, or it has too little memory.
        """
        index = gpu_index(device)
        file = read_model(model)
        path, (plan, engine_file) = file.path, read_engine(file)
        trt = _tensorrt_of(path, engine_file)
        check_fingerprint(path, engine_file, tensorrt=trt.__version__)
        gpu = use_gpu(index)
        check_fingerprint(path, engine_file, compute_capability=gpu.compute_capability)
        self.path, self.device, self.spec, self.sessions = path, device, engine_file.spec, sessions
        self._index, self._greatest = index, engine_file.batch[2]
        self._runtime = trt.Runtime(log_of(trt))
        self._engine = _deserialize(path, trt, self._runtime, plan, engine_file)
        kernels = _Kernels(trt, self._engine, engine_file, gpu.compute_capability)
        self._sessions = [_Session(trt, self._engine, kernels, engine_file.batch, graphs) for _ in range(sessions)]
        kernels.save()

    def run(self, batch: NDArray[np.uint8], session: int = 0) -> Outputs:
        """uint8 [N, S, S, 3] RGB -> float32 outputs by name, each [N, ...]; N may be above the engine's batch.

        Raises:
            DeviceError: the GPU failed or is out of memory.
        """
        ok(rt.cudaSetDevice(self._index))  # the current device belongs to the thread
        return run_in_parts(self._sessions[session].run, batch, self._greatest)

    def close(self) -> None:
        """Free the sessions' memory, then the engine."""
        ok(rt.cudaSetDevice(self._index))
        for session in self._sessions:
            session.close()
        self._sessions.clear()
        del self._engine, self._runtime


class _Session:
    """One stream, its buffers, and a context and graph for each size of batch; used by one thread at a time."""

    def __init__(self, trt: Any, engine: Any, kernels: "_Kernels", batch: tuple[int, int, int], graphs: bool) -> None:
        self._owned = owned = _Owned()
        self._stream = owned.keep(ok(rt.cudaStreamCreateWithFlags(rt.cudaStreamNonBlocking)), rt.cudaStreamDestroy)
        self._host: dict[str, NDArray[Any]] = {}
        self._device: dict[str, int] = {}
        for name in (INPUT_NAME, *OUTPUT_NAMES):
            shape = (batch[2], *tuple(engine.get_tensor_shape(name))[1:])
            self._host[name] = _pinned(owned, shape, np.dtype(trt.nptype(engine.get_tensor_dtype(name))))
            self._device[name] = owned.keep(ok(rt.cudaMalloc(self._host[name].nbytes)), rt.cudaFree)
        activations = max(engine.device_memory_size_v2, 1)
        workspace = owned.keep(ok(rt.cudaMalloc(activations)), rt.cudaFree)
        self._contexts: dict[int, Any] = {}
        self._graphs: dict[int, Any] = {}
        for size in batch_sizes(*batch):
            context = self._contexts[size] = kernels.context()
            context.set_device_memory(workspace, activations)  # one size runs at a time: they share it
            _must(context.set_input_shape(INPUT_NAME, (size, *self._host[INPUT_NAME].shape[1:])), "set_input_shape")
            for name, address in self._device.items():
                _must(context.set_tensor_address(name, address), "set_tensor_address")
            self._enqueue(size)  # the first run does work that must not be captured
            ok(rt.cudaStreamSynchronize(self._stream))
            if graphs and _is_capturable(context, self._stream):
                self._graphs[size] = owned.keep(self._capture(size), rt.cudaGraphExecDestroy)
        self._kernels = kernels  # last, since attributes go in order: the contexts' kernels must outlive them

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """Run 1 to the greatest batch images; what fills the batch up to a size are pictures of earlier runs."""
        count = len(batch)
        size = next(size for size in self._contexts if size >= count)
        self._host[INPUT_NAME][:count] = batch
        if size in self._graphs:
            ok(rt.cudaGraphLaunch(self._graphs[size], self._stream))
        else:
            self._enqueue(size)
        ok(rt.cudaStreamSynchronize(self._stream))
        return {name: self._host[name][:count].copy() for name in OUTPUT_NAMES}

    def close(self) -> None:
        """Free its memory and what was captured; the contexts go first, since they use both."""
        self._contexts.clear()
        self._owned.free()

    def _enqueue(self, size: int) -> None:
        host, device, stream = self._host, self._device, self._stream
        to_device, to_host = rt.cudaMemcpyKind.cudaMemcpyHostToDevice, rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        pixels = host[INPUT_NAME][:size]
        ok(rt.cudaMemcpyAsync(device[INPUT_NAME], pixels.ctypes.data, pixels.nbytes, to_device, stream))
        _must(self._contexts[size].execute_async_v3(int(stream)), "execute_async_v3")
        for name in OUTPUT_NAMES:
            rows = host[name][:size]
            ok(rt.cudaMemcpyAsync(rows.ctypes.data, device[name], rows.nbytes, to_host, stream))

    def _capture(self, size: int) -> Any:
        """The launches of one size as a graph; other threads' CUDA calls do not disturb a thread-local capture."""
        mode = rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        ok(rt.cudaStreamBeginCapture(self._stream, mode))
        try:
            self._enqueue(size)
        finally:
            graph = ok(rt.cudaStreamEndCapture(self._stream))
        try:
            return ok(rt.cudaGraphInstantiate(graph, 0))
        finally:
            ok(rt.cudaGraphDestroy(graph))


class _Kernels:
    """Makes contexts; TensorRT for RTX then compiles its kernels, which are kept from one start to the next."""

    def __init__(self, trt: Any, engine: Any, engine_file: EngineFile, compute_capability: tuple[int, int]) -> None:
        self._trt, self._engine = trt, engine
        self._cache: Any = None
        self._configs: list[Any] = []
        if engine_file.flavour != "rtx":
            return
        self._cache = engine.create_runtime_config().create_runtime_cache()
        name = f"{engine_file.plan_sha256}.sm{compute_capability[0]}{compute_capability[1]}.kernels"
        self._path = cache_folder() / "kernels" / name
        if self._path.is_file() and not self._cache.deserialize(self._path.read_bytes()):
            logger.warning("%s was not usable: the kernels are compiled again", self._path)

    def context(self) -> Any:
        """A context without memory of its own for activations."""
        how: Any = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._cache is not None:
            config = self._engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(how)
            # LAZY would compile the right kernels behind the first runs, and a capture would hold the slow ones
            eager = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
            _must(config.set_runtime_cache(self._cache), "set_runtime_cache")
            self._configs.append(config)
            how = config
        context = self._engine.create_execution_context(how)
        if context is None:
            raise DeviceError("TensorRT could not make an execution context: the GPU may be out of memory")
        context.nvtx_verbosity = self._trt.ProfilingVerbosity.NONE  # what was inspected would cost time at each launch
        return context

    def save(self) -> None:
        """Keep the compiled kernels for the next start; where they cannot be written it only takes longer."""
        if self._cache is None:
            return
        try:
            write_atomically(self._path, lambda temporary: temporary.write_bytes(self._cache.serialize()))
        except OSError as error:
            logger.warning("the compiled kernels cannot be kept, the next start compiles them again: %s", error)


class _Owned:
    """CUDA objects of a session, freed together, the last one first."""

    def __init__(self) -> None:
        self._objects: list[tuple[Any, Callable[[Any], Any]]] = []

    def keep(self, value: Any, free: Callable[[Any], Any]) -> Any:
        self._objects.append((value, free))
        return value

    def free(self) -> None:
        while self._objects:
            value, free = self._objects.pop()
            free(value)  # its error code says nothing that could still be acted on


def batch_sizes(smallest: int, best: int, greatest: int) -> list[int]:
    """The sizes that a context and a graph are made for: the three of the profile and the powers of two between."""
    powers = {2**i for i in range(greatest.bit_length()) if smallest < 2**i < greatest}
    return sorted({smallest, best, greatest, *powers})


def _tensorrt_of(path: Path, engine_file: EngineFile) -> Any:
    """The TensorRT module of a plan's flavour."""
    try:
        return load_tensorrt(engine_file.flavour)[1]
    except MissingExtraError as error:
        here, _ = load_tensorrt()
        rebuild = dataclasses.replace(engine_file, flavour=here).rebuild_command
        raise EngineMismatchError(
            f"{path} was built by flavour {engine_file.flavour} of TensorRT, here is {here}: run {rebuild}"
        ) from error


def _deserialize(path: Path, trt: Any, runtime: Any, plan: bytes, engine_file: EngineFile) -> Any:
    """The engine of a plan whose fingerprint fits."""
    with recording(trt) as lines:
        if engine_file.flavour == "rtx":  # only it can tell before it loads: the GPU may be one it does not know
            validity, diagnostics = runtime.get_engine_validity(plan)
            if validity == trt.EngineValidity.INVALID:
                bits = trt.EngineInvalidityDiagnostics.__members__.items()
                why = ", ".join(name for name, bit in bits if diagnostics & int(bit)) or "no reason given"
                if "INSUFFICIENT_GPU_MEMORY" in why:
                    raise DeviceError(f"{path} does not fit in the memory of this GPU, TensorRT says {why}")
                raise EngineMismatchError(
                    f"{path} does not run on this GPU, TensorRT says {why}: run {engine_file.rebuild_command}"
                )
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        if any("out of memory" in line.lower() or "outofmemory" in line.lower() for line in lines):
            raise DeviceError(f"{path} does not fit in the memory of this GPU: {errors_in(lines)}")
        raise EngineMismatchError(f"TensorRT cannot load {path}: {errors_in(lines)}; run {engine_file.rebuild_command}")
    found = {
        name: tuple(engine.get_tensor_shape(name))[1:]
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
    }
    size = engine_file.spec.image_size
    expected = {INPUT_NAME: (size, size, 3), **engine_file.spec.output_shapes()}
    if found != expected:
        raise EngineMismatchError(
            f"{path} has inputs and outputs {found}, its description says {expected}: run {engine_file.rebuild_command}"
        )
    return engine


def _pinned(owned: _Owned, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A zeroed array in page-locked memory, which the GPU reads and writes without a copy in between."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    address = owned.keep(ok(rt.cudaHostAlloc(nbytes, rt.cudaHostAllocDefault)), rt.cudaFreeHost)
    array = view(address, shape, dtype)
    array.fill(0)
    return array


def view(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array over memory that is somebody else's; valid as long as that is."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(memoryview((ctypes.c_byte * nbytes).from_address(address)), dtype).reshape(shape)


def _is_capturable(context: Any, stream: Any) -> bool:
    """TensorRT for RTX can tell; where it says no, kernels are launched one by one, and that is worth knowing."""
    can = not hasattr(context, "is_stream_capturable") or bool(context.is_stream_capturable(int(stream)))
    if not can:
        logger.warning("this engine cannot be captured as a CUDA graph: batches take longer to launch")
    return can


def _must(done: bool, what: str) -> None:
    if not done:
        raise DeviceError(f"TensorRT refused {what}: its reason is in the log above")
