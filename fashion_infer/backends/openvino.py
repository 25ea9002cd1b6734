"""OpenVINO: on a CPU an alternative to ONNX Runtime, ahead of it for int8 files, and with real bfloat16 for bf16 ones.

It knows no ONNX functions, so LandmarkPool is written out into the graph first. Networks are compiled for fixed sizes
of batch: compiled for any size, an int8 EfficientNet gave wrong results in OpenVINO 2026.4.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from queue import LifoQueue

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs
from fashion_infer.errors import DeviceError, ModelError, missing_extra
from fashion_infer.machine import usable_cores
from fashion_infer.model_spec import INPUT_NAME, METADATA_KEY, ModelSpec

try:
    import onnx
    import onnx.inliner
    import openvino as ov
    from google.protobuf.message import DecodeError
except ImportError as error:
    raise missing_extra(error.name or "openvino", "openvino", error) from error

BATCHES = (8, 1)  # a batch of 11 is run as 8, 1, 1 and 1


class OpenVinoBackend:
    """A file that `fashion-infer export` wrote, in OpenVINO on the CPU."""

    def __init__(
        self, path: Path, *, device: str = "cpu", sessions: int | None = None, threads: int | None = None
    ) -> None:
        """Load the file.

        Args:
            path: of the .onnx file.
            device: "cpu".
            sessions: runs at once; 1, or what the threads leave room for, when None.
            threads: of one run; what the sessions leave of the cores when None.

        Raises:
            ModelError: not an ONNX file, damaged, or not one of ours.
            DeviceError: another device than the CPU.
        """
        if device != "cpu":
            raise DeviceError(f"the backend openvino runs on the cpu, not on {device!r}")
        self.path, self.device = path, device
        self.sessions = sessions or (max(1, usable_cores() // threads) if threads else 1)
        self._threads = threads or max(1, usable_cores() // self.sessions)
        self.spec, self._network = _read(path)
        self._idle: dict[int, LifoQueue[ov.InferRequest]] = {}
        self._lock = threading.Lock()
        self._requests(1)  # what cannot be compiled is said now

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """uint8 [N, S, S, 3] RGB -> float32 outputs by name, each [N, ...]; see `Backend.run`."""
        outputs = {
            name: np.empty((len(batch), *shape), np.float32) for name, shape in self.spec.output_shapes().items()
        }
        start = 0
        for size in BATCHES:
            while len(batch) - start >= size:
                rows = slice(start, start + size)
                with self._request(size) as request:
                    results = request.infer({INPUT_NAME: batch[rows]}, share_inputs=True, share_outputs=True)
                    for name, values in outputs.items():
                        values[rows] = results[name]
                start += size
        return outputs

    @contextmanager
    def _request(self, size: int) -> Iterator[ov.InferRequest]:
        """A request that nobody else uses meanwhile; waits for one when there is none."""
        idle = self._requests(size)
        request = idle.get()
        try:
            yield request
        except RuntimeError as error:
            raise ModelError(f"OpenVINO failed on a batch of {size}: {error}") from error
        finally:
            idle.put(request)

    def _requests(self, size: int) -> "LifoQueue[ov.InferRequest]":
        """The idle requests of a size of batch, compiled when it is first asked for."""
        with self._lock:
            if size not in self._idle:
                self._idle[size] = LifoQueue()
                compiled = self._compile(size)
                for _ in range(self.sessions):
                    self._idle[size].put(compiled.create_infer_request())
            return self._idle[size]

    def _compile(self, size: int) -> ov.CompiledModel:
        network = self._network.clone()
        network.reshape([size, self.spec.image_size, self.spec.image_size, 3])
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # as the file is typed; by itself OpenVINO would take bf16 for fp32
            "NUM_STREAMS": self.sessions,
            "INFERENCE_NUM_THREADS": self.sessions * self._threads,
            "ENABLE_CPU_PINNING": False,  # images are decoded on the same cores
        }
        try:
            return _core().compile_model(network, "CPU", options)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot run {self.path}: {error}") from error


@cache
def _core() -> ov.Core:
    """One for the process, never given up.

    Each one gives the thread a stack for its signals, and puts the one before it back when it goes. Of two that do not
    go in reverse order a freed stack is left behind, and the next signal, Ctrl-C for one, ends the process.
    """
    return ov.Core()


def _read(path: Path) -> tuple[ModelSpec, ov.Model]:
    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not an ONNX file, or is damaged: {error}") from error
    text = {entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY)
    if text is None:
        raise ModelError(f"{path} is an ONNX file, but not one that fashion-infer export wrote (no {METADATA_KEY})")
    try:
        spec = ModelSpec.from_json(text)
        network = _core().read_model(onnx.inliner.inline_local_functions(model).SerializeToString())
    except (ModelError, RuntimeError) as error:
        raise ModelError(f"{path}: {error}") from error
    expected = {INPUT_NAME: (spec.image_size, spec.image_size, 3), **spec.output_shapes()}
    found = {port.any_name: _shape(port) for port in (*network.inputs, *network.outputs)}
    if found != expected:
        raise ModelError(f"{path} has inputs and outputs {found}, its ModelSpec says {expected}")
    return spec, network


def _shape(port: ov.Output) -> tuple[int, ...]:
    """Without the batch; -1 where a size is not fixed."""
    dimensions = list(port.partial_shape)[1:]
    return tuple(d.get_length() if d.is_static else -1 for d in dimensions)
