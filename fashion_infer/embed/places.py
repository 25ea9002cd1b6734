"""Remote files: addresses such as s3://bucket/shoes/1.jpg, read through pyarrow's file systems."""

import re
from functools import lru_cache
from pathlib import PurePosixPath
from typing import cast

from fashion_infer.errors import ImageError, missing_extra
from fashion_infer.inputs import SUFFIXES

try:
    import pyarrow as pa
    from pyarrow import fs
except ImportError as error:
    raise missing_extra("pyarrow", "gallery", error) from error

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*://[^/]*)(.*)", re.DOTALL)


def is_address(name: str) -> bool:
    """Whether a name is an address for pyarrow's file systems and not a local path."""
    return _ADDRESS.fullmatch(name) is not None


def open_file(name: str) -> pa.NativeFile:
    """Open the file at a path or an address for reading; the caller closes it.

    Raises:
        OSError: it cannot be opened.
    """
    if not is_address(name):
        return fs.LocalFileSystem().open_input_file(name)
    file_system, path = _located(name)
    return file_system.open_input_file(path)


class RemoteFile:
    """A picture at an address; it is opened only when it is read."""

    def __init__(self, address: str) -> None:
        """Keep the address; nothing is opened."""
        self._address = address
        self._position, self._size = 0, 0

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes from where the last call ended; empty at the end.

        Raises:
            OSError: it cannot be read.
        """
        if self._position and self._position == self._size:
            return b""
        with open_file(self._address) as file:
            self._size = file.size()
            file.seek(self._position)
            data = cast(bytes, file.read(min(size, self._size - self._position)))
        self._position += len(data)
        return data


def pictures_at(address: str) -> list[str]:
    """The sorted addresses of the pictures below a folder; for a file its own address.

    Raises:
        ImageError: the address cannot be accessed, or is a folder without pictures.
    """
    try:
        file_system, path = _located(address)
        if file_system.get_file_info(path).type != fs.FileType.Directory:
            return [address]
        below = file_system.get_file_info(fs.FileSelector(path, recursive=True))
    except (OSError, pa.ArrowException) as error:
        raise ImageError(f"{address} cannot be read: {_first_line(error)}") from error
    start = len(path.rstrip("/"))
    pictures = [
        address.rstrip("/") + info.path[start:]
        for info in below
        if info.type == fs.FileType.File and PurePosixPath(info.path).suffix.lower() in SUFFIXES
    ]
    if not pictures:
        raise ImageError(f"{address} holds no images ({', '.join(sorted(SUFFIXES))})")
    return sorted(pictures)


def _located(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path in it; no letter of the path is decoded."""
    match = _ADDRESS.fullmatch(address)
    assert match is not None
    file_system, root = _file_system(match[1])
    return file_system, root.rstrip("/") + match[2]


@lru_cache(maxsize=64)
def _file_system(root: str) -> tuple[fs.FileSystem, str]:
    """Open a file system once per bucket, because it costs a connection and, for S3, a query for the region."""
    if root.startswith(("http://", "https://")):
        raise OSError("it is a web address: download it first, images are read from files")
    return cast(tuple[fs.FileSystem, str], fs.FileSystem.from_uri(f"{root}/"))


def _first_line(error: Exception) -> str:
    text: str = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__
