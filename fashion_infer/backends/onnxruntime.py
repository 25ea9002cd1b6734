"""ONNX Runtime: the default backend for .onnx files, on the CPU or an NVIDIA GPU."""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs
from fashion_infer.devices import parse_device
from fashion_infer.errors import DeviceError, ModelError, missing_extra
from fashion_infer.machine import usable_cores
from fashion_infer.model_file import ModelFile, check_shapes, read_model, read_spec
from fashion_infer.model_spec import INPUT_NAME, OUTPUT_NAMES, ModelSpec

try:
    import onnxruntime as ort
except ImportError as error:
    raise missing_extra("onnxruntime", "cpu", error) from error

SPIN_US = 20
OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory")  # in the messages of ONNX Runtime
LARGE = 256 * 2**20  # bytes: above this size one run keeps all cores busy, and a second copy costs much memory


@dataclass(frozen=True)
class Layout:
    """How a backend uses the cores.

    Attributes:
        sessions: number of batches that run at once, on one copy of the weights.
        threads: threads per session.
        lone_threads: threads of a batch that runs alone. If it differs from `threads`, a second copy of the weights is
            loaded.
    """

    sessions: int
    threads: int
    lone_threads: int


def choose_layout(device: str, sessions: int | None, threads: int | None, *, model_bytes: int) -> Layout:
    """Choose sessions and threads: the caller's numbers, or numbers that suit the device and the model.

    On a CPU, by default, a batch that runs alone uses all cores, and several batches at once use one core each: threads
    of one run wait for each other after each layer, separate runs do not. A large model runs one batch at a time.

    Args:
        device: "cpu" or a GPU; a GPU gets one session.
        sessions: number of batches that run at once; by default the number of cores divided by `threads`.
        threads: threads per session; by default the number of cores divided by `sessions`.
        model_bytes: size of the model file, bytes.
    """
    cores = usable_cores()
    if sessions is None and threads is None:
        if device != "cpu":
            return Layout(1, 1, 1)
        return Layout(1, cores, cores) if model_bytes > LARGE else Layout(cores, 1, cores)
    sessions = sessions or max(1, cores // (threads or 1))
    threads = threads or max(1, cores // sessions)
    return Layout(sessions, threads, threads)


class OnnxRuntimeBackend:
    """A file that `fashion-infer export` wrote, in ONNX Runtime. Any number of threads may call `run`."""

    def __init__(
        self,
        model: Path | ModelFile,
        *,
        device: str = "cpu",
        layout: Layout | None = None,
        exact_products: bool = False,
    ) -> None:
        """Load the file.

        Args:
            model: the .onnx file.
            device: "cpu", or "cuda:0" and so on with onnxruntime-gpu.
            layout: sessions and threads; None runs one batch at a time on all cores.
            exact_products: sum 8-bit products in 32 bits on CPUs that would use 16 bits, which may overflow. It is
                slower. Files that `fashion-infer export` wrote for CPUs do not need it; the exporter's checks do.

        Raises:
            ModelError: the file is not ONNX, is damaged, or was not written by `fashion-infer export`.
            DeviceError: ONNX Runtime cannot use the device.
        """
        file = read_model(model)
        self.path, self.device = file.path, device
        self.layout = layout or Layout(1, usable_cores(), usable_cores())
        self.sessions, threads = self.layout.sessions, self.layout.threads
        # the runs share one thread pool, and each run also uses the thread that called it
        self._session = _session(file, device, 1 + self.sessions * (threads - 1), exact_products)
        self.spec = _spec_of(file.path, self._session)
        lone = self.layout.lone_threads
        self._lone_session = self._session if lone == threads else _session(file, device, lone, exact_products)
        self._running, self._lock = 0, threading.Lock()

    def run(self, batch: NDArray[np.uint8], session: int = 0) -> Outputs:
        """Run a batch, uint8 [N, S, S, 3] RGB; return float32 outputs by name, each [N, ...]. See `Backend.run`."""
        with self._lock:
            chosen = self._lone_session if self._running == 0 else self._session
            self._running += 1
        try:
            return dict(zip(OUTPUT_NAMES, chosen.run(OUTPUT_NAMES, {INPUT_NAME: batch}), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions have no narrower base class
            if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
                raise MemoryError(f"a batch of {len(batch)} does not fit in the memory of {self.device}") from error
            raise ModelError(f"ONNX Runtime failed on a batch of {len(batch)}: {error}") from error
        finally:
            with self._lock:
                self._running -= 1

    def input_memory(self, count: int, session: int = 0) -> None:
        """None: the runtime reads any array without a copy."""

    def close(self) -> None:
        """Free the sessions."""
        del self._session, self._lone_session


def _session(file: ModelFile, device: str, threads: int, exact_products: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Busy waiting makes a light network a sixth faster. If it lasted longer, or went on between two runs, it would take
    # cores from the threads that decode images.
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.x64quantprecision", str(int(exact_products)))
    # fatal messages only: errors are raised anyway, and the warnings concern the graph, not the user's input
    options.log_severity_level = 4
    provider = _provider(device)
    try:
        session = ort.InferenceSession(file.path, options, providers=[provider])
    except Exception as error:  # see `run`
        raise ModelError(
            f"{file.path} is not an ONNX file that ONNX Runtime can load, or is damaged: {error}"
        ) from error
    name = provider if isinstance(provider, str) else provider[0]
    if name not in session.get_providers():  # ONNX Runtime falls back to the CPU with no more than a log line
        raise DeviceError(f"ONNX Runtime could not start {name} for device {device!r}: see fashion-infer doctor")
    return session


def _provider(device: str) -> str | tuple[str, dict[str, str]]:
    kind, index = parse_device(device)
    if kind == "cpu":
        return "CPUExecutionProvider"
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise DeviceError(
            f"this onnxruntime has no CUDA for device {device!r}: "
            'pip uninstall onnxruntime, then pip install "fashion-infer[gpu]"'
        )
    return "CUDAExecutionProvider", {"device_id": str(index)}


def _spec_of(path: Path, session: ort.InferenceSession) -> ModelSpec:
    spec = read_spec(path, session.get_modelmeta().custom_metadata_map)
    values = (*session.get_inputs(), *session.get_outputs())
    check_shapes(path, spec, {value.name: tuple(value.shape[1:]) for value in values})
    return spec
