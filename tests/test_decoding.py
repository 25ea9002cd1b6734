"""Decoding of every kind of pixels, compared with files that these tests write themselves or other decoders read."""

import io
import struct
import subprocess
import sys
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from fashion_infer.decoding import MAX_SCANS
from fashion_infer.errors import ImageError
from fashion_infer.images import read_image

RNG = np.random.default_rng(5)
HEIGHT, WIDTH = 5, 7


def samples(bits: int, channels: int) -> np.ndarray:
    """Random samples [H, W, C] of the whole range, including both of its ends."""
    values = RNG.integers(0, 2**bits, (HEIGHT, WIDTH, channels))
    values[0, 0], values[0, 1] = 0, 2**bits - 1
    return values


def packed(values: np.ndarray, bits: int) -> list[bytes]:
    """Pack each row into bytes, beginning with the highest bit."""
    rows = values.reshape(len(values), -1)
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in rows]
    planes = (rows[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.reshape(-1)).tobytes() for row in planes]


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Blend colours with white by their alpha; both are in [0, 1], the result in 0 to 255."""
    return 255 * (colour * alpha + 1 - alpha)


def assert_reads_as(data: bytes, expected: np.ndarray, tolerance: int = 1) -> None:
    """Check that data is decoded to the expected pixels, within `tolerance` grey levels."""
    pixels = read_image(data).pixels.astype(float)
    assert np.abs(pixels - np.broadcast_to(expected, pixels.shape)).max() <= tolerance


# ---- PNG


def png(rows: list[bytes], bits: int, kind: int, *, transparent: bytes = b"", palette: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, kind, 0, 0, 0)
    optional = (chunk(b"PLTE", palette) if palette else b"") + (chunk(b"tRNS", transparent) if transparent else b"")
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + optional + pixels + chunk(b"IEND", b"")


GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
DEPTHS = [(1, GREY), (2, GREY), (4, GREY), (8, GREY), (16, GREY), (8, RGB), (16, RGB)]


@pytest.mark.parametrize(
    ("bits", "kind"), [*DEPTHS, (8, GREY_ALPHA), (16, GREY_ALPHA), (8, RGB_ALPHA), (16, RGB_ALPHA)]
)
def test_png(bits: int, kind: int) -> None:
    values = samples(bits, {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGB_ALPHA: 4}[kind])
    shares = values / (2**bits - 1)
    expected = on_white(shares[..., :-1], shares[..., -1:]) if kind in (GREY_ALPHA, RGB_ALPHA) else 255 * shares
    assert_reads_as(png(packed(values, bits), bits, kind), expected)


@pytest.mark.parametrize(("bits", "kind"), DEPTHS)
@pytest.mark.parametrize("position", [(0, 0), (0, 1), (2, 3)])
def test_png_with_one_transparent_colour(bits: int, kind: int, position: tuple[int, int]) -> None:
    values = samples(bits, 3 if kind == RGB else 1)
    data = png(packed(values, bits), bits, kind, transparent=values[position].astype(">u2").tobytes())
    alpha = (values != values[position]).any(axis=2, keepdims=True)
    assert not alpha[position]
    assert_reads_as(data, on_white(values / (2**bits - 1), alpha))


@pytest.mark.parametrize("bits", [16])
def test_png_whose_transparent_colour_differs_in_the_low_byte_only(bits: int) -> None:
    values = np.full((HEIGHT, WIDTH, 3), 0x1234)
    values[2, 3] = 0x1235
    data = png(packed(values, bits), bits, RGB, transparent=np.full(3, 0x1235, ">u2").tobytes())
    assert (read_image(data).pixels == 255).all(axis=2).sum() == 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("translucent", [False, True])
def test_png_with_a_palette(bits: int, translucent: bool) -> None:
    values = samples(bits, 1)
    colours, alpha = RNG.integers(0, 256, (2**bits, 3)), RNG.integers(0, 256, (2**bits, 1))
    transparent = alpha.astype(np.uint8).tobytes() if translucent else b""
    data = png(packed(values, bits), bits, PALETTE, transparent=transparent, palette=colours.astype(np.uint8).tobytes())
    share = alpha / 255 if translucent else np.ones_like(alpha)
    assert_reads_as(data, on_white(colours / 255, share)[values[..., 0]])


def test_png_with_a_longer_list_of_transparencies_than_a_palette_has() -> None:
    data = png(packed(samples(8, 1), 8), 8, PALETTE, transparent=b"\0" * 300, palette=bytes(768))
    with pytest.raises(ImageError, match="is damaged or truncated"):
        read_image(data)


# ---- TIFF


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, metadata=None, **options)
    return file.getvalue()


ORDERS, PACKINGS = "<>", (None, "zlib")


@pytest.mark.parametrize(("order", "compression"), list(product(ORDERS, PACKINGS)))
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_grey_tiff(bits: int, photometric: str, order: str, compression: str | None) -> None:
    values = samples(bits, 1)[..., 0].astype({1: bool, 8: np.uint8, 16: np.uint16}[bits])
    data = tiff(values, photometric=photometric, byteorder=order, compression=compression)
    shares = values / (2**bits - 1)
    if (photometric, bits, order) == ("miniswhite", 16, ">"):
        with pytest.raises(ImageError, match="is not an image of a kind read here"):  # Pillow does not know it
            read_image(data)
    else:
        assert_reads_as(data, 255 * (1 - shares if photometric == "miniswhite" else shares)[..., None])


@pytest.mark.parametrize(("order", "compression"), list(product(ORDERS, PACKINGS)))
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [None, "unassalpha", "assocalpha", "unspecified"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_colour_tiff(planes: str, extra: str | None, bits: int, order: str, compression: str | None) -> None:
    kind = {8: np.uint8, 16: np.uint16}[bits]
    values = samples(bits, 3 if extra is None else 4).astype(kind)
    if extra == "assocalpha":
        values[..., :3] = np.minimum(values[..., :3], values[..., 3:])
    shares = values / (2**bits - 1)
    options = {} if extra is None else {"extrasamples": [extra]}
    stored = np.moveaxis(values, 2, 0) if planes == "separate" else values
    data = tiff(stored, photometric="rgb", planarconfig=planes, byteorder=order, compression=compression, **options)
    expected = {
        "unassalpha": lambda: on_white(shares[..., :3], shares[..., 3:]),
        "assocalpha": lambda: 255 * (shares[..., :3] + 1 - shares[..., 3:]),
    }.get(extra or "", lambda: 255 * shares[..., :3])()
    if planes == "separate" and (bits == 16 or (compression is None and extra in ("assocalpha", "unspecified"))):
        with pytest.raises(ImageError, match=r"one after the other|unknown raw mode|is not an image of a kind"):
            read_image(data)
    else:
        assert_reads_as(data, expected, tolerance=2 if extra == "assocalpha" else 1)


# ---- BMP


def bmp(body: bytes, bits: int, *, compression: int = 0, masks: bytes = b"", palette: bytes = b"") -> bytes:
    start = 14 + 40 + len(masks) + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, bits, compression, len(body), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + masks + palette + body


def padded(rows: list[bytes]) -> bytes:
    return b"".join(row + bytes(-len(row) % 4) for row in reversed(rows))  # a BMP begins with the last row


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_bmp_with_a_palette(bits: int) -> None:
    values, colours = samples(bits, 1), RNG.integers(0, 256, (2**bits, 3))
    palette = np.pad(colours[:, ::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
    assert_reads_as(bmp(padded(packed(values, bits)), bits, palette=palette), colours[values[..., 0]])


def test_bmp_of_24_and_32_bits() -> None:
    values = samples(8, 3)
    assert_reads_as(bmp(padded(packed(values[..., ::-1], 8)), 24), values)
    unused = np.pad(values[..., ::-1], ((0, 0), (0, 0), (0, 1)))  # the fourth channel of a BMP is unused
    assert_reads_as(bmp(padded(packed(unused, 8)), 32), values)


@pytest.mark.parametrize(("masks", "sizes"), [(None, (5, 5, 5)), ((0xF800, 0x07E0, 0x001F), (5, 6, 5))])
def test_bmp_of_16_bits(masks: tuple[int, ...] | None, sizes: tuple[int, ...]) -> None:
    values = np.concatenate([samples(bits, 1) for bits in sizes], axis=2)
    words = (values[..., 0] << (sizes[1] + sizes[2])) | (values[..., 1] << sizes[2]) | values[..., 2]
    rows = [row.astype("<u2").tobytes() for row in words]
    optional = struct.pack("<III", *masks) if masks else b""
    data = bmp(padded(rows), 16, compression=3 if masks else 0, masks=optional)
    assert_reads_as(data, 255 * values / (2 ** np.array(sizes) - 1))


# ---- GIF and WebP


@pytest.mark.parametrize("options", [{}, {"interlace": 0}, {"transparency": 3}])
def test_gif_as_another_decoder_reads_it(options: dict[str, Any]) -> None:
    image = Image.fromarray(RNG.integers(0, 8, (40, 30), dtype=np.uint8), "P")
    image.putpalette(RNG.integers(0, 256, 24, dtype=np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "GIF", **options)
    bgra = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED).astype(float) / 255
    alpha = bgra[..., 3:] if bgra.shape[2] == 4 else np.ones((40, 30, 1))
    assert_reads_as(file.getvalue(), on_white(bgra[..., 2::-1], alpha))


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_as_another_decoder_reads_it(mode: str, lossless: bool) -> None:
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (40, 30, len(mode)), dtype=np.uint8)).save(file, "WEBP", lossless=lossless)
    bgra = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED).astype(float) / 255
    alpha = bgra[..., 3:] if bgra.shape[2] == 4 else np.ones((40, 30, 1))
    assert_reads_as(file.getvalue(), on_white(bgra[..., 2::-1], alpha))


# ---- JPEG


def jpeg(width: int = 64, height: int = 48, **options: Any) -> bytes:
    file = io.BytesIO()
    noise = RNG.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((width, height)).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


@pytest.mark.parametrize("side", [None, 8])
def test_a_jpeg_that_is_cut_and_closed_by_an_end_marker_is_refused(side: int | None) -> None:
    data = jpeg(256, 256)
    with pytest.raises(ImageError, match=r"^the image is damaged or truncated: Corrupt JPEG data: premature end"):
        read_image(data[: len(data) // 2] + b"\xff\xd9", side=side)


def test_damage_that_libjpeg_warns_of_is_refused_and_stderr_stays_empty(
    capfd: pytest.CaptureFixture[str],
) -> None:
    data, refused = jpeg(256, 256), 0
    for position in range(len(data) // 2, len(data) - 2, 97):
        try:
            read_image(data[:position] + b"\xff\x41" + data[position + 2 :])
        except ImageError as error:
            assert "damaged" in str(error)
            refused += 1
    assert refused > 10
    assert capfd.readouterr() == ("", "")


def with_scans(data: bytes, count: int) -> bytes:
    """Repeat the last scan of a JPEG `count` more times."""
    start = data.rfind(b"\xff\xda")
    return data[:-2] + data[start:-2] * count + b"\xff\xd9"


def test_a_progressive_jpeg_of_many_scans_is_refused_at_once() -> None:
    data = jpeg(progressive=True)
    assert read_image(data).width == 64
    few = data.count(b"\xff\xda")
    with pytest.raises(ImageError, match=f"is a JPEG of more than {MAX_SCANS} scans"):
        read_image(with_scans(data, MAX_SCANS - few + 1))
    with pytest.raises(ImageError, match="is a JPEG of more than"):
        read_image(with_scans(data, 100_000))


def test_a_sequential_jpeg_of_many_scans_is_refused_at_once() -> None:
    encoder = simplejpeg.encode_jpeg(np.zeros((64, 64, 3), np.uint8), colorsubsampling="444")
    separate = with_one_component_a_scan(encoder)
    assert read_image(separate).width == 64
    with pytest.raises(ImageError, match="is a JPEG of more than"):
        read_image(with_scans(separate, 100_000))


def with_one_component_a_scan(data: bytes) -> bytes:
    """Rewrite a sequential JPEG of one flat colour, 64 x 64 and not subsampled, with a scan for each component.

    Each of a flat component's 64 blocks has the same two codes: that of a zero difference and that of the block's end.
    """
    start = data.rfind(b"\xff\xda")
    scans = b""
    for component, tables in ((1, 0x00), (2, 0x11), (3, 0x11)):
        # codes of the standard tables: luminance 00 (no difference) and 1010 (end of block), chrominance 00 and 00
        block = "001010" if component == 1 else "0000"
        bits = block * 64
        bits += "1" * (-len(bits) % 8)
        entropy = int(bits, 2).to_bytes(len(bits) // 8, "big")
        scans += b"\xff\xda" + bytes([0, 8, 1, component, tables, 0, 63, 0]) + entropy
    return data[:start] + scans + b"\xff\xd9"


def test_scans_outside_the_picture_do_not_count() -> None:
    other = b"\xff\xda" * 1000
    data = jpeg(comment=other) + other
    assert data.count(b"\xff\xda") > 2000
    assert read_image(data).width == 64


@pytest.mark.parametrize(
    ("filling", "message"),
    [
        (b"\xff\xfe\0\2" * 250_000, "made of far too many small parts"),  # comments
        (b"\0" * 1_000_000, "1000000 extraneous bytes before marker"),
        (b"\0" * 20_000_000, "is damaged or truncated"),
    ],
    ids=["comments", "junk", "much junk"],
)
def test_an_endless_header_is_refused_at_once(filling: bytes, message: str) -> None:
    data = jpeg()
    with pytest.raises(ImageError, match=message):
        read_image(data[:20] + filling + data[20:])  # after the first segment


def test_fill_bytes_in_a_header_are_read_quickly() -> None:
    data = jpeg()
    np.testing.assert_array_equal(
        read_image(data[:20] + b"\xff" * 1_000_000 + data[20:]).pixels, read_image(data).pixels
    )


@pytest.mark.parametrize("profile", [b"", bytes(700_000)], ids=["short", "long"])
@pytest.mark.parametrize("place", ["exif", "xmp", "both", "neither"])
def test_the_orientation_of_a_header_of_any_length(place: str, profile: bytes, tmp_path: Path) -> None:
    tags = Image.Exif()
    if place != "xmp":
        tags[0x0112] = 6
    options: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if place in ("exif", "both"):
        options["exif"] = tags
    if place in ("xmp", "both"):  # EXIF comes first
        options["xmp"] = b'<rdf:Description tiff:Orientation="%d"/>' % (8 if place == "xmp" else 3)
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(64, 48, **options))
    turned = {"exif": 3, "both": 3, "xmp": 1, "neither": 0}[place]  # quarters
    picture = read_image(path)
    assert (picture.width, picture.height) == ((48, 64) if turned else (64, 48))
    with Image.open(path) as image:
        np.testing.assert_array_equal(picture.pixels, np.rot90(np.asarray(image), turned))


def test_fill_bytes_in_a_pictures_data_are_read_quickly() -> None:
    data = jpeg(restart_marker_blocks=1)
    position = data.rfind(b"\xff\xd0")
    assert read_image(data[:position] + b"\xff" * 1_000_000 + data[position:]).width == 64


# ---- limits on files


MEASURE = """
import resource, sys
from fashion_infer.errors import ImageError
from fashion_infer.images import read_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_image(sys.argv[1])
except ImageError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("beginning", [b"", b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 ", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("size", [1_000_000_000, 300_000_000])
def test_a_huge_file_is_not_read_before_its_header(beginning: bytes, size: int, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(size)
    run = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
    message, kilobytes = run.stdout.splitlines()
    assert message.startswith(str(path))
    assert int(kilobytes) < 20_000 or (
        beginning.startswith(b"RIFF") and size < 400_000_000
    )  # Pillow reads a WebP file completely


def test_an_endless_device_is_read_to_the_limit_only() -> None:
    with pytest.raises(ImageError, match=r"^/dev/zero has more than 1000 bytes, the limit \(max_bytes\)$"):
        read_image("/dev/zero", max_bytes=1000)


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from fashion_infer.errors import ImageError
from fashion_infer.images import read_image
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 50_000_000,) * 2)
try:
    read_image(sys.argv[1])
except ImageError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_lack_of_memory_is_not_reported_as_damage(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "large"
    Image.new("RGB", (7000, 7000)).save(path, kind)
    run = subprocess.run([sys.executable, "-c", LITTLE_MEMORY, path], capture_output=True, text=True, check=True)
    assert run.stdout == f"{path} needs more memory than is free: set a lower max_pixels\n"


def test_a_palette_that_is_missing() -> None:
    file = io.BytesIO()
    Image.new("P", (4, 4)).save(file, "PNG")
    whole = file.getvalue()
    start = whole.index(b"PLTE") - 4
    length = 12 + int.from_bytes(whole[start : start + 4], "big")
    with pytest.raises(ImageError, match="is damaged or truncated"):
        read_image(whole[:start] + whole[start + length :])
