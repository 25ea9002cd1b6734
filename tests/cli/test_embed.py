"""`fashion-infer embed` on this machine; on a cluster in tests/embed/test_cluster.py."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

Run = Callable[..., Any]


@pytest.fixture
def shop(tmp_path: Path, pictures: Path) -> Path:
    """A folder with four photos and a table of them; commands run in it."""
    (tmp_path / "photos").mkdir()
    lines = ["path,price"]
    for number, picture in enumerate(sorted(pictures.iterdir())[:4]):
        shutil.copy(picture, tmp_path / "photos" / f"{number}.png")
        lines.append(f"photos/{number}.png,{10 * number}")
    (tmp_path / "products.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def embed(run: Run, onnx_model: Path, shop: Path) -> Run:
    """Runs the command on one thread, or each process would measure anew which layout is fastest."""
    return lambda *arguments: run("embed", onnx_model, *arguments, "--threads", "1", folder=shop)


def test_a_folder_and_its_way_into_a_gallery(embed: Run, run: Run, shop: Path) -> None:
    result = embed("photos", "-o", "out")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("4 rows in out; ")
    assert [path.name for path in (shop / "out").iterdir()] == ["chunk-000000.parquet"]
    assert embed("photos", "-o", "out").stdout.startswith("4 rows in out, 4 of them by an earlier run; ")
    assert "4 added; 4 rows" in run("index", "g", "--from", "out", folder=shop).stdout
    assert "4 unchanged" in run("index", "g", "photos", "--threads", "1", folder=shop).stdout


def test_a_table_as_json(embed: Run, shop: Path) -> None:
    facts = json.loads(embed("products.csv", "-o", "out", "--json").stdout)
    assert (facts["rows"], facts["skipped"], facts["failed"]) == (4, 0, [])
    assert pq.read_table(shop / "out")["price"].to_pylist() == [0, 10, 20, 30]


def test_bad_photos_are_listed_in_this_run_and_the_next(embed: Run, fails: Callable[..., None], shop: Path) -> None:
    (shop / "photos" / "bad.jpg").write_text("no picture")
    (shop / "empty").mkdir()
    for skipped in (0, 6):
        result = embed("photos", "missing.jpg", "empty", "-o", "out", "--json")
        fails(result, 4, "3 of 7 inputs could not be used")
        facts = json.loads(result.stdout)
        assert (facts["rows"], facts["skipped"]) == (6, skipped)
        assert [failed["id"] for failed in facts["failed"]] == ["empty", "photos/bad.jpg", "missing.jpg"]
        assert "missing.jpg cannot be read: No such file" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.csv", "-o", "out"], 2, "none.csv cannot be read as a table"),
        (["https://shop/a.jpg", "-o", "out"], 2, "there is nothing to embed"),
        (["products.csv", "-o", "taken"], 2, "taken holds other.parquet, which is no chunk of embeddings"),
        (["products.csv", "-o", "products.csv/out"], 1, "products.csv is not a folder that you may write to"),
    ],
)
def test_what_cannot_be(
    embed: Run, fails: Callable[..., None], shop: Path, arguments: list[str], code: int, message: str
) -> None:
    (shop / "taken").mkdir()
    (shop / "taken" / "other.parquet").touch()
    fails(embed(*arguments), code, message)
    assert not (shop / "out").exists()


def test_a_model_that_is_not_there(run: Run, fails: Callable[..., None], shop: Path) -> None:
    fails(run("embed", "nothing.onnx", "photos", "-o", "out", folder=shop), 2, "there is no model file nothing.onnx")
    assert not (shop / "out").exists()
