import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from fashion_infer.errors import OutputError, UsageError
from fashion_infer.pictures import PictureFolder

RED = np.full((20, 30, 3), (255, 0, 0), np.uint8)


def test_a_picture_is_a_jpeg_named_after_its_image(tmp_path: Path) -> None:
    path = PictureFolder(tmp_path / "new" / "folder").save(RED, "photos/a.jpg")
    assert path == tmp_path / "new" / "folder" / "photos_a.jpg.jpg"
    pixels = cv2.imread(str(path))
    assert pixels is not None
    assert abs(pixels[:, :, ::-1].astype(int) - RED).max() < 4


@pytest.mark.parametrize(
    "images",
    [
        ["a/b.jpg", "a_b.jpg"],
        ["/a.jpg", "a.jpg", "./a.jpg", "../a.jpg"],
        ["x" * 250 + "1", "x" * 250 + "2"],
        ["衣" * 85 + "1", "衣" * 85 + "2"],
        [os.fsdecode(b"Stra\xdfe.jpg"), os.fsdecode(b"Stra\xe4e.jpg")],
        ["dress[bold].jpg", ":heart:", "a\nb", "a b"],
    ],
)
def test_every_image_has_its_own_picture(images: list[str], tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path)
    paths = [folder.save(RED, image) for image in [*images, *images]]
    assert len({*paths}) == len(images) == len(list(tmp_path.iterdir()))
    assert paths[: len(images)] == paths[len(images) :]
    assert all(path.stat().st_size > 100 for path in paths)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(UsageError, match=r"cannot be a folder of pictures: (File exists|Not a directory)$"):
            PictureFolder(place)


def test_an_unwritable_picture_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path / "pictures")
    shutil.rmtree(tmp_path / "pictures")
    (tmp_path / "pictures").touch()
    with pytest.raises(OutputError, match=r"a\.jpg\.jpg cannot be written: \S+pictures is not a folder"):
        folder.save(RED, "a.jpg")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_full_disk(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
        with pytest.raises(OutputError, match=r"cannot be written: No space left on device$"):
            PictureFolder(tmp_path).save(noise, "a.jpg")
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)
