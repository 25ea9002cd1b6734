"""TensorRT: engines that `fashion-infer export --engine` built, on an NVIDIA GPU.

A session is one stream, one set of pinned and device buffers, and for each size of batch a context and the CUDA graph
captured from it: copy in, compute, copy out are one launch. Sessions of one engine share its weights and run at the
same time, so that one copies while another computes.
"""

import logging
import os
import weakref
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
SMALL = 8  # batches up to this size are filled up to the next size, since time hardly depends on size there

logger = logging.getLogger("fashion_infer")


class TensorRTBackend:
    """An engine and its sessions, each of which one thread at a time may use.

    Whatever thread calls, its current device is after the call what it was before. `close` must be called: nothing is
    freed by the garbage collector, which may run in any thread.
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
        """Load an engine; everything that can be wrong with it is checked before TensorRT sees it.

        Args:
            model: the .plan file, with its .json beside it. A plan is native code: load only those you trust.
            device: "cuda:0" and so on.
            sessions: batches that run at the same time; each takes GPU memory for its activations.
            max_batch: images that are given at once at most; larger batches go in parts. What the engine was built
                for when None.
            graphs: False launches kernel by kernel. When None, CUDA graphs are used unless the environment variable
                FASHION_INFER_CUDA_GRAPHS is 0.

        Raises:
            EngineMismatchError: for another TensorRT or GPU, truncated, changed, or without its description.
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
        self._index, self._dead = index, ""
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
            cuda.let_go(error)
            self.close()
            raise DeviceError(
                f"{self.path} with {sessions} sessions does not fit in the memory of {gpu.name}: use fewer sessions, "
                "or an engine with a smaller --batch"
            ) from error
        except BaseException as error:
            cuda.let_go(error)
            self.close()
            raise
        logger.info(
            "%s on %s: %s, TensorRT %s (%s), batches %s, %d sessions, CUDA graphs %s",
            *(self.path, gpu.name, engine_file.precision, trt.__version__, engine_file.flavour),
            *(batch_text(engine_file.profiles), sessions, "on" if graphs else "off"),
        )

    def run(self, batch: NDArray[np.uint8], session: int = 0) -> Outputs:
        """uint8 [N, S, S, 3] RGB -> float32 outputs by name, each [N, ...]; see `Backend.run`.

        Raises:
            MemoryError: the GPU has too little memory free; a smaller batch may fit.
            ModelError: TensorRT or CUDA refused this batch; the next may run.
            DeviceError: the GPU failed for good: every later call raises this too.
        """
        if self._dead:
            raise DeviceError(self._dead)
        try:
            with cuda.current_gpu(self._index):
                run, start, parts = self._sessions[session].run, 0, []
                for count in split(len(batch), self._sizes):
                    parts.append(run(batch[start : start + count]))
                    start += count
                return joined(parts)
        except BaseException as error:
            cuda.let_go(error)
            if isinstance(error, DeviceError):
                self._dead = f"{self.device}: {error}"
            raise

    def input_memory(self, count: int, session: int = 0) -> NDArray[np.uint8] | None:
        """The session's pinned memory, uint8 [count, S, S, 3]; None for a batch that runs in parts."""
        if self._dead or split(count, self._sizes) != [count]:
            return None
        return self._sessions[session].rows(count)

    def close(self) -> None:
        """Free everything, in the order in which it depends on each other. Nothing may run any more.

        In a forked child it does nothing: CUDA works only in the process that began to use it.
        """
        if self not in _open:
            return
        _open.discard(self)
        try:
            with cuda.current_gpu(self._index):
                self._free()
        except FashionInferError:  # a GPU that failed for good cannot become current; freeing is tried all the same
            self._free()

    def _free(self) -> None:
        while self._sessions:
            self._sessions.pop().close()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


_open: weakref.WeakSet[TensorRTBackend] = weakref.WeakSet()


def _abandon_all() -> None:
    for backend in list(_open):
        never_free(backend)
    _open.clear()


in_each_child(_abandon_all)


@dataclass
class _Bucket:
    """What runs one size of batch.

    Attributes:
        context: of the engine, with its shape and addresses set.
        rows: the input in pinned memory, [size, S, S, 3].
        outputs: each output in pinned memory, [size, ...].
        nbytes: from the begin of the first output to the end of the last one.
        graph: of copy in, compute and copy out; None where they are launched one by one.
    """

    context: Any
    rows: NDArray[np.uint8]
    outputs: dict[str, NDArray[Any]]
    nbytes: int
    graph: Any = None


class _Session:
    """One stream, its buffers, and a bucket for each size of batch; used by one thread at a time.

    Only one size runs at a time, so that all share the buffers. What a size needs is made when it first comes.
    """

    def __init__(self, engine: Engine, spec: ModelSpec, sizes: list[int], graphs: bool) -> None:
        self._engine, self._sizes, self._graphs = engine, sizes, graphs
        self._row = (spec.image_size, spec.image_size, 3)
        self._owned, self._captured = cuda.Owned(), cuda.Owned()  # buffers and the like; graphs
        self._contexts: dict[int, Any] = {}
        self._buckets: dict[int, _Bucket] = {}

    def open(self) -> None:
        """Take the memory and make the smallest size ready; if it fails, `close` frees what there is."""
        owned, greatest = self._owned, self._sizes[-1]
        self._stream, self._event = owned.stream(), owned.event()
        self._pixels = owned.pinned_memory(greatest * prod(self._row))
        self._input = owned.device_memory(self._pixels.nbytes)
        _, nbytes = self._layout(greatest)
        self._results = owned.pinned_memory(nbytes)
        self._output = owned.device_memory(nbytes)
        self._activation_bytes = max(self._engine.loaded.device_memory_size_v2, 1)
        self._activations = owned.device_memory(self._activation_bytes)
        try:
            self._prepare(self._sizes[0])
        except BaseException:
            self._settle()
            raise

    def rows(self, count: int) -> NDArray[np.uint8]:
        """The first `count` pictures of the pinned input memory: uint8 [count, S, S, 3]."""
        return self._pixels[: count * prod(self._row)].reshape(count, *self._row)

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """Run 1 to the greatest size of images; what fills the batch up to a size are pictures of earlier runs."""
        count = len(batch)
        size = next(size for size in self._sizes if size >= count)
        try:
            bucket = self._buckets.get(size) or self._prepare(size)
            if batch.ctypes.data != bucket.rows.ctypes.data:  # else the caller wrote it there already
                bucket.rows[:count] = batch
            if bucket.graph is not None:
                cuda.launch_graph(bucket.graph, self._stream)
            else:
                self._enqueue(bucket)
            if size == 1:  # who sends a picture alone waits for it: spin. Larger batches leave the core to decoders.
                cuda.wait(self._stream)
            else:
                cuda.sleep_until_done(self._stream, self._event)
        except BaseException:
            self._settle()
            raise
        return {name: rows[:count].copy() for name, rows in bucket.outputs.items()}

    def close(self) -> None:
        """Free it: when the stream has come to rest, graphs before contexts, and these before what they use."""
        stream = getattr(self, "_stream", None)
        if stream is not None:
            cuda.come_to_rest(stream)
        self._captured.free()
        self._buckets.clear()
        self._contexts.clear()
        self._owned.free()

    def _settle(self) -> None:
        """After a failure, wait for what was begun: a copy may still read or write the pinned memory.

        Raises:
            DeviceError: it cannot be waited for, so that the memory cannot be used again.
        """
        try:
            cuda.wait(self._stream)
        except DeviceError:
            raise
        except Exception as error:
            raise DeviceError(f"the GPU does not come to rest after a failure: {error}") from error

    def _prepare(self, size: int) -> _Bucket:
        """Make a size of batch ready: a context, a first run, and its graph."""
        with self._engine.lock:
            if size not in self._contexts:  # kept even when what follows fails, and set up again next time
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
            # The first run after a change of shape does work that must not be captured: TensorRT's documents ask for it
            self._enqueue(bucket)
            cuda.wait(self._stream)
            if self._graphs and self._is_capturable(context):
                bucket.graph = cuda.capture(self._captured, self._stream, lambda: self._enqueue(bucket))
            self._engine.keep_kernels()
            self._buckets[size] = bucket
        return bucket

    def _set_up(self, context: Any, size: int) -> None:
        engine = self._engine
        # Set even where it is 0: by TensorRT's header only the first context of an engine has that from the start
        profile = profile_of(size, engine.file.profiles)
        engine.must(_choose_profile(context, profile, self._stream), "set_optimization_profile_async")
        context.set_device_memory(self._activations, self._activation_bytes)
        engine.must(context.set_input_shape(INPUT_NAME, (size, *self._row)), "set_input_shape")
        engine.must(context.set_tensor_address(INPUT_NAME, self._input), "set_tensor_address")

    def _enqueue(self, bucket: _Bucket) -> None:
        """Copy in, compute, copy out; the outputs lie side by side, so that one copy brings them all."""
        cuda.copy_to_gpu(self._input, bucket.rows, self._stream)
        self._engine.must(bucket.context.execute_async_v3(int(self._stream)), "execute_async_v3")
        cuda.copy_from_gpu(self._results[: bucket.nbytes], self._output, self._stream)

    def _layout(self, size: int) -> tuple[dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]], int]:
        """Where the outputs of a size of batch begin in the slab, their shapes and types, and where the last ends."""
        layout, end = {}, 0
        for name in OUTPUT_NAMES:
            shape = (size, *tuple(self._engine.loaded.get_tensor_shape(name))[1:])
            dtype = np.dtype(self._engine.trt.nptype(self._engine.loaded.get_tensor_dtype(name)))
            offset = -(-end // cuda.ALIGNMENT) * cuda.ALIGNMENT
            layout[name] = offset, shape, dtype
            end = offset + prod(shape) * dtype.itemsize
        return layout, end

    def _is_capturable(self, context: Any) -> bool:
        """TensorRT for RTX can tell; where it says no, kernels are launched one by one, and that is worth knowing."""
        can = not hasattr(context, "is_stream_capturable") or context.is_stream_capturable(int(self._stream))
        if not can:
            logger.warning("this engine cannot be captured as a CUDA graph: batches take longer to launch")
        return bool(can)


def _choose_profile(context: Any, profile: int, stream: Any) -> bool:
    """Whether the profile could be set: TensorRT's Python module raises where its other calls return False."""
    try:
        return bool(context.set_optimization_profile_async(profile, int(stream)))
    except RuntimeError:
        return False


def batch_sizes(profiles: tuple[Profile, ...], max_batch: int | None = None) -> list[int]:
    """The sizes of batch that a context is made for, smallest first: the powers of two, and each profile's own.

    Args:
        profiles: of the engine.
        max_batch: no size is made that is larger than this needs.
    """
    smallest = min(profile[0] for profile in profiles)
    sizes = {smallest}
    for low, best, high in profiles:
        sizes |= {best, high} | {2**i for i in range(high.bit_length()) if low <= 2**i}
    greatest = min((size for size in sizes if size >= (max_batch or max(sizes))), default=max(sizes))
    return sorted(size for size in sizes if size <= greatest)


def profile_of(size: int, profiles: tuple[Profile, ...]) -> int:
    """The number of the profile that runs a size of batch: of those that can, the one whose best size is nearest."""
    able = [i for i, (low, _, high) in enumerate(profiles) if low <= size <= high]
    return min(able, key=lambda i: max(profiles[i][1] / size, size / profiles[i][1]))


def split(count: int, sizes: list[int]) -> list[int]:
    """How many images of a batch go into each run.

    A run computes a whole size. So a batch is filled up where little is wasted, a quarter at most or up to 8 images,
    and goes in parts where more would be: 33 as 32 and 1, not as 64. These limits are estimates.
    """
    parts = []
    while count:
        above = next((size for size in sizes if size >= count), None)
        below = max((size for size in sizes if size <= count), default=None)
        whole = above is not None and (below is None or above <= SMALL or 4 * count >= 3 * above)
        parts.append(count if whole or below is None else below)
        count -= parts[-1]
    return parts
