from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashion_infer.errors import UsageError
from fashion_infer.gallery.metadata import Metadata

CSV = """path,price,stock,new,item,sku,since,at,seen,note
a.jpg,1.5,3,true,12,007,2024-05-01,2024-05-01 12:30,2024-05-01T12:30:00+02:00,"red, warm"
b.jpg,2,,FALSE,13,010,,,,
"""


def test_a_csv_keeps_its_types(tmp_path: Path) -> None:
    file = tmp_path / "products.csv"
    file.write_text(CSV, encoding="utf-8-sig")
    metadata = Metadata(file)
    assert metadata.key == "path"
    assert metadata.columns_of("a.jpg") == {
        "price": 1.5,
        "stock": 3,
        "new": True,
        "item": "12",
        "sku": "007",
        "since": date(2024, 5, 1),
        "at": datetime(2024, 5, 1, 12, 30),
        "seen": datetime(2024, 5, 1, 10, 30, tzinfo=UTC),
        "note": "red, warm",
    }
    assert metadata.columns_of("b.jpg") == {"price": 2.0, "new": False, "item": "13", "sku": "010"}
    assert metadata.columns_of("c.jpg") is None
    assert metadata.unused == set()


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    columns = {"id": ["x", "y"], "price": [1, None], "since": [date(2024, 5, 1), None], "tags": [["a"], []]}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    metadata = Metadata(tmp_path / "p.parquet")
    assert metadata.key == "id"
    assert metadata.columns_of("x") == {"price": 1, "since": date(2024, 5, 1), "tags": ["a"]}
    assert metadata.columns_of("y") == {"tags": []}
    assert metadata.unused == set()


def test_keys_without_a_photo_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "products.csv"
    file.write_text("id,price\na,1\nb,2\n")
    metadata = Metadata(file)
    metadata.columns_of("a")
    assert metadata.unused == {"b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price\n1\n", "no column to join by: it needs path or id, and has price"),
        ("id,price\na,1\na,2\n", "has the id 'a' twice"),
        ("id,category\na,Dress\n", "'category' is one of the gallery's own"),
        ("id,price\na\n", "row 2: it has 1 cells, the header 2"),
        ("id,price,price\na,1,2\n", "two columns have the same name"),
        ("", "cannot be read as a CSV file"),
        ("id,\xff\n", "in UTF-8"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "products.csv"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=message):
        Metadata(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read as a CSV"):
        Metadata(tmp_path / "nothing.csv")
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        Metadata(tmp_path / "bad.parquet")


def test_a_date_that_is_none_stays_a_text(tmp_path: Path) -> None:
    file = tmp_path / "products.csv"
    file.write_text("id,since\na,2024-02-31\n")
    assert Metadata(file).columns_of("a") == {"since": "2024-02-31"}
