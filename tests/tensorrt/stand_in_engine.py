"""TensorRT's part of the stand-in: a module, an engine and its contexts, which check the order of their calls."""

import ctypes
import itertools
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from stand_in import StandIn, Stream


class Context:
    """An IExecutionContext of flavour tensorrt."""

    def __init__(self, cuda: StandIn, engine: "LoadedEngine") -> None:
        self._cuda, self._engine = cuda, engine
        self.profile = self.shape = self.activations = self.warm = None
        self.addresses: dict[str, int] = {}
        cuda.contexts.add(self)
        weakref.finalize(self, _context_ends, cuda, id(self))

    def answer(self, name: str, work: Callable[[], None], *, captured: bool = False) -> bool:
        """Make a call of TensorRT; return False if CUDA failed."""
        return bool(self._cuda.call(name, work, captured=captured)[0] == self._cuda.codes.cudaSuccess)

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        def choose() -> None:
            self.profile, self.shape = profile, None

        if not self.answer("set_optimization_profile_async", choose):
            raise RuntimeError("Error in set optimization profile async.")  # as TensorRT's Python module does
        return True

    def set_device_memory(self, address: int, nbytes: int) -> None:
        self._cuda.inside("device", address, nbytes)
        if address % 256 or nbytes < self._engine.device_memory_size_v2:
            self._cuda.breach("the memory for activations is too small, or not aligned")
        self.activations = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        def choose() -> None:
            if self.profile is None:
                self._cuda.breach("a shape before a profile")
                return
            low, _, high = self._engine.profiles[self.profile]
            if not low <= shape[0] <= high:
                self._cuda.breach(f"batch {shape[0]} is not in profile {self.profile}")
            self.shape, self.warm = shape, False

        return self.answer("set_input_shape", choose)

    def set_tensor_address(self, name: str, address: int) -> bool:
        def choose() -> None:
            if address % 256:
                self._cuda.breach(f"the address of {name} is not aligned")
            self.addresses[name] = address

        return self.answer("set_tensor_address", choose)

    def execute_async_v3(self, stream: int) -> bool:
        return self.answer("execute_async_v3", lambda: self._execute(stream), captured=True)

    def _execute(self, stream: int) -> None:
        cuda, capturing = self._cuda, self._cuda.get(stream, Stream).captured is not None
        if self.shape is None or self.activations is None or set(self.addresses) != set(self._engine.shapes):
            cuda.breach("a run before shape, memory or addresses are set")
            return
        if capturing and not self.warm:
            cuda.breach("a capture before the first run of that shape has ended")
        rows = self.shape[0]
        for name, row in self._engine.shapes.items():
            cuda.inside("device", self.addresses[name], rows * int(np.prod(row)) * self._engine.dtypes[name].itemsize)
        spans = sorted(
            (self.addresses[name], self.addresses[name] + rows * int(np.prod(row)) * self._engine.dtypes[name].itemsize)
            for name, row in self._engine.shapes.items()
        )
        if any(end > begin for (_, end), (begin, _) in itertools.pairwise(spans)):
            cuda.breach("two tensors overlap")
        addresses, engine, reference = dict(self.addresses), self._engine, weakref.ref(self)

        def compute() -> None:
            context = reference()
            if context is None:
                cuda.breach("work of a context that is gone")
                return
            context.warm = True
            engine.compute({name: engine.array(name, addresses, rows) for name in engine.shapes})

        cuda.put(stream, compute, id(self))


class RtxContext(Context):
    def is_stream_capturable(self, stream: int) -> bool:
        return True


def _context_ends(cuda: StandIn, identity: int) -> None:
    with cuda.lock:
        graphs = [graph for graph in cuda.handles.values() if identity in getattr(graph, "contexts", ())]
        if graphs and cuda.sticky is None:
            cuda.breach(f"a context ends before the graphs that were captured from it: {graphs}")
        if not cuda.stack and cuda.sticky is None:
            cuda.breach("a context ends with no current device")


class LoadedEngine:
    """An ICudaEngine whose outputs repeat the first byte of each image."""

    device_memory_size_v2 = 1000

    def __init__(self, cuda: StandIn, spec: Any, profiles: Any, context: type[Context]) -> None:
        self._cuda, self.profiles, self._context = cuda, profiles, context
        size = spec.image_size
        self.shapes = {"images": (size, size, 3), **spec.output_shapes()}
        self.dtypes = {name: np.dtype(np.uint8 if name == "images" else np.float32) for name in self.shapes}
        self.num_io_tensors, self.num_optimization_profiles = len(self.shapes), len(profiles)

    def array(self, name: str, addresses: dict[str, int], rows: int) -> np.ndarray:
        count = rows * int(np.prod(self.shapes[name]))
        raw = (ctypes.c_byte * (count * self.dtypes[name].itemsize)).from_address(addresses[name])
        return np.frombuffer(raw, self.dtypes[name]).reshape(rows, *self.shapes[name])

    def compute(self, arrays: dict[str, np.ndarray]) -> None:
        """Fill the outputs, each [N, ...], from "images", uint8 [N, S, S, 3]."""
        first_bytes = arrays["images"].reshape(len(arrays["images"]), -1)[:, 0]
        for name, array in arrays.items():
            if name != "images":
                array[...] = first_bytes.reshape(-1, *[1] * (array.ndim - 1))

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *self.shapes[name])

    def get_tensor_dtype(self, name: str) -> np.dtype[Any]:
        return self.dtypes[name]

    def create_execution_context(self, settings: Any) -> Context | None:
        result = self._cuda.call("create_execution_context", lambda: [self._context(self._cuda, self)])
        return result[1][0] if result[1] is not None else None

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(
            create_runtime_cache=lambda: SimpleNamespace(serialize=lambda: b"kernels", deserialize=lambda data: True),
            set_execution_context_allocation_strategy=lambda strategy: None,
            set_runtime_cache=lambda cache: True,
        )


class TensorRT:
    """A TensorRT module whose runtime always loads the same engine; everything else is the real module's."""

    def __init__(self, real: Any, loaded: LoadedEngine) -> None:
        self._real, self._loaded = real, loaded
        self.validity: tuple[Any, int] = (real.EngineValidity.VALID, 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @staticmethod
    def nptype(dtype: Any) -> Any:
        return dtype

    def Runtime(self, log: Any) -> Any:
        return SimpleNamespace(
            get_engine_validity=lambda plan: self.validity, deserialize_cuda_engine=lambda plan: self._loaded
        )
