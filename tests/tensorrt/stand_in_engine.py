"""TensorRT's part of the stand-in: a module, an engine and its contexts, which check the order of their calls."""

import copy
import ctypes
import itertools
import weakref
from collections.abc import Callable
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
        if self.profile is None or nbytes < self._engine.get_device_memory_size_for_profile_v2(self.profile):
            self._cuda.breach("the memory for activations is too small for the profile")
        if address % 256:
            self._cuda.breach("the memory for activations is not aligned")
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


class Watched:
    """Another object of TensorRT. Like the real module's, it keeps alive what it was made from."""

    def __init__(self, cuda: StandIn, *parents: Any) -> None:
        self._cuda, self._parents = cuda, parents
        self.watch()

    def watch(self) -> None:
        """Notice the object's end."""
        self._cuda.objects.add(self)
        weakref.finalize(self, _object_ends, self._cuda, type(self).__name__)

    def may_fail(self, name: str, work: Callable[[], Any]) -> Any:
        """Make a call of TensorRT that returns an object; return None if it fails."""
        result = self._cuda.call(name, lambda: [work()])
        return result[1][0] if result[1] is not None else None


def _object_ends(cuda: StandIn, kind: str) -> None:
    with cuda.lock:
        if not cuda.stack and cuda.sticky is None:
            cuda.breach(f"{kind} ends with no current device")


class RuntimeCache(Watched):
    """An IRuntimeCache."""

    def serialize(self) -> bytes:
        return b"kernels"

    def deserialize(self, data: bytes) -> bool:
        return True


class RuntimeConfig(Watched):
    """An IRuntimeConfig."""

    dynamic_shapes_kernel_specialization_strategy: Any = None

    def create_runtime_cache(self) -> Any:
        return self.may_fail("create_runtime_cache", lambda: RuntimeCache(self._cuda, self))

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None: ...

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        return self.may_fail("set_runtime_cache", lambda: True) is not None


class LoadedEngine(Watched):
    """An ICudaEngine whose outputs repeat the first byte of each image."""

    def __init__(self, cuda: StandIn, spec: Any, profiles: Any, context: type[Context]) -> None:
        self._cuda, self._parents, self.profiles, self._context = cuda, (), profiles, context
        size = spec.image_size
        self.shapes = {"images": (size, size, 3), **spec.output_shapes()}
        self.dtypes = {name: np.dtype(np.uint8 if name == "images" else np.float32) for name in self.shapes}
        self.num_io_tensors, self.num_optimization_profiles = len(self.shapes), len(profiles)

    def loaded_by(self, runtime: Any) -> "LoadedEngine":
        """A copy of this engine, which ends with the last reference to it."""
        loaded = copy.copy(self)
        loaded._parents = (runtime,)
        loaded.watch()
        return loaded

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return 1000 * int(self.profiles[profile][2])

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

    def create_execution_context(self, settings: Any) -> Any:
        return self.may_fail("create_execution_context", lambda: self._context(self._cuda, self))

    def create_runtime_config(self) -> Any:
        return self.may_fail("create_runtime_config", lambda: RuntimeConfig(self._cuda, self))


class Runtime(Watched):
    """A Runtime, which loads the engine that `load` gives for a plan."""

    def __init__(self, cuda: StandIn, load: Callable[[bytes], LoadedEngine], validity: tuple[Any, int]) -> None:
        super().__init__(cuda)
        self._load, self._validity = load, validity

    def get_engine_validity(self, plan: bytes) -> tuple[Any, int]:
        return self._validity

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        return self.may_fail("deserialize_cuda_engine", lambda: self._load(plan).loaded_by(self))


class TensorRT:
    """A TensorRT module whose runtime always loads the same engine; everything else is the real module's."""

    def __init__(self, real: Any, cuda: StandIn, engine: LoadedEngine | None) -> None:
        self._real, self._cuda, self.engine = real, cuda, engine
        self.validity: tuple[Any, int] = (real.EngineValidity.VALID, 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @staticmethod
    def nptype(dtype: Any) -> Any:
        return dtype

    def load(self, plan: bytes) -> LoadedEngine:
        assert self.engine is not None
        return self.engine

    def Runtime(self, log: Any) -> Any:
        return Runtime(self._cuda, self.load, self.validity)
