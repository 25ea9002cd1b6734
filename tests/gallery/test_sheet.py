from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashion_infer.errors import ImageError, UsageError
from fashion_infer.gallery.hits import Hit, Hits
from fashion_infer.gallery.sheet import CAPTION, GAP, TILE, WIDTH, contact_sheet, photo_sheet, save_sheet


def hits(photos: list[str]) -> Hits:
    shown = [Hit(path, 0.9, {"path": path, "box": None, "item": "i1"}, "likely", views=3) for path in photos]
    return Hits([*shown, Hit("gone", 0.1, {"path": "gone.jpg", "box": None})], box=(0, 0, 90, 90), category="Dress")


def test_a_sheet_shows_query_and_hits(photos: list[str]) -> None:
    sheet = contact_sheet([photos[0]], [hits(photos[:2])])
    assert sheet.size[0] == 4 * (TILE + GAP) + GAP
    pixels = np.asarray(sheet)
    places = [GAP + column * (TILE + GAP) for column in range(4)]
    variety = [len(np.unique(pixels[GAP : GAP + TILE, x : x + TILE].reshape(-1, 3), axis=0)) for x in places]
    assert min(variety[:3]) > 100  # pictures
    assert variety[3] < min(150, *variety[:3])  # "no picture"


def test_many_hits_go_on_in_the_next_row(photos: list[str]) -> None:
    one, two = contact_sheet([None], [hits(photos[:3])]), contact_sheet([None], [hits(photos[:9])])
    assert two.height > one.height


def test_a_query_with_an_error_has_its_place() -> None:
    assert contact_sheet([None], [Hits(error=ImageError("missing.jpg cannot be read"))]).height > TILE


def test_a_sheet_is_written_to_a_file(photos: list[str], tmp_path: Path) -> None:
    save_sheet(tmp_path / "sheet.png", [photos[0]], [hits(photos[:2])])
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.format == "PNG"
    with pytest.raises(UsageError, match="is written as"):
        save_sheet(tmp_path / "sheet.tga", [photos[0]], [hits(photos[:2])])


def test_a_sheet_of_photos_with_words_below(photos: list[str]) -> None:
    tiles = [(photos[0], None, ("Hat: 3 %", "a.jpg")), ("gone.jpg", None, ("Tee", "gone.jpg"))] * 4
    sheet = photo_sheet(tiles)
    step = TILE + CAPTION + GAP
    assert sheet.size == (WIDTH * (TILE + GAP) + GAP, 2 * step + GAP)
    pixels = np.asarray(sheet)
    first, second = (pixels[GAP : GAP + TILE, x : x + TILE] for x in (GAP, 2 * GAP + TILE))
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 1000
    assert len(np.unique(second.reshape(-1, 3), axis=0)) < 150  # "no picture"
    assert (pixels[GAP + TILE : step, GAP : GAP + TILE] < 128).any()  # the words
