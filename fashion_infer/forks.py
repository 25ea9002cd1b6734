"""Protection of forked children: objects of the parent whose runtime must not be freed there."""

import ctypes
import os
from collections.abc import Callable


def never_free(owner: object) -> None:
    """Keep an object and everything it refers to from ever being freed, even when the interpreter ends.

    A runtime waits for its threads when it is freed, and they do not exist in a forked child.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


def in_each_child(act: Callable[[], None]) -> None:
    """Call `act` first in every forked child; do nothing on systems without fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=act)
