"""Atomic writing of files, their hashes, and the user's cache folder."""

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
    """Write a file under a temporary name in the same folder, then rename it: readers see the old or the new file.

    If several threads or processes write the same path, the last one to finish wins. A missing folder is created. After
    a failure the old file is unchanged.

    Args:
        path: path of the file.
        write: function that writes the file; its argument is a temporary path, which no other call uses.

    Raises:
        OutputError: the file or its folder cannot be written, or the path is that of a folder or a device.
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
    """Check that a file may be written to a path; call this before work whose result goes there.

    Raises:
        OutputError: the path is that of a folder, a device or anything else that a file must not replace; or its folder
            may not be written to, or cannot be created.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 the methods of Path raise on long names
        raise OutputError(f"{path} cannot be written: there is something that is no regular file")
    _check_writable(path, path.parent)


def check_folder(folder: Path) -> None:
    """Check that files may be written to a folder, which need not exist yet; see `check_place`.

    Raises:
        OutputError: the folder may not be written to, or cannot be created.
    """
    _check_writable(folder, folder)


def _check_writable(place: Path, folder: Path) -> None:
    whole = folder.absolute()
    existing = next((parent for parent in (whole, *whole.parents) if os.path.exists(parent)), whole)  # noqa: PTH110
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise OutputError(f"{place} cannot be written: {existing} is not a folder that you may write to")


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """The user's folder for files that can be made again: `~/.cache/fashion-infer` on Linux, or under XDG_CACHE_HOME.

    Without a home folder it is a temporary folder, which is deleted when the process ends; a warning says so.
    """
    try:
        return platformdirs.user_cache_path("fashion-infer", appauthor=False)
    except RuntimeError:  # HOME is not set, and the user id is in no list of users
        return _temporary_cache()


@cache
def _temporary_cache() -> Path:
    folder = TemporaryDirectory(prefix="fashion-infer-cache-")
    atexit.register(folder.cleanup)
    logger.warning("no home folder: cached files are lost at the end of the process; set HOME or XDG_CACHE_HOME")
    return Path(folder.name)
