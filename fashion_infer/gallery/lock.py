"""A lock that lets only one process write to a gallery; the system releases it when that process ends in any way."""

import fcntl
import json
import os
import platform
import threading
from pathlib import Path
from typing import IO

from fashion_infer.errors import GalleryError, GalleryLockedError

FILE = "writer.lock"
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "glusterfs", "lustre", "afs", "ncpfs")


class WriterLock:
    """The lock of a gallery's folder, as a context manager; a thread may nest its `with` blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mutex = threading.RLock()
        self._depth = 0
        self._file: IO[str] | None = None

    def __enter__(self) -> None:
        self._mutex.acquire()
        try:
            if self._depth == 0:
                self._file = self._acquire()
            self._depth += 1
        except BaseException:
            self._mutex.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._file is not None:
            self._file.truncate(0)
            self._file.close()
        self._mutex.release()

    def _acquire(self) -> IO[str]:
        if (kind := file_system_of(self._folder)) in NETWORK:
            raise GalleryError(
                f"gallery {self._folder} lies on a network file system ({kind}), where SQLite's log cannot be shared "
                "safely: keep it on a local disk, or use a Qdrant cluster"
            )
        try:
            file = (self._folder / FILE).open("a+")
        except OSError as error:
            raise GalleryError(f"gallery {self._folder} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = _holder(file.read())
            file.close()
            raise GalleryLockedError(
                f"gallery {self._folder} is being written by {holder}: wait for it to end, or stop it"
            ) from error
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": platform.node()}))
        file.flush()
        return file


def _holder(text: str) -> str:
    try:
        facts = json.loads(text)
        return f"process {facts['process']} on {facts['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"  # it has locked the file but not written its name yet


def file_system_of(folder: Path) -> str:
    """Return the type of the file system that holds a folder, such as "ext4"; empty if the machine does not tell."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    path = folder.resolve()
    parents = [(point, kind) for point, kind in mounts if path.is_relative_to(point)]
    return max(parents, key=lambda mount: len(mount[0]))[1] if parents else ""
