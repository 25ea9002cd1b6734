"""What `check` says of whole, incomplete and damaged downloads, made by rendering a small set."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fashion_infer.data.deepfashion_check import BenchmarkReport, CheckReport, check, find_benchmarks
from fashion_infer.errors import DataError
from fashion_infer.synthetic.dataset import write_dataset


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rendered") / "set"
    write_dataset(root, images=24, seed=2, size=64, jobs=1, progress=False)
    return root


@pytest.fixture
def data_set(rendered: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(rendered, tmp_path / "set"))


def benchmark(report: CheckReport, name: str = "category") -> BenchmarkReport:
    return next(found for found in report.benchmarks if found.benchmark == name)


def damage(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def test_a_whole_set(rendered: Path) -> None:
    report = check(rendered)
    assert report.ok
    assert [found.benchmark for found in report.benchmarks] == ["category", "consumer_to_shop", "in_shop", "landmarks"]
    assert benchmark(report).counts == {
        "images": 24,
        "train": 16,
        "val": 4,
        "test": 4,
        "categories": 50,
        "attributes": 77,
    }
    assert benchmark(report, "in_shop").counts["items"] == 6
    assert benchmark(report, "consumer_to_shop").counts["pairs"] == 24
    assert benchmark(report).official_counts["images"] == 289_222
    assert not benchmark(report).is_official
    assert "Eval/list_eval_partition.txt" in benchmark(report).files
    told = json.loads(json.dumps(report.to_dict()))
    assert told["ok"] is True
    assert told["benchmarks"][0]["counts"]["train"] == 16


def test_one_benchmark_by_itself(rendered: Path) -> None:
    report = check(rendered / "in_shop", images=False)
    assert [found.benchmark for found in report.benchmarks] == ["in_shop"]


def test_missing_files_are_listed(data_set: Path) -> None:
    (data_set / "category_attribute/Anno/list_bbox.txt").unlink()
    (data_set / "category_attribute/Eval/list_eval_partition.txt").unlink()
    found = benchmark(check(data_set, images=False))
    assert set(found.missing_files) == {"Anno/list_bbox.txt", "Eval/list_eval_partition.txt"}
    assert found.counts == {}
    assert not found.ok


def test_every_malformed_row_is_listed(data_set: Path) -> None:
    anno = data_set / "category_attribute/Anno"
    damage(anno / "list_bbox.txt", lambda text: text.replace("  0", "  zero", 3))
    damage(anno / "list_attr_img.txt", lambda text: text.replace("-1\n", "\n", 2))
    damage(anno / "list_category_img.txt", lambda text: text.replace("24\n", "25\n", 1))
    found = benchmark(check(data_set))
    by_file = [(finding.file, finding.line) for finding in found.findings]
    assert ("Anno/list_bbox.txt", 3) in by_file
    assert sum(file == "Anno/list_attr_img.txt" for file, _ in by_file) == 2
    assert "Anno/list_category_img.txt:1: says 25 rows, the file has 24" in [str(finding) for finding in found.findings]
    assert any("is not a whole number" in finding.message for finding in found.findings)


def test_files_that_do_not_fit_together(data_set: Path) -> None:
    path = data_set / "landmarks/Anno/list_bbox.txt"
    damage(path, lambda text: text.replace("img/00000003.jpg", "img/99999999.jpg"))
    found = benchmark(check(data_set), "landmarks")
    assert [finding.message for finding in found.findings] == [f"{path}: no row for img/00000003.jpg"]


def test_box_without_area(data_set: Path) -> None:
    lines = (data_set / "landmarks/Anno/list_bbox.txt").read_text().splitlines()
    lines[2] = f"{lines[2].split()[0]} 010 010 010 050"
    (data_set / "landmarks/Anno/list_bbox.txt").write_text("\n".join(lines))
    found = benchmark(check(data_set), "landmarks")
    assert [str(finding) for finding in found.findings] == ["img/00000001.jpg: box [10, 10, 10, 50] has no area"]
    assert found.counts["images"] == 24


def test_missing_truncated_and_false_images(data_set: Path) -> None:
    folder = data_set / "landmarks/Img/img"
    (folder / "00000001.jpg").unlink()
    whole = (folder / "00000002.jpg").read_bytes()
    for name, data in (
        ("00000002.jpg", whole[: len(whole) // 2]),
        ("00000003.jpg", b""),
        ("00000004.jpg", b"no picture"),
    ):
        (folder / name).unlink()
        (folder / name).write_bytes(data)
    Image.new("L", (30, 40), 128).save(folder / "00000005.jpg")  # some of DeepFashion's images are greyscale
    found = benchmark(check(data_set), "landmarks")
    assert found.missing_images == 1
    assert found.first_missing_images == ("img/00000001.jpg",)
    assert [finding.file for finding in found.unreadable_images] == [f"img/0000000{i}.jpg" for i in (2, 3, 4)]
    assert "truncated" in found.unreadable_images[0].message
    assert benchmark(check(data_set, images=False), "landmarks").ok


def test_both_spellings_of_the_item_file(data_set: Path) -> None:
    anno = data_set / "consumer_to_shop/Anno"
    (anno / "list_item_consumer2shop.txt").rename(anno / "list_items_consumer2shop.txt")
    found = benchmark(check(data_set, images=False), "consumer_to_shop")
    assert found.ok
    assert "Anno/list_items_consumer2shop.txt" in found.files


def test_nothing_there(tmp_path: Path) -> None:
    assert check(tmp_path).to_dict() == {"root": str(tmp_path), "ok": False, "benchmarks": []}
    with pytest.raises(DataError, match="no such folder"):
        check(tmp_path / "none")


def test_what_a_person_reads(data_set: Path) -> None:
    assert [folder.name for folder, _ in find_benchmarks(data_set)] == [
        "category_attribute",
        "consumer_to_shop",
        "in_shop",
        "landmarks",
    ]
    assert find_benchmarks(data_set / "in_shop") == [(data_set / "in_shop", "in_shop")]
    whole = check(data_set).lines()
    assert "  images 24 (official 289,222)" in whole
    assert not [line for line in whole if "wrong" in line]
    damage(data_set / "in_shop/Anno/list_bbox_inshop.txt", lambda text: text.replace(" 1 ", " x "))
    (data_set / "landmarks/Eval/list_eval_partition.txt").unlink()
    for image in (data_set / "category_attribute/Img").rglob("*.jpg"):
        image.unlink()
    lines = check(data_set).lines()
    assert f"in_shop in {data_set / 'in_shop'}: could not be read" in lines
    assert any(line.startswith("  wrong: Anno/list_bbox_inshop.txt:3: ") for line in lines)
    assert "  wrong: missing file Eval/list_eval_partition.txt" in lines
    assert any(line.startswith("  wrong: 24 images are missing, the first: img/") for line in lines)


def test_of_many_findings_the_first_are_read(data_set: Path) -> None:
    for image in (data_set / "category_attribute/Img").rglob("*.jpg"):
        image.write_bytes(b"no picture")
    lines = check(data_set / "category_attribute").lines()
    assert len([line for line in lines if ".jpg: " in line]) == 20
    assert lines[-1] == "  wrong: ... and 4 more (all of them with --json)"


def test_a_folder_without_a_benchmark_says_so(tmp_path: Path) -> None:
    assert check(tmp_path).lines() == [f"{tmp_path}: no benchmark of DeepFashion"]
