"""Crops of worn garments, cut from a made-up checkout of the public set."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import worn_photos
from scipy.io import savemat

from fashion_infer.data.deepfashion import read_category

NAMES = ["null", "blouse", "hair", "skin", "skirt"]
ROWS = (("0001", "blouse", "train"), ("0001", "skirt", "train"), ("0002", "blouse", "val"), ("0003", "blouse", "test"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Three photos of 200 x 400 pixels: hair above a face, a blouse, a skirt, legs."""
    root = tmp_path / "ccp"
    (root / "photos").mkdir(parents=True)
    (root / "annotations" / "pixel-level").mkdir(parents=True)
    cells = np.empty((1, len(NAMES)), object)
    cells[0] = NAMES
    savemat(root / "label_list.mat", {"label_list": cells})
    rng = np.random.default_rng(0)
    for number in ("0001", "0002", "0003"):
        labels = np.zeros((400, 200), np.uint8)
        labels[20:40, 80:120] = 2
        labels[40:68, 85:115] = 3
        labels[70:170, 60:140] = 1
        labels[170:250, 70:130] = 4
        labels[250:350, 80:120] = 3
        savemat(root / "annotations" / "pixel-level" / f"{number}.mat", {"groundtruth": labels})
        cv2.imwrite(str(root / "photos" / f"{number}.jpg"), rng.integers(0, 256, (400, 200, 3), np.uint8))
    return root


@pytest.fixture(autouse=True)
def readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A label file for these photos; the test garment is read twice, and the second reading decides."""
    path = tmp_path / "labels.csv"
    with worn_photos.LABELS.open(encoding="utf-8") as file:
        columns = next(csv.reader(file))
    common = {"texture": "solid", "sleeve": "long_sleeve", "length": "no_dress", "neck": "no_neckline"}
    common |= {"fabric": "cotton", "fit": "loose", "type": "u", "box": "25,10,75,90"}
    common["landmarks"] = "0:30,10 0:60,10 0:20,50 1:80,50 2:0,0 2:0,0"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for number, tag, split in ROWS:
            for reading in ("1", "2") if split == "test" else ("1",):
                category = "Top" if reading == "2" else "Blouse"
                row = {"image": f"{number}_{tag}", "photo": number, "split": split, "reading": reading}
                writer.writerow(row | common | {"category": category})
    monkeypatch.setattr(worn_photos, "LABELS", path)


def test_crops_and_labels_in_deepfashions_layout(checkout: Path, tmp_path: Path) -> None:
    output = tmp_path / "worn"
    worn_photos.main(checkout, output)
    data = read_category(output)
    assert sorted(data.images) == [f"img/worn/{number}_{tag}.jpg" for number, tag, _ in sorted(ROWS)]
    height, width = cv2.imread(str(output / "Img/img/worn/0001_blouse.jpg")).shape[:2]
    assert (width, height) == (80 + 2 * 14, 100 + 2 * 12), "18 % of 80 beside it, 12 % of 100 above and below"
    test = data.split("test")
    assert test.category_names[test.categories[0]] == "Top", "the later reading"
    np.testing.assert_array_equal(test.boxes[0], [27, 12, 81, 112])
    assert test.visibility[0].tolist() == [0, 0, 0, 1, -1, -1, 2, 2]


def test_hair_and_face_are_blurred_and_the_garment_is_not(checkout: Path) -> None:
    crop = worn_photos.cut_out(checkout, "0001_blouse", NAMES)
    photo = cv2.imread(str(checkout / "photos" / "0001.jpg"))
    np.testing.assert_array_equal(crop[20:], photo[58 + 20 : 182, 46:154])
    face = crop[:7, 85 - 46 + 4 : 115 - 46 - 4].astype(float)
    assert face.std() < 0.4 * photo[58:65, 89:111].std()


def test_bare_legs_are_no_face() -> None:
    hair, skin = np.zeros((50, 20), bool), np.zeros((50, 20), bool)
    hair[2:6, 5:15] = True
    skin[6:12, 7:13] = skin[30:45, 7:13] = True
    hidden = worn_photos.head(hair, skin)
    assert hidden[2:12, 7:13].all() and not hidden[30:].any()
    assert not worn_photos.head(np.zeros_like(hair), skin).any(), "without hair nobody knows where the face is"


def test_crops_are_kept_and_gaps_are_named(checkout: Path, tmp_path: Path) -> None:
    output = tmp_path / "worn"
    worn_photos.main(checkout, output)
    before = (output / "Img/img/worn/0002_blouse.jpg").stat().st_mtime_ns
    worn_photos.main(checkout, output)
    assert (output / "Img/img/worn/0002_blouse.jpg").stat().st_mtime_ns == before
    (checkout / "photos" / "0003.jpg").unlink()
    (output / "Img/img/worn/0003_blouse.jpg").unlink()
    with pytest.raises(SystemExit, match=r"photos/0003\.jpg is missing"):
        worn_photos.main(checkout, output)
    with pytest.raises(SystemExit, match="shows no dress"):
        worn_photos.cut_out(checkout, "0001_dress", NAMES)
    (checkout / "label_list.mat").unlink()
    with pytest.raises(SystemExit, match=r"has no label_list\.mat"):
        worn_photos.main(checkout, output)


def test_the_committed_readings_are_whole() -> None:
    with (worn_photos.HERE / "worn_labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    splits = {row["image"]: row["split"] for row in rows}
    assert {s: list(splits.values()).count(s) for s in ("train", "val", "test")} == {
        "train": 1150, "val": 112, "test": 292,
    }  # fmt: skip
    assert all(row["image"].split("_")[0] == row["photo"] for row in rows)
