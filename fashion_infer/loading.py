"""From a model file to what runs it: which runtime a file and a device need."""

from collections.abc import Sequence
from pathlib import Path

from fashion_infer.backends import Backend
from fashion_infer.devices import gpu_index
from fashion_infer.errors import ModelError, UsageError
from fashion_infer.model_file import ModelFile

PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def _default_device(file: ModelFile) -> str:
    return "cuda:0" if file.path.suffix == ".plan" else "cpu"


def open_backends(
    file: ModelFile,
    backend: str | None,
    device: str | Sequence[str] | None,
    sessions: int | None,
    threads: int | None,
    max_batch: int,
    precision: str | None = None,
) -> list[Backend]:
    """A backend for each device; if one cannot be opened, none is left open. The arguments are Predictor's.

    Raises:
        FashionInferError: what Predictor raises.
    """
    devices = [device or _default_device(file)] if device is None or isinstance(device, str) else list(device)
    if not devices:
        raise UsageError("device is an empty list: name one or more")
    opened: list[Backend] = []
    try:
        for device in devices:
            opened.append(_open_backend(file, backend, device, sessions, threads, max_batch, precision))
        file.check_unchanged()
    except BaseException:
        close_backends(opened)
        raise
    return opened


def close_backends(backends: list[Backend]) -> None:
    """Free them, and empty the list."""
    while backends:
        backends.pop().close()


def _open_backend(
    file: ModelFile,
    backend: str | None,
    device: str,
    sessions: int | None,
    threads: int | None,
    max_batch: int,
    precision: str | None,
) -> Backend:
    suffix = file.path.suffix
    if suffix not in (".onnx", ".plan"):
        raise ModelError(f"{file.path} is neither an .onnx nor a .plan file, the kinds this release runs")
    fitting = ("onnxruntime", "openvino", "tensorrt") if suffix == ".onnx" else ("tensorrt",)
    if backend not in (None, *fitting):
        raise UsageError(f"there is no backend {backend!r} for {suffix} files: it is {' or '.join(fitting)}")
    if suffix == ".plan" or backend == "tensorrt" or (backend is None and device.startswith("cuda")):
        if threads is not None:
            raise UsageError(f"threads={threads} are of a CPU, and {file.path} runs as an engine: leave them out")
        return _open_engine(file, device, sessions, max_batch, precision)
    if precision is not None:
        raise UsageError(
            "precision is that of a TensorRT engine, which is built for a GPU (device='cuda:0'); elsewhere a file runs "
            "in its own: fashion-infer export MODEL --precision fp16"
        )
    # imported here, so that a missing extra is named on use
    if backend == "openvino":
        from fashion_infer.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(file, device=device, sessions=sessions, threads=threads)
    from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend, choose_layout

    layout = choose_layout(device, sessions, threads, model_bytes=file.size)
    return OnnxRuntimeBackend(file, device=device, layout=layout)


def _open_engine(file: ModelFile, device: str, sessions: int | None, max_batch: int, precision: str | None) -> Backend:
    """A TensorRT engine: a .plan as it is, an .onnx through the engine that is built for it once and kept."""
    if precision not in (None, *PRECISIONS):
        raise UsageError(f"unknown precision {precision!r}: it is {', '.join(PRECISIONS)}")
    if precision is not None and file.path.suffix == ".plan":
        raise UsageError(
            f"{file.path} is built already: give precision with the .onnx file that it is to be built from"
        )
    from fashion_infer.tensorrt.cuda import find_gpu
    from fashion_infer.tensorrt.session import TensorRTBackend

    engine: Path | ModelFile = file
    if file.path.suffix == ".onnx":
        index = gpu_index(device)
        find_gpu(index)  # before an engine is built for a GPU that is not there
        from fashion_infer.tensorrt.build import BuildOptions, cached_engine
        from fashion_infer.tensorrt.engine_file import profiles_for

        options = BuildOptions(profiles=profiles_for(max_batch), device=index)
        engine = cached_engine(file.path, options, precision=precision)
    return TensorRTBackend(engine, device=device, sessions=sessions or 2, max_batch=max_batch)
