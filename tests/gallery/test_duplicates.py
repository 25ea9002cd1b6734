from pathlib import Path

import numpy as np
from PIL import Image

from fashion_infer.gallery import match
from fashion_infer.gallery.duplicates import duplicates
from fashion_infer.gallery.local import LocalStore
from tests.gallery.conftest import row, vectors


def test_files_photos_and_items_are_told_apart(store: LocalStore, photos: list[str], tmp_path: Path) -> None:
    smaller = tmp_path / "smaller.jpg"
    with Image.open(photos[0]) as picture:
        picture.convert("RGB").resize((150, 150)).save(smaller, quality=60)
    embeddings = vectors(40, seed=2)
    near = (embeddings[0].astype(np.float32) + 0.02).astype(np.float16)
    near = (near / np.linalg.norm(near.astype(np.float32))).astype(np.float16)
    rows = [
        row("original", embeddings[0], path=photos[0], content_hash="1", columns={"item": "x"}),
        row("copy", embeddings[0], path="elsewhere.png", content_hash="1"),
        row("smaller", near, path=str(smaller), content_hash="2"),
        row("another view", near, path=photos[5], content_hash="3"),
        row("same item in the table", embeddings[0], path=photos[6], content_hash="4", columns={"item": "x"}),
    ]
    others = [row(f"r{i}", embeddings[i], path=photos[i % 24]) for i in range(1, 40)]
    with store.writing():
        store.write([], [*rows, *others])
        store.set_meta(match.META, {"likely": 0.985, "possible": 0.9, "rows": 44})
    pairs = {frozenset((pair.first.id, pair.second.id)): pair.kind for pair in duplicates(store)}
    assert pairs[frozenset(("original", "copy"))] == "file"
    assert pairs[frozenset(("original", "smaller"))] == "photo"
    assert pairs[frozenset(("original", "another view"))] == "item"
    assert frozenset(("original", "same item in the table")) not in pairs
    assert len(store) == 44  # no row is removed


def test_no_levels_no_items(store: LocalStore, photos: list[str]) -> None:
    embeddings = vectors(2)
    with store.writing():
        store.write([], [row("a", embeddings[0], path=photos[0]), row("b", embeddings[0], path=photos[9])])
    done: list[int] = []
    assert list(duplicates(store, done.append)) == []
    assert done == [2]
