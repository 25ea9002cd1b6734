"""Dominant colours of drawn crops with exact colours and outlines, and of rendered garments with known colours."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fashion_infer import Prediction, Predictor
from fashion_infer.colors import EXAMPLES, NAMES, Color, dominant_colors, garment_mask, nearest_names
from fashion_infer.model_spec import LANDMARK_NAMES
from fashion_infer.synthetic.rendering import VIEWS_PER_ITEM, item_design, render

SIZE = 224
VISIBLE = np.tile(np.float32([0.9, 0.08, 0.02]), (8, 1))
# collar, sleeves, waistline and hem of an upper body that fills the middle of the crop
LANDMARKS = np.float32([[0.3, 0.1], [0.7, 0.1], [0, 0.6], [1, 0.6], [0.3, 0.5], [0.7, 0.5], [0.3, 0.9], [0.7, 0.9]])
BLACK, WHITE, RED, GREEN, BLUE = (12, 12, 12), (250, 250, 250), (200, 20, 30), (40, 130, 60), (40, 80, 190)


def crop_of(*colors: tuple[int, int, int], background: tuple[int, int, int] = (150, 150, 150)) -> np.ndarray:
    """A crop with horizontal stripes of equal height, 2 pixels for each colour, on a garment as large as LANDMARKS."""
    pixels = np.full((SIZE, SIZE, 3), background, np.uint8)
    stripes = np.repeat(np.array(colors, np.uint8), 2, axis=0)
    rows = np.tile(stripes, (SIZE // len(stripes) + 1, 1))[:SIZE]
    top, bottom, left, right = (round(SIZE * share) for share in (0.1, 0.9, 0.3, 0.7))
    pixels[top:bottom, left:right] = rows[top:bottom, None]
    return pixels


# ---- names


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("#000000", "black"),
        ("#ffffff", "white"),
        ("#808080", "grey"),
        ("#f5f5dc", "beige"),
        ("#8b4513", "brown"),
        ("#e00000", "red"),
        ("#800020", "burgundy"),
        ("#ffc0cb", "pink"),
        ("#ff8c00", "orange"),
        ("#ffd700", "yellow"),
        ("#556b2f", "olive"),
        ("#228b22", "green"),
        ("#008080", "teal"),
        ("#add8e6", "light blue"),
        ("#2850c8", "blue"),
        ("#101a4a", "navy"),
        ("#800080", "purple"),
    ],
)
def test_well_known_colours_have_their_names(code: str, name: str) -> None:
    assert nearest_names(tuple(bytes.fromhex(code[1:])))[0] == name


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_its_own_name(name: str) -> None:
    for code in EXAMPLES[name]:
        names = nearest_names(tuple(bytes.fromhex(code[1:])))
        assert names[0] == name
        assert sorted(names) == sorted(NAMES)


def test_the_documented_names_are_those_of_the_code() -> None:
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("black, ")]
    assert tuple(line.rstrip(".").split(", ")) == NAMES


# ---- drawn garments


@pytest.mark.parametrize("rgb", [BLACK, WHITE, RED, GREEN, BLUE])
def test_a_plain_garment_has_one_colour(rgb: tuple[int, int, int]) -> None:
    (color,) = dominant_colors(crop_of(rgb), LANDMARKS, VISIBLE)
    assert color == (nearest_names(rgb)[0], "#{:02x}{:02x}{:02x}".format(*rgb), 1.0)
    assert isinstance(color, Color)
    assert type(color.share) is float


@pytest.mark.parametrize("colors", [(BLACK, WHITE), (RED, WHITE), (BLUE, BLACK)])
def test_stripes_share_the_garment(colors: tuple[tuple[int, int, int], ...]) -> None:
    named = dominant_colors(crop_of(*colors), LANDMARKS, VISIBLE)
    assert {color.name for color in named} == {nearest_names(rgb)[0] for rgb in colors}
    assert [color.share for color in named] == pytest.approx([0.5, 0.5], abs=0.1)


def test_the_largest_comes_first_and_there_are_at_most_three() -> None:
    colors = dominant_colors(crop_of(RED, RED, RED, GREEN, GREEN, BLUE, WHITE), LANDMARKS, VISIBLE)
    assert [color.name for color in colors[:2]] == ["red", "green"]
    assert len(colors) == 3
    assert [color.share for color in colors] == sorted((color.share for color in colors), reverse=True)


def test_rare_colours_are_left_out() -> None:
    (color,) = dominant_colors(crop_of(*[GREEN] * 19, RED), LANDMARKS, VISIBLE)
    assert color.name == "green"
    assert 0.9 < color.share < 1


def test_folds_do_not_divide_a_colour() -> None:
    shade = np.linspace(0.75, 1.2, SIZE)[None, :, None]
    pixels = (crop_of(BLUE) * shade).clip(0, 255).astype(np.uint8)
    (color,) = dominant_colors(pixels, LANDMARKS, VISIBLE)
    assert color.name == "blue"
    assert color.share > 0.9


def test_two_groups_of_one_name_are_one_colour() -> None:
    (color,) = dominant_colors(crop_of((70, 70, 70), *[(190, 190, 190)] * 4), LANDMARKS, VISIBLE)
    assert (color.name, color.share) == ("grey", pytest.approx(1))
    assert bytes.fromhex(color.hex[1:])[0] == pytest.approx((70 + 4 * 190) / 5, abs=8)  # the mean of all its pixels


def test_smaller_crops_work_too() -> None:
    for size in (1, 2, 16, 48, 100):
        pixels = np.full((size, size, 3), RED, np.uint8)
        assert [color.name for color in dominant_colors(pixels, LANDMARKS, VISIBLE)] == ["red"]


@settings(max_examples=60, deadline=None)
@given(
    pixels=arrays(np.uint8, (16, 16, 3)),
    landmarks=arrays(np.float32, (8, 2), elements=st.floats(-2, 3, width=32) | st.just(np.nan)),
    visibility=arrays(np.float32, (8, 3), elements=st.floats(0, 1, width=32)),
)
def test_any_pixels_and_landmarks_give_valid_colours(
    pixels: np.ndarray, landmarks: np.ndarray, visibility: np.ndarray
) -> None:
    colors = dominant_colors(pixels, landmarks, visibility)
    assert len(colors) <= 3
    assert {color.name for color in colors} <= set(NAMES)
    assert all(0.1 <= color.share <= 1 for color in colors)
    assert sum(color.share for color in colors) <= 1 + 1e-6
    assert colors == dominant_colors(pixels, landmarks, visibility)


# ---- where the garment is


def test_the_background_and_the_arms_are_left_out() -> None:
    mask = garment_mask(LANDMARKS, VISIBLE, (100, 100))
    rows, columns = np.nonzero(mask)
    assert 10 < rows.min() < rows.max() < 90
    assert 30 < columns.min() < columns.max() < 70
    assert mask.sum() > 0.6 * 80 * 40


def test_landmarks_outside_the_picture_do_not_count() -> None:
    visibility, landmarks = VISIBLE.copy(), LANDMARKS.copy()
    visibility[:2] = (0.1, 0.2, 0.7)  # the collar is truncated
    landmarks[:2] = 0
    rows, columns = np.nonzero(garment_mask(landmarks, visibility, (100, 100)))
    assert 50 <= rows.min() < rows.max() <= 90
    assert columns.min() >= 30


@pytest.mark.parametrize("why", ["all truncated", "not numbers", "on one line", "a point"])
def test_without_landmarks_it_is_the_middle(why: str) -> None:
    visibility, landmarks = VISIBLE.copy(), LANDMARKS.copy()
    if why == "all truncated":
        visibility[:] = (0.1, 0.2, 0.7)
    elif why == "not numbers":
        landmarks[:] = np.nan
    elif why == "on one line":
        landmarks[:, 0] = 0.5
    else:
        landmarks[:] = 0.5
    mask = garment_mask(landmarks, visibility, (100, 100))
    assert mask[25:75, 25:75].all()
    assert mask.sum() == 50 * 50


def test_sleeves_are_those_of_the_order_of_landmarks() -> None:
    assert LANDMARK_NAMES[2:4] == ("left_sleeve", "right_sleeve")
    moved = LANDMARKS.copy()
    moved[2:4] = (0.5, 0.0)
    assert (garment_mask(moved, VISIBLE, (50, 50)) == garment_mask(LANDMARKS, VISIBLE, (50, 50))).all()


# ---- the Predictor


@pytest.fixture(scope="module")
def predictor() -> Iterator[Predictor]:
    with Predictor("fashionnet-lite", sessions=1, threads=1) as opened:
        yield opened


def test_most_plain_rendered_garments_get_the_right_name(predictor: Predictor) -> None:
    seed, right = 77, []
    for item in range(150):
        design, _ = item_design(seed, item)
        if design.texture == "solid":
            garment = render(seed, item * VIEWS_PER_ITEM, size=320, view="shop")
            (prediction,) = predictor.predict(garment.image, boxes=[garment.box])
            assert prediction.colors
            right.append(prediction.colors[0].name == nearest_names(design.base)[0])
    assert len(right) >= 50
    assert np.mean(right) >= 0.85


def test_every_way_to_predict_gives_the_same_colours(predictor: Predictor, tmp_path: Path) -> None:
    garment = render(3, 0, size=320)
    Image.fromarray(garment.image).save(tmp_path / "a.png")
    expected = predictor.predict(garment.image).colors
    assert expected
    path = str(tmp_path / "a.png")
    every = [
        predictor.predict(path),
        *predictor.predict([path]),
        *predictor.predict(path, boxes=[(0, 0, *garment.image.shape[1::-1])]),
        *predictor.stream([path]),
        predictor.submit((tmp_path / "a.png").read_bytes()).result(),
        asyncio.run(predictor.apredict(path)),
    ]
    assert [prediction.colors for prediction in every] == [expected] * 6


def test_colours_are_those_of_the_box(predictor: Predictor) -> None:
    image = np.full((200, 400, 3), RED, np.uint8)
    image[:, 200:] = BLUE
    left, right = predictor.predict(image, boxes=[(0, 0, 200, 200), (200, 0, 400, 200)])
    assert [color.name for color in left.colors or ()] == ["red"]
    assert [color.name for color in right.colors or ()] == ["blue"]


def test_the_network_alone_gives_no_colours(predictor: Predictor) -> None:
    pixels = cv2.resize(render(3, 0).image, (predictor.spec.image_size,) * 2)
    assert "colors" not in predictor.run(pixels[None])


def test_colours_survive_json(predictor: Predictor) -> None:
    prediction = predictor.predict(render(3, 0).image)
    fields = json.loads(json.dumps(prediction.to_dict()))
    assert fields["colors"] == [
        {"name": color.name, "hex": color.hex, "share": color.share} for color in prediction.colors or ()
    ]
    assert Prediction.from_dict(fields).colors == prediction.colors
    del fields["colors"]
    assert Prediction.from_dict(fields).colors is None
