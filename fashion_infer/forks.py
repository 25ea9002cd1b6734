"""After `os.fork`: what a child must not do with what its parent left in its memory."""

import ctypes
import os
from collections.abc import Callable


def never_free(thing: object) -> None:
    """Keep an object, and all that it holds, for the life of the process and beyond its end.

    A runtime waits for its threads when it is freed, and in a forked child they do not exist.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def in_each_child(act: Callable[[], None]) -> None:
    """Call `act` in each forked child before anything else; nothing is forked where the system has no fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=act)
