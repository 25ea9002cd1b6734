"""ONNX Runtime: the default for .onnx files, on the CPU and, when asked for, on an NVIDIA GPU."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion_infer.backends import Outputs
from fashion_infer.errors import DeviceError, ModelError, missing_extra
from fashion_infer.model_spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAMES, ModelSpec

try:
    import onnxruntime as ort
except ImportError as error:
    raise missing_extra("onnxruntime", "cpu") from error


class OnnxRuntimeBackend:
    """One ONNX Runtime session over a file that `fashion-infer export` wrote."""

    def __init__(self, path: Path, *, device: str = "cpu", threads: int | None = None) -> None:
        """Load the file.

        Args:
            path: of the .onnx file.
            device: "cpu", or "cuda:0" and so on with onnxruntime-gpu.
            threads: of one inference; ONNX Runtime chooses when None.

        Raises:
            ModelError: not an ONNX file, damaged, or not one of ours.
            DeviceError: ONNX Runtime cannot use the device.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = (
            3  # errors only: its warnings are about graph rewriting, not about the user's input
        )
        self.path, self.device = path, device
        self._session = _session(path, device, options)
        self.spec = _read_spec(path, self._session)

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """uint8 [N, S, S, 3] RGB -> float32 outputs by name, each [N, ...]; N may be 0."""
        return dict(zip(OUTPUT_NAMES, self._session.run(list(OUTPUT_NAMES), {INPUT_NAME: batch}), strict=True))


def _session(path: Path, device: str, options: ort.SessionOptions) -> ort.InferenceSession:
    provider = _provider(device)
    try:
        session = ort.InferenceSession(path, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's exceptions share no base class but this
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
