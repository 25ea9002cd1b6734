"""OpenVINO: an alternative to ONNX Runtime on CPUs. It is faster for int8 files and computes bf16 files in bfloat16.

OpenVINO does not support ONNX functions, so LandmarkPool is first inlined into the graph. Networks are compiled for
fixed batch sizes, because an int8 EfficientNet compiled for any size gave wrong results in OpenVINO 2026.4.
"""

from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs, joined, run_in_parts
from fashion_infer.errors import DeviceError, ModelError, missing_extra
from fashion_infer.forks import in_each_child, never_free
from fashion_infer.machine import usable_cores
from fashion_infer.model_file import ModelFile, check_shapes, parse_onnx, read_model
from fashion_infer.model_spec import INPUT_NAME, ModelSpec

try:
    import onnx
    import onnx.inliner
    import openvino as ov
except ImportError as error:
    raise missing_extra(error.name or "openvino", "openvino", error) from error

BATCH = 8  # images; networks are compiled for this size and for 1, so a batch of 11 runs as 8, 1, 1 and 1


class OpenVinoBackend:
    """A file that `fashion-infer export` wrote, in OpenVINO on the CPU."""

    def __init__(
        self, model: Path | ModelFile, *, device: str = "cpu", sessions: int | None = None, threads: int | None = None
    ) -> None:
        """Load the file and compile it for both batch sizes.

        Args:
            model: the .onnx file.
            device: "cpu", the only device that this backend supports.
            sessions: number of batches that run at once; None means 1, or the number of cores divided by `threads`.
            threads: threads per session; None means the number of cores divided by `sessions`.

        Raises:
            ModelError: the file is not ONNX, is damaged, or was not written by `fashion-infer export`.
            DeviceError: `device` is not "cpu".
        """
        if device != "cpu":
            raise DeviceError(f"the backend openvino runs on the cpu, not on {device!r}")
        file = read_model(model)
        self.path, self.device = file.path, device
        self.sessions = sessions or (max(1, usable_cores() // threads) if threads else 1)
        self._threads = threads or max(1, usable_cores() // self.sessions)
        self.spec, network = _read(file)
        compiled = {size: self._compile(network, size) for size in (1, BATCH)}
        self._requests = [
            {size: model.create_infer_request() for size, model in compiled.items()} for _ in range(self.sessions)
        ]

    def run(self, batch: NDArray[np.uint8], session: int = 0) -> Outputs:
        """Run a batch, uint8 [N, S, S, 3] RGB; return float32 outputs by name, each [N, ...]. See `Backend.run`."""
        requests = self._requests[session]
        whole = len(batch) // BATCH * BATCH
        split = ((BATCH, batch[:whole]), (1, batch[whole:]))
        return joined(
            [run_in_parts(partial(self._infer, requests[size]), rows, size) for size, rows in split if len(rows)]
        )

    def input_memory(self, count: int, session: int = 0) -> None:
        """None: the runtime reads any array without a copy."""

    def close(self) -> None:
        """Free the networks."""
        self._requests.clear()

    def _infer(self, request: ov.InferRequest, batch: NDArray[np.uint8]) -> Outputs:
        try:
            results = request.infer({INPUT_NAME: batch}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO failed on a batch of {len(batch)}: {error}") from error
        return {name: np.array(results[name]) for name in self.spec.output_shapes()}

    def _compile(self, network: ov.Model, size: int) -> ov.CompiledModel:
        network = network.clone()
        network.reshape([size, self.spec.image_size, self.spec.image_size, 3])
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # the file's types; by default OpenVINO may compute fp32 in bf16
            "NUM_STREAMS": self.sessions,
            "INFERENCE_NUM_THREADS": self.sessions * self._threads,
            "ENABLE_CPU_PINNING": False,  # threads that decode images share the cores
        }
        try:
            return _core().compile_model(network, "CPU", options)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot run {self.path}: {error}") from error


@cache
def _core() -> ov.Core:
    """The only ov.Core of the process; it is never destroyed.

    Each ov.Core replaces the thread's sigaltstack and restores the previous one. Destroyed out of order they leave a
    dangling stack, and the next signal, such as Ctrl-C, crashes the process.
    """
    core = ov.Core()
    in_each_child(lambda: never_free(core))
    return core


def _read(file: ModelFile) -> tuple[ModelSpec, ov.Model]:
    model, spec = parse_onnx(file, extra="openvino")
    try:
        network = _core().read_model(onnx.inliner.inline_local_functions(model).SerializeToString())
    except RuntimeError as error:
        raise ModelError(f"{file.path}: {error}") from error
    ports: tuple[Any, ...] = (*network.inputs, *network.outputs)
    check_shapes(file.path, spec, {port.any_name: _shape(port) for port in ports})
    return spec, network


def _shape(port: ov.Output) -> tuple[int, ...]:
    """The dimensions after the batch axis; -1 for each that is not fixed."""
    dimensions = list(port.partial_shape)[1:]
    return tuple(d.get_length() if d.is_static else -1 for d in dimensions)
