import numpy as np
import pytest

from fashion_infer.drawing import SHORT_SIDE, Mark, draw


def mark(x: float, y: float, visibility: str = "visible") -> Mark:
    return Mark("left_hem", x, y, visibility)


def changed_columns(drawn: np.ndarray, colour: int = 90) -> tuple[int, int]:
    """The first and the last column with something drawn on a picture of one colour, without the caption."""
    (columns,) = (drawn[:-10] != colour).any(axis=(0, 2)).nonzero()
    return int(columns[0]), int(columns[-1])


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (480, 640)),
        (1000, 800, (1000, 800)),
        (240, 320, (480, 640)),
        (1, 1, (480, 480)),
        (10, 3000, (10, 3000)),
        (3000, 1, (3000, 1)),
        (60, 480, (240, 1920)),  # enlarged as far as the long side allows
        (1, 64_000, (1, 64_000)),
    ],
)
def test_small_pictures_are_enlarged_and_a_strip_is_added(height: int, width: int, expected: tuple[int, int]) -> None:
    drawn = draw(np.zeros((height, width, 3), np.uint8), (0, 0, width, height), [], ["Tee 0.90", "floral 0.70"])
    assert drawn.dtype == np.uint8
    unit = max(1.0, min(expected) / SHORT_SIDE)
    assert drawn.shape == (expected[0] + round(50 * unit), expected[1], 3)


def test_neither_the_input_nor_the_pixels_without_marks_change() -> None:
    pixels = np.full((500, 600, 3), (10, 120, 230), np.uint8)
    before = pixels.copy()
    drawn = draw(pixels, (100, 100, 500, 400), [mark(300, 250)], [])
    np.testing.assert_array_equal(pixels, before)
    assert (drawn[:90] == pixels[:90]).all()
    assert not np.shares_memory(drawn, pixels)


def test_colours_of_box_and_landmarks() -> None:
    points = [mark(100, 100), mark(200, 100, "occluded"), mark(300, 100, "truncated")]
    drawn = draw(np.full((480, 480, 3), 90, np.uint8), (20, 30, 460, 440), points, ["Tee"])
    assert drawn[30, 240].tolist() == drawn[439, 240].tolist() == [255, 255, 255]
    assert drawn[240, 20].tolist() == drawn[240, 459].tolist() == [255, 255, 255]
    assert drawn[100, 100].tolist() == [46, 204, 113]  # RGB green, filled
    assert drawn[100, 200].tolist() == [90, 90, 90]  # a ring
    assert (drawn[95:106, 195:206] == (243, 156, 18)).all(axis=2).any()
    assert (drawn[80:120, 310:330] == 90).all()


def test_landmarks_are_enlarged_with_the_picture() -> None:
    drawn = draw(np.full((240, 240, 3), 90, np.uint8), (0, 0, 240, 240), [mark(50, 60)], [])
    assert drawn[120, 100].tolist() == [46, 204, 113]


@pytest.mark.parametrize("point", [(-50.0, -50.0), (1e6, 1e6), (0.0, 480.0)])
def test_landmarks_outside_do_no_harm(point: tuple[float, float]) -> None:
    assert draw(np.zeros((480, 480, 3), np.uint8), (0, 0, 480, 480), [mark(*point)], []).shape == (490, 480, 3)


@pytest.mark.parametrize(
    ("caption", "lines"),
    [
        ([], 0),
        ([""], 1),
        (["Robe d'été 0.50"], 1),
        (["x" * 500], 8),
        (["a", "b", "c"], 3),
        (["long_sleeve 1.00, " * 6], 2),
    ],
)
def test_captions(caption: list[str], lines: int) -> None:
    drawn = draw(np.zeros((480, 480, 3), np.uint8), (0, 0, 480, 480), [], caption)
    assert drawn.shape == (480 + 20 * lines + 10, 480, 3)
    written = (drawn[480:] != 32).any()
    assert written == any(caption)


@pytest.mark.parametrize(("x", "outer"), [(200, "left"), (300, "right")])
def test_a_landmarks_name_is_at_its_outer_side(x: int, outer: str) -> None:
    drawn = draw(np.full((480, 480, 3), 90, np.uint8), (-9, -9, 500, 500), [mark(x, 240)], [])
    left, right = changed_columns(drawn)
    length = right - left
    assert length > 30  # letters beside the disc
    assert (x - left > length / 2) == (outer == "left")
    assert (right - x > length / 2) == (outer == "right")


@pytest.mark.parametrize("x", [1, 478])
def test_a_name_stays_within_the_picture(x: int) -> None:
    drawn = draw(np.full((480, 480, 3), 90, np.uint8), (-9, -9, 500, 500), [mark(x, 240)], [])
    left, right = changed_columns(drawn)
    assert right - left > 30
    assert drawn[240, x].tolist() == [46, 204, 113]  # the name does not cover its mark


def test_marks_and_names_grow_with_the_picture() -> None:
    lengths = []
    for side in (480, 1920):
        drawn = draw(np.full((side, side, 3), 90, np.uint8), (-99, -99, 2 * side, 2 * side), [mark(side / 2, 240)], [])
        (columns,) = (drawn[: side - 40] != 90).any(axis=(0, 2)).nonzero()
        lengths.append(columns[-1] - columns[0])
    assert 3.5 < lengths[1] / lengths[0] < 4.5


def test_truncated_landmarks_have_no_name() -> None:
    drawn = draw(np.full((480, 480, 3), 90, np.uint8), (-9, -9, 500, 500), [mark(240, 240, "truncated")], [])
    assert (drawn[:480] == 90).all()
