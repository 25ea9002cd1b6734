import io
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fashion_infer.errors import ImageError
from fashion_infer.images import Picture, Pixels, read_image
from fashion_infer.preprocess import Crop, crop, resize


def picture(width: int, height: int, reduction: int = 1) -> Picture:
    """A picture whose red and green values are the column and the row of each pixel."""
    x, y = np.meshgrid(np.arange(0, width, reduction), np.arange(0, height, reduction))
    pixels = np.stack([x % 256, y % 256, x // 256 + 16 * (y // 256)], axis=-1).astype(np.uint8)
    return Picture(pixels, width, height)


def smooth(width: int, height: int) -> Pixels:
    """A picture whose red increases linearly from 0 to 255 from left to right, and whose green does so downwards."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return np.rint(np.stack([x, y, 0 * x], axis=-1) * 255).astype(np.uint8)


# ---- geometry

coordinate = st.floats(-1000, 1000)
length = st.floats(0.01, 1000)
points = st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=8).map(np.array)


@given(points, st.tuples(coordinate, coordinate), st.tuples(length, length))
def test_to_image_and_from_image_are_inverse(
    relative: np.ndarray, origin: tuple[float, float], size: tuple[float, float]
) -> None:
    cut = Crop(np.zeros((2, 2, 3), np.uint8), origin, size)
    there = cut.to_image(relative)
    np.testing.assert_allclose(cut.from_image(there), relative, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(cut.to_image(cut.from_image(relative)), relative, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (8, 2), (3, 8, 2), (0, 2)])
def test_points_of_any_leading_shape(shape: tuple[int, ...]) -> None:
    cut = Crop(np.zeros((2, 2, 3), np.uint8), (10.0, 20.0), (30.0, 40.0))
    relative = np.full(shape, 0.5, np.float32)
    assert cut.to_image(relative).shape == shape
    assert (cut.to_image(relative) == [25, 40]).all()
    assert (relative == 0.5).all()


def test_the_corners_of_a_crop_are_those_of_its_box() -> None:
    cut = crop(picture(200, 100), [20, 10, 120, 60], 32)
    assert cut.to_image(np.array([[0, 0], [1, 1], [0.5, 0.5]])).tolist() == [[20, 10], [120, 60], [70, 35]]


@st.composite
def boxes_in_pictures(draw: st.DrawFn) -> tuple[int, int, list[float]]:
    width, height = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    x1, x2 = sorted(draw(st.tuples(st.floats(-20, 90), st.floats(-20, 90))))
    y1, y2 = sorted(draw(st.tuples(st.floats(-20, 90), st.floats(-20, 90))))
    return width, height, [x1, y1, x2, y2]


@given(boxes_in_pictures(), st.integers(1, 9), st.sampled_from([1, 2, 4, 8]))
def test_any_box_is_cropped_inside_the_picture_or_refused(
    case: tuple[int, int, list[float]], size: int, reduction: int
) -> None:
    width, height, box = case
    x1, y1, x2, y2 = np.clip(box, 0, [width, height, width, height])
    try:
        cut = crop(picture(width, height, reduction), box, size)
    except ImageError:
        assert x2 - x1 < min(2, width) or y2 - y1 < min(2, height)
        return
    assert cut.pixels.shape == (size, size, 3)
    assert cut.pixels.flags.c_contiguous
    left, top = cut.origin
    right, bottom = left + cut.size[0], top + cut.size[1]
    cell = reduction + 1e-3  # the crop adds at most one decoded pixel on each side
    assert x1 - cell < left <= x1 + 1e-3 * width
    assert y1 - cell < top <= y1 + 1e-3 * height
    assert x2 - 1e-3 * width <= right < x2 + cell or cut.size[0] < cell
    assert y2 - 1e-3 * height <= bottom < y2 + cell or cut.size[1] < cell
    assert -1e-9 <= left < right <= width + 1e-6
    assert -1e-9 <= top < bottom <= height + 1e-6


def test_origin_and_size_are_plain_floats() -> None:
    cut = crop(picture(30, 20, 2), [1, 2, 17, 18], 8)
    assert {type(value) for value in (*cut.origin, *cut.size)} == {float}


# ---- which pixels


def test_a_box_of_the_networks_size_is_not_resized() -> None:
    whole = picture(300, 280)
    cut = crop(whole, [7, 11, 7 + 224, 11 + 224], 224)
    np.testing.assert_array_equal(cut.pixels, whole.pixels[11:235, 7:231])
    assert (cut.origin, cut.size) == ((7, 11), (224, 224))


def test_no_box_means_the_whole_picture() -> None:
    whole = picture(30, 20)
    cut, same = crop(whole, None, 8), crop(whole, [0, 0, 30, 20], 8)
    np.testing.assert_array_equal(cut.pixels, same.pixels)
    assert (cut.origin, cut.size) == (same.origin, same.size) == ((0, 0), (30, 20))


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda b: np.array(b, np.float32), lambda b: np.array(b, int)])
def test_kinds_of_boxes(kind: Any) -> None:
    assert crop(picture(30, 20), kind([2, 4, 12, 14]), 8).origin == (2, 4)


@pytest.mark.parametrize(
    ("box", "origin", "size"),
    [
        ([-10, -10, 10, 10], (0, 0), (10, 10)),
        ([20, 15, 99, 99], (20, 15), (10, 5)),
        ([-1e9, -1e9, 1e9, 1e9], (0, 0), (30, 20)),
        ([2.5, 3.5, 4.5, 5.5], (2, 3), (3, 3)),  # rounded outwards
        ([3, 4, 5, 6], (3, 4), (2, 2)),
        ([28, 18, 30, 20], (28, 18), (2, 2)),
        ([3.2, 4.2, 5.2, 6.2], (3, 4), (3, 3)),
        ([28, 0, 99, 20], (28, 0), (2, 20)),
    ],
)
def test_boxes_are_clipped_and_rounded_outwards(box: list[float], origin: Any, size: Any) -> None:
    cut = crop(picture(30, 20), box, 4)
    assert (cut.origin, cut.size) == (origin, size)


@pytest.mark.parametrize(
    "box", [[0.2, 0.1, 0.9, 0.8], [0, 0, 1, 1], [3, 4, 4, 9], [3, 4, 9, 5.9], [-50, 2, 1, 9], [29, 0, 99, 20]]
)
def test_a_box_of_less_than_two_pixels_is_refused_with_a_hint(box: list[float]) -> None:
    with pytest.raises(ImageError, match=r"covers less than 2 pixels a side of the 30 x 20 image: .* not shares of it"):
        crop(picture(30, 20), box, 4)


def test_the_whole_of_a_picture_one_pixel_wide_is_accepted() -> None:
    assert crop(picture(1, 20), [0, 0, 1, 20], 4).size == (1, 20)


@pytest.mark.parametrize(
    "box",
    [
        [30, 0, 40, 20],
        [-10, 0, 0, 20],
        [0, 20, 30, 40],
        [0, -5, 30, -1],
        [5, 5, 5, 10],
        [5, 5, 10, 5],
        [10, 5, 5, 10],
        [5, 10, 10, 5],
        [0, 0, 0, 0],
    ],
)
def test_boxes_without_area_inside_are_refused(box: list[float]) -> None:
    with pytest.raises(ImageError, match=r"^the box \[.*\] has no area inside the 30 x 20 image$"):
        crop(picture(30, 20), box, 4)


@pytest.mark.parametrize(
    "box",
    [
        [],
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [[1, 2], [3, 4]],
        [[1, 2, 3, 4]],
        [1, 2, 3, [4]],
        5,
        "1234",
        "abcd",
        ["a", "b", "c", "d"],
        [0, 0, 10, float("nan")],
        [0, 0, float("inf"), 10],
        [0, float("-inf"), 10, 10],
        [0, 0, 10, None],
        [0, 0, 10, 10**400],
        [0, 0, 10, 1j],
        {"x1": 0},
        Ellipsis,
    ],
    ids=repr,
)
def test_malformed_boxes_are_refused(box: Any) -> None:
    with pytest.raises(ImageError, match=r"^a box must be four (finite )?numbers x1 y1 x2 y2, got "):
        crop(picture(30, 20), box, 4)


def test_the_picture_and_the_box_are_not_modified() -> None:
    whole = picture(40, 30)
    before, box = whole.pixels.copy(), np.array([-5.0, 3, 17, 99])
    for size in (4, 22, 64):
        crop(whole, box, size)
    np.testing.assert_array_equal(whole.pixels, before)
    assert box.tolist() == [-5, 3, 17, 99]


# ---- reduced pictures


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_geometry_is_exact_on_a_reduced_picture(reduction: int) -> None:
    whole = picture(800, 640, reduction)
    cut = crop(whole, [160, 320, 480, 480], 16)
    assert (cut.origin, cut.size) == ((160, 320), (320, 160))
    corner = crop(whole, [160, 320, 160 + 2 * reduction, 320 + 2 * reduction], 2)
    assert corner.pixels[0, 0].tolist() == [160, 320 % 256, 16]


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_box_between_decoded_pixels_is_rounded_outwards(reduction: int) -> None:
    cut = crop(picture(800, 640, reduction), [161, 321, 479, 479], 16)
    assert (cut.origin, cut.size) == ((160, 320), (320, 160))


@pytest.mark.parametrize(("width", "height"), [(1600, 1200), (1601, 1207), (1799, 1795)])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_landmark_of_a_reduced_jpeg_maps_back_to_its_position(width: int, height: int, orientation: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[300:316, 1000:1016] = 255
    upright = Image.fromarray(pixels)
    stored = {1: upright, 3: upright.rotate(180), 6: upright.rotate(90, expand=True)}[orientation]
    tags = Image.Exif()
    tags[0x0112] = orientation
    file = io.BytesIO()
    stored.save(file, "JPEG", quality=95, exif=tags)
    reduced = read_image(file.getvalue(), side=150)
    assert (reduced.width, reduced.height) == (width, height)
    assert reduced.pixels.shape[1] < width / 7
    cut = crop(reduced, [900, 200, 1200, 500], 150)
    y, x = np.argwhere(cut.pixels[..., 0] > 128).mean(axis=0) + 0.5
    mapped = cut.to_image(np.array([x, y]) / 150)
    assert abs(mapped - [1008, 308]).max() < 2  # a quarter of a decoded pixel


# ---- resizing


@pytest.mark.parametrize(("width", "height"), [(448, 112), (112, 448), (500, 100), (224, 100), (1, 500), (500, 1)])
def test_one_axis_may_shrink_while_the_other_grows(width: int, height: int) -> None:
    resized = resize(smooth(width, height), 224)
    assert resized.shape == (224, 224, 3)
    assert resized.dtype == np.uint8
    expected = smooth(224, 224).astype(int)
    tolerance = [255 / min(n, 224) + 1 if n > 1 else 128 for n in (width, height)]
    assert (abs(resized - expected).max(axis=(0, 1))[:2] <= tolerance).all()


@pytest.mark.parametrize("size", [1, 7, 64, 224])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 224), (224, 3), (300, 301)])
def test_a_flat_colour_does_not_change(size: int, width: int, height: int) -> None:
    flat = np.full((height, width, 3), (10, 100, 200), np.uint8)
    np.testing.assert_array_equal(resize(flat, size), np.full((size, size, 3), (10, 100, 200)))


def test_shrinking_averages_every_pixel() -> None:
    checkers = (np.indices((672, 672)).sum(axis=0) % 2 * 255).astype(np.uint8)
    resized = resize(np.repeat(checkers[..., None], 3, axis=2), 224)
    assert (
        abs(resized.astype(int) - 128).max() < 20
    )  # nearest or bilinear interpolation without averaging would give 0 and 255


@pytest.mark.parametrize(("width", "height"), [(300, 200), (224, 224), (1000, 900), (60, 50), (640, 120)])
def test_the_centre_of_a_crop_maps_back_to_the_right_pixel(width: int, height: int) -> None:
    whole = Picture(smooth(width, height), width, height)
    x1, y1, x2, y2 = width // 10, height // 5, width - width // 4, height - height // 8
    cut = crop(whole, [x1, y1, x2, y2], 64)
    colour = cut.pixels[31:33, 31:33, :2].reshape(-1, 2).mean(axis=0)  # the four pixels around the centre
    coloured = colour / 255 * [width, height]  # the position that the colour stands for, pixels
    mapped = cut.to_image(np.array([0.5, 0.5]))
    assert mapped.tolist() == [(x1 + x2) / 2, (y1 + y2) / 2]
    level = np.array([width, height]) / 255  # pixels that one grey level stands for
    assert (abs(coloured - mapped) <= np.maximum(0.5, level)).all()


@cache
def photograph(width: int, height: int) -> bytes:
    from skimage import data

    file = io.BytesIO()
    photo = Image.fromarray(data.astronaut()).resize((width, height), Image.Resampling.BICUBIC)
    photo.save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "box", "reduced"),
    [
        (512, 512, None, 2),
        (700, 900, None, 2),
        (2048, 2048, None, 8),
        (2001, 1803, None, 8),  # 250.1 x 225.4 pixels at 1/8
        (1793, 1799, None, 8),
        (3001, 2399, None, 8),
        (1500, 2000, [200.0, 300.0, 1300.0, 1900.0], 4),
        (1500, 2000, [203.0, 301.0, 803.0, 1111.0], 2),
        (1500, 2000, [203.0, 301.0, 403.0, 511.0], 1),
    ],
)
def test_a_photograph_is_resized_nearly_as_by_pillow(
    width: int, height: int, box: list[float] | None, reduced: int
) -> None:
    data = photograph(width, height)
    picture = read_image(data, side=224, boxes=None if box is None else [box])
    assert picture.pixels.shape == (round(height / reduced), round(width / reduced), 3)
    cut = crop(picture, box, 224)
    full = Image.open(io.BytesIO(data)).convert("RGB")
    if box is not None:
        full = full.crop(tuple(round(v) for v in box))  # type: ignore[arg-type]
    expected = np.array(full.resize((224, 224), Image.Resampling.BILINEAR, reducing_gap=None))
    assert np.abs(cut.pixels.astype(int) - expected.astype(int)).mean() <= 3


@pytest.mark.parametrize("name", ["rocket", "chelsea", "coffee", "hubble_deep_field"])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7, 3.0])
def test_photographs_of_many_kinds_are_resized_nearly_as_by_pillow(name: str, scale: float) -> None:
    from skimage import data

    photo = Image.fromarray(getattr(data, name)())
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=90)
    cut = crop(read_image(file.getvalue(), side=224), None, 224)
    expected = np.array(Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(cut.pixels.astype(int) - expected.astype(int)).mean() <= 3


@pytest.mark.parametrize(("width", "height"), [(240, 320), (306, 408), (375, 500), (447, 596)])
def test_the_fast_shrinking_differs_by_less_than_a_grey_level_from_area_averaging(width: int, height: int) -> None:
    from skimage import data

    for name in ("astronaut", "chelsea", "coffee"):
        photo = Image.fromarray(getattr(data, name)()).resize((width, height), Image.Resampling.LANCZOS)
        fast = resize(np.asarray(photo), 224).astype(int)
        averaged = cv2.resize(np.asarray(photo), (224, 224), interpolation=cv2.INTER_AREA).astype(int)
        assert 0 < np.abs(fast - averaged).mean() <= 0.75
        assert np.abs(fast - averaged).max() <= 40  # the largest differences are at edges
