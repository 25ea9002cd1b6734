"""Any kind of picture in, upright RGB pixels out: limits checked on the header, EXIF orientation applied."""

import io
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from fashion_infer.decoding import (
    Pixels as Pixels,
)
from fashion_infer.decoding import (
    check_size,
    decode_jpeg,
    decode_other,
    jpeg_size,
    open_header,
    to_8_bits,
    to_rgb,
    untrusted,
)
from fashion_infer.errors import ImageError

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.generic]

MAX_PIXELS = 64_000_000
MAX_BYTES = 400_000_000

_EXIF_ORIENTATION = 0x0112
_LOCKS = tuple(threading.Lock() for _ in range(61))  # two sources may have one, which only costs time
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, 3),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p),
}


@dataclass(frozen=True)
class Picture:
    """An upright picture, perhaps decoded smaller than it is.

    Attributes:
        pixels: uint8 [h, w, 3] RGB; perhaps the very array that was given, so not to be written to.
        width: of the upright picture as it was given, pixels; `pixels` may be smaller by up to 8 times.
        height: likewise.
    """

    pixels: Pixels
    width: int
    height: int


def read_image(
    source: ImageSource,
    *,
    side: int | None = None,
    boxes: Sequence[ArrayLike] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Picture:
    """Decode a picture to upright RGB.

    JPEG, PNG, WebP, GIF, BMP and TIFF are read, by what the file holds and not by its name. Transparency is composited
    on white, an animation gives its first frame, 16 bits a channel become 8. Colour profiles are not applied. A JPEG
    that libjpeg would only warn about is refused, but not every damage shows: the wrong pixels may be valid code.

    Args:
        source: a path, encoded bytes, a binary file, a PIL image, or an RGB array [H, W, 3] (or [H, W], [H, W, 1],
            [H, W, 4]) of uint8, uint16 (full range) or float in [0, 1].
        side: where given, a JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 of its size at which every box
            still has this many pixels a side.
        boxes: [B, 4] as x1 y1 x2 y2 in pixels of the upright picture; the whole picture when None.
        max_pixels: larger pictures are refused from their header. Pillow's own limit, about 179 million, holds too.
        max_bytes: larger files are refused before they are read.

    Raises:
        ImageError: missing, unreadable, empty, damaged, truncated, too large, or of an unknown kind.
    """
    if isinstance(source, np.ndarray):
        pixels = _from_array(source)
        return Picture(pixels, pixels.shape[1], pixels.shape[0])
    name = str(source) if isinstance(source, str | os.PathLike) else "the image"
    try:
        if isinstance(source, Image.Image):
            with _alone(source):
                return _from_pillow(source, max_pixels)
        with _open(source, max_bytes) as (file, size):
            return _decode(file, size, side, boxes, max_pixels)
    except ImageError as error:
        raise ImageError(f"{name} {error}") from error.__cause__
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than is free: set a lower max_pixels") from error


def read_bytes(source: str | os.PathLike[str] | bytes | BinaryIO, max_bytes: int = MAX_BYTES) -> bytes:
    """The encoded bytes of a path, a file or bytes, never none; a file that can seek is left where it was.

    Raises:
        ImageError: missing, unreadable, empty or above `max_bytes`; its message goes on from the name of the image.
    """
    with _open(source, max_bytes) as (file, _):
        return file.read()


@contextmanager
def _open(source: str | os.PathLike[str] | bytes | BinaryIO, max_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
    """A binary file that can seek, at its start, and its size in bytes. Only what cannot seek is read beforehand."""
    if isinstance(source, bytes):
        file: BinaryIO = io.BytesIO(_checked(source, max_bytes))
        yield file, len(source)
    elif isinstance(source, str | os.PathLike):
        with untrusted("cannot be read"):
            opened = Path(source).open("rb")  # noqa: SIM115 closed below
        with opened:
            with untrusted("cannot be read"):
                facts = os.fstat(opened.fileno())
            if stat.S_ISREG(facts.st_mode):
                yield opened, _checked_size(facts.st_size, max_bytes)
            else:  # a pipe or a device has no size beforehand
                data = _read(opened, max_bytes)
                yield io.BytesIO(data), len(data)
    elif hasattr(source, "read"):
        with _alone(source):
            data = _read(source, max_bytes)
        yield io.BytesIO(data), len(data)
    else:
        raise ImageError(f"is of type {type(source).__name__}: give a path, bytes, a file, a PIL image or an array")


def _alone(source: object) -> threading.Lock:
    """One lock for each source: threads that are given one open file, or one lazy PIL image, take turns."""
    return _LOCKS[id(source) // 16 % len(_LOCKS)]


def _read(file: BinaryIO, max_bytes: int) -> bytes:
    """What is left of a file, read once and at most as far as the limit; its place is kept where it has one."""
    with untrusted("cannot be read"):
        place = file.tell() if hasattr(file, "seekable") and file.seekable() else None
        data = file.read(max_bytes + 1)
        if place is not None:
            file.seek(place)
    if not isinstance(data, bytes):
        raise ImageError(f"gives {type(data).__name__}, not bytes: open the file in binary mode")
    return _checked(data, max_bytes)


def _checked(data: bytes, max_bytes: int) -> bytes:
    _checked_size(len(data), max_bytes)
    return data


def _checked_size(size: int, max_bytes: int) -> int:
    if size > max_bytes:
        raise ImageError(f"has more than {max_bytes} bytes, the limit (max_bytes)")
    if size == 0:
        raise ImageError("is empty")
    return size


def _decode(file: BinaryIO, size: int, side: int | None, boxes: Sequence[ArrayLike] | None, max_pixels: int) -> Picture:
    header = open_header(file, size, max_pixels)
    if header.format not in ("JPEG", "MPO"):
        pixels = decode_other(header, file)
        pixels = _upright(pixels, _orientation(header))
        return Picture(pixels, pixels.shape[1], pixels.shape[0])
    orientation = _orientation(header)
    with untrusted("cannot be read"):
        file.seek(0)
        data = file.read()
    width, height = jpeg_size(data)
    check_size(width, height, max_pixels)
    upright = (width, height) if orientation < 5 else (height, width)
    reduction = _reduction(*upright, side, boxes)
    pixels = _even(decode_jpeg(data, width, height, reduction), width / reduction, height / reduction)
    return Picture(_upright(pixels, orientation), *upright)


def _from_pillow(image: Image.Image, max_pixels: int) -> Picture:
    check_size(image.width, image.height, max_pixels)
    with untrusted():
        image.load()  # only now has a TIFF turned itself upright
    pixels = _upright(to_rgb(image), _orientation(image))
    return Picture(pixels, pixels.shape[1], pixels.shape[0])


def _from_array(array: NDArray[np.generic]) -> Pixels:
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"an array image must be RGB [H, W, 3], [H, W], [H, W, 1] or [H, W, 4], got {array.shape}")
    eight_bits = _to_uint8(array)
    if eight_bits.shape[2:] == (3,):
        return np.ascontiguousarray(eight_bits)
    return to_rgb(Image.fromarray(eight_bits[:, :, 0] if eight_bits.shape[2:] == (1,) else eight_bits))


def _to_uint8(array: NDArray[np.generic]) -> Pixels:
    if array.dtype == np.uint8:
        return np.asarray(array, np.uint8)
    if array.dtype == np.uint16:
        return to_8_bits(np.asarray(array, np.uint16))
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ImageError("a float image must hold values in [0, 1]")
        return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    raise ImageError(f"an array image must be uint8, uint16 or float in [0, 1], got {array.dtype}")


def _reduction(width: int, height: int, side: int | None, boxes: Sequence[ArrayLike] | None) -> int:
    """The largest of 8, 4, 2 and 1 that leaves every box at least `side` pixels a side."""
    if side is None:
        return 1
    try:
        corners = np.asarray([[0, 0, width, height]] if boxes is None else boxes, np.float64).reshape(-1, 4)
    except (TypeError, ValueError, OverflowError):
        return 1  # whoever crops says which box is no box
    corners = np.clip(corners, 0, [width, height, width, height])
    shortest = (corners[:, 2:] - corners[:, :2]).min(initial=min(width, height))
    return next((r for r in (8, 4, 2) if shortest >= r * side), 1)


def _even(pixels: Pixels, width: float, height: float) -> Pixels:
    """Resample a reduced picture of width x height pixels, whose last column and row may be fractions, to whole ones.

    At 1/8, 2001 pixels become 251, the last an eighth full: taken as 251 equal ones they would lie up to 7 pixels off.
    """
    size = round(width), round(height)
    if size == (width, height):
        return pixels
    across, down = width / size[0], height / size[1]
    source = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    even = cv2.warpAffine(pixels, source, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return even.astype(np.uint8, copy=False)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; damaged EXIF and a number outside 2 to 8 are taken as upright, as viewers do."""
    try:
        with untrusted():
            orientation = image.getexif().get(_EXIF_ORIENTATION)
    except ImageError:
        return 1
    return orientation if isinstance(orientation, int) and orientation in _UPRIGHT else 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation."""
    turn = _UPRIGHT.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))
