import os
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashion_infer.embed import catalogue
from fashion_infer.embed.catalogue import Catalogue, Item, read_catalogue
from fashion_infer.errors import UsageError


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder has some pictures; what is in them is not looked at."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("b.jpg", "a.png", "c.jpg"):
        (tmp_path / "photos" / name).touch()


def every(one: Catalogue) -> list[Item]:
    return [item for number in range(one.chunks) for item in one.chunk(number)]


def parquet(name: str, **columns: Any) -> str:
    pq.write_table(pa.table(columns), name)
    return name


def test_files_folders_patterns_and_addresses_in_their_order() -> None:
    url = f"file://{Path.cwd()}/photos"
    one = read_catalogue(["missing.jpg", "photos", "photos/[ab].*", url, "photos/a.png"])
    local = ["missing.jpg", "photos/a.png", "photos/b.jpg", "photos/c.jpg"]
    assert [item.path for item in every(one)] == [*local, f"{url}/a.png", f"{url}/b.jpg", f"{url}/c.jpg"]
    assert all(item.id == item.path and item.columns == {} for item in every(one))
    assert (one.kinds, one.errors) == ({}, {})


def test_arguments_that_stand_for_nothing_are_told_apart() -> None:
    Path("empty").mkdir()
    one = read_catalogue(["empty", "https://shop/a.jpg", "photos/a.png", "nosuch://x/"])
    assert one.errors.keys() == {"empty", "https://shop/a.jpg", "nosuch://x/"}
    assert [item.path for item in every(one)] == ["photos/a.png"]


def test_a_name_whose_bytes_are_no_text_is_kept_percent_encoded() -> None:
    (Path("photos") / os.fsdecode(b"\xff.jpg")).touch()
    assert read_catalogue(["photos"]).chunk(0)[-1].path == "photos/%FF.jpg"


def test_a_csv_brings_its_columns() -> None:
    Path("list.csv").write_text("path,item,price,new\nphotos/a.png,007,3,true\ns3://b/c.jpg,x,2.5,\n")
    one = read_catalogue(["list.csv"])
    assert one.kinds == {"item": "text", "price": "float", "new": "bool"}
    assert every(one) == [
        Item("photos/a.png", "photos/a.png", {"item": "007", "price": 3.0, "new": True}),
        Item("s3://b/c.jpg", "s3://b/c.jpg", {"item": "x", "price": 2.5, "new": None}),
    ]


def test_a_parquet_brings_its_columns_as_the_kinds_that_are_kept() -> None:
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC)
    name = parquet(
        "list.parquet",
        price=pa.array([1], pa.decimal128(5, 2)),
        id=pa.array([17], pa.int32()),
        path=["a.jpg"],
        n=pa.array([3], pa.uint16()),
        brand=pa.array(["x"]).dictionary_encode(),
        since=[date(2024, 5, 1)],
        seen=pa.array([moment], pa.timestamp("ns", "Europe/Berlin")),
        at=pa.array([datetime(2024, 5, 1)], pa.timestamp("s")),
        tags=pa.array([["a", "b"]], pa.large_list(pa.large_string())),
        nothing=pa.nulls(1),
    )
    one = read_catalogue([name])
    assert one.kinds == {
        "price": "float", "n": "int", "brand": "text", "since": "date", "seen": "datetime_utc",
        "at": "datetime", "tags": "list",
    }  # fmt: skip
    (item,) = every(one)
    assert (item.id, item.path) == ("17", "a.jpg")
    expected = {"price": 1.0, "n": 3, "brand": "x", "since": date(2024, 5, 1), "seen": moment}
    assert item.columns == expected | {"at": datetime(2024, 5, 1), "tags": ["a", "b"]}
    assert Decimal(1) == item.columns["price"]


def test_a_table_at_an_address() -> None:
    parquet("list.parquet", path=["a.jpg"])
    assert [item.path for item in every(read_catalogue([f"file://{Path.cwd()}/list.parquet"]))] == ["a.jpg"]


def test_tables_and_files_together() -> None:
    names = [parquet("one.parquet", path=["x.jpg"], n=[1]), "photos/a.png", parquet("two.parquet", path=["y.jpg"])]
    assert every(read_catalogue(names)) == [
        Item("x.jpg", "x.jpg", {"n": 1}),
        Item("photos/a.png", "photos/a.png", {"n": None}),
        Item("y.jpg", "y.jpg", {"n": None}),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"file": ["a.jpg"]}, "has no column path: it has file"),
        ({"path": ["a.jpg", None]}, "row 2 has no path"),
        ({"path": ["a.jpg", "b.jpg"], "id": ["x", ""]}, "row 2 has no id"),
        ({"path": ["a.jpg", "a.jpg"]}, r"1 ids are there more than once, such as 'a\.jpg': give each row its own"),
        ({"path": ["a.jpg"], "category": ["x"]}, "the column 'category' is one of the gallery's own"),
        ({"path": ["a.jpg"], "size": [{"w": 1}]}, "'list.parquet: size' is of type struct"),
        ({"path": ["a.jpg"], "n": pa.array([2**64 - 1], pa.uint64())}, "'n' cannot be kept as int"),
        ({"path": [["a.jpg"]]}, "the column path is not of texts"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_whole(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_catalogue([parquet("list.parquet", **columns)])


def test_tables_that_contradict_each_other() -> None:
    names = [parquet("one.parquet", path=["x.jpg"], n=["1"]), parquet("two.parquet", path=["y.jpg"], n=[1])]
    with pytest.raises(UsageError, match="the tables do not go together"):
        read_catalogue(names)


@pytest.mark.parametrize("name", ["none.parquet", "none.csv", "photos/text.parquet", "photos/bytes.csv"])
def test_a_table_that_cannot_be_read(name: str) -> None:
    Path("photos/text.parquet").write_text("no")
    Path("photos/bytes.csv").write_bytes(b"path\n\xff\n")
    with pytest.raises(UsageError, match=rf"{name} cannot be read as a table"):
        read_catalogue([name])


def test_chunks_are_of_one_size_but_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalogue.CHUNK == 1000
    monkeypatch.setattr(catalogue, "CHUNK", 4)
    one = read_catalogue([parquet("list.parquet", path=[f"{i}.jpg" for i in range(10)])])
    assert (len(one), one.chunks, [one.rows_of(n) for n in range(3)]) == (10, 3, [4, 4, 2])
    assert [item.path for item in one.chunk(2)] == ["8.jpg", "9.jpg"]


def test_the_fingerprint_is_that_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_catalogue(["photos"]).fingerprint()
    assert read_catalogue(["photos/*"]).fingerprint() == first
    assert read_catalogue(["photos/c.jpg", "photos"]).fingerprint() != first
    with_column = parquet("list.parquet", path=["photos/a.png", "photos/b.jpg", "photos/c.jpg"], n=[1, 2, 3])
    changed = read_catalogue([with_column]).fingerprint()
    assert changed != first
    parquet("list.parquet", path=["photos/a.png", "photos/b.jpg", "photos/c.jpg"], n=[1, 2, 4])
    assert read_catalogue([with_column]).fingerprint() != changed
    monkeypatch.setattr(catalogue, "CHUNK", 500)  # other files
    assert read_catalogue(["photos"]).fingerprint() != first
