"""TensorRT's two flavours behind one name: `tensorrt` for data-centre and Jetson GPUs, `tensorrt_rtx` for RTX.

Their Python modules have one API. Each keeps the first logger it is given for the whole process, so there is one of
ours a module: errors and warnings go to the logger "fashion_infer", or to `recording`, which keeps everything.
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
        flavour: "tensorrt" or "rtx".
        compute_capability: of the GPU that it must know, such as (9, 0).

    Returns:
        The flavour and its module.

    Raises:
        UsageError: there is no such flavour.
        MissingExtraError: it is not installed, or neither is.
        DeviceError: what is installed does not know the GPU; the message names the flavour that does.
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
        if compute_capability is None or knows(name, trt, compute_capability):
            return name, trt
        refusal = refusal or _does_not_know(name, trt, compute_capability)
    raise refusal or MissingExtraError(
        'TensorRT is not installed: pip install "fashion-infer[rtx]", or "fashion-infer[gpu]" for data-centre GPUs'
    )


def knows(flavour: str, trt: Any, compute_capability: tuple[int, int]) -> bool:
    """Whether a flavour has kernels for a GPU.

    TensorRT for RTX lists the GPUs that it can build for: 1.7 has neither 8.7 nor 9.0, and so no Jetson Orin, no H100
    and no H200. TensorRT has no such list in its API; its support matrix begins with Turing, 7.5.
    """
    if flavour == "rtx":
        return compute_capability in _rtx_targets(trt)
    return compute_capability >= (7, 5)


def _rtx_targets(trt: Any) -> list[tuple[int, int]]:
    names = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    return [(int(name[2:-1]), int(name[-1])) for name in names]  # SM120 is 12.0


def _does_not_know(flavour: str, trt: Any, compute_capability: tuple[int, int]) -> DeviceError:
    here = "{}.{}".format(*compute_capability)
    if flavour == "rtx":
        listed = ", ".join("{}.{}".format(*target) for target in _rtx_targets(trt))
        return DeviceError(
            f"TensorRT for RTX {trt.__version__} has no kernels for this GPU, compute capability {here} (it has them "
            f'for {listed}); flavour tensorrt has: pip install "fashion-infer[gpu]", and --flavour tensorrt'
        )
    return DeviceError(
        f"TensorRT {trt.__version__} has no kernels for this GPU, compute capability {here}: 7.5 or later"
    )


@cache
def log_of(trt: Any) -> Any:
    """The one ILogger of a TensorRT module.

    Its `lines` is a list while messages are recorded, else None; `reason` gives the last error of the thread, once.

    TensorRT does not say whose message it is. So those of other threads than the recording one, which may be of its
    build or not, are recorded and logged.
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
    """The list that every message of the block goes to, as "SEVERITY: text"; one block at a time in a process."""
    log = log_of(trt)
    with _one_recording:
        lines: list[str] = []
        log.recorder, log.lines = threading.get_ident(), lines
        try:
            yield lines
        finally:
            log.lines = None


def is_out_of_memory(reason: str) -> bool:
    """Whether TensorRT's message says that memory ran out, in its own words or by the name of an error code."""
    text = reason.lower().replace("_", "").replace(" ", "")
    return any(words in text for words in ("outofmemory", "cudaerrormemoryallocation", "insufficientgpumemory"))


def create(trt: Any, kind: str) -> Any:
    """A new Builder or Runtime of TensorRT.

    Raises:
        DeviceError: it cannot be made. Its constructor then gives nothing, for example because the driver is missing,
            and its Python module makes a TypeError of that.
    """
    try:
        return getattr(trt, kind)(log_of(trt))
    except TypeError as error:
        raise DeviceError(f"TensorRT cannot start its {kind}, is the driver too old? {log_of(trt).reason()}") from error


def errors_in(lines: list[str]) -> str:
    """The errors among recorded messages, in one line; the last message where there are none."""
    found = [line.partition(": ")[2] for line in lines if line.startswith(("ERROR", "INTERNAL_ERROR"))]
    return "; ".join(dict.fromkeys(found)) or (lines[-1] if lines else "TensorRT gave no reason")
