"""A binary copy of the annotations beside the text files, since 289,222 rows of a thousand labels are slow to parse."""

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

VERSION = 2  # version of the copy's layout; an older copy is written again
COLUMNS = tuple(field.name for field in dataclasses.fields(FashionData) if field.name != "image_root")
TEXTS = ("images", "category_names", "attribute_names", "attribute_groups", "colors", "missing")
WORTH_KEEPING = 4_000_000  # bytes of text; less is parsed quickly


def cached(folder: Path, name: str, sources: Sequence[Path], read: Callable[[], FashionData]) -> FashionData:
    """Load the copy if it was made from these files, or else call `read` and write the copy.

    Files are compared by size and time. A file that was missing when the copy was made and exists now makes the copy
    stale. Small sets are not copied. If the folder cannot be written, no copy is kept.

    Args:
        folder: folder of the copy.
        name: name of the copy, without its suffix.
        sources: files that `read` reads, whether they exist or not.
        read: function that parses the files.
    """
    stamp = stamp_of(sources)
    if not stamp:
        return read()
    path = folder / f"{name}.cache.npz"
    # These errors mean that the copy is missing, stale or damaged
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return load(path, stamp)
    data = read()
    with contextlib.suppress(OSError):  # the folder is read-only or the disk is full: go on without a copy
        save(path, data, stamp)
    return data


def stamp_of(sources: Sequence[Path]) -> str:
    """Name, size and time of every existing source, as JSON; "" if the sources are too small to copy."""
    states = [(path, path.stat()) for path in sources if path.exists()]
    if sum(state.st_size for _, state in states) < WORTH_KEEPING:
        return ""
    return json.dumps([VERSION, *((path.name, state.st_size, state.st_mtime_ns) for path, state in states)])


def save(path: Path, data: FashionData, stamp: str) -> None:
    """Write the copy atomically."""
    arrays: dict[str, Any] = {
        "stamp": to_bytes((stamp,)),
        "image_root": to_bytes((os.path.relpath(data.image_root, path.parent),)),
    }
    for name in COLUMNS:
        value = getattr(data, name)
        arrays[name] = to_bytes(value) if isinstance(value, tuple) else value

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # numpy would append .npz to a name
            np.savez(file, allow_pickle=False, **arrays)

    write_atomically(path, write)


def load(path: Path, stamp: str) -> FashionData:
    """Load a copy.

    Raises:
        ValueError: the copy was made from other files.
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
    """Encode strings without line breaks as one array of UTF-8; surrogate escapes become the original bytes."""
    return np.frombuffer("".join(text + "\n" for text in strings).encode(errors="surrogateescape"), np.uint8)


def to_strings(array: NDArray[np.uint8]) -> tuple[str, ...]:
    """Decode the strings that `to_bytes` encoded."""
    return tuple(array.tobytes().decode(errors="surrogateescape").split("\n")[:-1])
