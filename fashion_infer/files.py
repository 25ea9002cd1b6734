"""Files that are whole or not there, and their hashes."""

import atexit
import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs

from fashion_infer.errors import OutputError

logger = logging.getLogger("fashion_infer")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name in the same folder, then rename it: readers see the old one or the new one.

    Of several threads or processes that write one path, the last one to finish wins. The folder is made where it is
    not there; a failure leaves what was there before.

    Args:
        path: the file's own name.
        write: is called with the temporary name, which is no other call's.

    Raises:
        OutputError: the file or its folder cannot be written, or the path is no file's, such as that of a device.
    """
    check_place(path)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # short, whatever the length of the file's name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Refuse a path at which there is something that no file may replace, such as a folder or a device.

    Raises:
        OutputError: it is refused.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 a Path raises on long names
        raise OutputError(f"{path} cannot be written: there is something that is no regular file")


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """The user's folder for what can be made again: `~/.cache/fashion-infer` on Linux, or under XDG_CACHE_HOME.

    A user without a home gets a temporary folder that goes with the process, and a warning.
    """
    try:
        return platformdirs.user_cache_path("fashion-infer", appauthor=False)
    except RuntimeError:  # HOME is not set, and the user id is in no list of users
        return _temporary_cache()


@cache
def _temporary_cache() -> Path:
    folder = TemporaryDirectory(prefix="fashion-infer-cache-")
    atexit.register(folder.cleanup)
    logger.warning("no home folder: what is cached is lost at the end of the process; set HOME or XDG_CACHE_HOME")
    return Path(folder.name)
