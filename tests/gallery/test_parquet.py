from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashion_infer import Predictor
from fashion_infer.errors import GalleryMismatchError, OutputError, UsageError
from fashion_infer.gallery import Gallery
from fashion_infer.gallery.local import LocalStore
from fashion_infer.gallery.parquet import export, rows_in, schema_of
from tests.gallery.conftest import FACTS, row, vectors

COLUMNS = {
    "n": 3,
    "price": 2.5,
    "new": True,
    "item": "i1",
    "since": date(2024, 5, 1),
    "at": datetime(2024, 5, 1, 12, 0, 0, 5),
    "seen": datetime(2024, 5, 1, 12, tzinfo=UTC),
    "tags": ["a", "b"],
}


def test_the_schema_is_the_promised_one() -> None:
    schema = schema_of(FACTS, {"price": "float"})
    names = ["id", "path", "box", "is_garment", "category", "category_score", "attributes", "landmarks", "embedding"]
    assert schema.names == [*names, "content_hash", "error", "colors", "price"]
    assert schema.field("embedding").type == pa.list_(pa.float16(), 16)
    assert schema.metadata[b"fashion_infer.embedding_space"] == FACTS.space.encode()
    assert schema.metadata[b"fashion_infer.model"] == b"model.onnx"
    assert schema.metadata[b"fashion_infer.model_sha256"] == b"00"


def test_a_gallery_comes_back_whole(store: LocalStore, tmp_path: Path) -> None:
    embeddings = vectors(3)
    points = np.random.default_rng(0).uniform(0, 9, (8, 4)).astype(np.float32)
    points[:, 2] = 1
    with store.writing():
        boxed = row("a.jpg#2", embeddings[1], record="a.jpg", asked=(1.0, 2.0, 30.0, 40.0), box=(1.0, 2.0, 30.0, 40.0))
        plain = row("r0", embeddings[0], columns=COLUMNS, landmarks=points)
        store.write([], [plain, boxed, row("r2", embeddings[2], is_garment=None, path=None)])
    assert export(store, tmp_path / "out" / "e.parquet") == 3
    copy = tmp_path / "copy.gallery"
    outcomes = list(Gallery.taking(copy, tmp_path / "out"))
    assert [outcome.status for outcome in outcomes] == ["added"] * 3
    again = LocalStore(copy)
    assert again.facts == store.facts
    for before, after in zip(store, again, strict=True):
        assert np.array_equal(before.vector, after.vector)
        assert before.landmarks is not None and after.landmarks is not None
        assert np.array_equal(before.landmarks, after.landmarks)
        for name in ("id", "record", "path", "asked", "box", "category", "attributes", "content_hash", "columns"):
            assert getattr(before, name) == getattr(after, name)
    assert again.kinds == store.kinds
    again.close()
    assert {outcome.status for outcome in Gallery.taking(copy, tmp_path / "out")} == {"unchanged"}


def test_colours_travel_where_there_are_some(store: LocalStore, tmp_path: Path) -> None:
    navy = [{"name": "navy", "hex": "#000080", "share": 0.375}]
    every = [None, navy, []]  # the first row is of an earlier release
    with store.writing():
        store.write([], [row(f"r{i}", vectors(3)[i], colors=colors) for i, colors in enumerate(every)])
    export(store, tmp_path / "e.parquet")
    copy = tmp_path / "copy"
    assert [outcome.status for outcome in Gallery.taking(copy, tmp_path / "e.parquet")] == ["added"] * 3
    assert [outcome.status for outcome in Gallery.taking(copy, tmp_path / "e.parquet")] == ["unchanged"] * 3
    with store.writing():
        store.write([], [row("r0", vectors(3)[0], colors=navy)])
    export(store, tmp_path / "e.parquet")
    assert [outcome.status for outcome in Gallery.taking(copy, tmp_path / "e.parquet")].count("replaced") == 1
    every[0] = navy
    read = {row.id: row.colors for _, row in rows_in(tmp_path / "e.parquet") if not isinstance(row, Exception)}
    assert [read[f"r{i}"] for i in range(3)] == every


def test_a_file_without_colours_is_read(filled: Callable[..., LocalStore], tmp_path: Path) -> None:
    export(filled(2), tmp_path / "e.parquet")
    pq.write_table(pq.read_table(tmp_path / "e.parquet").drop_columns(["colors"]), tmp_path / "e.parquet")
    read = [row for _, row in rows_in(tmp_path / "e.parquet")]
    assert [getattr(row, "colors", "failed") for row in read] == [None, None]


def test_rows_of_another_space_are_refused(store: LocalStore, tmp_path: Path, predictor: Predictor) -> None:
    export(store, tmp_path / "e.parquet")
    Gallery(tmp_path / "g", predictor).close()
    with pytest.raises(GalleryMismatchError, match=rf"model\.onnx \(space {FACTS.space}\), the gallery those of"):
        list(Gallery.taking(tmp_path / "g", tmp_path / "e.parquet"))


def test_bad_rows_fail_alone(filled: Callable[..., LocalStore], tmp_path: Path) -> None:
    export(filled(4, lambda i: {"n": i}), tmp_path / "e.parquet")
    table = pq.read_table(tmp_path / "e.parquet").to_pylist()
    table[0]["error"] = "it was damaged"
    table[1]["embedding"] = [0.0] * 16
    schema = pq.read_schema(tmp_path / "e.parquet")
    pq.write_table(pa.Table.from_pylist(table, schema=schema), tmp_path / "e.parquet")
    outcomes = list(Gallery.taking(tmp_path / "g", tmp_path / "e.parquet"))
    assert [outcome.status for outcome in outcomes] == ["failed", "failed", "added", "added"]
    assert "it was damaged" in str(outcomes[0].error)
    assert "no embedding of unit length" in str(outcomes[1].error)


def test_what_is_no_file_of_embeddings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no Parquet file"):
        list(Gallery.taking(tmp_path / "g", tmp_path / "nothing.parquet"))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(UsageError, match="is not a Parquet file of embeddings"):
        list(Gallery.taking(tmp_path / "g", tmp_path / "other.parquet"))
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(UsageError, match="is not a Parquet file of embeddings"):
        list(Gallery.taking(tmp_path / "g", tmp_path / "text.parquet"))
    assert not (tmp_path / "g").exists()


def test_a_file_that_cannot_be_written(filled: Callable[..., LocalStore], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^\S+ cannot be written: \S+file is not a folder that you may write to$"):
        export(filled(2), tmp_path / "file" / "e.parquet")
