"""Tests of `check` on complete, incomplete and damaged downloads, made from a small rendered set."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fashion_infer.data import deepfashion
from fashion_infer.data.benchmarks import find_benchmarks, has_official_counts
from fashion_infer.data.deepfashion_check import BenchmarkReport, CheckReport, check
from fashion_infer.errors import DataError, ImageError
from fashion_infer.images import read_image
from fashion_infer.synthetic.dataset import write_dataset


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rendered") / "set"
    write_dataset(root, images=24, seed=2, size=64, jobs=1, progress=False)
    return root


@pytest.fixture
def data_set(rendered: Path, tmp_path: Path) -> Path:
    """A copy of the rendered set that a test may damage."""
    return Path(shutil.copytree(rendered, tmp_path / "set"))


def benchmark(report: CheckReport, name: str = "category") -> BenchmarkReport:
    return next(one for one in report.benchmarks if one.benchmark == name)


def damage(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def test_a_whole_set(rendered: Path) -> None:
    report = check(rendered)
    assert report.ok
    assert [one.benchmark for one in report.benchmarks] == ["category", "consumer_to_shop", "in_shop", "landmarks"]
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
    values = json.loads(json.dumps(report.to_dict()))
    assert values["ok"] is True
    assert values["benchmarks"][0]["counts"]["train"] == 16


def test_one_benchmark_by_itself(rendered: Path) -> None:
    report = check(rendered / "in_shop", images=False)
    assert [one.benchmark for one in report.benchmarks] == ["in_shop"]


def test_missing_files_are_listed(data_set: Path) -> None:
    (data_set / "category_attribute/Anno/list_bbox.txt").unlink()
    (data_set / "category_attribute/Eval/list_eval_partition.txt").unlink()
    report = benchmark(check(data_set, images=False))
    assert set(report.missing_files) == {"Eval/list_eval_partition.txt"}, "without boxes photos would be used whole"
    assert report.counts == {}
    assert not report.ok


def test_what_can_be_done_without_is_a_note(data_set: Path) -> None:
    (data_set / "in_shop/Anno/list_landmarks_inshop.txt").unlink()
    report = benchmark(check(data_set, images=False), "in_shop")
    assert report.ok
    assert report.notes == ("Anno/list_landmarks_inshop.txt is not there: landmarks are neither trained nor judged",)
    assert f"  note: {report.notes[0]}" in report.lines()
    assert report.counts["items"] == 6


def test_an_own_set_of_other_numbers_has_no_findings_but_the_true_one(data_set: Path) -> None:
    """A set of three attributes and sixty categories: a damaged file must not cause findings in the others."""
    folder = data_set / "category_attribute"
    (folder / "Anno").rename(folder / "Anno_coarse")
    anno = folder / "Anno_fine"
    anno.mkdir()
    names = [str(path.relative_to(folder / "Img")) for path in sorted((folder / "Img/img").rglob("*.jpg"))][:3]
    categories = [f"kind{i} 1" for i in range(60)]
    (anno / "list_category_cloth.txt").write_text("\n".join(["60", "category_name category_type", *categories]))
    (anno / "list_attr_cloth.txt").write_text("3\nattribute_name attribute_type\nred 1\nlong 2\nnew style 6\n")
    for split, name in zip(("train", "val", "test"), names, strict=True):
        rows = {"": name, "_cate": "60", "_attr": "1 0 1", "_bbox": "1 1 20 20", "_landmarks": " ".join(["5"] * 16)}
        for part, row in rows.items():
            (anno / f"{split}{part}.txt").write_text(row + "\n")
    shutil.rmtree(folder / "Anno_coarse")
    report = check(folder)
    assert benchmark(report, "category_fine").counts == {
        "images": 3, "train": 1, "val": 1, "test": 1, "categories": 60, "attributes": 3,
    }  # fmt: skip
    assert report.ok
    (anno / "val_bbox.txt").write_text("1 1 20\n")
    findings = benchmark(check(folder), "category_fine").findings
    assert [str(finding) for finding in findings] == ["Anno_fine/val_bbox.txt:1: 4 values expected, found 3"]


def test_the_fine_set_has_official_counts() -> None:
    counts = {"images": 20_000, "train": 14_000, "val": 2_000, "test": 4_000, "categories": 50, "attributes": 26}
    assert has_official_counts("category_fine", counts)
    assert not has_official_counts("category_fine", {**counts, "train": 13_999})


def test_official_counts_do_not_ask_for_attributes_where_there_are_none() -> None:
    counts = {"images": 52_712, "train": 25_882, "query": 14_218, "gallery": 12_612, "items": 7_982}
    assert has_official_counts("in_shop", counts)
    assert has_official_counts("in_shop", {**counts, "attributes": 463})
    assert not has_official_counts("in_shop", {**counts, "attributes": 462})


def test_every_malformed_row_is_listed(data_set: Path) -> None:
    anno = data_set / "category_attribute/Anno"
    damage(anno / "list_bbox.txt", lambda text: text.replace("  0", "  zero", 3))
    damage(anno / "list_attr_img.txt", lambda text: text.replace("-1\n", "\n", 2))
    damage(anno / "list_category_img.txt", lambda text: text.replace("24\n", "25\n", 1))
    report = benchmark(check(data_set))
    by_file = [(finding.file, finding.line) for finding in report.findings]
    assert ("Anno/list_bbox.txt", 3) in by_file
    assert sum(file == "Anno/list_attr_img.txt" for file, _ in by_file) == 2
    assert "Anno/list_category_img.txt:1: says 25 rows, the file has 24" in [
        str(finding) for finding in report.findings
    ]
    assert any("is not a whole number" in finding.message for finding in report.findings)


def test_files_that_do_not_fit_together(data_set: Path) -> None:
    path = data_set / "landmarks/Anno/list_bbox.txt"
    damage(path, lambda text: text.replace("img/00000003.jpg", "img/99999999.jpg"))
    report = benchmark(check(data_set), "landmarks")
    assert [finding.message for finding in report.findings] == [f"{path}: no row for img/00000003.jpg"]


def test_box_without_area(data_set: Path) -> None:
    lines = (data_set / "landmarks/Anno/list_bbox.txt").read_text().splitlines()
    lines[2] = f"{lines[2].split()[0]} 010 010 010 050"
    (data_set / "landmarks/Anno/list_bbox.txt").write_text("\n".join(lines))
    report = benchmark(check(data_set), "landmarks")
    assert [str(finding) for finding in report.findings] == ["img/00000001.jpg: box [10, 10, 10, 50] has no area"]
    assert report.counts["images"] == 24


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
    report = benchmark(check(data_set), "landmarks")
    assert report.missing_images == 1
    assert report.first_missing_images == ("img/00000001.jpg",)
    assert [finding.file for finding in report.unreadable_images] == [f"img/0000000{i}.jpg" for i in (2, 3, 4)]
    assert "truncated" in report.unreadable_images[0].message
    assert benchmark(check(data_set, images=False), "landmarks").ok


def test_both_spellings_of_the_item_file(data_set: Path) -> None:
    anno = data_set / "consumer_to_shop/Anno"
    (anno / "list_item_consumer2shop.txt").rename(anno / "list_items_consumer2shop.txt")
    report = benchmark(check(data_set, images=False), "consumer_to_shop")
    assert report.ok
    assert "Anno/list_items_consumer2shop.txt" in report.files


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


# ---- images that cannot be used, and labels that do not fit their images


def damaged_images(folder: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).unlink()
        (folder / name).write_bytes(content)


def encoded(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 40), (9, 99, 9)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.filterwarnings("error")
def test_an_image_is_wrong_exactly_where_the_reader_refuses_it(data_set: Path) -> None:
    folder = data_set / "landmarks/Img/img"
    contents = {kind: encoded(kind) for kind in ("EPS", "PPM", "ICO", "JPEG2000", "AVIF", "TGA", "PCX")}
    contents["cut AVIF"] = contents["AVIF"][:-40]
    contents["cut EPS"] = contents["EPS"][:60]
    contents["closed JPEG"] = encoded("JPEG", quality=100)[:500] + b"\xff\xd9"
    names = [f"{number:08}.jpg" for number in range(1, len(contents) + 1)]
    damaged_images(folder, dict(zip(names, contents.values(), strict=True)))
    report = benchmark(check(data_set), "landmarks")
    assert [finding.file for finding in report.unreadable_images] == [f"img/{name}" for name in names]
    for name, finding in zip(names, report.unreadable_images, strict=True):
        with pytest.raises(ImageError) as caught:
            read_image(folder / name)
        assert str(caught.value) == f"{folder / name} {finding.message}"


def rewrite(path: Path, row: int, change: Callable[[list[str]], list[str]]) -> None:
    """Change the cells of a row, counted from 0 below the two header lines."""
    lines = path.read_text().splitlines()
    lines[2 + row] = " ".join(change(lines[2 + row].split()))
    path.write_text("\n".join(lines) + "\n")


def test_labels_that_do_not_fit_their_images(data_set: Path) -> None:
    anno = data_set / "landmarks/Anno"
    rewrite(anno / "list_bbox.txt", 0, lambda cells: [cells[0], "900", "900", "990", "990"])
    rewrite(anno / "list_bbox.txt", 1, lambda cells: [cells[0], "10", "10", "11", "50"])
    rewrite(anno / "list_landmarks.txt", 2, lambda cells: [*cells[:3], "0", "0", "0", *cells[6:]])
    rewrite(anno / "list_landmarks.txt", 3, lambda cells: [*cells[:3], "1", "5000", "20", *cells[6:]])
    names = [line.split()[0] for line in (anno / "list_landmarks.txt").read_text().splitlines()[2:6]]
    boxes = [line.split()[0] for line in (anno / "list_bbox.txt").read_text().splitlines()[2:4]]
    messages = {finding.file: finding.message for finding in benchmark(check(data_set), "landmarks").findings}
    assert messages[boxes[0]].startswith("the box [900.0, 900.0, 990.0, 990.0] has no area inside the ")
    assert "covers less than 2 pixels a side" in messages[boxes[1]]
    assert messages[names[2]].endswith(" is labelled at (0, 0), the corner of the image")
    assert " at (5000, 20) lies outside the " in messages[names[3]]
    assert len(messages) == 4


@pytest.mark.parametrize("name", ["Stra\udcdfe.jpg", "Straße.jpg", "a\u00a0b.jpg", "衣\u3000服.jpg"])
def test_names_are_those_on_disk_to_the_letter(name: str, data_set: Path) -> None:
    root = data_set / "landmarks"
    (root / "Img/img/00000001.jpg").rename(root / "Img/img" / name)
    for path in root.rglob("*.txt"):
        path.write_bytes(path.read_bytes().replace(b"00000001.jpg", os.fsencode(name)))
    report = benchmark(check(data_set), "landmarks")
    assert report.ok, report.lines()
    assert f"img/{name}" in deepfashion.read_landmarks(root).images


def test_a_byte_order_mark_is_no_part_of_a_file(data_set: Path) -> None:
    for path in (data_set / "landmarks").rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert benchmark(check(data_set), "landmarks").ok


@pytest.mark.parametrize("number", ["1_0", "\u0661\u0660", "+1-0", "0x10", "9" * 5000, "1e3"])
def test_what_is_no_plain_number_is_a_finding(number: str, data_set: Path) -> None:
    path = data_set / "landmarks/Anno/list_bbox.txt"
    rewrite(path, 0, lambda cells: [cells[0], number, *cells[2:]])
    report = benchmark(check(data_set, images=False), "landmarks")
    assert ["is not a whole number" in finding.message for finding in report.findings] == [True]
