from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fashion_infer import Predictor
from fashion_infer.embed.catalogue import Item, read_catalogue
from fashion_infer.embed.chunks import (
    INPUTS_KEY,
    Failures,
    OneMachine,
    Terms,
    chunk_path,
    finished_chunks,
    write_chunks,
)
from fashion_infer.errors import OutputError, UsageError
from fashion_infer.gallery import Gallery

BROKEN = ["sku-3", "sku-8"]


def embed(predictor: Predictor, folder: Path, inputs: str = "list.csv", most: int | None = None) -> list[int]:
    """What the command does; says which chunks were computed. `most` breaks off before as many are written."""
    one = read_catalogue([inputs])
    terms = Terms.of(one)
    worker = OneMachine(predictor)
    kept = finished_chunks(folder, worker.facts, terms)
    missing = [number for number in range(one.chunks) if number not in kept]
    for _ in zip(range(len(missing) if most is None else most), write_chunks(one, folder, missing, worker, terms)):  # noqa: B905
        pass
    return missing


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_every_photo_is_a_row_in_its_place(shop: Path, predictor: Predictor) -> None:
    assert embed(predictor, shop / "out") == [0, 1, 2]
    assert [path.name for path in sorted((shop / "out").iterdir())] == [f"chunk-00000{n}.parquet" for n in range(3)]
    made = rows(shop / "out")
    assert [row["id"] for row in made] == [f"sku-{number}" for number in range(9)]
    assert [row["price"] for row in made] == [10 * number for number in range(9)]
    for number, row in enumerate(made):
        if row["id"] in BROKEN:
            continue
        alone = predictor.predict(str(shop / f"{number}.png"))
        assert row["error"] is None
        assert (row["category"], row["box"]) == (alone.category.name, list(alone.box))
        assert np.abs(np.array(row["embedding"]) - alone.embedding.astype(np.float16)).max() <= 1e-3  # float16
        assert len(row["landmarks"]) == 8
    schema = pq.read_schema(chunk_path(shop / "out", 0))
    assert schema.metadata[b"fashion_infer.embedding_space"] == predictor.spec.embedding_space.encode()
    assert schema.metadata[b"fashion_infer.model_sha256"] == predictor.sha256.encode()
    assert len(schema.metadata[INPUTS_KEY.encode()]) == 64


def test_a_broken_photo_is_a_row_with_its_error(shop: Path, predictor: Predictor) -> None:
    embed(predictor, shop / "out")
    broken = [row for row in rows(shop / "out") if row["error"] is not None]
    assert [row["id"] for row in broken] == BROKEN
    assert "3.png" in broken[0]["error"]
    assert "gone.png cannot be read: No such file" in broken[1]["error"]
    assert (broken[0]["content_hash"] is None, broken[1]["content_hash"]) == (False, None)
    for name in ("embedding", "category", "landmarks", "box", "attributes", "is_garment"):
        assert broken[0][name] is None


def test_a_run_that_was_stopped_goes_on(shop: Path, predictor: Predictor) -> None:
    assert embed(predictor, shop / "out", most=1) == [0, 1, 2]
    before = chunk_path(shop / "out", 0).stat().st_mtime_ns
    assert embed(predictor, shop / "out") == [1, 2]
    assert chunk_path(shop / "out", 0).stat().st_mtime_ns == before
    assert [row["id"] for row in rows(shop / "out")] == [f"sku-{number}" for number in range(9)]
    assert embed(predictor, shop / "out") == []


def test_failures_of_an_earlier_run_are_known(shop: Path, predictor: Predictor) -> None:
    embed(predictor, shop / "out")
    one = read_catalogue(["list.csv"])
    kept = finished_chunks(shop / "out", OneMachine(predictor).facts, Terms.of(one))
    assert [id for number in sorted(kept) for id, _ in kept[number]] == BROKEN


def test_a_chunk_that_is_damaged_is_made_again(shop: Path, predictor: Predictor) -> None:
    embed(predictor, shop / "out")
    path = chunk_path(shop / "out", 1)
    path.write_bytes(path.read_bytes()[:-10])
    assert embed(predictor, shop / "out") == [1]
    assert len(rows(shop / "out")) == 9


def test_another_list_is_refused(shop: Path, predictor: Predictor) -> None:
    embed(predictor, shop / "out", most=1)
    (shop / "list.csv").write_text((shop / "list.csv").read_text().replace("sku-7", "sku-seven"))
    with pytest.raises(UsageError, match="out holds embeddings of another list of inputs: give the list"):
        embed(predictor, shop / "out")


def test_another_model_is_refused(shop: Path, predictor: Predictor, light_model: Path) -> None:
    embed(predictor, shop / "out", most=1)
    with (
        Predictor(light_model, sessions=1, threads=1) as other,
        pytest.raises(UsageError, match=rf"another model, .*fashionnet\.onnx with sha256 {predictor.sha256}, and"),
    ):
        embed(other, shop / "out")


@pytest.mark.parametrize("name", ["e.parquet", "chunk-x.parquet"])
def test_a_folder_of_something_else_is_refused(shop: Path, predictor: Predictor, name: str) -> None:
    (shop / "out").mkdir()
    (shop / "out" / name).touch()
    with pytest.raises(UsageError, match=f"holds {name}, which is no chunk of embeddings"):
        embed(predictor, shop / "out")


def test_a_place_that_cannot_be_written(shop: Path, predictor: Predictor) -> None:
    (shop / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        embed(predictor, shop / "file" / "out")


def test_paths_are_relative_to_the_folder_that_the_run_began_in(
    shop: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As for an actor on another node, whose own folder is another one."""
    one = read_catalogue(["list.csv"])
    terms, chunk = Terms.of(one), one.chunk(0)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    ((number, table),) = OneMachine(predictor).tables(iter([(5, chunk)]), terms)
    assert (number, table["error"].null_count) == (5, 3)
    assert table["path"].to_pylist() == ["0.png", "1.png", "2.png", "3.png"]


def test_a_value_that_cannot_be_kept_fails_its_own_row(shop: Path, predictor: Predictor) -> None:
    items = [Item("a", "0.png", {"price": float("inf")}), Item("b", "1.png", {"price": 2.5})]
    ((_, table),) = OneMachine(predictor).tables(iter([(0, items)]), Terms({"price": "float"}, "", str(shop)))
    assert table["price"].to_pylist() == [None, 2.5]
    assert "infinite" in table["error"][0].as_py()
    assert table["error"][1].as_py() is None


def test_progress_counts_every_row(shop: Path, predictor: Predictor) -> None:
    counted: list[int] = []
    one = read_catalogue(["list.csv"])
    worker = OneMachine(predictor, counted.append)
    written: Iterator[tuple[int, Failures]] = write_chunks(one, shop / "out", range(3), worker, Terms.of(one))
    assert [count for count, _ in written] == [4, 4, 1]
    assert sum(counted) == 9


def test_the_chunks_go_into_a_gallery(shop: Path, predictor: Predictor) -> None:
    embed(predictor, shop / "out")
    outcomes = list(Gallery.taking(shop / "g", shop / "out"))
    assert [outcome.id for outcome in outcomes if outcome.status == "added"] == [
        f"sku-{n}" for n in (0, 1, 2, 4, 5, 6, 7)
    ]
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert [outcome.id for outcome in failed] == BROKEN
    assert str(failed[1].error).count("gone.png") == 1
    with Gallery(shop / "g", predictor) as gallery:
        (hits,) = [gallery.search("5.png", limit=1)]
        assert (hits[0].id, hits[0].payload["price"]) == ("sku-5", 50)
        assert hits[0].score > 0.999
    assert {outcome.status for outcome in Gallery.taking(shop / "g", shop / "out")} == {"unchanged", "failed"}
