"""Choice of the runtime that a model file and a device need, and loading the file into it."""

from collections.abc import Iterable, Sequence
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
    """Open a backend for each device; if one cannot be opened, the others are closed again.

    Args:
        file: the model file, from `read_model`.
        backend: name of the runtime, as for Predictor.
        device: one device or several, as for Predictor.
        sessions: number of sessions on each device, as for Predictor.
        threads: CPU threads per session, as for Predictor.
        max_batch: largest number of images in one run, as for Predictor.
        precision: precision of a TensorRT engine, as for Predictor.

    Raises:
        FashionInferError: any of the errors that Predictor lists.
    """
    if device is None:
        devices = [_default_device(file)]
    elif isinstance(device, str) or not isinstance(device, Iterable):
        devices = [device]
    else:
        devices = list(device)
    if not all(isinstance(name, str) for name in devices):
        raise UsageError(f"device must be a name or a list of names, got {device!r}")
    if not devices:
        raise UsageError("device is an empty list: name one or more")
    opened: list[Backend] = []
    try:
        for name in devices:
            opened.append(_open_backend(file, backend, name, sessions, threads, max_batch, precision))
        file.check_unchanged()
    except BaseException:
        close_backends(opened)
        raise
    return opened


def close_backends(backends: list[Backend]) -> None:
    """Close the backends and remove them from the list."""
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
            raise UsageError(
                f"threads={threads} is for CPUs only, and {file.path} runs as an engine on a GPU: leave it out"
            )
        return _open_engine(file, device, sessions, max_batch, precision)
    if precision is not None:
        raise UsageError(
            "precision is that of a TensorRT engine, which is built for a GPU (device='cuda:0'); other backends run a "
            "file in its own precision: fashion-infer export MODEL --precision fp16"
        )
    # imported here, so that a missing extra is named on use
    if backend == "openvino":
        from fashion_infer.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(file, device=device, sessions=sessions, threads=threads)
    from fashion_infer.backends.onnxruntime import OnnxRuntimeBackend, choose_layout

    layout = choose_layout(device, sessions, threads, model_bytes=file.size)
    return OnnxRuntimeBackend(file, device=device, layout=layout)


def _open_engine(file: ModelFile, device: str, sessions: int | None, max_batch: int, precision: str | None) -> Backend:
    """Open a TensorRT engine: a .plan file itself, or the engine of an .onnx file, which is built once and cached."""
    if precision not in (None, *PRECISIONS):
        raise UsageError(f"unknown precision {precision!r}: it is {', '.join(PRECISIONS)}")
    if precision is not None and file.path.suffix == ".plan":
        raise UsageError(f"{file.path} is built already: pass precision together with the .onnx file instead")
    from fashion_infer.tensorrt.cuda import find_gpu
    from fashion_infer.tensorrt.session import TensorRTBackend

    engine: Path | ModelFile = file
    if file.path.suffix == ".onnx":
        index = gpu_index(device)
        find_gpu(index)  # fails before the build if there is no such GPU
        from fashion_infer.tensorrt.build import BuildOptions, cached_engine
        from fashion_infer.tensorrt.engine_file import profiles_for

        options = BuildOptions(profiles=profiles_for(max_batch), device=index)
        engine = cached_engine(file.path, options, precision=precision)
    return TensorRTBackend(engine, device=device, sessions=sessions or 2, max_batch=max_batch)
