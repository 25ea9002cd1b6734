import io
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fashion_infer.errors import ImageError
from fashion_infer.images import Picture, Pixels, read_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def gradient(width: int, height: int) -> Pixels:
    """A picture whose red increases to the right and green downwards, so that all orientations differ."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, np.full_like(x, 80)], axis=-1).astype(np.uint8)


def encode(pixels: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: Any) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """Write a PNG of a kind that no installed library writes; `rows` are big-endian samples."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(filtered)) + chunk(b"IEND", b"")


def difference(a: Pixels, b: Pixels) -> float:
    """The mean absolute difference, grey levels."""
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


# ---- where a picture comes from

SOURCES: dict[str, Callable[[Path], Any]] = {
    "str": str,
    "Path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "open file": lambda path: path.open("rb"),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "PIL": lambda path: Image.open(path),
    "ndarray": lambda path: np.array(Image.open(path)),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_gives_the_same_pixels(kind: str, tmp_path: Path) -> None:
    pixels = gradient(31, 17)
    path = tmp_path / "a.png"
    path.write_bytes(encode(pixels))
    source = SOURCES[kind](path)
    picture = read_image(source)
    if hasattr(source, "close"):
        source.close()
    assert picture.pixels.dtype == np.uint8
    assert (picture.width, picture.height) == (31, 17)
    np.testing.assert_array_equal(picture.pixels, pixels)


@pytest.mark.parametrize("source", [3, None, bytearray(b"abc"), [1, 2], io.StringIO("text")])
def test_an_unknown_source_is_named_by_its_type(source: Any) -> None:
    with pytest.raises(ImageError, match=r"^the image (is of type \w+: give a path|gives str, not bytes)"):
        read_image(source)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((4, 5, 3), 200, np.uint8), (200, 200, 200)),
        (np.full((4, 5), 200, np.uint8), (200, 200, 200)),
        (np.full((4, 5, 1), 200, np.uint8), (200, 200, 200)),
        (np.full((4, 5, 4), (255, 0, 0, 255), np.uint8), RED),
        (np.full((4, 5, 4), (255, 0, 0, 0), np.uint8), WHITE),
        (np.full((4, 5, 4), (0, 0, 0, 127), np.uint8), (128, 128, 128)),
        (np.full((4, 5, 3), (0, 32768, 65535), np.uint16), (0, 128, 255)),
        (np.full((4, 5), 65535, np.uint16), WHITE),
        (np.full((4, 5, 1), 257, np.uint16), (1, 1, 1)),
        (np.full((4, 5, 4), (65535, 0, 0, 0), np.uint16), WHITE),
        (np.full((4, 5, 3), (0, 0.5, 1), np.float16), (0, 128, 255)),
        (np.full((4, 5, 3), (0, 0.5, 1), np.float32), (0, 128, 255)),
        (np.full((4, 5, 3), (0, 0.5, 1), np.float64), (0, 128, 255)),
        (np.full((4, 5), 0.2, np.float32), (51, 51, 51)),
        (np.full((4, 5, 4), (1, 0, 0, 0.0), np.float32), WHITE),
        (np.full((8, 10, 3), 7, np.uint8)[::-2, ::2], (7, 7, 7)),
    ],
)
def test_arrays(array: np.ndarray, expected: tuple[int, int, int]) -> None:
    before = array.copy()
    picture = read_image(array)
    assert (picture.width, picture.height) == (5, 4)
    np.testing.assert_array_equal(picture.pixels, np.full((4, 5, 3), expected))
    np.testing.assert_array_equal(array, before)
    assert picture.pixels.flags.c_contiguous


def test_a_suitable_array_is_not_copied() -> None:
    array = np.full((4, 5, 3), 200, np.uint8)
    assert read_image(array).pixels is array


@pytest.mark.parametrize(
    "shape", [(), (5,), (0, 0), (0, 0, 3), (5, 0, 3), (0, 5), (4, 5, 2), (4, 5, 5), (3, 4, 5), (1, 4, 5, 3)]
)
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"must be RGB \[H, W, 3\].*got " + re.escape(str(shape))):
        read_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "int32", "int64", "uint32", "complex64", "O", "U1"])
def test_arrays_of_another_type_are_refused(dtype: str) -> None:
    with pytest.raises(ImageError, match="must be uint8, uint16 or float in"):
        read_image(np.zeros((4, 5, 3), dtype))


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, np.nan, np.inf, -np.inf])
def test_floats_outside_0_to_1_are_refused(value: float) -> None:
    array = np.full((4, 5, 3), 0.5, np.float32)
    array[2, 3, 1] = value
    with pytest.raises(ImageError, match=r"has floats outside \[0, 1\]"):
        read_image(array)


@pytest.mark.parametrize("kind", ["open file", "PIL"])
def test_threads_that_share_one_source_all_get_its_pixels(kind: str, tmp_path: Path) -> None:
    pixels = gradient(400, 300)
    path = tmp_path / "a.png"
    path.write_bytes(encode(pixels, exif=exif(6)))
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            source = SOURCES[kind](path)
            for picture in pool.map(read_image, [source] * 16):
                np.testing.assert_array_equal(picture.pixels, np.rot90(pixels, 3))
            source.close()


# ---- kinds of files


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95}, 2),
        ("JPEG", {"quality": 95, "progressive": True}, 2),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 4),
        ("GIF", {}, 12),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
    ],
)
def test_file_formats(kind: str, options: dict[str, Any], tolerance: float) -> None:
    pixels = gradient(64, 48)
    picture = read_image(encode(pixels, kind, **options))
    assert (picture.width, picture.height) == (64, 48)
    assert difference(picture.pixels, pixels) <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_one_pixel(kind: str) -> None:
    picture = read_image(encode(np.full((1, 1, 3), 200, np.uint8), kind), side=224)
    assert (picture.width, picture.height) == (1, 1)
    assert abs(picture.pixels.astype(int) - 200).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_is_repeated_in_all_channels(kind: str) -> None:
    grey = gradient(64, 48)[..., 0]
    picture = read_image(encode(grey, kind))
    assert (np.ptp(picture.pixels, axis=2) == 0).all()
    assert difference(picture.pixels[..., 0], grey) <= 1


@pytest.mark.parametrize("colour", [RED, GREEN, BLUE, WHITE, (0, 0, 0), (200, 120, 40)])
def test_cmyk_jpeg_has_the_right_colours(colour: tuple[int, int, int]) -> None:
    data = encode(Image.new("RGB", (16, 16), colour).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    picture = read_image(data, side=4)
    assert (picture.width, picture.height) == (16, 16)
    assert difference(picture.pixels, np.full((4, 4, 3), colour, np.uint8)) <= 4


@pytest.mark.parametrize(
    ("colour_type", "sample", "expected"),
    [
        (0, [0x8000], (128, 128, 128)),  # grey
        (0, [0x0100], (1, 1, 1)),
        (2, [0xFFFF, 0x8000, 0x0000], (255, 128, 0)),  # RGB
        (6, [0xFFFF, 0x0000, 0x0000, 0xFFFF], RED),  # RGBA
        (6, [0xFFFF, 0x0000, 0x0000, 0x0000], WHITE),
        (4, [0x4000, 0xFFFF], (64, 64, 64)),  # grey and alpha
        (4, [0x4000, 0x0000], WHITE),
    ],
)
def test_16_bit_png(colour_type: int, sample: list[int], expected: tuple[int, int, int]) -> None:
    row = struct.pack(f">{len(sample)}H", *sample) * 3
    picture = read_image(png(3, 2, 16, colour_type, row * 2))
    assert (picture.width, picture.height) == (3, 2)
    assert abs(picture.pixels.astype(int) - expected).max() <= 1


def test_16_bit_grey_png_is_not_clipped() -> None:
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    picture = read_image(encode(Image.fromarray(grey)))
    np.testing.assert_array_equal(picture.pixels[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("value", [-1, 65536])
def test_32_bit_grey_is_refused_unless_its_values_fit_16_bits(value: int) -> None:
    with pytest.raises(ImageError, match=r"^the image has 32-bit pixels outside 0 to 65535"):
        read_image(Image.fromarray(np.full((4, 4), value, np.int32)))
    assert (read_image(Image.fromarray(np.full((4, 4), 65535, np.int32))).pixels == 255).all()


def test_floating_point_files_are_refused() -> None:
    with pytest.raises(ImageError, match=r"^the image has floating-point pixels: give it as an array"):
        read_image(encode(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))


def palette_with_transparency() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 0
    return image


def with_alpha(mode: str) -> Image.Image:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 255, 0, 255))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *((mode, "PIL") for mode in ("RGBA", "RGBa", "LA", "P")),
        *((mode, "PNG") for mode in ("RGBA", "LA", "P")),
        *((mode, "GIF") for mode in ("RGBA", "P")),
        ("RGBA", "WEBP"),
        ("RGBA", "TIFF"),
    ],
)
def test_transparent_pixels_are_blended_with_white(mode: str, kind: str) -> None:
    image = palette_with_transparency() if mode == "P" else with_alpha(mode)
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    picture = read_image(image if kind == "PIL" else encode(image, kind, **options))
    right = (150, 150, 150) if mode == "LA" else GREEN
    assert abs(picture.pixels[0].astype(int) - [WHITE, right]).max() <= 2


def test_a_palette_with_a_transparency_that_cannot_be_is_an_error() -> None:
    image = palette_with_transparency()
    image.info["transparency"] = (0, 0, 0)  # as Pillow leaves it when it quantizes an RGB picture that has one
    with pytest.raises(ImageError, match="is damaged or truncated"):
        read_image(image)


def test_an_mpo_of_a_phone_gives_its_first_picture() -> None:
    pixels = gradient(64, 48)
    data = encode(pixels, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), BLUE)], quality=95)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert difference(read_image(data).pixels, pixels) <= 2
    assert read_image(data, side=12).pixels.shape == (12, 16, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "HSV", "YCbCr", "I;16"])
def test_a_pillow_image_is_not_modified(mode: str) -> None:
    image = palette_with_transparency() if mode == "P" else Image.new(mode, (3, 2))
    image.getexif()[0x0112] = 6
    before = image.copy()
    assert read_image(image).width == image.height
    assert image == before
    assert mode != "P" or encode(image, "GIF") == encode(before, "GIF")  # Pillow's conversion changes the palette
    assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in (RED, GREEN, BLUE)]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(io.BytesIO(data)), "n_frames", 1) == 3
    np.testing.assert_array_equal(read_image(data).pixels, np.array(frames[0]))


@pytest.mark.parametrize("own_palette", [False, True])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_frame_smaller_than_its_gif_lies_on_the_background(own_palette: bool, transparent: bool) -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 6, 5, 0x80, 1, 0) + bytes([*RED, *GREEN])  # the background is GREEN
    control = b"\x21\xf9\x04\x01\0\0\x01\0" if transparent else b""
    frame = b"," + struct.pack("<HHHHB", 2, 1, 3, 2, 0x80 if own_palette else 0)
    palette = bytes([*BLUE, *RED]) if own_palette else b""
    codes = sum(code << 3 * place for place, code in enumerate((4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 5)))  # 6 zeros
    data = screen + control + frame + palette + b"\x02\x05" + codes.to_bytes(5, "little") + b"\0;"
    expected = np.full((5, 6, 3), (255, 255, 255) if transparent else GREEN)
    expected[1:3, 2:5] = BLUE if own_palette else RED
    np.testing.assert_array_equal(read_image(data).pixels, expected)


# ---- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "PIL"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = encode(gradient(64, 40), "PNG" if kind == "PIL" else kind, exif=exif(orientation), **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    picture = read_image(Image.open(io.BytesIO(data)) if kind == "PIL" else data)
    assert (picture.width, picture.height) == upright.size == ((64, 40) if orientation < 5 else (40, 64))
    assert picture.pixels.flags.c_contiguous
    assert difference(picture.pixels, np.array(upright.convert("RGB"))) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_a_reduced_jpeg(orientation: int) -> None:
    data = encode(gradient(256, 160), "JPEG", quality=95, exif=exif(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    picture = read_image(data, side=40)
    assert (picture.width, picture.height) == upright.size
    assert picture.pixels.shape[:2] == (upright.height // 4, upright.width // 4)
    assert difference(picture.pixels, np.array(upright.reduce(4))) <= 2


@pytest.mark.parametrize("orientation", [0, 9, 99, 65535, (0, 0)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.filterwarnings("ignore:Metadata Warning:UserWarning:PIL")
def test_an_invalid_orientation_counts_as_upright(orientation: Any, kind: str) -> None:
    pixels = gradient(64, 40)
    picture = read_image(encode(pixels, kind, exif=exif(orientation)))
    assert (picture.width, picture.height) == (64, 40)
    assert difference(picture.pixels, pixels) <= 3


GOOD_EXIF = exif(1)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's own "Corrupt EXIF data"
@pytest.mark.parametrize(
    "damaged",
    [
        b"Exif\0\0",
        b"Exif\0\0" + b"\xff" * 30,
        GOOD_EXIF[: len(GOOD_EXIF) // 2],
        GOOD_EXIF[:-3],
        b"Exif\0\0MM\0\x2a\xff\xff\xff\xff",
        b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff\0\x06\0\0" * 3,
        b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x05\0\0\0\x01\0\0\0\x1a\0\0\0\0\0\0\0\0\0\0",
        b"\xff\xd9\xff\xda" * 8,
    ],
    ids=["empty", "noise", "half", "cut", "far offset", "counts", "0/0", "markers"],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_with_damaged_exif_is_read(damaged: bytes, kind: str) -> None:
    pixels = gradient(64, 40)
    picture = read_image(encode(pixels, kind, exif=damaged))
    assert (picture.width, picture.height) == (64, 40)
    assert difference(picture.pixels, pixels) <= 5


# ---- what cannot be read


def one_clear_sentence(message: str, name: str) -> bool:
    return message.startswith(name + " ") and len(message) < 300 and "\n" not in message and message[-1] not in " .:"


def write(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


JPEG = encode(gradient(64, 48), "JPEG", quality=95)
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty.jpg": (b"", "is empty"),
    "text.jpg": (b"this is not a picture at all\n" * 20, "is not an image of a kind read here"),
    "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image of a kind read here"),
    "ppm.jpg": (b"P6 2 2 255 " + bytes(12), "is not an image of a kind read here"),
    "baseline.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "no_end.jpg": (JPEG[:-2], "is truncated: the JPEG ends before its last rows"),
    "half_end.jpg": (JPEG[:-1], "is truncated: the JPEG ends before its last rows"),
    "progressive.jpg": (encode(gradient(64, 48), "JPEG", progressive=True)[:-50], "is truncated: the JPEG ends"),
    "cmyk.jpg": (encode(Image.new("CMYK", (64, 48), (9, 99, 9, 9)), "JPEG")[:-30], "truncated"),
    "cut.png": (encode(gradient(64, 48))[:-40], "truncated"),
    "cut_header.png": (encode(gradient(64, 48))[:10], "or its header is damaged"),
    "cut.gif": (encode(gradient(64, 48), "GIF")[:-900], "truncated"),
    "cut.webp": (encode(gradient(64, 48), "WEBP")[:-40], "truncated"),
    "cut.bmp": (encode(gradient(64, 48), "BMP")[:-900], "truncated"),
    "cut.tiff": (encode(gradient(64, 48), "TIFF")[:-900], "truncated"),
    "checksum.png": (encode(gradient(64, 48)).replace(b"\x08\x02\0\0\0", b"\x08\x02\0\0\1", 1), "header is damaged"),
    "flat.png": (png(0, 1, 8, 2, b""), "or its header is damaged"),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name: str, tmp_path: Path) -> None:
    data, expected = BAD_FILES[name]
    path = write(tmp_path, name, data)
    with pytest.raises(ImageError, match=re.escape(expected)) as caught:
        read_image(path)
    assert one_clear_sentence(str(caught.value), path), str(caught.value)
    with pytest.raises(ImageError, match=re.escape(expected)) as caught:
        read_image(data, side=16)
    assert one_clear_sentence(str(caught.value), "the image"), str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing.jpg", "cannot be read: No such file or directory"),
        ("folder", "cannot be read: Is a directory"),
        ("empty.jpg/a.jpg", "cannot be read: Not a directory"),
        ("a\0b.jpg", "cannot be read: embedded null byte"),
        ("a" * 300 + ".jpg", "cannot be read: File name too long"),
    ],
)
def test_bad_paths(name: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jpg").touch()
    path = f"{tmp_path}/{name}"
    for source in (path, Path(path)):
        with pytest.raises(ImageError) as caught:
            read_image(source)
        assert str(caught.value) == f"{path} {expected}"


def test_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    with pytest.raises(ImageError, match=r"a\.jpg cannot be read: Too many levels of symbolic links$"):
        read_image(tmp_path / "a.jpg")


def test_a_closed_file(tmp_path: Path) -> None:
    with Path(write(tmp_path, "a.jpg", JPEG)).open("rb") as file:
        read_image(file)
        file.seek(0)
    with pytest.raises(ImageError, match=r"^the image cannot be read: .*closed file"):
        read_image(file)


def test_a_jpeg_cut_anywhere_is_refused(tmp_path: Path) -> None:
    for end in [*range(len(JPEG) - 2000, len(JPEG), 97), *range(1, 700)]:
        with pytest.raises(ImageError) as caught:
            read_image(JPEG[: max(end, 1)])
        assert one_clear_sentence(str(caught.value), "the image"), (end, str(caught.value))
        assert "index" not in str(caught.value)


@pytest.mark.parametrize("progressive", [False, True])
def test_the_end_marker_of_a_thumbnail_does_not_end_the_picture(progressive: bool) -> None:
    thumbnail = encode(gradient(16, 12), "JPEG")
    assert thumbnail.endswith(b"\xff\xd9")
    tags = Image.Exif()
    tags[0x0112] = 1
    options = {"exif": tags.tobytes() + thumbnail, "comment": b"\xff\xda", "progressive": progressive}
    data = encode(gradient(64, 48), "JPEG", quality=95, **options)
    assert data.find(thumbnail) > 0
    assert difference(read_image(data).pixels, gradient(64, 48)) <= 2
    with pytest.raises(ImageError, match="is truncated: the JPEG ends before its last rows"):
        read_image(data[:-30])


@pytest.mark.parametrize("trailing", [b"\0", b"\xff\xd9", b"trailing bytes" * 1000, JPEG])
def test_bytes_after_the_end_of_a_jpeg_do_no_harm(trailing: bytes) -> None:
    np.testing.assert_array_equal(read_image(JPEG + trailing).pixels, read_image(JPEG).pixels)


def test_fill_bytes_between_the_segments_of_a_jpeg_do_no_harm() -> None:
    filled = JPEG.replace(b"\xff\xdb", b"\xff\xff\xff\xdb").replace(b"\xff\xda", b"\xff\xff\xda")
    np.testing.assert_array_equal(read_image(filled).pixels, read_image(JPEG).pixels)
    with pytest.raises(ImageError, match="is truncated"):
        read_image(filled[:-30])


# ---- limits


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "PIL"])
def test_the_caller_can_set_max_pixels(kind: str) -> None:
    image = Image.new("RGB", (50, 40))
    source = image if kind == "PIL" else encode(image, kind)
    assert read_image(source, max_pixels=2000).width == 50
    with pytest.raises(ImageError, match=r"^the image has 50 x 40 pixels, above the limit of 1999 \(max_pixels\)$"):
        read_image(source, max_pixels=1999)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header has width x height pixels, with the data of the first ones only."""
    return png(width, height, 8, 2, bytes(height))


@pytest.mark.parametrize(("side", "max_pixels"), [(30_000, 64_000_000), (30_000, 10**9), (9_000, 64_000_000)])
def test_a_decompression_bomb_is_refused_by_its_header(side: int, max_pixels: int, tmp_path: Path) -> None:
    path = write(tmp_path, "bomb.png", bomb(side, side))
    start = time.perf_counter()
    with pytest.raises(ImageError, match=f"above the limit of {max_pixels} ") as caught:
        read_image(path, max_pixels=max_pixels)
    assert time.perf_counter() - start < 1
    assert one_clear_sentence(str(caught.value).rstrip("."), path)


MEASURE = """
import resource, sys
from fashion_infer.errors import ImageError
from fashion_infer.images import read_image
kilobytes = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = kilobytes()
for max_pixels in (64_000_000, 10**9):
    try:
        read_image(sys.argv[1], max_pixels=max_pixels)
    except ImageError as error:
        print(error)
print(kilobytes() - before)
"""


def test_a_decompression_bomb_uses_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path, "bomb.png", bomb(30_000, 30_000))
    run = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    first, second, kilobytes = run.stdout.splitlines()
    assert first.startswith(path)
    assert "Pillow's own" in second
    assert int(kilobytes) < 20_000


# ---- scaled decoding


@cache
def astronaut(width: int, height: int) -> bytes:
    """A photograph, enlarged and saved with the settings of cameras."""
    from skimage import data

    photo = Image.fromarray(data.astronaut()).resize((width, height), Image.Resampling.BICUBIC)
    return encode(photo, "JPEG", quality=95)


def reduction(picture: Picture) -> int:
    return round(picture.width / picture.pixels.shape[1])


@pytest.mark.parametrize(
    ("side", "boxes", "expected"),
    [
        (None, None, 1),
        (75, None, 8),
        (76, None, 4),
        (150, None, 4),
        (151, None, 2),
        (300, None, 2),
        (301, None, 1),
        (9999, None, 1),
        (50, [], 8),
        (50, [[0, 0, 800, 600]], 8),
        (50, [[10, 10, 410, 410]], 8),
        (50, [[10, 10, 410, 409]], 4),
        (50, [[0, 0, 800, 600], [0, 0, 100, 400]], 2),
        (50, [[-500, 0, 100, 400]], 2),  # only the part inside the picture counts
        (50, [[0, 0, 99, 400]], 1),
        (50, np.array([[10.0, 10, 410, 410]], np.float32), 8),
        (50, [[900, 0, 950, 400]], 1),  # outside the picture; `crop` refuses it
    ],
)
def test_a_jpeg_is_decoded_as_small_as_its_boxes_allow(side: int | None, boxes: Any, expected: int) -> None:
    picture = read_image(astronaut(800, 600), side=side, boxes=boxes)
    assert (picture.width, picture.height) == (800, 600)
    assert picture.pixels.shape == (600 // expected, 800 // expected, 3)


@pytest.mark.parametrize(
    "boxes",
    [
        [[1, 2, 3]],
        [[0, 0, 500, 500], [1]],
        ["abcd"],
        [None],
        [[np.nan] * 4],
        [[10**400, 0, 9, 9]],
        [Ellipsis],
    ],
    ids=repr,
)
def test_a_malformed_box_does_not_prevent_reading(boxes: Any) -> None:
    picture = read_image(JPEG, side=4, boxes=boxes)
    assert picture.pixels.shape == (48, 64, 3)


@pytest.mark.parametrize("size", [(2047, 1537), (1793, 1801), (9, 9)])
def test_sizes_that_are_no_multiples_of_eight(size: tuple[int, int]) -> None:
    picture = read_image(encode(gradient(*size), "JPEG"), side=1)
    assert (picture.width, picture.height) == size
    # rounded, not rounded up: no column or row stands for a fraction of a pixel
    assert picture.pixels.shape[:2] == (round(size[1] / 8), round(size[0] / 8))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_other_formats_are_decoded_in_full(kind: str) -> None:
    assert read_image(encode(gradient(64, 48), kind), side=4).pixels.shape == (48, 64, 3)


# ---- any bytes at all

SEEDS = {
    "JPEG": encode(gradient(24, 16), "JPEG", exif=exif(6)),
    "progressive": encode(gradient(24, 16), "JPEG", progressive=True),
    "PNG": encode(gradient(24, 16), "PNG", exif=exif(6)),
    "palette": encode(palette_with_transparency()),
    "GIF": encode(gradient(24, 16), "GIF"),
    "WEBP": encode(gradient(24, 16), "WEBP", exif=exif(6)),
    "TIFF": encode(gradient(24, 16), "TIFF", compression="tiff_lzw"),
    "BMP": encode(gradient(24, 16), "BMP"),
}


def read_or_refuse(data: bytes) -> None:
    try:
        picture = read_image(data, side=4, max_pixels=1_000_000)
    except ImageError as error:
        assert one_clear_sentence(str(error).rstrip(".:"), "the image"), str(error)
    else:
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels.ndim == 3


@given(st.binary(max_size=200))
@example(b"\xff\xd8\xff")
@example(b"\xff\xd8\xff\xda")
@example(b"\x89PNG\r\n\x1a\n")
@example(b"GIF89a")
@settings(max_examples=500, deadline=None)
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    read_or_refuse(data)
    read_or_refuse(b"\xff\xd8\xff\xe0" + data)


@pytest.mark.parametrize("name", SEEDS)
@given(changes=st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_files_are_read_or_refused(name: str, changes: st.DataObject) -> None:
    data = bytearray(SEEDS[name])
    places = st.integers(0, len(data) - 1)
    for place, value in changes.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        data[place] = value
    read_or_refuse(bytes(data))
    read_or_refuse(bytes(data[: changes.draw(places)]))
