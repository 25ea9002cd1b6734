"""The TensorRT backend: it runs engines that `fashion-infer export --engine` built, on an NVIDIA GPU.

A session has one stream, one set of pinned and device buffers, and for each batch size a context and the CUDA graph
captured from it. One launch of the graph copies the input, computes, and copies the outputs. Sessions of one engine
share its weights and run at the same time, so that one copies while another computes.
"""

import atexit
import logging
import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs, joined
from fashion_infer.devices import gpu_index
from fashion_infer.errors import DeviceError, FashionInferError
from fashion_infer.forks import in_each_child, never_free
from fashion_infer.model_file import ModelFile, read_model
from fashion_infer.model_spec import INPUT_NAME, OUTPUT_NAMES, ModelSpec
from fashion_infer.tensorrt import cuda
from fashion_infer.tensorrt.engine import Engine, tensorrt_of
from fashion_infer.tensorrt.engine_file import Profile, batch_text, check_fingerprint, read_engine

GRAPHS = "FASHION_INFER_CUDA_GRAPHS"  # environment variable: 0 switches CUDA graphs off
SMALL = 8  # a batch is filled up to a size of at most this, since smaller batches hardly take less time

logger = logging.getLogger("fashion_infer")


class TensorRTBackend:
    """An engine and its sessions; only one thread at a time may use a session.

    A call leaves the calling thread's current device as it was. `close` must be called: a backend that was not closed
    keeps its memory, since the garbage collector may run in a thread in which nothing of it may be freed.
    """

    def __init__(
        self,
        model: Path | ModelFile,
        *,
        device: str = "cuda:0",
        sessions: int = 2,
        max_batch: int | None = None,
        graphs: bool | None = None,
    ) -> None:
        """Check a plan and its description, then load the engine.

        Args:
            model: the .plan file, with its .json file beside it. A plan is native code: load only one that you trust.
            device: the GPU, such as "cuda:0".
            sessions: number of batches that run at the same time; each takes GPU memory for its activations.
            max_batch: the largest number of images in one call of `run`; larger batches run in parts. None means the
                largest batch that the engine was built for.
            graphs: whether to use CUDA graphs; False launches kernel by kernel. None uses them unless the environment
                variable FASHION_INFER_CUDA_GRAPHS is 0.

        Raises:
            EngineMismatchError: the engine was built for another TensorRT or GPU, is truncated or changed, or lacks
                its description.
            MissingExtraError: no TensorRT is installed.
            DeviceError: there is no such GPU, it has too little memory, or it failed.
            ModelError: TensorRT or CUDA refused the engine.
        """
        index = gpu_index(device)
        file = read_model(model)
        self.path, (plan, engine_file) = file.path, read_engine(file)
        trt = tensorrt_of(self.path, engine_file)
        check_fingerprint(self.path, engine_file, tensorrt=trt.__version__)
        gpu = cuda.find_gpu(index)
        check_fingerprint(self.path, engine_file, compute_capability=gpu.compute_capability)
        self.device, self.spec, self.sessions = device, engine_file.spec, sessions
        self._index, self._failure = index, ""
        self._sizes = batch_sizes(engine_file.profiles, max_batch)
        self._sessions: list[_Session] = []
        self._engine: Engine | None = None
        _open.add(self)
        graphs = os.environ.get(GRAPHS) != "0" if graphs is None else graphs
        try:
            with cuda.current_gpu(index):
                self._engine = Engine(self.path, trt, plan, engine_file, gpu)
                for _ in range(sessions):
                    self._sessions.append(_Session(self._engine, self.spec, self._sizes, graphs))
                    self._sessions[-1].open()
        except MemoryError as error:
            self.close()
            raise DeviceError(
                f"{self.path} with {sessions} sessions does not fit in the memory of {gpu.name}: use fewer sessions, "
                "or an engine with a smaller --batch"
            ) from error
        except BaseException:
            self.close()
            raise
        logger.info(
            "%s on %s: %s, TensorRT %s (%s), batches %s, %d sessions, CUDA graphs %s",
            *(self.path, gpu.name, engine_file.precision, trt.__version__, engine_file.flavour),
            *(batch_text(engine_file.profiles), sessions, "on" if graphs else "off"),
        )

    def run(self, batch: NDArray[np.uint8], session: int = 0) -> Outputs:
        """Run the network on a batch; see `Backend.run`.

        Args:
            batch: uint8 [N, S, S, 3] RGB.
            session: number of the session.

        Returns:
            The float32 outputs by name, each [N, ...].

        Raises:
            MemoryError: the GPU has too little free memory; a smaller batch may fit.
            ModelError: TensorRT or CUDA refused this batch; the next may run.
            DeviceError: the GPU failed for good; every later call raises this error too.
        """
        if self._failure:
            raise DeviceError(self._failure)
        try:
            with cuda.current_gpu(self._index):
                run, start, parts = self._sessions[session].run, 0, []
                for count in split(len(batch), self._sizes):
                    parts.append(run(batch[start : start + count]))
                    start += count
                return joined(parts)
        except DeviceError as error:
            self._failure = f"{self.device}: {error}"
            raise

    def input_memory(self, count: int, session: int = 0) -> NDArray[np.uint8] | None:
        """The session's pinned input memory, uint8 [count, S, S, 3]; None if a batch of this size runs in parts."""
        if self._failure or split(count, self._sizes) != [count]:
            return None
        return self._sessions[session].rows(count)

    def close(self) -> None:
        """Free the sessions, then the engine. No batch may be running.

        In a forked child it does nothing, since CUDA works only in the process that first used it.
        """
        if self not in _open:
            return
        _open.discard(self)
        try:
            with cuda.current_gpu(self._index):
                self._free()
        except FashionInferError:  # a GPU that failed for good cannot become current; try to free nevertheless
            self._free()

    def _free(self) -> None:
        while self._sessions:
            self._sessions.pop().close()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


# Engines that nobody has closed yet. The references keep the garbage collector, which may run in any thread, from
# destroying their contexts.
_open: set[TensorRTBackend] = set()


@atexit.register
def _leave_all() -> None:
    """When the interpreter ends, leave to the system what nobody closed. It can still be closed after this."""
    for backend in list(_open):
        never_free(backend)


def _abandon_all() -> None:
    _leave_all()
    _open.clear()


in_each_child(_abandon_all)


@dataclass
class _Bucket:
    """The context and buffers that run one batch size.

    Attributes:
        context: TensorRT's IExecutionContext, with its input shape and addresses set.
        rows: the input in pinned memory, uint8 [size, S, S, 3].
        outputs: {name: output in pinned memory, [size, ...]}.
        nbytes: number of bytes from the start of the first output to the end of the last one.
        graph: CUDA graph that copies the input, computes and copies the outputs; None if each is launched on its own.
    """

    context: Any
    rows: NDArray[np.uint8]
    outputs: dict[str, NDArray[Any]]
    nbytes: int
    graph: Any = None


class _Session:
    """One stream, its buffers, and a bucket for each batch size; only one thread at a time may use it.

    Only one batch runs at a time, so all sizes share the buffers. The bucket of a size is created when it first runs.
    """

    def __init__(self, engine: Engine, spec: ModelSpec, sizes: list[int], graphs: bool) -> None:
        self._engine, self._sizes, self._graphs = engine, sizes, graphs
        self._row = (spec.image_size, spec.image_size, 3)
        self._owned, self._captured = cuda.Owned(), cuda.Owned()  # stream, event and buffers; graphs
        self._contexts: dict[int, Any] = {}
        self._buckets: dict[int, _Bucket] = {}

    def open(self) -> None:
        """Allocate the memory and prepare the smallest size. If that fails, `close` frees what was allocated."""
        owned, greatest = self._owned, self._sizes[-1]
        self._stream, self._event = owned.stream(), owned.event()
        self._pixels = owned.pinned_memory(greatest * prod(self._row))
        self._input = owned.device_memory(self._pixels.nbytes)
        _, nbytes = self._layout(greatest)
        self._results = owned.pinned_memory(nbytes)
        self._output = owned.device_memory(nbytes)
        profiles = {profile_of(size, self._engine.file.profiles) for size in self._sizes}
        sizes = map(self._engine.loaded.get_device_memory_size_for_profile_v2, profiles)
        self._activation_bytes = max(1, *sizes)  # profiles that no batch of the caller's needs take no memory
        self._activations = owned.device_memory(self._activation_bytes)
        try:
            self._prepare(self._sizes[0])
        except BaseException:
            self._settle()
            raise

    def rows(self, count: int) -> NDArray[np.uint8]:
        """The pinned input memory of the first `count` images, uint8 [count, S, S, 3]."""
        return self._pixels[: count * prod(self._row)].reshape(count, *self._row)

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """Run a batch of at most the greatest size. Images of earlier runs fill it up to the next size."""
        count = len(batch)
        size = next(size for size in self._sizes if size >= count)
        try:
            bucket = self._buckets.get(size) or self._prepare(size)
            if batch.ctypes.data != bucket.rows.ctypes.data:  # otherwise the caller wrote into pinned memory
                bucket.rows[:count] = batch
            if bucket.graph is not None:
                cuda.launch_graph(bucket.graph, self._stream)
            else:
                self._enqueue(bucket)
            if size == 1:  # latency matters for a single image: spin. Larger batches leave the core to the decoders.
                cuda.wait(self._stream)
            else:
                cuda.sleep_until_done(self._stream, self._event)
        except BaseException:
            self._settle()
            raise
        return {name: rows[:count].copy() for name, rows in bucket.outputs.items()}

    def close(self) -> None:
        """Wait for the stream, then free the graphs, the contexts, and last the memory that they use."""
        stream = getattr(self, "_stream", None)
        if stream is not None:
            cuda.wait_before_freeing(stream)
        self._captured.free()
        self._buckets.clear()
        self._contexts.clear()
        self._owned.free()

    def _settle(self) -> None:
        """Wait for the work that was started before a failure: a copy may still read or write the pinned memory.

        Raises:
            DeviceError: waiting failed, so the memory cannot be used again.
        """
        try:
            cuda.wait(self._stream)
        except DeviceError:
            raise
        except Exception as error:
            raise DeviceError(f"the GPU does not come to rest after a failure: {error}") from error

    def _prepare(self, size: int) -> _Bucket:
        """Prepare a batch size: create a context, run it once, and capture its graph."""
        with self._engine.lock:
            if size not in self._contexts:  # if a later step fails, the next attempt uses the same context
                self._contexts[size] = self._engine.new_context()
            context = self._contexts[size]
            self._set_up(context, size)
            layout, nbytes = self._layout(size)
            outputs = {}
            for name, (offset, shape, dtype) in layout.items():
                end = offset + prod(shape) * dtype.itemsize
                outputs[name] = self._results[offset:end].view(dtype).reshape(shape)
                self._engine.must(context.set_tensor_address(name, self._output + offset), "set_tensor_address")
            bucket = _Bucket(context, self.rows(size), outputs, nbytes)
            # The first run after a change of shape does work that must not be captured; TensorRT's documentation
            # requires a run before the capture.
            self._enqueue(bucket)
            cuda.wait(self._stream)
            if self._graphs and self._is_capturable(context):
                bucket.graph = cuda.capture(self._captured, self._stream, lambda: self._enqueue(bucket))
            self._engine.keep_kernels()
            self._buckets[size] = bucket
        return bucket

    def _set_up(self, context: Any, size: int) -> None:
        engine = self._engine
        # Profile 0 is set too: by TensorRT's header, only the first context of an engine has it from the start
        profile = profile_of(size, engine.file.profiles)
        engine.must(_choose_profile(context, profile, self._stream), "set_optimization_profile_async")
        context.set_device_memory(self._activations, self._activation_bytes)
        engine.must(context.set_input_shape(INPUT_NAME, (size, *self._row)), "set_input_shape")
        engine.must(context.set_tensor_address(INPUT_NAME, self._input), "set_tensor_address")

    def _enqueue(self, bucket: _Bucket) -> None:
        """Copy the input, compute, and copy the outputs. They lie side by side, so that one copy is enough."""
        cuda.copy_to_gpu(self._input, bucket.rows, self._stream)
        self._engine.must(bucket.context.execute_async_v3(int(self._stream)), "execute_async_v3")
        cuda.copy_from_gpu(self._results[: bucket.nbytes], self._output, self._stream)

    def _layout(self, size: int) -> tuple[dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]], int]:
        """The layout of the outputs of a batch size in the memory that they share.

        Returns:
            {name: (offset in bytes, shape, dtype)}, and the number of bytes up to the end of the last output.
        """
        layout, end = {}, 0
        for name in OUTPUT_NAMES:
            shape = (size, *tuple(self._engine.loaded.get_tensor_shape(name))[1:])
            dtype = np.dtype(self._engine.trt.nptype(self._engine.loaded.get_tensor_dtype(name)))
            offset = -(-end // cuda.ALIGNMENT) * cuda.ALIGNMENT
            layout[name] = offset, shape, dtype
            end = offset + prod(shape) * dtype.itemsize
        return layout, end

    def _is_capturable(self, context: Any) -> bool:
        """Whether the context can be captured as a graph; a warning is logged if not. Only RTX can say no."""
        is_capturable = not hasattr(context, "is_stream_capturable") or context.is_stream_capturable(int(self._stream))
        if not is_capturable:
            logger.warning("this engine cannot be captured as a CUDA graph: batches take longer to launch")
        return bool(is_capturable)


def _choose_profile(context: Any, profile: int, stream: Any) -> bool:
    """Set the profile of a context and return whether that succeeded.

    TensorRT's Python module raises RuntimeError here, while its other calls return False.
    """
    try:
        return bool(context.set_optimization_profile_async(profile, int(stream)))
    except RuntimeError:
        return False


def batch_sizes(profiles: tuple[Profile, ...], max_batch: int | None = None) -> list[int]:
    """The batch sizes for which contexts are created, smallest first: powers of two, and each profile's own sizes.

    Args:
        profiles: the engine's profiles.
        max_batch: the largest batch that will run; greater sizes than it needs are left out. None keeps all.
    """
    smallest = min(profile[0] for profile in profiles)
    sizes = {smallest}
    for low, best, high in profiles:
        sizes |= {best, high} | {2**i for i in range(high.bit_length()) if low <= 2**i}
    greatest = min((size for size in sizes if size >= (max_batch or max(sizes))), default=max(sizes))
    return sorted(size for size in sizes if size <= greatest)


def profile_of(size: int, profiles: tuple[Profile, ...]) -> int:
    """The number of the profile that runs a batch size: the one that covers it with the nearest best size."""
    able = [i for i, (low, _, high) in enumerate(profiles) if low <= size <= high]
    return min(able, key=lambda i: max(profiles[i][1] / size, size / profiles[i][1]))


def split(count: int, sizes: list[int]) -> list[int]:
    """Split a batch into runs.

    A run always computes a whole size. A batch is filled up to the next size if at most a quarter of that size is
    wasted, or if that size is at most 8. Otherwise it runs in parts: 33 images run as 32 and 1, not as 64. These
    limits are estimates.

    Args:
        count: number of images in the batch.
        sizes: the batch sizes, see `batch_sizes`.

    Returns:
        The number of images in each run.
    """
    parts = []
    while count:
        above = next((size for size in sizes if size >= count), None)
        below = max((size for size in sizes if size <= count), default=None)
        whole = above is not None and (below is None or above <= SMALL or 4 * count >= 3 * above)
        parts.append(count if whole or below is None else below)
        count -= parts[-1]
    return parts
