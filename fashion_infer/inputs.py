"""Expansion of the image arguments of a command: files, folders of pictures, and patterns."""

# ruff: noqa: PTH112, PTH113, PTH114, PTH116
# the methods of Path raise on names that are too long

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fashion_infer.decoding import looks_readable
from fashion_infer.errors import ImageError

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff")
)
_NO_DECODER = frozenset(
    (".heic", ".heif", ".avif", ".jp2", ".jxl", ".ico", ".svg", ".eps", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw")
)

logger = logging.getLogger("fashion_infer")


@dataclass(frozen=True)
class Inputs:
    """The result of expanding arguments.

    Attributes:
        paths: paths of the files to read, in the order of the arguments; those of one argument are sorted.
        errors: the error of each argument without images, and of each folder that cannot be listed, by its name.
    """

    paths: list[str]
    errors: dict[str, ImageError]


def expand_inputs(arguments: Sequence[str]) -> Inputs:
    """Expand each argument on its own, so that an unusable one does not affect the others.

    A folder stands for all pictures below it, including those in linked folders. A picture is a file with one of
    SUFFIXES, or one whose first bytes are those of a readable format. The number of other files is logged, by reason.

    Args:
        arguments: paths of files, which need not exist; folders; patterns with *, ? and [.
    """
    inputs = Inputs([], {})
    for argument in arguments:
        try:
            inputs.paths.extend(sorted(_expand(argument, inputs.errors)))
        except ImageError as error:
            inputs.errors[argument] = error
    return inputs


def expand_paths(arguments: Sequence[str]) -> list[str]:
    """The files of all arguments, like `expand_inputs`, but an unusable argument is an error.

    Raises:
        ImageError: an argument has no images, or a folder cannot be listed.
    """
    inputs = expand_inputs(arguments)
    for error in inputs.errors.values():
        raise error
    return inputs.paths


def _expand(argument: str, errors: dict[str, ImageError]) -> list[str]:
    if argument.startswith(("http://", "https://")):
        raise ImageError(f"{argument} is an address: download it first, images are read from files")
    unreadable = len(errors)
    if os.path.isdir(argument):
        paths = _pictures_below(argument, errors)
    elif any(letter in argument for letter in "*?[") and not os.path.lexists(argument):
        paths = _matches(argument)
    else:
        return [argument]
    if not paths and len(errors) == unreadable:
        raise ImageError(f"{argument} holds no images ({', '.join(sorted(SUFFIXES))})")
    return paths


def _matches(pattern: str) -> list[str]:
    path = Path(pattern)
    if any("**" in part and part != "**" for part in path.parts):  # Python 3.13 would treat it like *
        raise ImageError(f"{pattern} is not a pattern: ** stands for whole folders, between two slashes")
    anchor = Path(path.anchor)
    try:
        return [str(match) for match in anchor.glob(str(path.relative_to(anchor))) if os.path.isfile(match)]
    except (ValueError, OSError) as error:
        raise ImageError(f"{pattern} is not a pattern: {error}") from error


def _pictures_below(folder: str, errors: dict[str, ImageError]) -> list[str]:
    pictures: list[str] = []
    skipped: Counter[str] = Counter()
    for path in _files_below(folder, errors):
        if (reason := _reason_to_skip(path)) is None:
            pictures.append(path)
        else:
            skipped[reason] += 1
    if count := skipped.total():
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(skipped.items()))
        logger.warning("%s: skipped %d of %d files: %s", folder, count, count + len(pictures), reasons)
    return pictures


def _files_below(folder: str, errors: dict[str, ImageError]) -> Iterator[str]:
    def report(error: OSError) -> None:
        name = str(error.filename).removesuffix("/.")
        errors[name] = ImageError(f"{name} cannot be read: {error.strerror}")

    visited: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, onerror=report, followlinks=True):
        place = str(Path(root))  # without a leading ./
        try:
            status = os.stat(f"{place}/.")  # fails without permission to search the folder; listing needs less
        except OSError as error:
            report(error)
            continue
        if (status.st_dev, status.st_ino) in visited:  # reached again through a link, perhaps to a parent folder
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (str(Path(place) / file) for file in files)


def _reason_to_skip(path: str) -> str | None:
    """The reason why a file below a folder is not read, None for a picture.

    A broken link with the suffix of a picture is not skipped, so that reading it gives an error.
    """
    suffix = Path(path).suffix.lower()
    if not os.path.isfile(path) and not os.path.islink(path):
        return "(not a regular file)"
    if suffix in SUFFIXES or looks_readable(path):
        return None
    if suffix in _NO_DECODER:
        return f"{suffix} (no decoder for it)"
    return f"{suffix or 'without a suffix'} (not an image)"
