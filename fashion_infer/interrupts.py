"""Ctrl-C as a request: work that must not stop half done asks whether it should stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(*, second_stops: bool) -> Iterator[threading.Event]:
    """Within the block Ctrl-C sets an event instead of raising KeyboardInterrupt; the block decides what follows.

    Outside the main thread, where signals cannot be handled, the event is never set.

    Args:
        second_stops: whether a second Ctrl-C raises KeyboardInterrupt at once. Not for a block that spends its time
            in foreign code, such as TensorRT's builder, through which no exception can pass.
    """
    event = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if second_stops and event.is_set():
            raise KeyboardInterrupt
        event.set()

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
