"""Tests of scaling labels from small photos to large ones."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashion_infer.data.deepfashion import read_category, read_inshop
from fashion_infer.data.highres import longest_side, placed
from fashion_infer.errors import DataError
from fashion_infer.synthetic.dataset import write_dataset


@pytest.fixture
def in_shop(tmp_path: Path) -> Path:
    """The partition, boxes and landmarks of two images, in pixels of 256 x 256, without the photos."""
    names = [f"img/WOMEN/Tees/id_0000000{i}/01_1_front.jpg" for i in (1, 2)]
    points = "0 100 050  0 156 050  0 060 100  2 000 000  0 100 200  0 156 200"
    files = {
        "Eval/list_eval_partition.txt": [f"{name} id_0000000{i} train" for i, name in enumerate(names, 1)],
        "Anno/list_bbox_inshop.txt": [f"{name} 1 1 064 032 192 224" for name in names],
        "Anno/list_landmarks_inshop.txt": [f"{name} 1 1 {points}" for name in names],
    }
    for file, rows in files.items():
        path = tmp_path / "set" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["2", "header", *rows]) + "\n")
    return tmp_path / "set"


def save(folder: Path, name: str, size: tuple[int, int]) -> None:
    path = folder / "WOMEN/Tees" / f"id_0000000{name}" / "01_1_front.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def test_in_shop_photos_were_shrunk_and_centred(in_shop: Path) -> None:
    """A photo of 750 x 1101 is 174.4 x 256 within 256 x 256: the scale is 1101 / 256, and there are margins."""
    save(in_shop / "Img/img_highres", "1", (750, 1101))
    save(in_shop / "Img/img_highres", "2", (512, 512))
    data = read_inshop(in_shop)
    scale = 1101 / 256
    margin = (256 - 750 / scale) / 2
    x1, y1, x2, y2 = data.boxes[0].tolist()
    assert [x1, x2] == pytest.approx([(64 - margin) * scale, (192 - margin) * scale], rel=1e-5)
    assert [y1, y2] == pytest.approx([32 * scale, 224 * scale], rel=1e-5)
    assert data.landmarks[0, 0].tolist() == pytest.approx([(100 - margin) * scale, 50 * scale], rel=1e-5)
    assert data.landmarks[0, 3].tolist() == [0, 0], "a landmark that is cut off has no place"
    assert data.boxes[1].tolist() == [128, 64, 384, 448]
    assert data.images[0] == "img_highres/WOMEN/Tees/id_00000001/01_1_front.jpg"
    assert (data.image_root / data.images[0]).exists()


def test_which_photos_are_used(in_shop: Path) -> None:
    save(in_shop / "Img/img", "1", (256, 256))
    save(in_shop / "Img/img_highres", "1", (512, 512))
    assert read_inshop(in_shop).boxes[0].tolist() == [64, 32, 192, 224], "the small ones, where both are there"
    assert read_inshop(in_shop, highres=True).boxes[0].tolist() == [128, 64, 384, 448]
    shutil.rmtree(in_shop / "Img/img")
    assert read_inshop(in_shop).boxes[0].tolist() == [128, 64, 384, 448], "the large ones, where only these are"
    assert read_inshop(in_shop, highres=False).boxes[0].tolist() == [64, 32, 192, 224]
    (in_shop / "Img/img_highres").rename(in_shop / "Img/img")
    assert read_inshop(in_shop).boxes[0].tolist() == [64, 32, 192, 224], "nothing says that these are large"
    assert read_inshop(in_shop, highres=True).boxes[0].tolist() == [128, 64, 384, 448]


def test_a_photo_that_is_not_there_keeps_its_labels(in_shop: Path) -> None:
    save(in_shop / "Img/img_highres", "2", (512, 512))
    assert read_inshop(in_shop).boxes.tolist() == [[64, 32, 192, 224], [128, 64, 384, 448]]
    shutil.rmtree(in_shop / "Img/img_highres/WOMEN")
    with pytest.raises(DataError, match="no photo of the set is there"):
        read_inshop(in_shop)


def test_the_small_photo_says_what_its_labels_refer_to(tmp_path: Path) -> None:
    """A rendered set of another size than DeepFashion's, with photos of twice the size beside it."""
    write_dataset(tmp_path / "set", images=8, seed=3, size=96, jobs=1, progress=False)
    root = tmp_path / "set/category_attribute"
    small = read_category(root)
    for name in small.images:
        with Image.open(small.image_root / name) as image:
            path = root / "Img" / name.replace("img/", "img_highres/", 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            image.resize((2 * image.width, 2 * image.height)).save(path)
    large = read_category(root, highres=True)
    np.testing.assert_allclose(large.boxes, 2 * small.boxes)
    np.testing.assert_allclose(large.landmarks, 2 * small.landmarks)


@pytest.mark.parametrize(("size", "scale"), [((600, 900), 3), ((1500, 1000), 5), ((300, 200), 1)])
def test_a_long_side_of_300(size: tuple[int, int], scale: float) -> None:
    assert placed(size, longest_side(*size)) == pytest.approx((scale, 0, 0))
