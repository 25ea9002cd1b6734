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

from fashion_infer.errors import MissingExtraError, UsageError, missing_extra

MODULES = {"tensorrt": ("tensorrt", "gpu"), "rtx": ("tensorrt_rtx", "rtx")}  # flavour: module, extra

logger = logging.getLogger("fashion_infer")
_one_recording = threading.Lock()


def load_tensorrt(flavour: str | None = None) -> tuple[str, Any]:
    """Import a flavour of TensorRT, or the first one that is installed.

    Returns:
        The flavour, "tensorrt" or "rtx", and its module.

    Raises:
        UsageError: there is no such flavour.
        MissingExtraError: it is not installed, or neither is.
    """
    if flavour is not None and flavour not in MODULES:
        raise UsageError(f"there is no flavour {flavour!r} of TensorRT: it is {' or '.join(MODULES)}")
    for name, (module, extra) in MODULES.items():
        if flavour not in (None, name):
            continue
        try:
            return name, importlib.import_module(module)
        except ImportError as error:
            if flavour is not None:
                raise missing_extra(module, extra, error) from error
    raise MissingExtraError(
        'TensorRT is not installed: pip install "fashion-infer[rtx]", or "fashion-infer[gpu]" for data-centre GPUs'
    )


@cache
def log_of(trt: Any) -> Any:
    """The one ILogger of a TensorRT module; its `lines` is a list while messages are recorded, else None.

    TensorRT does not say whose message it is. So those of other threads than the recording one, which may be of its
    build or not, are recorded and logged.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] | None = None
            self.recorder = 0  # identifier of the thread that records

        def log(self, severity: Any, message: str) -> None:
            if self.lines is not None:
                self.lines.append(f"{severity.name}: {message}")
                if threading.get_ident() == self.recorder:
                    return
            if int(severity) <= int(trt.ILogger.WARNING):
                logger.warning("TensorRT: %s", message)

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


def errors_in(lines: list[str]) -> str:
    """The errors among recorded messages, in one line; the last message where there are none."""
    found = [line.partition(": ")[2] for line in lines if line.startswith(("ERROR", "INTERNAL_ERROR"))]
    return "; ".join(dict.fromkeys(found)) or (lines[-1] if lines else "TensorRT gave no reason")
