"""Ctrl-C as an event, for work that must not be interrupted at any moment."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(*, second_stops: bool) -> Iterator[threading.Event]:
    """Let Ctrl-C set an event inside the `with` block, instead of raising KeyboardInterrupt.

    The block checks the event and stops where it is safe. In other threads than the main one, which cannot handle
    signals, the event is never set.

    Args:
        second_stops: whether a second Ctrl-C raises KeyboardInterrupt at once. Use False if the block runs foreign code
            that no exception can pass through, such as TensorRT's builder.
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
