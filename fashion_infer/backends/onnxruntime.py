"""ONNX Runtime: the default for .onnx files, on the CPU and, when asked for, on an NVIDIA GPU."""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs
from fashion_infer.errors import DeviceError, ModelError, missing_extra
from fashion_infer.machine import usable_cores
from fashion_infer.model_spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, ModelSpec

try:
    import onnxruntime as ort
except ImportError as error:
    raise missing_extra("onnxruntime", "cpu", error) from error

VERSION: str = ort.__version__
SPIN_US = 20
OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory")  # in the messages of ONNX Runtime


@dataclass(frozen=True)
class Layout:
    """How a backend spreads over the cores.

    Attributes:
        sessions: runs at once, on one copy of the weights.
        threads: of each of them.
        lone_threads: of a run that is alone. Where it is not `threads`, a second copy of the weights is loaded.
    """

    sessions: int
    threads: int
    lone_threads: int


class OnnxRuntimeBackend:
    """A file that `fashion-infer export` wrote, in ONNX Runtime."""

    def __init__(
        self, path: Path, *, device: str = "cpu", layout: Layout | None = None, exact_products: bool = False
    ) -> None:
        """Load the file.

        Args:
            path: of the .onnx file.
            device: "cpu", or "cuda:0" and so on with onnxruntime-gpu.
            layout: one run at a time on all cores when None.
            exact_products: add 8-bit products up in 32 bits on CPUs that would do it in 16, which is slower. Files
                that `fashion-infer export` wrote for CPUs do not need it; the exporter's checks do.

        Raises:
            ModelError: not an ONNX file, damaged, or not one of ours.
            DeviceError: ONNX Runtime cannot use the device.
        """
        self.path, self.device = path, device
        self.layout = layout or Layout(1, usable_cores(), usable_cores())
        self.sessions, threads = self.layout.sessions, self.layout.threads
        # the runs of one session share its pool, and each brings the thread that called it
        self._session = _session(path, device, 1 + self.sessions * (threads - 1), exact_products)
        self.spec = _read_spec(path, self._session)
        lone = self.layout.lone_threads
        self._lone_session = self._session if lone == threads else _session(path, device, lone, exact_products)
        self._running, self._lock = 0, threading.Lock()

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """uint8 [N, S, S, 3] RGB -> float32 outputs by name, each [N, ...]; see `Backend.run`."""
        with self._lock:
            session = self._lone_session if self._running == 0 else self._session
            self._running += 1
        try:
            return dict(zip(OUTPUT_NAMES, session.run(OUTPUT_NAMES, {INPUT_NAME: batch}), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no base class but this
            if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
                raise MemoryError(f"a batch of {len(batch)} does not fit in the memory of {self.device}") from error
            raise ModelError(f"ONNX Runtime failed on a batch of {len(batch)}: {error}") from error
        finally:
            with self._lock:
                self._running -= 1


def _session(path: Path, device: str, threads: int, exact_products: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait actively make a light network a sixth faster. Longer, or between two runs, it would only take
    # cores from the decoders.
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.x64quantprecision", str(int(exact_products)))
    options.log_severity_level = 4  # every error is raised, and its warnings are about graphs, not the user's input
    provider = _provider(device)
    try:
        session = ort.InferenceSession(path, options, providers=[provider])
    except Exception as error:  # as above
        raise ModelError(f"{path} is not an ONNX file that ONNX Runtime can load, or is damaged: {error}") from error
    name = provider if isinstance(provider, str) else provider[0]
    if name not in session.get_providers():  # ONNX Runtime falls back to the CPU with no more than a log line
        raise DeviceError(f"ONNX Runtime could not start {name} for device {device!r}: see fashion-infer doctor")
    return session


def _provider(device: str) -> str | tuple[str, dict[str, str]]:
    kind, _, index = device.partition(":")
    if device == "cpu":
        return "CPUExecutionProvider"
    if kind != "cuda" or not (index or "0").isdigit():
        raise DeviceError(f"unknown device {device!r}: it is cpu, cuda, cuda:0, cuda:1, ...")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise DeviceError(
            f"this onnxruntime has no CUDA for device {device!r}: "
            'pip uninstall onnxruntime, then pip install "fashion-infer[gpu]"'
        )
    return "CUDAExecutionProvider", {"device_id": index or "0"}


def _read_spec(path: Path, session: ort.InferenceSession) -> ModelSpec:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(f"{path} is an ONNX file, but not one that fashion-infer export wrote (no {METADATA_KEY})")
    try:
        spec = ModelSpec.from_json(text)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    size = spec.image_size
    expected = {INPUT_NAME: (size, size, 3), **spec.output_shapes()}
    found = {value.name: tuple(value.shape[1:]) for value in (*session.get_inputs(), *session.get_outputs())}
    if found != expected:
        raise ModelError(f"{path} has inputs and outputs {found}, its ModelSpec says {expected}")
    return spec
