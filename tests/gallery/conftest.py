"""Rows with made vectors for what needs no photo, and a gallery of rendered garments for what does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fashion_infer import Predictor
from fashion_infer.gallery.local import LocalStore
from fashion_infer.gallery.rows import Facts, Row

FACTS = Facts("0123456789abcdef", 16, "model.onnx", "00", {"floral": "texture", "long_sleeve": "sleeve"})


def vectors(count: int, seed: int = 0, dim: int = 16) -> NDArray[np.float16]:
    """Unit vectors around a few centres, as embeddings lie."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((20, dim))
    rows = centres[random.integers(0, 20, count)] + 0.4 * random.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def row(id: str, vector: NDArray[np.float16], **fields: object) -> Row:
    """A row; `fields` are those of Row, the others are plain."""
    plain: dict[str, object] = {
        "record": id,
        "path": f"{id}.jpg",
        "asked": None,
        "box": (0.0, 0.0, 10.0, 20.0),
        "is_garment": 0.9,
        "category": "Dress",
        "category_score": 0.5,
        "attributes": ["floral"],
        "colors": None,
        "landmarks": np.zeros((8, 4), np.float32),
        "content_hash": f"hash of {id}",
        "columns": {},
    }
    return Row(id=id, vector=vector, **(plain | fields))  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    """An empty store."""
    made = LocalStore(tmp_path / "made.gallery", FACTS)
    yield made
    made.close()


@pytest.fixture
def filled(store: LocalStore) -> Callable[..., LocalStore]:
    """Fills the store with so many rows, r000 and so on, and settles it."""

    def fill(count: int, columns: Callable[[int], dict[str, object]] = lambda i: {}, settle: bool = True) -> LocalStore:
        made = vectors(count)
        rows = [row(f"r{i:03}", made[i], columns=columns(i)) for i in range(count)]
        with store.writing():
            store.write([r.record for r in rows], rows)
            if settle:
                store.settle(wait=True)
        return store

    return fill


@pytest.fixture(scope="session")
def predictor(onnx_model: Path) -> Iterator[Predictor]:
    """Of the small model with random weights."""
    with Predictor(onnx_model, sessions=1, threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def photos(pictures: Path) -> list[str]:
    """Paths of the rendered garments."""
    return sorted(str(path) for path in pictures.glob("*.png"))
