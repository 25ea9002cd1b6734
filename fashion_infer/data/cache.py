"""A binary copy of what was read, kept beside the text: reading a thousand labels of 289,222 images takes a while."""

import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion_infer.data.fashion_data import FashionData
from fashion_infer.files import write_atomically

VERSION = 2  # of the copy's layout: an older copy is rebuilt
COLUMNS = tuple(field.name for field in dataclasses.fields(FashionData) if field.name != "image_root")
TEXTS = ("images", "category_names", "attribute_names", "attribute_groups", "colors", "missing")
WORTH_KEEPING = 4_000_000  # bytes of text; less is read in a moment


def cached(folder: Path, name: str, sources: Sequence[Path], read: Callable[[], FashionData]) -> FashionData:
    """What `read` gives, or the copy in `folder` where that was made from these very files (by size and time).

    Small sets are not copied, and where the folder cannot be written nothing is kept.
    Sources that are not there count as such: once they are, the copy is made anew.
    """
    stamp = stamp_of(sources)
    if not stamp:
        return read()
    path = folder / f"{name}.cache.npz"
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none, stale or damaged
        return load(path, stamp)
    data = read()
    with contextlib.suppress(OSError):  # a read-only folder or a full disk only costs the copy
        save(path, data, stamp)
    return data


def stamp_of(sources: Sequence[Path]) -> str:
    """Name, size and time of every source that is there, as JSON; empty when they are too small to copy."""
    states = [(path, path.stat()) for path in sources if path.exists()]
    if sum(state.st_size for _, state in states) < WORTH_KEEPING:
        return ""
    return json.dumps([VERSION, *((path.name, state.st_size, state.st_mtime_ns) for path, state in states)])


def save(path: Path, data: FashionData, stamp: str) -> None:
    """Write the copy; a reader sees a whole one or none."""
    arrays: dict[str, Any] = {
        "stamp": to_bytes((stamp,)),
        "image_root": to_bytes((os.path.relpath(data.image_root, path.parent),)),
    }
    for name in COLUMNS:
        value = getattr(data, name)
        arrays[name] = to_bytes(value) if isinstance(value, tuple) else value

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a name, numpy would add .npz to it
            np.savez(file, allow_pickle=False, **arrays)

    write_atomically(path, write)


def load(path: Path, stamp: str) -> FashionData:
    """Reads a copy.

    Raises:
        ValueError: it was made from other files.
    """
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if to_strings(arrays["stamp"]) != (stamp,):
            raise ValueError("stale")
        columns: dict[str, Any] = {
            name: to_strings(arrays[name]) if name in TEXTS else arrays[name] for name in COLUMNS
        }
        root = path.parent / to_strings(arrays["image_root"])[0]
    return FashionData(image_root=Path(os.path.normpath(root)), **columns)


def to_bytes(strings: tuple[str, ...]) -> NDArray[np.uint8]:
    """Strings, none of which holds a line break, as one array of UTF-8, or of the bytes that a name has on disk."""
    return np.frombuffer("".join(text + "\n" for text in strings).encode(errors="surrogateescape"), np.uint8)


def to_strings(array: NDArray[np.uint8]) -> tuple[str, ...]:
    """The way back."""
    return tuple(array.tobytes().decode(errors="surrogateescape").split("\n")[:-1])
