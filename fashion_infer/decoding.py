"""Decoding of pictures: the list of formats, the reader of headers with its limits, and the conversion to RGB.

A JPEG's header is read by `read_jpeg_header`, and its picture is decoded by `decode_jpeg`. Files of other formats are
opened by `open_header` and decoded by `decode_other`.
The messages of the ImageErrors begin with a verb: the caller puts the name of the image before them.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fashion_infer.errors import ImageError

Pixels = NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # the first picture of an MPO is a JPEG
_BY_PILLOW = tuple(name for name in FORMATS if name != "JPEG")
JPEG = b"\xff\xd8\xff"  # its first bytes
_BEGINNING = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|GIF8[79]a|BM....\0\0\0\0|II[*+]\0|MM\0[*+]", re.DOTALL
)
MAX_SCANS = 40  # limit for a progressive JPEG: encoders write about 10, and each takes as long as the whole picture
_MAX_SEGMENTS = 10_000  # limit for a JPEG
_FIRST_READ, _LARGEST_HEADER = 2**18, 2**24  # bytes of a JPEG that are read first, and for its header at most
_READS, _BYTES_A_READ = 20_000, 256  # allowed reads, plus one for each 256 bytes: a crafted header might never end

_SCAN, _END, _APP1 = b"\xff\xda", b"\xff\xd9", b"\xff\xe1"
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"  # what an APP1 segment begins with
_SEQUENTIAL = b"\xff\xc0", b"\xff\xc1"  # frames of a JPEG that may hold all components in one scan
# markers of a JPEG that are followed by a length, and the last one
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
# tags of a TIFF, and two of their values
_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANES = 258, 262, 284
_WHITE_IS_ZERO, _PLANES_APART = 0, 2


class _CountedFile:
    """A file that limits the number of reads, against crafted headers that make the parser read many small pieces."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._reads_left = file, _READS + size // _BYTES_A_READ

    def read(self, size: int = -1) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise ImageError("is damaged: it is made of far too many small parts")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def looks_readable(path: str) -> bool:
    """Whether a file begins like one of FORMATS; False if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return _BEGINNING.match(file.read(16)) is not None
    except OSError:
        return False


@contextmanager
def untrusted(fault: str = "is damaged or truncated") -> Iterator[None]:
    """Turn exceptions of a library or of the caller's file object into ImageErrors. Do not run our own code inside.

    Decoders raise nearly any exception for damaged bytes. A MemoryError does not mean damage and passes through.
    """
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        words = " ".join((getattr(error, "strerror", None) or str(error)).split())[:200].rstrip(" .:")
        raise ImageError(f"{fault}: {words or type(error).__name__}") from error


def open_header(file: BinaryIO, size: int, max_pixels: int) -> Image.Image:
    """Read the header of an encoded picture that is no JPEG.

    Args:
        file: a binary, seekable file at its start.
        size: size of the file, bytes.
        max_pixels: larger pictures are refused.

    Returns:
        The picture, not decoded yet; its `format` is one of FORMATS.

    Raises:
        ImageError: it is of no format in FORMATS, its header is damaged, or it is too large.
    """
    try:
        with untrusted():
            header = Image.open(cast(BinaryIO, _CountedFile(file, size)), formats=_BY_PILLOW)
    except ImageError as error:
        cause = error.__cause__
        if isinstance(cause, UnidentifiedImageError):
            kinds = ", ".join(FORMATS)
            raise ImageError(f"is not an image of a kind read here ({kinds}), or its header is damaged") from cause
        if isinstance(cause, Image.DecompressionBombError | Image.DecompressionBombWarning):
            raise ImageError(f"is above the limit of {max_pixels} pixels, or above Pillow's own: {cause}") from cause
        raise
    check_size(header.width, header.height, max_pixels)
    return header


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture of no pixels or of more than `max_pixels`.

    Raises:
        ImageError: it is refused.
    """
    if width * height > max_pixels:
        raise ImageError(f"has {width} x {height} pixels, above the limit of {max_pixels} (max_pixels)")
    if width * height == 0:
        raise ImageError("has no pixels")


@dataclass(frozen=True)
class JpegHeader:
    """What a JPEG says before its first scan.

    Attributes:
        width: width as the decoder sees it, pixels, not turned upright.
        height: height as the decoder sees it, pixels, not turned upright.
        has_one_scan: whether the first scan of a sequential JPEG holds all components, so that libjpeg reads no further
            one. Nearly all photos are like this.
        info: EXIF and XMP data by Pillow's names, "exif" and "xmp".
    """

    width: int
    height: int
    has_one_scan: bool
    info: dict[str, bytes]


def read_jpeg_header(file: BinaryIO, max_pixels: int) -> JpegHeader:
    """Read the header of a JPEG, without Pillow, which is slow right after a run of the network.

    Args:
        file: a binary file at its start, of which only a part is read if it is large.
        max_pixels: larger pictures are refused.

    Raises:
        ImageError: the header is damaged, or the picture is too large.
    """
    with untrusted("cannot be read"):
        data = file.read(_FIRST_READ)
    header = _before_first_scan(data)
    if header is None and len(data) == _FIRST_READ:
        with untrusted("cannot be read"):
            data += file.read(_LARGEST_HEADER - _FIRST_READ)
        header = _before_first_scan(data)
    with untrusted():
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    check_size(width, height, max_pixels)
    has_one_scan, info = header or (False, {})
    return JpegHeader(int(width), int(height), has_one_scan, info)


def _before_first_scan(data: bytes) -> tuple[bool, dict[str, bytes]] | None:
    """`has_one_scan` and `info` of a JpegHeader; None if `data` ends before the first scan."""
    components: bytes | None = None
    info: dict[str, bytes] = {}
    for marker, start in _segments(data):
        if marker == _SCAN:
            return components is not None and data[start + 2 : start + 3] == components, info
        if marker in _SEQUENTIAL:
            components = data[start + 7 : start + 8]
        elif marker == _APP1:
            content = data[start + 2 : start + int.from_bytes(data[start : start + 2], "big")]
            if content.startswith(_EXIF):  # a long one continues in further segments
                info["exif"] = info.get("exif", _EXIF) + content[len(_EXIF) :]
            elif content.startswith(_XMP):
                info["xmp"] = content[len(_XMP) :]
    return None


def decode_jpeg(data: bytes, header: JpegHeader, reduction: int = 1) -> Pixels:
    """Decode a JPEG, also in CMYK. Damage that libjpeg only warns of is an error, because it leaves grey areas.

    Args:
        data: the encoded bytes.
        header: from `read_jpeg_header`.
        reduction: 1, 2, 4 or 8: the picture is decoded this many times smaller, sides rounded up.

    Returns:
        uint8 [H, W, 3] RGB, not turned upright.

    Raises:
        ImageError: truncated, damaged, or of more than MAX_SCANS scans.
    """
    if not header.has_one_scan:
        _check_scans(data)
    smallest = {"min_width": -(-header.width // reduction), "min_height": -(-header.height // reduction)}
    try:
        with untrusted():
            return cast(Pixels, simplejpeg.decode_jpeg(data, "RGB", **(smallest if reduction > 1 else {})))
    except ImageError as error:
        if "Premature end of JPEG file" in str(error):
            raise ImageError("is truncated: the JPEG ends before its last rows") from error.__cause__
        raise


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG with too many scans, because the decoder processes the whole picture for each."""
    if data.count(_SCAN) <= MAX_SCANS:
        return
    scans = 0  # an exact count: the one above includes the scans of thumbnails
    for marker, _ in _segments(data):
        scans += marker == _SCAN
        if scans > MAX_SCANS:
            raise ImageError(f"is a JPEG of more than {MAX_SCANS} scans")


def _segments(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the marker of each segment of a JPEG that has a length, and the position of the length.

    Raises:
        ImageError: there are too many segments.
    """
    position = 2
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(data, position)
        if marker is None or marker[0] == _END:
            return
        yield marker[0], marker.end()
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    raise ImageError("is damaged: it is made of far too many small parts")


def decode_other(image: Image.Image, file: BinaryIO) -> Pixels:
    """Decode a picture of another format than JPEG.

    Args:
        image: from `open_header`.
        file: the file that it was opened from.

    Returns:
        uint8 [H, W, 3] RGB, not turned upright unless it is a TIFF.

    Raises:
        ImageError: the picture is damaged or truncated, or its pixels have no unique meaning in RGB.
    """
    layout = _layout(image)
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if image.mode in ("RGB", "RGBA") and 16 in tags.get(_BITS_PER_SAMPLE, ()) and tags.get(_PLANES) == _PLANES_APART:
        raise ImageError("has its channels of 16 bits one after the other: save it with interleaved channels")
    tiles = getattr(image, "tile", None)
    frame = tiles[0][1] if image.format == "GIF" and tiles else None  # Pillow forgets it when it loads
    with untrusted():
        image.load()
    if frame is not None:
        return _on_background(image, to_rgb(image), frame)
    if image.format in ("PNG", "TIFF") and image.mode in ("RGB", "RGBA") and ";16" in layout:
        return _colour_of_16_bits(file, layout)
    if image.format == "PNG" and layout in ("L;2", "L;4") and "transparency" in image.info:
        # Pillow scales the samples to 0 to 255, but not the transparent value
        image.info["transparency"] *= 85 if layout == "L;2" else 17
    if image.format == "TIFF" and image.mode.startswith("I;16"):
        return _grey_of_tiff(image, layout, white_is_zero=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
    if image.format == "TIFF" and image.mode == "I":
        raise ImageError("has pixels of 32 bits, or of 16 with a sign: give it as an array")
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Pixels:
    """The pixels of a decoded Pillow image, transparency on white.

    Raises:
        ImageError: floating-point pixels, integers beyond 16 bits, or LAB.
    """
    if image.mode == "F":
        raise ImageError("has floating-point pixels: give it as an array in [0, 1]")
    if image.mode == "LAB":
        raise ImageError("has LAB pixels: convert it to RGB")
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise ImageError("has 32-bit pixels outside 0 to 65535: give it as an array")
        pixels = spread(to_8_bits(grey.astype(np.uint16)))
        if "transparency" in image.info:
            pixels[grey == image.info["transparency"]] = 255
        return pixels
    with untrusted():  # the palette or its transparency may be missing or damaged
        if image.has_transparency_data:
            image = _palette_on_white(image) if image.mode == "P" else _on_white(image)
        return np.array(image.convert("RGB"))


def _on_white(image: Image.Image) -> Image.Image:
    """A picture with transparency, drawn on white."""
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))


def _palette_on_white(image: Image.Image) -> Image.Image:
    """A picture with a palette, of which only the 256 colours are drawn on white; for all pixels it would take long."""
    colours = image.crop((0, 0, 256, 1))
    colours.putdata(range(256))
    opaque = image.copy()
    opaque.putpalette(_on_white(colours).convert("RGB").tobytes())
    opaque.info.pop("transparency", None)
    return opaque


def _on_background(image: Any, pixels: Pixels, frame: Sequence[int]) -> Pixels:
    """Fill the area outside a GIF's first frame with the background's colour, or with white if it is transparent.

    Pillow fills it with the first colour of the frame's own palette.
    """
    left, top, right, bottom = frame
    background, palette = image.info.get("background"), image.global_palette
    colour = [255, 255, 255]
    if background is not None and "transparency" not in image.info:
        # Pillow keeps no palette that only lists the grey levels
        colour = [background] * 3 if palette is None else list(palette.getdata()[1][3 * background :][:3])
    if len(colour) == 3:  # otherwise the palette lacks the background
        row = np.tile(np.array(colour, np.uint8), (pixels.shape[1], 1))  # whole rows are copied much faster
        pixels[:top] = pixels[bottom:] = row
        pixels[:, :left], pixels[:, right:] = row[:left], row[right:]
    return pixels


def to_8_bits(values: NDArray[np.uint16]) -> Pixels:
    """Scale 0 to 65535 to 0 to 255, rounded."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def spread(grey: Pixels) -> Pixels:
    """Repeat a grey picture [H, W] as RGB [H, W, 3]."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def _layout(image: Image.Image) -> str:
    """Pillow's name of the layout of samples in the file, such as "RGB;16B"; it is lost when the picture is loaded."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    words = arguments if isinstance(arguments, tuple) else (arguments,)
    return next((word for word in words if isinstance(word, str)), "")


def _colour_of_16_bits(file: BinaryIO, layout: str) -> Pixels:
    """Decode a PNG or TIFF with 16 bits per channel, of which Pillow would drop the lower 8."""
    file.seek(0)
    with untrusted():
        values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.shape[2:] not in ((3,), (4,)):
        raise ImageError("is damaged")
    if values.shape[2] == 3 or layout.startswith("RGBX"):  # a fourth channel is not alpha
        return to_8_bits(np.asarray(values[:, :, 2::-1], np.uint16))
    alpha = values[:, :, 3].astype(np.float32) / 0xFFFF
    pixels = np.empty((*alpha.shape, 3), np.uint8)
    for channel in range(3):
        colour = values[:, :, 2 - channel].astype(np.float32)
        if not layout.startswith("RGBa"):  # RGBa: the colours are already multiplied by alpha
            colour *= alpha
        pixels[:, :, channel] = np.rint((colour / 0xFFFF + (1 - alpha)).clip(0, 1) * 255)
    return pixels


def _grey_of_tiff(image: Image.Image, layout: str, white_is_zero: bool) -> Pixels:
    grey = np.asarray(image).astype(np.uint16)
    if layout == "I;12":
        grey = (grey << 4 | grey >> 8).astype(np.uint16)
    pixels = spread(to_8_bits(grey))
    return 255 - pixels if white_is_zero else pixels
