"""Protection of forked children: from freeing objects of the parent, and from locks that no thread of theirs holds."""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

_ENDS_WITHIN = 1.0  # seconds; the system may have given the number of a thread to another one, which goes on

_watched: set[int] = set()  # the system's numbers of threads


def never_free(owner: object) -> None:
    """Keep an object and everything it refers to from ever being freed, even when the interpreter ends.

    A runtime waits for its threads when it is freed, and they do not exist in a forked child.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


def in_each_child(act: Callable[[], None]) -> None:
    """Call `act` first in every forked child; do nothing on systems without fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=act)


def wait_for_end_of_this_thread() -> None:
    """If the calling thread is ending when the process is forked, let the fork wait until it has ended completely.

    After the last line of Python, when others have joined the thread, C++ libraries still free what they keep for it. A
    child that is forked meanwhile inherits their locks as they are, and waits for them for ever when it ends.
    """
    _watched.add(threading.get_native_id())


def _wait_for_ending_threads() -> None:
    deadline = monotonic() + _ENDS_WITHIN
    for number in list(_watched):
        if any(thread.native_id == number for thread in threading.enumerate()):
            continue
        while Path(f"/proc/self/task/{number}").exists() and monotonic() < deadline:
            sleep(0.0002)
        _watched.discard(number)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_for_ending_threads)
