"""TensorRT's two flavours behind one name: `tensorrt` for data-centre and Jetson GPUs, `tensorrt_rtx` for RTX.

Their Python modules have the same API. Each module keeps the first logger that it receives until the process ends, so
there is one logger of ours for each module. It passes errors and warnings to the logger "fashion_infer"; inside a
`recording` block it keeps every message.
"""

import importlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from fashion_infer.errors import DeviceError, MissingExtraError, UsageError, missing_extra

MODULES = {"tensorrt": ("tensorrt", "gpu"), "rtx": ("tensorrt_rtx", "rtx")}  # flavour: module, extra

logger = logging.getLogger("fashion_infer")
_one_recording = threading.Lock()


def load_tensorrt(flavour: str | None = None, compute_capability: tuple[int, int] | None = None) -> tuple[str, Any]:
    """Import a flavour of TensorRT, or the first one that is installed.

    Args:
        flavour: "tensorrt" or "rtx"; None accepts either.
        compute_capability: compute capability of the GPU that the flavour must support, such as (9, 0); None accepts
            any.

    Returns:
        The flavour's name and its Python module.

    Raises:
        UsageError: there is no such flavour.
        MissingExtraError: the flavour is not installed, or no flavour is.
        DeviceError: the installed TensorRT does not support the GPU; the message names the flavour that does.
    """
    if flavour is not None and flavour not in MODULES:
        raise UsageError(f"there is no flavour {flavour!r} of TensorRT: it is {' or '.join(MODULES)}")
    refusal: DeviceError | None = None
    for name, (module, extra) in MODULES.items():
        if flavour not in (None, name):
            continue
        try:
            trt = importlib.import_module(module)
        except ImportError as error:
            if flavour is not None:
                raise missing_extra(module, extra, error) from error
            continue
        if compute_capability is None or supports(name, trt, compute_capability):
            return name, trt
        refusal = refusal or _unsupported_gpu(name, trt, compute_capability)
    raise refusal or MissingExtraError(
        'TensorRT is not installed: pip install "fashion-infer[rtx]", or "fashion-infer[gpu]" for data-centre GPUs'
    )


def supports(flavour: str, trt: Any, compute_capability: tuple[int, int]) -> bool:
    """Whether a flavour has kernels for a GPU.

    TensorRT for RTX lists the compute capabilities that it can build for. The list of version 1.7 has neither 8.7
    (Jetson Orin) nor 9.0 (H100, H200). TensorRT has no such list in its API; its support matrix begins with Turing,
    7.5.
    """
    if flavour == "rtx":
        return compute_capability in _rtx_targets(trt)
    return compute_capability >= (7, 5)


def _rtx_targets(trt: Any) -> list[tuple[int, int]]:
    names = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    return [(int(name[2:-1]), int(name[-1])) for name in names]  # SM120 is 12.0


def _unsupported_gpu(flavour: str, trt: Any, compute_capability: tuple[int, int]) -> DeviceError:
    capability = "{}.{}".format(*compute_capability)
    if flavour == "rtx":
        supported = ", ".join("{}.{}".format(*target) for target in _rtx_targets(trt))
        return DeviceError(
            f"TensorRT for RTX {trt.__version__} has no kernels for this GPU, compute capability {capability} (it has "
            f'them for {supported}); flavour tensorrt has: pip install "fashion-infer[gpu]", and --flavour tensorrt'
        )
    return DeviceError(
        f"TensorRT {trt.__version__} has no kernels for this GPU, compute capability {capability}: 7.5 is the lowest"
    )


@cache
def log_of(trt: Any) -> Any:
    """The one ILogger of a TensorRT module.

    Its attribute `lines` is a list while messages are recorded, else None. Its method `reason` returns the calling
    thread's last error and forgets it.

    TensorRT does not say which build or engine a message belongs to. A message from another thread than the recording
    one may or may not belong to the recorded build, so it is both recorded and logged.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] | None = None
            self._last = threading.local()  # the last error of each thread
            self.recorder = 0  # identifier of the thread that records

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.ERROR):
                self._last.error = message
            if self.lines is not None:
                self.lines.append(f"{severity.name}: {message}")
                if threading.get_ident() == self.recorder:
                    return
            if int(severity) <= int(trt.ILogger.WARNING):
                logger.warning("TensorRT: %s", message)

        def reason(self) -> str:
            text, self._last.error = getattr(self._last, "error", ""), ""
            return text or "it gave no reason"

    return Log()


@contextmanager
def recording(trt: Any) -> Iterator[list[str]]:
    """Record TensorRT's messages during the block; the block's value is their list, each as "SEVERITY: text".

    Only one block at a time records in a process; a second one waits.
    """
    log = log_of(trt)
    with _one_recording:
        lines: list[str] = []
        log.recorder, log.lines = threading.get_ident(), lines
        try:
            yield lines
        finally:
            log.lines = None


def is_out_of_memory(reason: str) -> bool:
    """Whether TensorRT's message says that memory ran out, in words or by the name of an error code."""
    text = reason.lower().replace("_", "").replace(" ", "")
    return any(words in text for words in ("outofmemory", "cudaerrormemoryallocation", "insufficientgpumemory"))


def create(trt: Any, kind: str) -> Any:
    """Create one of TensorRT's top-level objects.

    Args:
        trt: TensorRT's Python module.
        kind: "Builder" or "Runtime".

    Raises:
        DeviceError: it cannot be created, for example because the driver is missing. The C++ constructor then returns
            a null pointer, which the Python module turns into a TypeError.
    """
    try:
        return getattr(trt, kind)(log_of(trt))
    except TypeError as error:
        raise DeviceError(f"TensorRT cannot start its {kind}, is the driver too old? {log_of(trt).reason()}") from error


def errors_in(lines: list[str]) -> str:
    """Join the errors among recorded messages in one line; if there are no errors, return the last message."""
    errors = [line.partition(": ")[2] for line in lines if line.startswith(("ERROR", "INTERNAL_ERROR"))]
    return "; ".join(dict.fromkeys(errors)) or (lines[-1] if lines else "TensorRT gave no reason")
