"""OpenVINO: on a CPU an alternative to ONNX Runtime, ahead of it for int8 files, and with real bfloat16 for bf16 ones.

It knows no ONNX functions, so LandmarkPool is written out into the graph first. Networks are compiled for fixed sizes
of batch: compiled for any size, an int8 EfficientNet gave wrong results in OpenVINO 2026.4.
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

BATCH = 8  # compiled for it, and for 1: a batch of 11 is run as 8, 1, 1 and 1


class OpenVinoBackend:
    """A file that `fashion-infer export` wrote, in OpenVINO on the CPU."""

    def __init__(
        self, model: Path | ModelFile, *, device: str = "cpu", sessions: int | None = None, threads: int | None = None
    ) -> None:
        """Load the file and compile it for both sizes of batch.

        Args:
            model: the .onnx file.
            device: "cpu".
            sessions: runs at once; 1, or what the threads leave room for, when None.
            threads: of one run; what the sessions leave of the cores when None.

        Raises:
            ModelError: not an ONNX file, damaged, or not one of ours.
            DeviceError: another device than the CPU.
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
            {size: of_size.create_infer_request() for size, of_size in compiled.items()} for _ in range(self.sessions)
        ]

    def run(self, batch: NDArray[np.uint8], session: int = 0) -> Outputs:
        """uint8 [N, S, S, 3] RGB -> float32 outputs by name, each [N, ...]; see `Backend.run`."""
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
    """Without the batch; -1 where a size is not fixed."""
    dimensions = list(port.partial_shape)[1:]
    return tuple(d.get_length() if d.is_static else -1 for d in dimensions)
