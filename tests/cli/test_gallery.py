"""`fashion-infer index`, `search` and `gallery`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Run = Callable[..., Any]


@pytest.fixture
def shop(tmp_path: Path, pictures: Path) -> Path:
    """A folder with six photos and a table about them; commands run in it."""
    (tmp_path / "photos").mkdir()
    lines = ["path,item,price"]
    for number, picture in enumerate(sorted(pictures.iterdir())[:6]):
        shutil.copy(picture, tmp_path / "photos" / f"{number}.png")
        lines.append(f"photos/{number}.png,i{number // 2},{10 * number}")
    (tmp_path / "products.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def indexed(shop: Path, run: Run, onnx_model: Path) -> Path:
    """The same, with a gallery of them."""
    result = run("index", "g", "photos", "--model", onnx_model, "--metadata", "products.csv", folder=shop)
    assert result.returncode == 0, result.stderr
    assert "6 added; 6 rows" in result.stdout
    return shop


def test_index_again_is_the_update(indexed: Path, run: Run) -> None:
    (indexed / "photos" / "5.png").unlink()
    (indexed / "photos" / "4.png").rename(indexed / "photos" / "new.png")
    shutil.copy(indexed / "photos" / "1.png", indexed / "photos" / "0.png")
    dry = json.loads(run("index", "g", "photos", "--dry-run", "--json", folder=indexed).stdout)
    assert (dry["counts"], dry["dry"]) == ({"changed": 1, "unchanged": 3, "new": 1}, True)
    assert dry["vanished"] == ["photos/4.png", "photos/5.png"]
    dry_text = run("index", "g", "photos", "--dry-run", "--prune", folder=indexed).stdout
    assert "2 photos are gone (--prune removes their old rows): photos/4.png, photos/5.png" in dry_text
    result = run("index", "g", "photos", "--json", folder=indexed)
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["counts"] == {"replaced": 1, "unchanged": 3, "added": 1}
    assert facts["vanished"] == ["photos/5.png"]
    assert facts["renamed"] == [["photos/4.png", "photos/new.png"]]
    assert facts["rows"] == 7
    text = run("index", "g", "photos", folder=indexed).stdout
    assert "1 photos are gone (--prune removes their old rows): photos/5.png" in text
    assert "photos/4.png -> photos/new.png" in text
    assert json.loads(run("index", "g", "photos", "--prune", "--json", folder=indexed).stdout)["rows"] == 5


def test_photos_that_cannot_be_read(indexed: Path, run: Run, fails: Callable[..., None]) -> None:
    (indexed / "photos" / "bad.jpg").write_text("no picture")
    result = run("index", "g", "photos", "missing.jpg", "--json", folder=indexed)
    fails(result, 4, "2 of 8 could not be used")
    assert "photos/bad.jpg" in result.stderr
    assert [failed["id"] for failed in json.loads(result.stdout)["failed"]] == ["photos/bad.jpg", "missing.jpg"]


def test_a_table_that_matches_nothing_is_told(indexed: Path, run: Run) -> None:
    (indexed / "other.csv").write_text("path,price\nnowhere.jpg,1\n")
    result = run("index", "g", "photos", "--metadata", "other.csv", folder=indexed)
    assert "1 rows of other.csv match no photo by path" in result.stderr
    assert "6 unchanged" in result.stdout


def test_search_as_json(indexed: Path, run: Run) -> None:
    result = run("search", "g", "photos/2.png", "--json", "--limit", "3", "--group-by", "item", folder=indexed)
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts.keys() == {"objects", "searched", "exact", "space", "took_ms"}
    (garment,) = facts["objects"]
    assert garment.keys() == {"box", "category", "hits"}
    first = garment["hits"][0]
    assert first.keys() == {"id", "item", "score", "match", "views", "image", "payload", "why"}
    assert (first["id"], first["item"], first["views"]) == ("photos/2.png", "i1", 2)
    assert first["payload"]["price"] == 20
    assert facts["searched"] == 6


def test_search_for_people_and_pipes(indexed: Path, run: Run) -> None:
    shown = run("search", "g", "photos/2.png", "--where", "price<=20", "--save-vis", "sheet.jpg", folder=indexed)
    assert "photos/2.png" in shown.stdout
    assert "3 of 3 rows (all compared)" in shown.stdout
    with Image.open(indexed / "sheet.jpg") as sheet:
        assert sheet.width > 600
    paths = run("search", "g", "--id", "photos/2.png", "-f", "--limit", "2", folder=indexed).stdout.splitlines()
    assert len(paths) == 2
    assert all((indexed / path).is_file() for path in paths)
    together = run("search", "g", "photos/2.png", "photos/3.png", "--together", "-f", folder=indexed)
    assert len(together.stdout.splitlines()) == 6
    liked = run("search", "g", "--like", "photos/2.png", "--unlike", "photos/3.png", "-f", folder=indexed)
    assert len(liked.stdout.splitlines()) == 4
    assert run("search", "g", "photos/2.png", "--box", "0,0,50,60", "-f", folder=indexed).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("search", "g", "photos/2.png", "--where", "cost<3"), 2, "no column 'cost'; it has"),
        (("search", "g", "photos/2.png", "--where", "price<<"), 2, "cannot be read"),
        (("search", "g", "photos/2.png", "--limit", "0"), 2, "limit must be a whole number of at least 1"),
        (("search", "g", "photos/2.png", "--box", "1,2"), 2, "it is x1,y1,x2,y2"),
        (("search", "g", "photos/2.png", "--box", "a"), 2, "it is x1,y1,x2,y2"),
        (("search", "g"), 2, "give a query"),
        (("search", "g", "missing.jpg", "--save-vis", "x.gif"), 2, "a contact sheet is written as"),
        (("search", "g", "missing.jpg", "--save-vis", "photos/2.png/x.jpg"), 1, "not a folder that you may write to"),
        (("search", "g", "missing.jpg", "photos/2.png"), 4, "1 of 2 queries could not be used"),
        (("search", "g", "--id", "nothing"), 4, "has no row 'nothing'"),
        (("search", "nothing", "photos/2.png"), 3, "there is no gallery nothing"),
        (("search", "photos", "photos/2.png"), 3, "photos is no gallery"),
        (("search", "g", "--id", "photos/2.png", "--box", "1,2,3,4"), 2, "--box cannot be used without a photo"),
        (("search", "g", "--id", "photos/2.png", "--json", "-f"), 2, "--json and --files are two formats"),
        (("search", "g", "--id", "photos/2.png", "--min-score", "nan"), 2, "min_score must be a number, got nan"),
        (("search", "a" * 300, "--id", "x"), 3, "there is no gallery a"),
        (("index", "a" * 300, "photos"), 3, "File name too long"),
        (
            ("index", "g", "--from", "x", "--prune", "--threads", "1"),
            2,
            "--prune, --threads cannot be used with --from",
        ),
        (("index", "g", "--rebuild", "x", "--model", "y"), 2, "--model cannot be used with --rebuild"),
        (("index", "g"), 2, "give photos, --from or --rebuild"),
        (("index", "g", "photos", "--from", "x"), 2, "got --from and INPUTS"),
        (("index", "g", "photos", "--metadata", "none.csv"), 2, "cannot be read as a CSV"),
        (("index", "g", "photos", "--model", "fashionnet-lite"), 3, "holds embeddings of"),
        (("gallery", "info", "nothing"), 3, "there is no gallery nothing"),
    ],
)
def test_what_cannot_be(
    indexed: Path, run: Run, fails: Callable[..., None], arguments: tuple[str, ...], code: int, message: str
) -> None:
    fails(run(*arguments, folder=indexed), code, message)
    assert not (indexed / "nothing").exists()


def test_gallery_info_remove_export_duplicates(indexed: Path, run: Run) -> None:
    facts = json.loads(run("gallery", "info", "g", "--check", "--json", folder=indexed).stdout)
    assert (facts["rows"], facts["columns"]) == (6, {"item": "text", "price": "int"})
    assert facts["check"] == {"wrong": [], "recall_at_10": 1.0}
    assert "'rows': 6" in run("gallery", "info", "g", folder=indexed).stdout
    assert json.loads(run("gallery", "remove", "g", "photos/0.png", "no", "--json", folder=indexed).stdout) == {
        "removed": 1,
        "rows": 5,
    }
    assert "5 rows in e.parquet" in run("gallery", "export", "g", "-o", "e.parquet", folder=indexed).stdout
    assert "5 added; 5 rows" in run("index", "copy", "--from", "e.parquet", folder=indexed).stdout
    shutil.copy(indexed / "photos" / "1.png", indexed / "photos" / "again.png")
    run("index", "copy", "photos/again.png", folder=indexed)
    pair = json.loads(run("gallery", "duplicates", "copy", "--json", folder=indexed).stdout)
    assert pair == {"kind": "file", "ids": ["photos/1.png", "photos/again.png"], "score": pytest.approx(1, abs=1e-3)}


def test_damage_is_an_error(indexed: Path, run: Run, fails: Callable[..., None]) -> None:
    import sqlite3

    with sqlite3.connect(indexed / "g" / "gallery.sqlite") as connection:
        connection.execute("DELETE FROM vectors_1 WHERE number = 2")
    connection.close()
    fails(run("gallery", "info", "g", "--check", folder=indexed), 3, "is damaged: 1 rows have no vector")


def test_rebuild(indexed: Path, run: Run, fails: Callable[..., None], tmp_path: Path, onnx_model: Path) -> None:
    import dataclasses

    import onnx

    from fashion_infer.model_spec import METADATA_KEY
    from fashion_infer.onnx_file import load_onnx, set_metadata

    model, spec = load_onnx(onnx_model)
    set_metadata(model, METADATA_KEY, dataclasses.replace(spec, embedding_sha256="e" * 64).to_json())
    onnx.save(model, indexed / "other.onnx")
    dry = run("index", "g", "--rebuild", "other.onnx", "--dry-run", folder=indexed)
    assert "6 of 6 rows are to be computed, about" in dry.stderr
    assert "would be done: 6 replaced" in dry.stdout
    (indexed / "photos" / "3.png").unlink()
    fails(run("index", "g", "--rebuild", "other.onnx", folder=indexed), 3, "1 rows could not be computed again")
    result = run("index", "g", "--rebuild", "other.onnx", "--prune", "--json", folder=indexed)
    assert result.returncode == 4  # one photo could not be used, and was left out
    assert json.loads(result.stdout)["rows"] == 5
    fails(run("search", "g", "photos/2.png", "--model", onnx_model, folder=indexed), 3, "holds embeddings of")
    assert run("search", "g", "photos/2.png", folder=indexed).returncode == 0
