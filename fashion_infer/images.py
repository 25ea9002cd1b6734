"""Any kind of picture in, upright RGB pixels out: limits checked on the header, EXIF orientation applied."""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, UnidentifiedImageError

from fashion_infer.errors import ImageError

Pixels = NDArray[np.uint8]
ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.generic]

MAX_PIXELS = 64_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

_EXIF_ORIENTATION = 0x0112
_REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}
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
) -> Picture:
    """Decode a picture to upright RGB.

    Transparency is composited on white, an animation gives its first frame, 16 bits a channel become 8. Colour
    profiles are not applied.

    Args:
        source: a path, encoded bytes, a binary file, a PIL image, or an RGB array [H, W, 3] (or [H, W], [H, W, 1],
            [H, W, 4]) of uint8, uint16 (full range) or float in [0, 1].
        side: where given, a JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 of its size at which every box
            still has this many pixels a side.
        boxes: [B, 4] as x1 y1 x2 y2 in pixels of the upright picture; the whole picture when None.
        max_pixels: larger pictures are refused from their header. Pillow's own limit, about 179 million, holds too.

    Raises:
        ImageError: missing, unreadable, empty, damaged, truncated, too large, or of an unknown kind.
    """
    if isinstance(source, np.ndarray):
        pixels = _from_array(source)
        return Picture(pixels, pixels.shape[1], pixels.shape[0])
    name = str(source) if isinstance(source, str | os.PathLike) else "the image"
    try:
        if isinstance(source, Image.Image):
            return _from_pillow(source, max_pixels)
        return _from_bytes(read_bytes(source), side, boxes, max_pixels)
    except ImageError as error:
        raise ImageError(f"{name} {error}") from error.__cause__
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name} is above the limit of {max_pixels} pixels, or above Pillow's own: {error}") from error
    except Exception as error:  # decoders meet untrusted bytes and raise nearly anything on them
        raise ImageError(f"{name} is damaged or truncated: {str(error).strip()}") from error


def read_bytes(source: str | os.PathLike[str] | bytes | BinaryIO) -> bytes:
    """The encoded bytes of a path, a file or bytes, never none.

    Raises:
        ImageError: missing, unreadable or empty; its message goes on from the name of the image.
    """
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str | os.PathLike) or hasattr(source, "read"):
        try:
            data = Path(source).read_bytes() if isinstance(source, str | os.PathLike) else source.read()
        except (OSError, ValueError) as error:  # ValueError: a path with a null byte, a closed file
            raise ImageError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    else:
        raise ImageError(f"is of type {type(source).__name__}: give a path, bytes, a file, a PIL image or an array")
    if not isinstance(data, bytes):
        raise ImageError(f"gives {type(data).__name__}, not bytes: open the file in binary mode")
    if not data:
        raise ImageError("is empty")
    return data


def expand_paths(inputs: Sequence[str]) -> list[str]:
    """Files as they are, the pictures below each folder and the matches of each glob pattern, sorted."""
    paths: list[str] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = [str(p) for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()]
        elif any(c in given for c in "*?[") and not path.exists():
            anchor = Path(path.anchor)
            try:
                found = [str(p) for p in anchor.glob(str(path.relative_to(anchor))) if p.is_file()]
            except ValueError as error:
                raise ImageError(f"{given} is not a pattern: {error}") from error
        else:
            found = [given]
        if not found:
            raise ImageError(f"{given} holds no images ({', '.join(SUFFIXES)})")
        paths += sorted(found)
    return paths


def _from_bytes(data: bytes, side: int | None, boxes: Sequence[ArrayLike] | None, max_pixels: int) -> Picture:
    try:
        header = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise ImageError(f"is not an image of a kind read here ({kinds}), or its header is damaged") from error
    if header.format not in ("JPEG", "MPO") or header.mode not in ("RGB", "L"):
        return _from_pillow(header, max_pixels)
    _check_size(header, max_pixels)
    _check_complete(data)
    orientation = _orientation(header)
    width, height = header.size if orientation < 5 else header.size[::-1]
    reduction = _reduction(width, height, side, boxes)
    flags = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if decoded is None:
        raise ImageError("is damaged")
    pixels = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    pixels = _even(pixels, header.width / reduction, header.height / reduction)
    return Picture(_upright(pixels, orientation), width, height)


def _from_pillow(image: Image.Image, max_pixels: int) -> Picture:
    _check_size(image, max_pixels)
    image.load()  # only now has a TIFF turned itself upright
    if image.mode.startswith("I"):  # greyscale of 16 bits, which Pillow's own conversion clips at 255
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise ImageError("has 32-bit pixels outside 0 to 65535: give it as an array")
        pixels = _from_array(grey.astype(np.uint16))
    elif image.mode == "F":
        raise ImageError("has floating-point pixels: give it as an array in [0, 1]")
    else:
        pixels = _on_white(image)
    pixels = _upright(pixels, _orientation(image))
    return Picture(pixels, pixels.shape[1], pixels.shape[0])


def _from_array(array: NDArray[np.generic]) -> Pixels:
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(f"an array image must be RGB [H, W, 3], [H, W], [H, W, 1] or [H, W, 4], got {array.shape}")
    eight_bits = _to_uint8(array)
    if eight_bits.shape[2:] == (3,):
        return np.ascontiguousarray(eight_bits)
    return _on_white(Image.fromarray(eight_bits[:, :, 0] if eight_bits.shape[2:] == (1,) else eight_bits))


def _to_uint8(array: NDArray[np.generic]) -> Pixels:
    if array.dtype == np.uint8:
        return np.asarray(array, np.uint8)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ImageError("a float image must hold values in [0, 1]")
        return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    raise ImageError(f"an array image must be uint8, uint16 or float in [0, 1], got {array.dtype}")


def _on_white(image: Image.Image) -> Pixels:
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.copy().convert("RGBA"))  # a copy: it may spoil the palette
    return np.array(image.convert("RGB"))


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise ImageError(f"has {image.width} x {image.height} pixels, above the limit of {max_pixels} (max_pixels)")
    if image.width * image.height == 0:
        raise ImageError("has no pixels")


def _check_complete(data: bytes) -> None:
    """Refuse a JPEG without an end-of-image marker after its first scan: cv2 would fill the rest with grey."""
    position = data.find(b"\xff", 2)
    while position >= 0 and (marker := data[position + 1 : position + 2]) != b"\xda":
        # walk the header's segments, so that a thumbnail's markers are passed over; fill bytes have no length
        filling = marker in (b"", b"\x00", b"\xff")
        position += 1 if filling else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        position = data.find(b"\xff", position)
    if position < 0 or data.rfind(b"\xff\xd9", position) < 0:
        raise ImageError("is truncated: the JPEG ends before its last rows")


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
        orientation = image.getexif().get(_EXIF_ORIENTATION)
        return orientation if orientation in _UPRIGHT else 1
    except Exception:  # Pillow's reader raises nearly anything on damaged EXIF
        return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation."""
    turn = _UPRIGHT.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))
