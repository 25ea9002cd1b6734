"""Reader of images from any source: it checks the limits, decodes, and applies the EXIF orientation."""

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
    JPEG,
    check_size,
    decode_jpeg,
    decode_other,
    open_header,
    read_jpeg_header,
    to_8_bits,
    to_rgb,
    untrusted,
)
from fashion_infer.decoding import (
    Pixels as Pixels,
)
from fashion_infer.errors import ImageError

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.generic]

MAX_PIXELS = 64_000_000  # default limit for a picture, pixels
MAX_BYTES = 400_000_000  # default limit for a file, bytes
_PIECE = 2**30  # largest number of bytes that are read at once

_EXIF_ORIENTATION = 0x0112
_LOCKS = tuple(threading.Lock() for _ in range(61))  # two sources may share a lock, which only costs time
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
    """An upright picture, which may be decoded at a reduced size.

    Attributes:
        pixels: uint8 [h, w, 3] RGB. Do not modify it: it may be the caller's own array.
        width: full width of the upright picture, pixels; `pixels` may be up to 8 times smaller.
        height: full height of the upright picture, pixels; `pixels` may be up to 8 times smaller.
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

    The formats JPEG, PNG, WebP, GIF, BMP and TIFF are recognised by the file's content, not by its name. Transparent
    pixels are blended with white, an animation gives its first frame, and 16 bits per channel become 8. Colour profiles
    are not applied. A JPEG that libjpeg would only warn about is refused, but not all damage can be detected: damaged
    bytes may still be a valid encoding of other pixels.

    Args:
        source: a path, encoded bytes, a binary file, a PIL image, or an RGB array [H, W, 3] (or [H, W], [H, W, 1],
            [H, W, 4]) of uint8, uint16 (full range) or float in [0, 1].
        side: fewest pixels that each side of every box must keep, so that a JPEG may be decoded at 1/2, 1/4 or 1/8 of
            its size, whichever is the smallest that still fits; None decodes it at full size.
        boxes: [B, 4] as x1 y1 x2 y2 in pixels of the upright picture; None for the whole picture.
        max_pixels: pictures with more pixels are refused, files after their header is read. Pillow's own limit, about
            179 million, applies as well to files other than JPEGs.
        max_bytes: larger files are refused before they are read.

    Raises:
        ImageError: the picture is missing, unreadable, empty, damaged, truncated, too large, or of an unknown format.
    """
    name = path_of(source) or "the image"
    try:
        if isinstance(source, np.ndarray):
            return _from_array(source, max_pixels)
        if isinstance(source, Image.Image):
            with _lock_of(source):
                return _from_pillow(source, max_pixels)
        with _open(source, max_bytes) as (file, size):
            return _decode(file, size, side, boxes, max_pixels)
    except ImageError as error:
        raise ImageError(f"{name} {error}") from error.__cause__
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than is free: set a lower max_pixels") from error


def path_of(source: object) -> str | None:
    """The path that an image source is, as text; None for a source of another kind.

    Raises:
        ImageError: the source is a path-like object that cannot give its path.
    """
    if not isinstance(source, str | os.PathLike):
        return None
    with untrusted("the image has no path"):
        return os.fsdecode(source)


def read_bytes(source: str | os.PathLike[str] | bytes | BinaryIO, max_bytes: int = MAX_BYTES) -> bytes:
    """Read the encoded bytes of an image; a file that can seek keeps its position.

    Args:
        source: a path, a binary file, or the bytes themselves.
        max_bytes: larger files are refused.

    Raises:
        ImageError: the file is missing, unreadable, empty or too large. The message begins with a verb: the caller puts
            the name of the image before it.
    """
    with _open(source, max_bytes) as (file, _):
        return file.read()


@contextmanager
def _open(source: str | os.PathLike[str] | bytes | BinaryIO, max_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
    """Yield a seekable binary file at its start, and its size in bytes; a regular file is not read beforehand."""
    if isinstance(source, bytes):
        file: BinaryIO = io.BytesIO(_checked(source, max_bytes))
        yield file, len(source)
    elif isinstance(source, str | os.PathLike):
        with untrusted("cannot be read"):
            opened = Path(os.fsdecode(source)).open("rb")  # noqa: SIM115 closed below
        with opened:
            with untrusted("cannot be read"):
                status = os.fstat(opened.fileno())
            if stat.S_ISREG(status.st_mode):
                yield opened, _checked_size(status.st_size, max_bytes)
            else:  # the size of a pipe or a device is unknown until it is read
                data = _read(opened, max_bytes)
                yield io.BytesIO(data), len(data)
    elif _is_file(source):
        with _lock_of(source):
            data = _read(source, max_bytes)
        yield io.BytesIO(data), len(data)
    else:
        raise ImageError(f"is of type {type(source).__name__}: give a path, bytes, a file, a PIL image or an array")


def _is_file(source: object) -> bool:
    with untrusted("cannot be read"):  # a proxy object may raise when it is asked for an attribute
        return hasattr(source, "read")


def _lock_of(source: object) -> threading.Lock:
    """The lock of a source, so that threads take turns to read the same open file or to load the same PIL image."""
    return _LOCKS[id(source) // 16 % len(_LOCKS)]


def _read(file: BinaryIO, max_bytes: int) -> bytes:
    """Read the rest of a file once, at most up to the limit; a file that can seek keeps its position."""
    with untrusted("cannot be read"):
        position = file.tell() if hasattr(file, "seekable") and file.seekable() else None
        pieces = list(_pieces(file, max_bytes + 1))
        if position is not None:
            file.seek(position)
    return _checked(b"".join(pieces), max_bytes)


def _pieces(file: BinaryIO, most: int) -> Iterator[bytes]:
    """Read until the end, but at most `most` bytes; one read of a pipe or a socket may give fewer than it is asked."""
    while most > 0 and (piece := file.read(min(most, _PIECE))) != b"":
        if not isinstance(piece, bytes):
            raise ImageError(f"gives {type(piece).__name__}, not bytes: open the file in binary mode")
        most -= len(piece)
        yield piece


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
    with untrusted("cannot be read"):
        is_jpeg = file.read(len(JPEG)) == JPEG
        file.seek(0)
    if is_jpeg:
        return _decode_jpeg(file, side, boxes, max_pixels)
    header = open_header(file, size, max_pixels)
    pixels = decode_other(header, file)
    pixels = _upright(pixels, _orientation(header))
    return Picture(pixels, pixels.shape[1], pixels.shape[0])


def _decode_jpeg(file: BinaryIO, side: int | None, boxes: Sequence[ArrayLike] | None, max_pixels: int) -> Picture:
    header = read_jpeg_header(file, max_pixels)
    orientation = 1
    if header.info:
        image = Image.Image()
        image.info.update(header.info)
        orientation = _orientation(image)
    upright = (header.width, header.height) if orientation < 5 else (header.height, header.width)
    reduction = _reduction(*upright, side, boxes)
    with untrusted("cannot be read"):
        file.seek(0)
        data = file.read()
    pixels = decode_jpeg(data, header, reduction)
    pixels = _whole_pixels(pixels, header.width / reduction, header.height / reduction)
    return Picture(_upright(pixels, orientation), *upright)


def _from_pillow(image: Image.Image, max_pixels: int) -> Picture:
    check_size(image.width, image.height, max_pixels)
    with untrusted():
        image.load()  # Pillow turns a TIFF upright when it loads it
    pixels = _upright(to_rgb(image), _orientation(image))
    return Picture(pixels, pixels.shape[1], pixels.shape[0])


def _from_array(array: NDArray[np.generic], max_pixels: int) -> Picture:
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"must be RGB [H, W, 3], [H, W], [H, W, 1] or [H, W, 4] if it is an array, got {array.shape}")
    height, width = array.shape[:2]
    check_size(width, height, max_pixels)
    eight_bits = _to_uint8(array)
    if eight_bits.shape[2:] == (3,):
        pixels = np.ascontiguousarray(eight_bits)
    else:
        pixels = to_rgb(Image.fromarray(eight_bits[:, :, 0] if eight_bits.shape[2:] == (1,) else eight_bits))
    return Picture(pixels, width, height)


def _to_uint8(array: NDArray[np.generic]) -> Pixels:
    if array.dtype == np.uint8:
        return np.asarray(array, np.uint8)
    if array.dtype == np.uint16:
        return to_8_bits(np.asarray(array, np.uint16))
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ImageError("has floats outside [0, 1]")
        return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    raise ImageError(f"must be uint8, uint16 or float in [0, 1] if it is an array, got {array.dtype}")


def _reduction(width: int, height: int, side: int | None, boxes: Sequence[ArrayLike] | None) -> int:
    """The largest of 8, 4, 2 and 1 by which the picture can be reduced so that every box keeps `side` pixels a side."""
    if side is None:
        return 1
    shortest: float = min(width, height)
    if boxes is not None:
        try:
            corners = np.asarray(boxes, np.float64).reshape(-1, 4)
        except (TypeError, ValueError, OverflowError):
            return 1  # malformed boxes are reported when they are cropped
        corners = np.clip(corners, 0, [width, height, width, height])
        shortest = (corners[:, 2:] - corners[:, :2]).min(initial=shortest)
    return next((r for r in (8, 4, 2) if shortest >= r * side), 1)


def _whole_pixels(pixels: Pixels, width: float, height: float) -> Pixels:
    """Resample a reduced picture whose last column and row stand for a fraction of a pixel, so that all are equal.

    At 1/8, 2001 pixels become 251, and the last one stands for a single pixel. If it counted as a whole one, points
    would be wrong by up to 7 pixels.

    Args:
        pixels: the reduced picture, sides rounded up.
        width: exact width of the reduced picture, such as 2001 / 8.
        height: exact height of the reduced picture.
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
    """The EXIF orientation, 1 to 8; 1 (upright) if the EXIF data is damaged or has another number, as in viewers."""
    try:
        with untrusted():
            orientation = image.getexif().get(_EXIF_ORIENTATION)
    except ImageError:
        return 1
    return orientation if isinstance(orientation, int) and orientation in _UPRIGHT else 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror pixels from an EXIF orientation to the upright one."""
    turn = _UPRIGHT.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))
