"""Rows with random vectors for tests that need no photo, and photos of rendered garments for those that do."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from qdrant_client import QdrantClient

from fashion_infer import Predictor
from fashion_infer.gallery.local import LocalStore
from fashion_infer.gallery.rows import Facts, Row
from fashion_infer.model_spec import METADATA_KEY, ModelSpec
from fashion_infer.onnx_file import set_metadata

FACTS = Facts("0123456789abcdef", 16, "model.onnx", "00", {"floral": "texture", "long_sleeve": "sleeve"})


def vectors(count: int, seed: int = 0, dim: int = 16) -> NDArray[np.float16]:
    """Random unit vectors around a few centres, like embeddings: float16 [count, dim]."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((20, dim))
    rows = centres[random.integers(0, 20, count)] + 0.4 * random.standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def row(id: str, vector: NDArray[np.float16], **fields: object) -> Row:
    """A row with these `fields` of Row, and default values for the others."""
    defaults: dict[str, object] = {
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
    return Row(id=id, vector=vector, **(defaults | fields))  # type: ignore[arg-type]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a gallery on Qdrant, here the client's own local mode, which is exact and in memory."""
    client = QdrantClient(":memory:")
    monkeypatch.setattr(client, "close", lambda: None)  # a second gallery of the test uses the same client
    monkeypatch.setattr("fashion_infer.gallery.qdrant.QdrantClient", lambda **_: client)
    return "http://localhost:6333/shop"


@pytest.fixture(params=["folder", "cluster"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The place of a new gallery: each test runs with a folder and with a cluster."""
    if request.param == "folder":
        return str(tmp_path / "shop.gallery")
    address: str = request.getfixturevalue("cluster")
    return address


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    """An empty store."""
    created = LocalStore(tmp_path / "made.gallery", FACTS)
    yield created
    created.close()


@pytest.fixture
def filled(store: LocalStore) -> Callable[..., LocalStore]:
    """A function that writes `count` rows with the ids r000, r001 and so on, and settles the store."""

    def fill(count: int, columns: Callable[[int], dict[str, object]] = lambda i: {}, settle: bool = True) -> LocalStore:
        embeddings = vectors(count)
        rows = [row(f"r{i:03}", embeddings[i], columns=columns(i)) for i in range(count)]
        with store.writing():
            store.write([r.record for r in rows], rows)
            if settle:
                store.settle(wait=True)
        return store

    return fill


@pytest.fixture(scope="session")
def predictor(onnx_model: Path) -> Iterator[Predictor]:
    """A Predictor of the small model with random weights."""
    with Predictor(onnx_model, sessions=1, threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory, onnx_model: Path) -> Path:
    """Path of the same model with another embedding space in its metadata, so that it counts as another model."""
    model = onnx.load(onnx_model)
    (entry,) = [entry for entry in model.metadata_props if entry.key == METADATA_KEY]
    spec = dataclasses.replace(ModelSpec.from_json(entry.value), embedding_sha256="f" * 64)
    set_metadata(model, METADATA_KEY, spec.to_json())
    path = tmp_path_factory.mktemp("other") / "other.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def photos(pictures: Path) -> list[str]:
    """Paths of the rendered garments."""
    return sorted(str(path) for path in pictures.glob("*.png"))
