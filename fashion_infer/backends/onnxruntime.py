"""ONNX Runtime: the default for .onnx files, on the CPU and, when asked for, on an NVIDIA GPU."""

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
LARGE = 256 * 2**20  # bytes of a model whose products are large enough for all cores, and whose copies cost memory


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


def choose_layout(device: str, sessions: int | None, threads: int | None, *, model_bytes: int) -> Layout:
    """What the caller asked for, and where nothing was asked for what suits a model on the CPU.

    That is all cores for a run that is alone, and a session of one thread for each core when there are more: threads
    of one run wait for each other after each layer, sessions do not.

    Args:
        device: "cpu" or a GPU, which gets one session.
        sessions: runs at once; by default what the threads leave room for.
        threads: of one run; by default what the sessions leave of the cores.
        model_bytes: size of the model file.
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
            layout: one run at a time on all cores when None.
            exact_products: add 8-bit products up in 32 bits on CPUs that would do it in 16, which is slower. Files
                that `fashion-infer export` wrote for CPUs do not need it; the exporter's checks do.

        Raises:
            ModelError: not an ONNX file, damaged, or not one of ours.
            DeviceError: ONNX Runtime cannot use the device.
        """
        file = read_model(model)
        self.path, self.device = file.path, device
        self.layout = layout or Layout(1, usable_cores(), usable_cores())
        self.sessions, threads = self.layout.sessions, self.layout.threads
        # the runs of one session share its pool, and each brings the thread that called it
        self._session = _session(file, device, 1 + self.sessions * (threads - 1), exact_products)
        self.spec = _spec_of(file.path, self._session)
        lone = self.layout.lone_threads
        self._lone_session = self._session if lone == threads else _session(file, device, lone, exact_products)
        self._running, self._lock = 0, threading.Lock()

    def run(self, batch: NDArray[np.uint8], session: int = 0) -> Outputs:
        """uint8 [N, S, S, 3] RGB -> float32 outputs by name, each [N, ...]; see `Backend.run`."""
        with self._lock:
            chosen = self._lone_session if self._running == 0 else self._session
            self._running += 1
        try:
            return dict(zip(OUTPUT_NAMES, chosen.run(OUTPUT_NAMES, {INPUT_NAME: batch}), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no base class but this
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
    # Threads that wait actively make a light network a sixth faster. Longer, or between two runs, it would only take
    # cores from the decoders.
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.x64quantprecision", str(int(exact_products)))
    options.log_severity_level = 4  # every error is raised, and its warnings are about graphs, not the user's input
    provider = _provider(device)
    try:
        session = ort.InferenceSession(file.path, options, providers=[provider])
    except Exception as error:  # as above
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
