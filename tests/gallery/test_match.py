from collections.abc import Callable

import numpy as np
import pytest

from fashion_infer.gallery import match
from fashion_infer.gallery.gallery import settle
from fashion_infer.gallery.local import LocalStore
from fashion_infer.gallery.match import Look, look_of, match_of, why
from tests.gallery.conftest import FACTS, row


def items(count: int, views: int, seed: int = 0) -> list[np.ndarray]:
    """Embeddings of views of items, `count` arrays [views, 64].

    Each item belongs to one of ten groups of similar items, and its views are close together.
    """
    random = np.random.default_rng(seed)
    crowds = random.standard_normal((10, 64))
    centres = crowds[random.integers(0, 10, count)] + 0.8 * random.standard_normal((count, 64))
    every = centres[:, None] + 0.35 * random.standard_normal((count, views, 64))
    return list((every / np.linalg.norm(every, axis=2, keepdims=True)).astype(np.float16))


@pytest.mark.parametrize("by_item", [True, False])
def test_nine_in_ten_likely_hits_are_the_same_item(tmp_path: object, by_item: bool) -> None:
    from dataclasses import replace
    from pathlib import Path

    store = LocalStore(Path(str(tmp_path)) / "g", replace(FACTS, dim=64))
    views_of = items(400, 4)
    rows = [
        row(f"i{i}-{v}", views_of[i][v], columns={"item": f"i{i}"} if by_item else {})
        for i in range(400)
        for v in range(3 if by_item else 1)
    ]
    with store.writing():
        store.write([], rows)
        settle(store)
    levels = store.meta[match.META]
    assert (levels["by"], levels["rows"]) == ("items" if by_item else "rows", len(rows))
    held_out = np.stack([views[3] for views in views_of]).astype(np.float32)
    called = {"likely": [], "possible": [], "unlikely": []}
    for i, candidates in enumerate(store.nearest(held_out, 10, None).candidates):
        for score, hit in candidates:
            called[str(match_of(score, levels))].append(hit.id.split("-")[0] == f"i{i}")
    assert len(called["likely"]) > 100
    assert np.mean(called["likely"]) >= 0.9
    assert np.mean(called["unlikely"]) < np.mean(called["likely"])
    store.close()


def test_levels_are_measured_when_a_gallery_has_grown(filled: Callable[..., LocalStore]) -> None:
    store = filled(40)
    with store.writing():
        settle(store)
    assert match.META not in store.meta  # there are too few rows to measure
    from tests.gallery.conftest import vectors

    embeddings = vectors(100, seed=4)
    for first, last, rows in ((0, 20, 60), (20, 30, 60), (30, 60, 100)):
        with store.writing():
            store.write([], [row(f"x{i}", embeddings[i]) for i in range(first, last)])
            settle(store)
        assert store.meta[match.META]["rows"] == rows


@pytest.mark.parametrize(("score", "name"), [(0.9, "likely"), (0.8, "likely"), (0.7, "possible"), (0.4, "unlikely")])
def test_the_match_of_a_score(score: float, name: str) -> None:
    assert match_of(score, {"likely": 0.8, "possible": 0.5}) == name
    assert match_of(score, None) is None


def test_what_two_garments_share() -> None:
    query = Look("Dress", {"texture": {"floral", "striped"}, "sleeve": {"long_sleeve"}, "fabric": {"cotton"}}, {"navy"})
    hit = Look("Skirt", {"texture": {"floral"}, "sleeve": {"sleeveless"}}, {"navy", "white"})
    assert why(query, hit) == {
        "same": ["texture: floral", "color: navy"],
        "differs": ["category: Dress / Skirt", "sleeve: long_sleeve / sleeveless"],
    }
    assert why(None, hit) == {"same": [], "differs": []}


def test_the_look_of_a_row() -> None:
    garment = row(
        "a",
        np.zeros(16, np.float16),
        attributes=["floral", "other"],
        colors=[{"name": "red", "hex": "#f00", "share": 1}],
    )
    assert look_of(garment, FACTS) == Look("Dress", {"texture": {"floral"}, "attribute": {"other"}}, {"red"})
